"""The verbs that make things: fetch, export, quantize, inspect, pseudo-label, train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relo_edge.errors import INTERRUPTED, InputError
from relo_edge.verbs.shared import (
    Bundle,
    Clips,
    Json,
    Threads,
    app,
    print_result,
)

__all__ = ["export", "fetch", "inspect", "pseudo_label", "quantize", "train"]


@app.command(epilog="Example: relo-edge fetch t256 -o checkpoints")
def fetch(
    variant: Annotated[
        str, typer.Argument(help="t256, b256, l256, sutrack-t224, …-b224, …-b384, …-l224, …-l384.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to download into.")] = Path(
        "checkpoints"
    ),
    as_json: Json = False,
) -> None:
    """Download the authors' public weights. A broken download is resumed."""
    from relo_edge.pipeline.hub import fetch_checkpoint

    print_result(fetch_checkpoint(variant, output), as_json)


@app.command(epilog="Example: relo-edge export --checkpoint RELO_ep0090.pth.tar -o relo-t256")
def export(
    checkpoint: Annotated[
        Path, typer.Option(help="Release file, state dict or safetensors; or demo.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Bundle folder to write; relo-VARIANT if absent."),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="Such as t256, sutrack-b224; found from the weights if absent."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    words: Annotated[
        Path | None,
        typer.Option(help="CLIP's vocabulary (.txt.gz): SUTrack then takes a target in words."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a checkpoint to a bundle. It is verified against the reference network."""
    from relo_edge.pipeline.export import export_bundle
    from relo_edge.pipeline.inspection import inspect_bundle

    bundle = export_bundle(checkpoint, output, variant=variant, replace=force, words=words)
    print_result(inspect_bundle(bundle), as_json)


@app.command(epilog="Example: relo-edge quantize relo-t256 --int8 --clips street.mp4")
def quantize(
    bundle: Bundle,
    int8: Annotated[bool, typer.Option("--int8", help="Add an INT8 graph (Q/DQ).")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add FP16 graphs.")] = False,
    fp8: Annotated[
        bool, typer.Option("--fp8", help="Add an FP8 graph, for GPUs of capability 8.9 and newer.")
    ] = False,
    clips: Clips = None,
    method: Annotated[
        str, typer.Option(help="auto, minmax, percentile, entropy or mse: how ranges are chosen.")
    ] = "auto",
    attention: Annotated[
        bool, typer.Option("--attention", help="Quantize attention's own two products as well.")
    ] = False,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Measure what each part costs in INT8; keep the costliest in float32 until "
            "the gate is met.",
        ),
    ] = False,
    ranges: Annotated[
        Path | None,
        typer.Option(help="Ranges that `train qat` wrote for these weights; used unchanged."),
    ] = None,
    bf16_attention: Annotated[
        bool,
        typer.Option(
            "--bf16-attention", help="FP16 engines: attention in bfloat16, where half fails."
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Record 60 frames, not 200, and try one INT8 method.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add a lower precision, calibrated while tracking. Exit 1 when its gate is not met."""
    from relo_edge.pipeline.quantize import quantize_bundle

    asked = [name for name, on in {"int8": int8, "fp8": fp8, "fp16": fp16}.items() if on]
    if len(asked) != 1:
        found = " and ".join(f"--{name}" for name in asked) or "none"
        expected = "--int8, --fp8 or --fp16"
        raise InputError("one precision at a time", found=found, expected=expected)
    quantized = quantize_bundle(
        bundle,
        asked[0],
        clips=clips or [],
        method=method,
        attention=attention,
        search=search,
        ranges=ranges,
        bf16_attention=bf16_attention,
        quick=quick,
    )
    print_result(quantized, as_json)


@app.command(epilog="Example: relo-edge inspect relo-t256")
def inspect(bundle: Bundle, as_json: Json = False) -> None:
    """List a bundle's graphs, engines and parity. Exit 1 when a file is damaged."""
    from relo_edge.pipeline.inspection import inspect_bundle

    inspection = inspect_bundle(bundle)
    print_result(inspection, as_json)
    if not inspection.is_sound:
        raise typer.Exit(1)


@app.command(
    "pseudo-label",
    epilog="Example: relo-edge pseudo-label clips --tracker mil --tracker vit=V.onnx",
)
def pseudo_label(
    videos: Annotated[list[str], typer.Argument(help="Video, or folder of videos; several.")],
    trackers: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker",
            help="Tracker as in `eval --tracker`; repeat it, two different ones or more.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder, which `train --data` takes.")
    ] = Path("pseudo_labels"),
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="File with targets, as for `track`; what moves is labelled if absent. "
            "For one video."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Label videos where trackers agree. Boxes become a folder for `train --data`."""
    from relo_edge.pipeline.training import pseudo_label as label

    print_result(label(videos, output, trackers or [], init_from=init_from), as_json)


@app.command(epilog="Example: relo-edge train warmup -o run --data GOT-10k/train --data LaSOT")
def train(
    stage: Annotated[str, typer.Argument(help="warmup, reinforce, slt, qat or drlt.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run; train_out/STAGE if absent."),
    ] = None,
    variant: Annotated[
        str, typer.Option(help="t256, b256, l256 or demo; drlt or drlt-demo for drlt.")
    ] = "demo",
    checkpoint: Annotated[
        Path | None,
        typer.Option("--from", help="Checkpoint to start from; fresh weights if absent."),
    ] = None,
    textures: Annotated[
        list[Path] | None,
        typer.Option(
            help="Video to cut synthetic clips' textures from; repeat it. Painted ones if absent."
        ),
    ] = None,
    cutouts: Annotated[
        list[Path] | None,
        typer.Option(
            help="COCO folder whose outlined objects synthetic clips are made of; repeat it."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of real clips, in place of synthetic ones; repeat it, each is drawn from "
            "as often. GOT-10k/train, LaSOT, TrackingNet, COCO, or sequences with ground truth."
        ),
    ] = None,
    synthetic: Annotated[
        float | None, typer.Option(help="Share of synthetic clips beside --data; none if absent.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all; the recipe's if absent.")] = None,
    batch_clips: Annotated[int | None, typer.Option(help="Clips in a step.")] = None,
    accumulate: Annotated[
        int, typer.Option(help="Parts in which a step's clips are taken; saves memory.")
    ] = 1,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and clips.")] = 0,
    algorithm: Annotated[
        str, typer.Option(help="actor-critic, ppo or grpo: how reinforce learns.")
    ] = "actor-critic",
    fresh_policy: Annotated[
        bool,
        typer.Option("--fresh-policy", help="Begin with a new policy head (the paper)."),
    ] = False,
    learn_centres: Annotated[
        bool,
        typer.Option(
            "--learn-centres", help="warmup: all parts learn at one rate, as without weights."
        ),
    ] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="warmup: ONNX backbone, such as NanoTrack's, whose features the tokens learn to "
            "predict."
        ),
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="qat: INT8 for attention's own two products too.")
    ] = False,
    no_trial: Annotated[
        bool, typer.Option("--no-trial", help="Do not track held-out clips in the end.")
    ] = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train one stage; qat is for INT8, drlt for DRLT. The same command resumes it."""
    from relo_edge.pipeline.training import train as run

    result = run(
        stage,
        output or Path("train_out") / stage,
        variant=variant,
        checkpoint=checkpoint,
        textures=tuple(textures or ()),
        cutouts=tuple(cutouts or ()),
        data=tuple(data or ()),
        synthetic=synthetic,
        steps=steps,
        batch_clips=batch_clips,
        accumulate=accumulate,
        rate=rate,
        seed=seed,
        algorithm=algorithm,
        fresh_policy=fresh_policy,
        learn_centres=learn_centres,
        teacher=teacher,
        attention=attention,
        threads=threads,
        trial=not no_trial,
    )
    if result.rank == 0:
        print_result(result, as_json)
    if not result.finished:
        raise typer.Exit(INTERRUPTED)
