"""Speed, accuracy and their report: `bench`, `eval`, `compare`, `report` and their Python twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.errors import InputError
from relo_edge.pipeline.refusals import refuse_options
from relo_edge.runtime import resolve_bundle

if TYPE_CHECKING:
    from relo_edge.benchmarks.accuracy.comparison import Comparison
    from relo_edge.benchmarks.accuracy.evaluation import EvalRequest
    from relo_edge.benchmarks.accuracy.results import EvalResult
    from relo_edge.benchmarks.accuracy.several import SeveralResults
    from relo_edge.benchmarks.speed.results import BenchResult
    from relo_edge.benchmarks.speed.streams import StreamsResult

__all__ = ["compare", "evaluate", "evaluate_several", "run_bench", "write_report"]


def run_bench(
    bundle: str | Path,
    runtimes: Sequence[str] | None = None,
    *,
    batches: Sequence[int] = (1,),
    clip: str | None = None,
    peers: Sequence[str] = (),
    checkpoint: str | Path | None = None,
    threads: int | None = None,
    trust_engines: bool = False,
    every_precision: bool = False,
    streams: Sequence[int] = (),
) -> BenchResult | StreamsResult:
    """Time runtimes in turns, each with its parity; or many streams on one runtime.

    Where all that open are timed on a quiet machine, their times are kept there: `auto` takes the
    fastest that passed.

    Args:
        bundle: a bundle folder, or the word `demo`.
        runtimes: NAME or NAME:PRECISION each; every one that opens here if None.
        batches: targets in each step.
        clip: a video or sequence folder that is also timed end to end.
        peers: compile, vit=MODEL.onnx or nano=BACKBONE.onnx,HEAD.onnx.
        checkpoint: weights for the reference network, in place of the bundle's own.
        threads: CPU threads; all cores if None.
        trust_engines: whether engines are loaded that this machine did not build.
        every_precision: whether all precisions that the bundle holds are timed, not each runtime's
            best alone.
        streams: numbers of streams; each is timed on one runtime, beside as many processes.

    Returns:
        A row for each runtime and batch; `passed` says whether all are the same tracker. With
        `streams`, rates and latencies of both ways, and their ratio.

    Raises:
        InputError: an unknown bundle, runtime, peer or clip.
        RuntimeUnavailable: a runtime asked for by name cannot be opened.
    """
    from relo_edge.benchmarks.speed import bench

    if streams:
        others: dict[str, object] = {"batch": tuple(batches) != (1,), "clip": clip, "peer": peers}
        others |= {"checkpoint": checkpoint, "all": every_precision}
        return _bench_streams(bundle, runtimes, tuple(streams), threads, trust_engines, others)
    if every_precision and runtimes:
        raise InputError("--all and --runtime exclude each other", fix="leave one of them out")
    names = None if runtimes is None else list(runtimes)
    weights = None if checkpoint is None else Path(checkpoint)
    places = (str(bundle), names, tuple(batches), clip, tuple(peers), weights)
    request = bench.BenchRequest(*places, threads, trust_engines, every_precision)
    return bench.run_bench(request)


def _bench_streams(
    bundle: str | Path,
    runtimes: Sequence[str] | None,
    streams: tuple[int, ...],
    threads: int | None,
    trust_engines: bool,
    others: Mapping[str, object],
) -> StreamsResult:
    from relo_edge.benchmarks.speed.streams import StreamsRequest, bench_streams

    given = next((name for name, value in others.items() if value), None)
    if given or len(runtimes or ()) > 1:
        what = f"--{given}" if given else "a second --runtime"
        raise InputError(f"{what} is not for --streams", fix="leave it out")
    path = str(bundle) if str(bundle) == "demo" else str(resolve_bundle(bundle).path.resolve())
    name, _, precision = (runtimes or ["auto"])[0].partition(":")
    return bench_streams(
        StreamsRequest(path, streams, name, precision or "auto", threads, trust_engines)
    )


def evaluate(
    bundle: str | Path | Bundle | None,
    dataset: str | Path,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    checkpoint: str | Path | None = None,
    layout: str | None = None,
    protocol: str | None = None,
    one_based: bool = False,
    output: str | Path | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    every: Sequence[int] = (),
    tracker: str | None = None,
    html: str | Path | None = None,
) -> EvalResult:
    """Track a dataset in one pass and score it; sequences that are done are not run again.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`; None with a `tracker`.
        dataset: a folder in the layout of OTB, LaSOT, GOT-10k …, or of plain sequences.
        runtime: auto, or a runtime's name.
        precision: auto, or a precision of the runtime.
        checkpoint: weights for the pytorch runtime, in place of the bundle's own.
        layout: the dataset's layout; recognised from the folder if None.
        protocol: the dataset whose tracker settings apply; the layout's own if None.
        one_based: whether boxes count pixels from 1.
        output: the results folder; one in `eval_out/` if None.
        jobs: processes side by side; 1 if None.
        ray: the address of a Ray cluster, or `local`.
        every: lower frame rates to measure as well: 2 tracks every second frame.
        tracker: csrt, nano=BACKBONE,HEAD, r1track=URL …, in place of a bundle.
        html: a page of the figures and plots to write.

    Returns:
        AUC, precision, AO and SR, overall and for each sequence.

    Raises:
        InputError: an unknown bundle, tracker, dataset, layout or protocol.
        SourceError: a sequence whose files cannot be read.
        MissingDependency: a tracker that the installed OpenCV does not have.
        FinderError: the server of a tracker that does not answer.
    """
    from relo_edge.benchmarks.accuracy.evaluation import EvalRequest, evaluate_dataset
    from relo_edge.benchmarks.accuracy.frame_rates import evaluate_frame_rates
    from relo_edge.datasets.layouts import read_dataset

    if bundle is not None and tracker is not None:
        raise InputError("a bundle and a --tracker are given", fix="leave one of them out")
    if tracker is not None:
        for_bundles = {
            "runtime": runtime != "auto",
            "precision": precision != "auto",
            "checkpoint": checkpoint,
            "protocol": protocol is not None,
        }
        refuse_options(for_bundles, f"is for bundles, which {tracker!r} is not")
    request = EvalRequest(
        None if bundle is None else resolve_bundle(bundle),
        runtime,
        precision,
        None if checkpoint is None else Path(checkpoint),
        settings=protocol,
        output=None if output is None else Path(output),
        jobs=jobs,
        ray=ray,
        tracker=tracker,
        label=_find_label(bundle),
    )
    page = None if html is None else _check_page(html)
    opened = read_dataset(Path(dataset), layout, origin=float(one_based))
    result = (
        evaluate_frame_rates(request, opened, every) if every else evaluate_dataset(request, opened)
    )
    if page:
        _write_page(page, evaluations=[result.folder])
    return result


def evaluate_several(
    trackers: Sequence[str | Path | Bundle],
    dataset: str | Path,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    checkpoint: str | Path | None = None,
    layout: str | None = None,
    protocol: str | None = None,
    one_based: bool = False,
    output: str | Path | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    every: Sequence[int] = (),
    html: str | Path | None = None,
) -> SeveralResults:
    """Evaluate several trackers on one dataset, one after the other, by the same code.

    Args:
        trackers: bundle folders, open bundles, the word `demo`, and trackers that are no bundles,
            as `csrt`, `nano=BACKBONE,HEAD`, `vit=MODEL`, `r1track=URL`. `./csrt` is a folder.
        dataset: as for `evaluate`.
        runtime: auto, or a runtime's name, for every bundle.
        precision: auto, or a precision of the runtime, for every bundle.
        checkpoint: weights for the pytorch runtime, where there is one bundle.
        layout: the dataset's layout; recognised from the folder if None.
        protocol: the dataset whose tracker settings apply; the layout's own if None.
        one_based: whether boxes count pixels from 1.
        output: the folder in which each tracker gets a results folder; `eval_out/` if None.
        jobs: processes side by side; 1 if None.
        ray: the address of a Ray cluster, or `local`.
        every: lower frame rates to measure as well.
        html: a page with the table and the plots of all trackers to write.

    Returns:
        A result for each tracker, in this order.

    Raises:
        InputError: an unknown tracker or dataset, or one tracker twice.
        SourceError: a sequence whose files cannot be read.
        MissingDependency: a tracker that the installed OpenCV does not have.
        FinderError: the server of a tracker that does not answer.
    """
    from relo_edge.benchmarks.accuracy.evaluation import EvalRequest
    from relo_edge.benchmarks.accuracy.several import evaluate_trackers
    from relo_edge.datasets.layouts import read_dataset

    common = EvalRequest(
        None,
        runtime,
        precision,
        None if checkpoint is None else Path(checkpoint),
        settings=protocol,
        output=None if output is None else Path(output),
        jobs=jobs,
        ray=ray,
    )
    if not trackers:
        raise InputError("trackers", found="none", expected="one or more")
    page = None if html is None else _check_page(html)
    requests = [_request_tracker(one, common) for one in trackers]
    if checkpoint is not None and sum(one.bundle is not None for one in requests) > 1:
        raise InputError("--checkpoint is for one bundle", fix="leave it out")
    opened = read_dataset(Path(dataset), layout, origin=float(one_based))
    several = evaluate_trackers(requests, opened, every)
    if page:
        _write_page(page, evaluations=[one.folder for one in several.results])
    return several


def _request_tracker(tracker: str | Path | Bundle, common: EvalRequest) -> EvalRequest:
    """A word that names no bundle may be one of `PEERS`."""
    from relo_edge.peers.registry import list_usages, names_peer

    if isinstance(tracker, str):
        if names_peer(tracker):
            return replace(common, tracker=tracker)
        if tracker != "demo" and not Path(tracker).exists():
            expected = f"a bundle folder | demo | {list_usages()}"
            raise InputError("tracker", found=repr(tracker), expected=expected)
    return replace(common, bundle=resolve_bundle(tracker), label=_find_label(tracker))


def _find_label(bundle: str | Path | Bundle | None) -> str | None:
    """`demo`, as the caller says: its folder in the cache is named by version and hash."""
    return "demo" if str(bundle) == "demo" else None


def _check_page(html: str | Path) -> Path:
    """Hours of tracking must not end at a page that cannot be written."""
    from relo_edge.benchmarks.report.html import REPORT_SUFFIXES
    from relo_edge.host.files import announce_replacement, check_output

    path = check_output(Path(html), REPORT_SUFFIXES)
    announce_replacement(path)
    return path


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Where two results folders of `evaluate` differ, and whether by more than chance.

    Args:
        first: a results folder.
        second: another one, of the same sequences.

    Returns:
        The difference of each sequence; of five and more, a bootstrap interval of the mean.

    Raises:
        InputError: a folder without results, or results of other sequences.
    """
    from relo_edge.benchmarks.accuracy.comparison import compare_results

    return compare_results(Path(first), Path(second))


def write_report(
    output: str | Path,
    *,
    bench: str | Path | None = None,
    parity: Sequence[str | Path] = (),
    evaluations: Sequence[str | Path] = (),
) -> Path:
    """Write measurements as one HTML file that needs nothing but a browser.

    Args:
        output: the HTML file to write.
        bench: what `bench --json` printed.
        parity: what `parity --json` printed, one file each.
        evaluations: results folders of `evaluate`.

    Returns:
        The file written.

    Raises:
        InputError: an output that cannot be written, or a file that is no such result.
    """
    return _write_page(_check_page(output), bench, parity, evaluations)


def _write_page(
    path: Path,
    bench: str | Path | None = None,
    parity: Sequence[str | Path] = (),
    evaluations: Sequence[str | Path] = (),
) -> Path:
    from relo_edge.benchmarks.report import html
    from relo_edge.benchmarks.report.inputs import read_findings

    timed = None if bench is None else Path(bench)
    html.write_report(
        read_findings(timed, list(map(Path, parity)), [*map(Path, evaluations)]), path
    )
    return path
