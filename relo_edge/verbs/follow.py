"""What follows targets, and says what this machine can run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relo_edge.errors import InputError
from relo_edge.verbs.shared import INTERRUPTED, Checkpoint, Json, Threads, app, print_result

__all__ = ["demo", "doctor", "serve", "track"]


Init = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]X,Y,W,H", help="A target's box in the first frame; repeat for more."
    ),
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
        str,
        typer.Argument(
            help="Video, folder or glob of images, camera number, rtsp:// or http:// address, "
            "csi:0, GStreamer pipeline, or synthetic:."
        ),
    ],
    init: Init = None,
    init_from: Annotated[
        Path | None, typer.Option(help="Boxes to start from: JSON, our CSV, or ground truth.")
    ] = None,
    select: Annotated[
        bool, typer.Option("--select", help="Draw the boxes with the mouse; needs a screen.")
    ] = False,
    start: Annotated[int, typer.Option(help="Number of the first frame to track.")] = 0,
    bundle: Annotated[str | None, typer.Option(help="Bundle folder, or demo.")] = None,
    checkpoint: Checkpoint = None,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the bundle.")] = "auto",
    dataset: Annotated[str, typer.Option(help="Whose tracker settings to use.")] = "default",
    recover: Annotated[
        bool, typer.Option("--recover", help="Look for a target once it is lost.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="Annotated video to write (.mp4 or .webm).")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Boxes to write: .csv, .json, .jsonl, .txt (OTB) or .mot.txt."),
    ] = None,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Draw the search window and the policy's map.")
    ] = False,
    threads: Threads = None,
    show: Annotated[bool, typer.Option("--show", help="Watch in a window; q ends it.")] = False,
    as_json: Json = False,
) -> None:
    """Follow targets in a video, images, a camera or a stream."""
    from contextlib import closing

    from relo_edge.lost import Recovery
    from relo_edge.runtime import open_runtime
    from relo_edge.tracker import MultiTracker
    from relo_edge.tracking.loop import track_feed
    from relo_edge.tracking.outputs import Sinks, check_outputs
    from relo_edge.tracking.targets import check_starts, gather_starts, select_starts
    from relo_edge.video.feed import Feed
    from relo_edge.video.live import read_live

    starts = gather_starts(init or [], init_from, start)
    check_outputs(source, save, boxes, [init_from] if init_from else [])
    if not select:
        check_starts(starts, start)
    with read_live(source) as reader:
        feed = Feed(reader, start)
        if select:
            starts = select_starts(feed.peek(), starts)
        with closing(
            open_runtime(
                bundle,
                runtime,
                precision,
                checkpoint=checkpoint,
                threads=threads,
                batch=max(len(starts), 1),
            )
        ) as opened:
            tracker = MultiTracker(
                opened,
                opened.variant.protocol(dataset),
                color="bgr",
                recovery=Recovery() if recover else None,
            )
            sinks = Sinks(save, boxes, show, heatmap)
            summary = track_feed(feed, tracker, starts, sinks)
    print_result(summary, as_json)
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example: relo-edge serve 0 --bundle demo --host 0.0.0.0")
def serve(
    source: Annotated[
        str, typer.Argument(help="Camera number, stream, video file, folder, or synthetic:.")
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
    targets: Annotated[int, typer.Option(min=1, help="Most targets at a time.")] = 4,
    checkpoint: Checkpoint = None,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the bundle.")] = "auto",
    dataset: Annotated[str, typer.Option(help="Whose tracker settings to use.")] = "default",
    recover: Annotated[
        bool, typer.Option("--recover", help="Look for a target once it is lost.")
    ] = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Show a source live in a browser. Targets are drawn, followed and recorded there."""
    from relo_edge.lost import Recovery
    from relo_edge.runtime import open_runtime
    from relo_edge.serve.named_targets import Roster, build_roster
    from relo_edge.serve.recordings import Takes
    from relo_edge.serve.server import serve_page
    from relo_edge.serve.worker import TrackingThread
    from relo_edge.tracking.targets import check_starts, gather_starts
    from relo_edge.video.live import read_live

    starts = check_starts(gather_starts(init, None, 0), 0) if init else []
    if len(starts) > targets:
        found, fix = f"{len(starts)} boxes", f"give --targets {len(starts)}"
        raise InputError("--init", found=found, expected=f"at most {targets}", fix=fix)

    def open_roster() -> Roster:
        opened = open_runtime(
            bundle, runtime, precision, checkpoint=checkpoint, batch=targets, threads=threads
        )
        return build_roster(opened, dataset, Recovery() if recover else None)

    tracking = TrackingThread(lambda: read_live(source), open_roster, Takes(recordings), starts)
    summary = serve_page(tracking, host, port)
    print_result(summary, as_json)
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example: relo-edge doctor --json")
def doctor(as_json: Json = False) -> None:
    """Say what this machine can run, and why not the rest."""
    from relo_edge.doctor import collect_evidence, judge_evidence
    from relo_edge.doctor.report import print_json, print_report

    diagnosis = judge_evidence(collect_evidence())
    (print_json if as_json else print_report)(diagnosis)
    if not diagnosis.can_track:
        raise typer.Exit(1)
