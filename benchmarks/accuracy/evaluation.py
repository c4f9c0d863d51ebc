"""How accurate: a dataset tracked in one pass, scored, and kept so that it need not run twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.benchmarks.accuracy.ray_cluster import track_on_ray
from relo_edge.benchmarks.accuracy.results import EvalResult
from relo_edge.benchmarks.accuracy.results_folder import ResultsFolder, describe_peer, describe_run
from relo_edge.benchmarks.accuracy.submission import write_submission
from relo_edge.benchmarks.accuracy.workers import (
    Crew,
    PeerCrew,
    SequenceTracker,
    Stop,
    Tracked,
    TrackedSequence,
    track_here,
    track_in_processes,
)
from relo_edge.bundle import Bundle
from relo_edge.datasets.layouts import Dataset
from relo_edge.datasets.sequences import ImageSequence
from relo_edge.errors import InputError
from relo_edge.host.locks import lock_output
from relo_edge.host.progress import show_progress
from relo_edge.host.signals import catch_interrupt
from relo_edge.measures.accuracy import Score, score_boxes
from relo_edge.peers.registry import open_peer
from relo_edge.runtime import open_runtime
from relo_edge.tracker import Tracker

__all__ = ["EvalRequest", "Evaluation", "evaluate_dataset"]

log = logging.getLogger("relo_edge")

OUTPUT = Path("eval_out")


@dataclass(frozen=True)
class EvalRequest:
    """What to track with, and where."""

    bundle: Bundle | None
    """None where `tracker` takes its place."""
    runtime: str = "auto"
    precision: str = "auto"
    checkpoint: Path | None = None
    settings: str | None = None
    """Whose tracker settings; the dataset's own if None."""
    output: Path | None = None
    jobs: int | None = None
    """Processes, or actors of a Ray cluster; one, or one for each of the cluster's machines."""
    ray: str | None = None
    tracker: str | None = None
    """A tracker that is no bundle: csrt, nano=BACKBONE,HEAD, r1track=URL …"""
    label: str | None = None
    """What results call it; its own name if None."""

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InputError("jobs", found=self.jobs, expected="1 or more")


def evaluate_dataset(request: EvalRequest, dataset: Dataset) -> EvalResult:
    """Track what is not tracked yet, and score all of it."""
    if request.bundle is None:
        return _evaluate_peer(request, dataset)
    with closing(
        open_runtime(
            request.bundle, request.runtime, request.precision, checkpoint=request.checkpoint
        )
    ) as runtime:
        settings = runtime.variant.protocol(request.settings or dataset.settings)
        run = describe_run(request.bundle, runtime, settings, request.checkpoint)
        crew = Crew(
            request.bundle.path.absolute(),
            runtime.name,
            runtime.precision,
            runtime.device,
            settings,
            request.checkpoint and request.checkpoint.absolute(),
        )
        label = request.label or request.bundle.path.name
        name = "-".join([label, runtime.name, runtime.precision])
        tracker = Tracker(runtime, settings, color="bgr")
        return _evaluate_tracker(request, dataset, name, run, crew, tracker)


def _evaluate_peer(request: EvalRequest, dataset: Dataset) -> EvalResult:
    """The same for a tracker that is no bundle."""
    if request.tracker is None:
        raise InputError("eval has nothing to track with", fix="name a bundle or a --tracker")
    peer = open_peer(request.tracker)
    crew = PeerCrew(request.tracker)
    name = request.label or peer.name
    return _evaluate_tracker(request, dataset, name, describe_peer(peer), crew, peer)


def _evaluate_tracker(
    request: EvalRequest,
    dataset: Dataset,
    name: str,
    run: Mapping[str, Any],
    crew: Crew | PeerCrew,
    tracker: SequenceTracker,
) -> EvalResult:
    # A folder for each dataset and tracker, so that none replaces another.
    folder = request.output or OUTPUT / f"{_name_dataset(dataset.folder)}-{name}"
    evaluation = Evaluation(dataset, ResultsFolder(folder, run), name)
    todo = evaluation.open_sequences
    frames = sum(len(sequence.images) for sequence in todo)
    with (
        lock_output(folder),
        catch_interrupt() as stop,
        show_progress("eval", frames, kept=True) as advance,
    ):
        evaluation.collect(_choose_way(request, tracker, crew, todo, stop, advance))
    return evaluation.finish()


def _choose_way(
    request: EvalRequest,
    tracker: SequenceTracker,
    crew: Crew | PeerCrew,
    todo: Sequence[ImageSequence],
    stop: Stop,
    advance: Callable[[], None],
) -> Tracked:
    if request.ray is not None and todo:
        return track_on_ray(crew, todo, request.ray, request.jobs, stop, advance)
    jobs = min(request.jobs or 1, len(todo))
    if jobs > 1:
        return track_in_processes(crew, todo, jobs, stop, advance)
    return track_here(tracker, todo, stop, advance)


def _name_dataset(folder: Path) -> str:
    """As it was asked for, but no longer than two folders: many a dataset ends in `val`."""
    whole = folder.resolve() if ".." in folder.parts or not folder.name else folder
    return "-".join(part for part in whole.parts[-2:] if part != whole.anchor)


class Evaluation:
    """A dataset and a folder of results: what is still to track, and what comes out of it."""

    def __init__(self, dataset: Dataset, results: ResultsFolder, tracker: str) -> None:
        results.check_owner(dataset.sequences)
        self._dataset, self._results, self._tracker = dataset, results, tracker
        found = {one.name: results.load(one) for one in dataset.sequences}
        self._tracked = {name: one for name, one in found.items() if one is not None}
        if self._tracked:
            log.info("%d of %d sequences are done already", len(self._tracked), len(found))

    @property
    def open_sequences(self) -> list[ImageSequence]:
        """The sequences without a result that can be trusted."""
        return [one for one in self._dataset.sequences if one.name not in self._tracked]

    def collect(self, tracked: Tracked) -> None:
        """Keep each sequence as it is finished."""
        for sequence, one in tracked:
            self._results.save(sequence, one)
            self._tracked[sequence.name] = one

    def finish(self) -> EvalResult:
        """Score what was tracked and write it down; an interrupted run ends here."""
        missing = len(self.open_sequences)
        if missing:
            done = len(self._tracked)
            log.info(
                "%d of %d sequences are kept; go on with the same command", done, done + missing
            )
            raise KeyboardInterrupt
        result = self._make_result()
        self._results.save_summary(result.summarize())
        return result

    def _make_result(self) -> EvalResult:
        sequences, layout = self._dataset.sequences, self._dataset.layout
        tracked = {one.name: self._tracked[one.name] for one in sequences}
        withheld = self._dataset.withheld
        return EvalResult(
            tracker=self._tracker,
            dataset=layout,
            dataset_name=self._dataset.folder.resolve().name,
            frames={one.name: len(one.images) for one in sequences},
            scores={}
            if withheld
            else {s.name: _score(s, tracked[s.name], layout) for s in sequences},
            fps=_measure_rate(list(tracked.values())),
            folder=self._results.path,
            submission=write_submission(layout, tracked, self._results.path) if withheld else None,
        )


def _score(sequence: ImageSequence, tracked: TrackedSequence, layout: str) -> Score:
    return score_boxes(
        tracked.boxes, sequence.boxes, sequence.hidden, dataset=layout, picture=sequence.picture
    )


def _measure_rate(tracked: Sequence[TrackedSequence]) -> float | None:
    frames = sum(len(one.seconds) - 1 for one in tracked)
    return frames / sum(float(one.seconds[1:].sum()) for one in tracked) if frames else None
