"""The verbs that measure: parity, bench, eval, compare, report."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from relo_edge.errors import INTERRUPTED, InputError
from relo_edge.verbs.shared import (
    Bundle,
    Checkpoint,
    Clips,
    Json,
    Threads,
    TrustEngine,
    app,
    print_result,
)

__all__ = ["bench", "compare", "eval_", "parity", "report"]


@app.command(epilog="Example: relo-edge parity relo-t256 --runtime openvino --clips street.mp4")
def parity(
    bundle: Bundle,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the runtime.")] = "auto",
    checkpoint: Checkpoint = None,
    clips: Clips = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Also compare layer by layer."),
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Errors and track as PNG or SVG.")] = None,
    trust_engine: TrustEngine = False,
    as_json: Json = False,
) -> None:
    """Compare a runtime with the reference network. Exit 1 when it is not the same tracker."""
    from relo_edge.pipeline.parity import check_parity

    result = check_parity(
        bundle,
        runtime,
        precision,
        checkpoint=checkpoint,
        clips=clips or [],
        layers=layers,
        plot=plot,
        trust_engines=trust_engine,
    )
    print_result(result, as_json)
    if not result.passed:
        raise typer.Exit(1)


@app.command(epilog="Example: relo-edge bench relo-t256 --runtime pytorch --runtime openvino:bf16")
def bench(
    bundle: Bundle,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:PRECISION; repeat it. All that open here if absent."),
    ] = None,
    every_precision: Annotated[
        bool, typer.Option("--all", help="Every precision that the bundle holds, not the best.")
    ] = False,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Targets in each step; repeat it. 1 if absent.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="Video or sequence folder, also timed end to end.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="compile, or a tracker as in `eval --tracker`; repeat it."),
    ] = None,
    checkpoint: Checkpoint = None,
    streams: Annotated[
        str | None,
        typer.Option(
            metavar="N,N…",
            help="Numbers of streams, as 1,2,4,8: each on one runtime, beside as many processes.",
        ),
    ] = None,
    threads: Threads = None,
    trust_engine: TrustEngine = False,
    as_json: Json = False,
) -> None:
    """Time runtimes in turns, each with its parity. Exit 1 when one is not the same tracker.

    Without --runtime the times are kept on this machine: auto takes the fastest that passed.
    """
    from relo_edge.pipeline.benchmarking import run_bench

    result = run_bench(
        bundle,
        runtime,
        batches=batch or [1],
        clip=clip,
        peers=peer or [],
        checkpoint=checkpoint,
        threads=threads,
        trust_engines=trust_engine,
        every_precision=every_precision,
        streams=_parse_counts("--streams", streams),
    )
    print_result(result, as_json)
    if getattr(result, "interrupted", False):  # streams are timed, not judged
        raise typer.Exit(INTERRUPTED)
    if not getattr(result, "passed", True):
        raise typer.Exit(1)


def _parse_counts(option: str, text: str | None) -> list[int]:
    try:
        return [] if text is None else [int(word) for word in text.split(",")]
    except ValueError:
        expected = "whole numbers such as 1,2,4,8"
        raise InputError(option, found=repr(text), expected=expected) from None


@app.command(
    "eval", epilog="Example: relo-edge eval relo-t256 mil vit=VIT.onnx LaSOT --html table.html"
)
def eval_(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[TRACKER]... DATASET",
            help="Trackers: bundle folders, demo, or words as for --tracker. Then the dataset: "
            "OTB, LaSOT, GOT-10k/val … or plain folder.",
        ),
    ],
    tracker: Annotated[
        str | None,
        typer.Option(
            help="In place of a bundle: csrt or kcf (both need opencv-contrib-python), mil, "
            "nano=BACKBONE,HEAD, vit=MODEL, r1track=URL or r1track-think=URL. "
            "Several trackers stand before DATASET."
        ),
    ] = None,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the runtime.")] = "auto",
    checkpoint: Checkpoint = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="got10k, lasot, lasotext, nfs, otb, plain, tnl2k, trackingnet or uav; "
            "found from the folder if absent."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="The dataset whose tracker settings apply; the layout's own if absent."),
    ] = None,
    one_based: Annotated[
        bool, typer.Option("--one-based", help="Boxes count pixels from 1, not from 0.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for results, of several trackers for a folder of each; if absent, "
            "one in eval_out/.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes side by side; one if absent, with --ray one a machine."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to run the jobs on, or local.")
    ] = None,
    every: Annotated[
        str, typer.Option(help="Lower frame rates to measure as well: 2,3,4 for every 2nd, 3rd …")
    ] = "",
    html: Annotated[
        Path | None, typer.Option(help="Page with the table and plots, as `report` makes it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure AUC, precision, AO and SR on a dataset. Finished sequences are not run again."""
    from relo_edge.pipeline.benchmarking import evaluate, evaluate_several

    trackers, dataset = _split_words(words, tracker)
    bundle, peer = _name_tracker(trackers, tracker)
    evaluate_them = (
        partial(evaluate_several, trackers)
        if len(trackers) > 1
        else partial(evaluate, bundle, tracker=peer)
    )
    result = evaluate_them(
        dataset=dataset,
        runtime=runtime,
        precision=precision,
        checkpoint=checkpoint,
        layout=layout,
        protocol=protocol,
        one_based=one_based,
        output=output,
        jobs=jobs,
        ray=ray,
        every=_read_steps(every),
        html=html,
    )
    print_result(result, as_json)


def _split_words(words: list[str], tracker: str | None) -> tuple[list[str], str]:
    """The trackers, which `--tracker` takes the place of, and the dataset."""
    if tracker and len(words) != 1:
        raise InputError("eval's arguments", found=" ".join(words), expected="DATASET")
    if not tracker and len(words) < 2:
        raise InputError("eval's arguments", found=words[0], expected="TRACKER DATASET")
    return words[:-1], words[-1]


def _name_tracker(trackers: list[str], tracker: str | None) -> tuple[str | None, str | None]:
    """The bundle, or the tracker that takes its place."""
    from relo_edge.peers.registry import names_peer

    word = tracker or trackers[0]
    peer = tracker is not None or names_peer(word)
    return (None, word) if peer else (word, None)


def _read_steps(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() for word in words):
        raise InputError("--every", found=text, expected="whole numbers with commas between")
    return tuple(map(int, words))


@app.command(epilog="Example: relo-edge compare eval_out/fp32 eval_out/int8")
def compare(
    first: Annotated[Path, typer.Argument(help="Results folder of `eval`.")],
    second: Annotated[Path, typer.Argument(help="Another one, of the same sequences.")],
    as_json: Json = False,
) -> None:
    """Show where two results differ. An interval says whether by more than chance."""
    from relo_edge.pipeline import benchmarking

    print_result(benchmarking.compare(first, second), as_json)


@app.command(epilog="Example: relo-edge report --bench b.json --eval eval_out/fp32 -o report.html")
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path(
        "report.html"
    ),
    bench: Annotated[Path | None, typer.Option(help="What bench --json printed.")] = None,
    parity: Annotated[
        list[Path] | None, typer.Option(help="What parity --json printed; repeat it.")
    ] = None,
    evaluated: Annotated[
        list[Path] | None, typer.Option("--eval", help="Results folder of eval; repeat it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show measurements in one HTML file. It needs nothing but a browser."""
    from relo_edge.pipeline.benchmarking import write_report

    path = write_report(output, bench=bench, parity=parity or [], evaluations=evaluated or [])
    print(json.dumps({"output": str(path)}) if as_json else path)
