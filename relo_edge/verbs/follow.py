"""The verbs that track: demo, track, serve; and doctor."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from relo_edge.errors import INTERRUPTED
from relo_edge.verbs.shared import (
    Checkpoint,
    Json,
    Threads,
    TrustEngine,
    app,
    print_result,
)

__all__ = ["demo", "doctor", "serve", "track"]

log = logging.getLogger("relo_edge")


Protocol = Annotated[
    str, typer.Option(help="default, or the dataset whose tracker settings apply.")
]
Init = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[SOURCE:][NAME=]X,Y,W,H",
        help="A target's box in the first frame; repeat for more.",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST:]PORT",
        help="Counts and times for Prometheus; without HOST, for this machine alone.",
    ),
]
Finder = Annotated[
    str | None,
    typer.Option(
        metavar="URL[#MODEL]",
        help="Who finds it: an OpenAI-compatible server, or transformers:MODEL. A picture is sent.",
    ),
]
FinderUnits = Annotated[
    str, typer.Option(help="What the model's coordinates count: pixels, thousand, or auto.")
]
FinderTimeout = Annotated[float, typer.Option(help="Seconds for each question and its answer.")]
FinderCheck = Annotated[
    bool, typer.Option("--finder-check", help="Ask twice; both answers must name the same box.")
]


@app.command(epilog="Example: relo-edge demo --output demo_out")
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the video and boxes.")
    ] = Path("demo_out"),
    as_json: Json = False,
) -> None:
    """Track a synthetic clip with the built-in weights. Nothing to download, no GPU needed."""
    from relo_edge.tracking.demo import run_demo

    result = run_demo(output)
    print_result(result, as_json)
    if result.track.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example: relo-edge track clip.mp4 --bundle demo --init 120,80,64,48")
def track(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SOURCE...",
            help="Video, folder or glob of images, camera number, rtsp:// or http:// address, "
            "csi:0, GStreamer pipeline, synthetic:, or demo; several are tracked at once.",
        ),
    ],
    init: Init = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Boxes to start from: JSON, what --boxes wrote, or ground truth."),
    ] = None,
    find: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]WORDS", help="A target in words, found in the first frame; repeat it."
        ),
    ] = None,
    finder: Finder = None,
    finder_units: FinderUnits = "auto",
    finder_timeout: FinderTimeout = 60.0,
    finder_check: FinderCheck = False,
    select: Annotated[
        bool, typer.Option("--select", help="Draw the boxes with the mouse; needs a display.")
    ] = False,
    start: Annotated[int, typer.Option(help="Number of the first frame to track.")] = 0,
    bundle: Annotated[str | None, typer.Option(help="Bundle folder, or demo.")] = None,
    checkpoint: Checkpoint = None,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the bundle.")] = "auto",
    protocol: Protocol = "default",
    recover: Annotated[
        bool, typer.Option("--recover", help="Search for a target once it is lost.")
    ] = False,
    find_again: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="With --recover, ask the finder for lost targets too, at most this often.",
        ),
    ] = None,
    say: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="What the target is, for a bundle that takes words."),
    ] = None,
    tracker: Annotated[
        str | None,
        typer.Option(
            help="In place of a bundle: csrt or kcf (both need opencv-contrib-python), mil, "
            "nano=BACKBONE,HEAD, vit=MODEL, r1track=URL or r1track-think=URL."
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Annotated video to write (.mp4 or .webm).")
    ] = None,
    boxes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Boxes to write: .csv, .json, .jsonl, .txt (OTB), .mot.txt; labels: .xml (CVAT), "
            ".labelstudio.json, .coco.json; - for JSON lines on stdout. Repeat for more."
        ),
    ] = None,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Draw the search window and the policy map.")
    ] = False,
    threads: Threads = None,
    trust_engine: TrustEngine = False,
    show: Annotated[bool, typer.Option("--show", help="Show a window; q ends the run.")] = False,
    metrics: Metrics = None,
    as_json: Json = False,
) -> None:
    """Follow targets in a video, images, a camera or a stream."""
    from relo_edge.box_files import STDOUT
    from relo_edge.pipeline import tracking

    summary = tracking.track(
        source,
        init=init or [],
        init_from=init_from,
        select=select,
        start=start,
        bundle=bundle,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        protocol=protocol,
        recover=recover,
        say=say,
        save=save,
        boxes=boxes or [],
        heatmap=heatmap,
        show=show,
        threads=threads,
        find=find or [],
        finder=finder,
        finder_units=finder_units,
        finder_timeout=finder_timeout,
        finder_check=finder_check,
        find_again=find_again,
        tracker=tracker,
        trust_engines=trust_engine,
        metrics=metrics,
    )
    print_result(summary, as_json, aside=STDOUT in (boxes or []))
    if not (boxes or save or show or as_json):
        log.info("nothing written; --boxes out.csv or --save out.mp4 keeps the track")
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)
    if getattr(summary, "failures", None):  # of several sources
        raise typer.Exit(1)


@app.command(epilog="Example: relo-edge serve 0 --bundle demo --host 0.0.0.0")
def serve(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SOURCE...",
            help="Camera number, stream, video file, folder, or synthetic:; several are a wall.",
        ),
    ],
    bundle: Annotated[str | None, typer.Option(help="Bundle folder, or demo.")] = None,
    init: Init = None,
    host: Annotated[
        str, typer.Option(help="Address to serve; with any but this machine's own, a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    recordings: Annotated[Path, typer.Option(help="Folder for what the page records.")] = Path(
        "recordings"
    ),
    targets: Annotated[int, typer.Option(min=1, help="Most targets at a time in a source.")] = 4,
    checkpoint: Checkpoint = None,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the bundle.")] = "auto",
    protocol: Protocol = "default",
    recover: Annotated[
        bool, typer.Option("--recover", help="Search for a target once it is lost.")
    ] = False,
    finder: Finder = None,
    finder_units: FinderUnits = "auto",
    finder_timeout: FinderTimeout = 60.0,
    finder_check: FinderCheck = False,
    threads: Threads = None,
    trust_engine: TrustEngine = False,
    metrics: Metrics = None,
    as_json: Json = False,
) -> None:
    """Show a source live in a browser. Targets are drawn, followed and recorded there."""
    from relo_edge.pipeline import tracking

    summary = tracking.serve(
        source,
        init=init or [],
        host=host,
        port=port,
        recordings=recordings,
        targets=targets,
        bundle=bundle,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        protocol=protocol,
        recover=recover,
        threads=threads,
        finder=finder,
        finder_units=finder_units,
        finder_timeout=finder_timeout,
        finder_check=finder_check,
        trust_engines=trust_engine,
        metrics=metrics,
        announce=_print_url if as_json else None,
    )
    print_result(summary, as_json)
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)


def _print_url(url: str) -> None:
    """For a program that starts the server and waits for its page."""
    print(json.dumps({"url": url}), flush=True)


@app.command(epilog="Example: relo-edge doctor --json")
def doctor(as_json: Json = False) -> None:
    """Show what this machine can run, and why not the rest."""
    from relo_edge.doctor import collect_evidence, judge_evidence
    from relo_edge.doctor.report import print_json, print_report

    diagnosis = judge_evidence(collect_evidence())
    (print_json if as_json else print_report)(diagnosis)
    if not diagnosis.can_track:
        raise typer.Exit(1)
