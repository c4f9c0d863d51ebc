"""Targets followed to the end of a source, or live in a browser: `track`, `serve` and twins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.errors import InputError
from relo_edge.lost import Recovery
from relo_edge.pipeline.refusals import refuse_options
from relo_edge.runtime import Runtime, open_runtime, resolve_bundle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from relo_edge.serve.page_finder import PageFinder
    from relo_edge.serve.server import ServeSummary
    from relo_edge.streams.following import FleetSummary
    from relo_edge.streams.jobs import SourceJob
    from relo_edge.tracking.loop import TargetTracker, TrackSummary

__all__ = ["serve", "track"]


def track(
    source: str | Sequence[str],
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
    say: str | None = None,
    save: Path | None = None,
    boxes: Sequence[Path] = (),
    heatmap: bool = False,
    show: bool = False,
    threads: int | None = None,
    find: Sequence[str] = (),
    finder: str | None = None,
    finder_units: str = "auto",
    finder_timeout: float = 60.0,
    finder_check: bool = False,
    find_again: float | None = None,
    tracker: str | None = None,
    trust_engines: bool = False,
    metrics: str | None = None,
) -> TrackSummary | FleetSummary:
    """Follow targets from a start frame to the end of a source, or to Ctrl-C.

    Several sources are followed at once, each on its own clock, with one runtime. Each has files of
    its own: `boxes.csv` stands for `boxes.cam1.csv`, `boxes.cam2.csv` …

    Args:
        source: one source or several, as `SOURCE` or `NAME=SOURCE`: a video, folder, glob, camera
            number, stream address, GStreamer pipeline, `csi:0`, `synthetic:`, or the word `demo`:
            a synthetic clip, with its target and the built-in weights where no others are named.
        init: boxes in the start frame, as `x,y,w,h` or `name=x,y,w,h`; with several sources, as
            `SOURCE:x,y,w,h` or `SOURCE:name=x,y,w,h`.
        init_from: a file of boxes to start from.
        select: whether boxes are drawn with the mouse.
        start: the number of the first frame to track.
        bundle: a bundle folder, an open bundle, or the word `demo`.
        checkpoint: weights for the pytorch runtime, in place of a bundle or of the bundle's own.
        runtime: auto, or a runtime's name.
        precision: auto, or a precision of the bundle.
        protocol: the dataset whose tracker settings apply.
        recover: whether a lost target is searched for.
        say: what the target is, for a bundle that takes words.
        save: an annotated video to write.
        boxes: files of boxes to write.
        heatmap: whether the search window and the policy's map are drawn.
        show: whether a window shows the frames.
        threads: CPU threads; all cores if None.
        find: targets in words, as `WORDS` or `NAME=WORDS`.
        finder: who finds them: the address of an OpenAI-compatible server, with `#MODEL` where it
            serves several, or `transformers:MODEL`.
        finder_units: what the model's coordinates count: pixels, thousand, or auto by its name.
        finder_timeout: seconds for each question and its answer.
        finder_check: whether a second answer must name the same box.
        find_again: how many seconds pass at least between questions for lost targets, with
            `recover`; None asks none.
        tracker: csrt, nano=BACKBONE,HEAD, r1track=URL …, in place of a bundle.
        trust_engines: whether engines are loaded that this machine did not build.
        metrics: `[HOST:]PORT` where Prometheus reads counts and times; without a host, of this
            machine alone.

    Returns:
        Frames, rates, mean confidence and the files written; of several sources, a summary of each
        by its name.

    Raises:
        InputError: boxes, options or outputs that cannot be.
        SourceError: a source that cannot be read, or an output that cannot be written.
        RuntimeUnavailable: the runtime cannot be opened here.
        FinderError: a finder that does not answer, or a target that is not found.
    """
    from relo_edge.families.sentences import encode_sentence
    from relo_edge.streams.jobs import plan_jobs
    from relo_edge.streams.metrics import serve_metrics
    from relo_edge.streams.named_sources import parse_sources, strip_source
    from relo_edge.synthetic.demo_clip import DEMO, find_demo_box, is_demo
    from relo_edge.tracking.loop import track_feed
    from relo_edge.tracking.outputs import Sinks, check_outputs
    from relo_edge.tracking.targets import (
        TargetStart,
        check_starts,
        gather_starts,
        select_starts,
    )
    from relo_edge.video.feed import Feed
    from relo_edge.video.live import read_live

    def open_for(batch: int, lanes: int = 1) -> Runtime:
        return open_runtime(
            bundle,
            runtime,
            precision,
            checkpoint=checkpoint,
            threads=threads,
            batch=batch,
            trust_engines=trust_engines,
            lanes=lanes,
        )

    sources = parse_sources([source] if isinstance(source, str) else source)
    if len(sources) != 1:
        searching = {"find": find, "finder": finder, "find-again": find_again is not None}
        one_only = {"select": select, "show": show, **searching, "tracker": tracker, "say": say}
        refuse_options(one_only, "is for one source")
        if bundle is None and checkpoint is None and all(is_demo(one.source) for one in sources):
            bundle = DEMO
        jobs = plan_jobs(sources, init, init_from, start, Sinks(save, boxes, heatmap=heatmap))
        many = _track_several(jobs, open_for, protocol, recover, start, threads, metrics)
        return replace(many, bundle=_name_bundle(bundle))
    source = sources[0].source
    starts = gather_starts(strip_source(init, sources[0]), init_from, start)
    if is_demo(source):
        if not (starts or select or find):
            starts = [TargetStart(find_demo_box(start), frame=start)]
        if bundle is None and checkpoint is None and tracker is None:
            bundle = DEMO
    sinks = Sinks(save, boxes, show, heatmap)
    check_outputs(source, sinks, [init_from] if init_from else [])
    search = None
    if find or finder is not None or find_again is not None:
        from relo_edge.finder.search import Search

        search = Search.open(
            find,
            finder,
            units=finder_units,
            timeout=finder_timeout,
            check=finder_check,
            every=find_again if recover else None,
            taken=len(starts),
        )
    if say is not None and (bundle is None or tracker is not None):
        raise InputError("--say needs a bundle that takes words", fix="name it with --bundle")
    told = encode_sentence(resolve_bundle(bundle), say) if say is not None and bundle else {}
    if find_again is not None and not recover:
        raise InputError("--find-again needs --recover", fix="add it")
    if tracker is not None:
        for_bundles = {
            "bundle": bundle,
            "checkpoint": checkpoint,
            "runtime": runtime != "auto",
            "precision": precision != "auto",
            "protocol": protocol != "default",
            "threads": threads is not None,
            "trust-engine": trust_engines,
            "recover": recover,
            "heatmap": heatmap,
        }
        refuse_options(for_bundles, "is for bundles", "leave it out, or leave out --tracker")
    if not select:
        check_starts([*starts, *(search.list_placeholders(start) if search else [])], start)
    with ExitStack() as stack:
        counting = stack.enter_context(serve_metrics(metrics)) if metrics else None
        meter = counting.meter(sources[0].name) if counting else None
        feed = Feed(stack.enter_context(read_live(source)), start)
        if select:
            starts = select_starts(feed.peek(), starts)
        if tracker is not None:
            targets = _open_peers(tracker)
        else:
            opened = open_for(max(len(starts) + (len(search.wanted) if search else 0), 1))
            stack.enter_context(opened)
            timed = meter.time_network(opened) if meter else opened
            targets = _open_targets(timed, protocol, recover, told)
        summary = track_feed(
            feed,
            targets,
            [*starts, *(search.find_starts(feed.peek()) if search else [])],
            sinks,
            find_again=search.open_again(wait=not feed.reader.live) if search else None,
            meter=meter,
        )
    return replace(summary, bundle=_name_bundle(bundle))


def _name_bundle(bundle: str | Path | Bundle | None) -> str | None:
    named = bundle.path if isinstance(bundle, Bundle) else bundle
    return None if named is None else str(named)


def _track_several(
    jobs: Sequence[SourceJob],
    open_for: Callable[[int, int], Runtime],
    protocol: str,
    recover: bool,
    first: int,
    threads: int | None,
    address: str | None,
) -> FleetSummary:
    from relo_edge.streams.following import follow_sources
    from relo_edge.streams.metrics import serve_metrics
    from relo_edge.streams.sharing import SharedRuntime, count_lanes

    targets = sum(len(job.starts) for job in jobs)
    with ExitStack() as stack:
        metrics = stack.enter_context(serve_metrics(address)) if address else None
        opened = stack.enter_context(open_for(targets, count_lanes(len(jobs), threads)))
        settings = opened.variant.protocol(protocol)
        recovery = Recovery() if recover else None
        return follow_sources(SharedRuntime(opened), jobs, settings, recovery, first, metrics)


def _open_targets(
    opened: Runtime, protocol: str, recover: bool, told: Mapping[str, NDArray[np.float32]]
) -> TargetTracker:
    from relo_edge.tracker import MultiTracker

    settings = opened.variant.protocol(protocol)
    recovery = Recovery() if recover else None
    return MultiTracker(opened, settings, color="bgr", recovery=recovery, told=told)


def _open_peers(word: str) -> TargetTracker:
    """Trackers that are no bundles; the first is opened now, so that a refusal comes early."""
    from relo_edge.peers.registry import open_peer
    from relo_edge.peers.targets import PeerTargets

    return PeerTargets(open_peer(word), lambda: open_peer(word))


def serve(
    source: str | Sequence[str],
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
    finder: str | None = None,
    finder_units: str = "auto",
    finder_timeout: float = 60.0,
    finder_check: bool = False,
    trust_engines: bool = False,
    metrics: str | None = None,
    announce: Callable[[str], None] | None = None,
) -> ServeSummary:
    """Show a source live in a browser, where targets are drawn, followed and recorded.

    Several sources are a wall of pictures, on one runtime; each has a page and a folder of
    recordings of its own.

    Args:
        source: one source or several, as for `track`.
        init: boxes in the first frame, as for `track`.
        host: the address to serve; any but this machine's own asks for a token.
        port: 0 takes a free one.
        recordings: the folder for what the page records.
        targets: the most targets at a time in a source.
        bundle: a bundle folder, an open bundle, or the word `demo`.
        checkpoint: weights for the pytorch runtime.
        runtime: auto, or a runtime's name.
        precision: auto, or a precision of the bundle.
        protocol: the dataset whose tracker settings apply.
        recover: whether a lost target is searched for.
        threads: CPU threads; all cores if None.
        finder: who finds targets that the page names in words, as for `track`; without one the
            page has no field for words.
        finder_units: what the model's coordinates count: pixels, thousand, or auto by its name.
        finder_timeout: seconds for each question and its answer.
        finder_check: whether a second answer must name the same box.
        trust_engines: whether engines are loaded that this machine did not build.
        metrics: `[HOST:]PORT` where Prometheus reads counts and times.
        announce: is called with the page's address, token included, once it can be opened; the
            address is printed on stderr if None.

    Returns:
        What was served, once it has ended.

    Raises:
        InputError: boxes or options that cannot be, or a port that is taken.
        MissingDependency: the `serve` extra is not installed.
    """
    from relo_edge.serve.building import build_wall, build_worker
    from relo_edge.serve.channel import Channel
    from relo_edge.serve.server import announce_page, check_server, serve_page
    from relo_edge.streams.metrics import serve_metrics
    from relo_edge.streams.named_sources import assign_starts, parse_sources, strip_source
    from relo_edge.streams.sharing import count_lanes
    from relo_edge.tracking.targets import check_starts, gather_starts

    sources = parse_sources([source] if isinstance(source, str) else source)
    only = sources[0] if len(sources) == 1 else None
    if only:
        starts = {only.name: gather_starts(strip_source(init, only), None, 0)}
    else:
        starts = assign_starts(init, sources, 0)
    for name, given in starts.items():
        starts[name] = check_starts(given, 0) if given else []
        if len(given) > targets:
            found, fix = f"{len(given)} boxes", f"give --targets {len(given)}"
            raise InputError("--init", found=found, expected=f"at most {targets}", fix=fix)

    def open_for(batch: int, lanes: int = 1) -> Runtime:
        return open_runtime(
            bundle,
            runtime,
            precision,
            checkpoint=checkpoint,
            batch=batch,
            threads=threads,
            trust_engines=trust_engines,
            lanes=lanes,
        )

    recovery = Recovery() if recover else None
    asked = _open_page_finder(finder, finder_units, finder_timeout, finder_check)
    check_server()
    with ExitStack() as stack:
        counting = stack.enter_context(serve_metrics(metrics)) if metrics else None
        if only:
            own = starts[only.name]
            open_own = partial(open_for, targets)
            worker = build_worker(only, open_own, protocol, recovery, recordings, own, counting)
            return serve_page(Channel(worker, asked), host, port, announce or announce_page)
        lanes = count_lanes(len(sources), threads)
        opened = stack.enter_context(open_for(targets * len(sources), lanes))
        wall = build_wall(
            sources, opened, targets, protocol, recovery, recordings, starts, counting, asked
        )
        return serve_page(wall, host, port, announce or announce_page)


def _open_page_finder(
    where: str | None, units: str, timeout: float, check: bool
) -> PageFinder | None:
    """Nothing that asks anyone is imported unless a finder is given."""
    if where is None:
        return None
    from relo_edge.finder.finders import FinderRequest, open_finder
    from relo_edge.serve.page_finder import PageFinder

    return PageFinder(open_finder(FinderRequest(where, units, timeout, check)))
