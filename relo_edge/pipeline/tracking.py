"""Targets followed to the end of a source, or live in a browser: `track`, `serve` and twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.errors import InputError
from relo_edge.lost import Recovery
from relo_edge.runtime import open_runtime

if TYPE_CHECKING:
    from relo_edge.serve.named_targets import NamedTargets
    from relo_edge.serve.server import ServeSummary
    from relo_edge.tracking.loop import TrackSummary

__all__ = ["serve", "track"]


def track(
    source: str,
    *,
    init: Sequence[str] = (),
    init_from: Path | None = None,
    select: bool = False,
    start: int = 0,
    bundle: str | Path | Bundle | None = None,
    checkpoint: str | Path | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    protocol: str = "default",
    recover: bool = False,
    save: Path | None = None,
    boxes: Sequence[Path] = (),
    heatmap: bool = False,
    show: bool = False,
    threads: int | None = None,
) -> TrackSummary:
    """Follow targets from a start frame to the end of a source, or to Ctrl-C.

    Args:
        source: a video, folder, glob, camera number, stream address, GStreamer pipeline, `csi:0`
            or `synthetic:`.
        init: boxes in the start frame, as `x,y,w,h` or `name=x,y,w,h`.
        init_from: a file of boxes to start from.
        select: whether boxes are drawn with the mouse.
        start: the number of the first frame to track.
        bundle: a bundle folder, an open bundle, or the word `demo`.
        checkpoint: weights for the pytorch runtime, in place of a bundle or of the bundle's own.
        runtime: auto, or a runtime's name.
        precision: auto, or a precision of the bundle.
        protocol: the dataset whose tracker settings apply.
        recover: whether a lost target is searched for.
        save: an annotated video to write.
        boxes: files of boxes to write.
        heatmap: whether the search window and the policy's map are drawn.
        show: whether a window shows the frames.
        threads: CPU threads; all cores if None.

    Returns:
        Frames, rates, mean confidence and the files written.

    Raises:
        InputError: boxes, options or outputs that cannot be.
        SourceError: a source that cannot be read, or an output that cannot be written.
        RuntimeUnavailable: the runtime cannot be opened here.
    """
    from relo_edge.tracker import MultiTracker
    from relo_edge.tracking.loop import track_feed
    from relo_edge.tracking.outputs import Sinks, check_outputs
    from relo_edge.tracking.targets import check_starts, gather_starts, select_starts
    from relo_edge.video.feed import Feed
    from relo_edge.video.live import read_live

    starts = gather_starts(init, init_from, start)
    sinks = Sinks(save, boxes, show, heatmap)
    check_outputs(source, sinks, [init_from] if init_from else [])
    if not select:
        check_starts(starts, start)
    with read_live(source) as reader:
        feed = Feed(reader, start)
        if select:
            starts = select_starts(feed.peek(), starts)
        with open_runtime(
            bundle,
            runtime,
            precision,
            checkpoint=checkpoint,
            threads=threads,
            batch=max(len(starts), 1),
        ) as opened:
            settings = opened.variant.protocol(protocol)
            recovery = Recovery() if recover else None
            tracker = MultiTracker(opened, settings, color="bgr", recovery=recovery)
            summary = track_feed(feed, tracker, starts, sinks)
    named = bundle.path if isinstance(bundle, Bundle) else bundle
    return replace(summary, bundle=None if named is None else str(named))


def serve(
    source: str,
    *,
    init: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    recordings: Path = Path("recordings"),
    targets: int = 4,
    bundle: str | Path | Bundle | None = None,
    checkpoint: str | Path | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    protocol: str = "default",
    recover: bool = False,
    threads: int | None = None,
) -> ServeSummary:
    """Show a source live in a browser, where targets are drawn, followed and recorded.

    Args:
        source: as for `track`.
        init: boxes in the first frame, as `x,y,w,h` or `name=x,y,w,h`.
        host: the address to serve; any but this machine's own asks for a token.
        port: 0 takes a free one.
        recordings: the folder for what the page records.
        targets: the most targets at a time.
        bundle: a bundle folder, an open bundle, or the word `demo`.
        checkpoint: weights for the pytorch runtime.
        runtime: auto, or a runtime's name.
        precision: auto, or a precision of the bundle.
        protocol: the dataset whose tracker settings apply.
        recover: whether a lost target is searched for.
        threads: CPU threads; all cores if None.

    Returns:
        What was served, once it has ended.

    Raises:
        InputError: boxes or options that cannot be, or a port that is taken.
        MissingDependency: the `serve` extra is not installed.
    """
    from relo_edge.serve.named_targets import build_targets
    from relo_edge.serve.recordings import Recordings
    from relo_edge.serve.server import serve_page
    from relo_edge.serve.worker import TrackingWorker
    from relo_edge.tracking.targets import check_starts, gather_starts
    from relo_edge.video.live import read_live

    starts = check_starts(gather_starts(init, None, 0), 0) if init else []
    if len(starts) > targets:
        found, fix = f"{len(starts)} boxes", f"give --targets {len(starts)}"
        raise InputError("--init", found=found, expected=f"at most {targets}", fix=fix)

    def open_targets() -> NamedTargets:
        opened = open_runtime(
            bundle, runtime, precision, checkpoint=checkpoint, batch=targets, threads=threads
        )
        return build_targets(opened, protocol, Recovery() if recover else None)

    worker = TrackingWorker(lambda: read_live(source), open_targets, Recordings(recordings), starts)
    return serve_page(worker, host, port)
