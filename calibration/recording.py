"""What the graphs see while the tracker really tracks: recorded once, then read as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relo_edge.bundle import Bundle
from relo_edge.calibration.cache_key import claim_folder, describe_recording
from relo_edge.calibration.plan import Run
from relo_edge.calibration.recording_runtime import RecordingRuntime, open_encoder
from relo_edge.calibration.samples import Feeds, create_samples, read_array, read_samples
from relo_edge.errors import InputError
from relo_edge.geometry import Box, Floats
from relo_edge.host.locks import lock_output
from relo_edge.measures.closed_loop import START_SHIFTS, follow_target, perturb_start
from relo_edge.runtime import Runtime, open_runtime

__all__ = ["Recording", "count_tracked", "record_samples", "track_run"]


@dataclass(frozen=True)
class Recording:
    """A folder with a file for each run."""

    folder: Path
    runs: tuple[Run, ...]

    def list_files(self) -> list[Path]:
        """Where each run's samples are, or will be."""
        return [self.folder / f"run-{index:04}.npz" for index in range(len(self.runs))]

    def list_missing(self) -> list[tuple[Path, Run]]:
        """The runs whose samples are still to be recorded."""
        pairs = zip(self.list_files(), self.runs, strict=True)
        return [(path, run) for path, run in pairs if not path.exists()]

    def step_feeds(self) -> Iterator[Feeds]:
        """What the step graph was fed, one sample in memory at a time."""
        for path in self.list_files():
            yield from read_samples(path, "step")

    def template_feeds(self) -> Iterator[Feeds]:
        """The same for the template graph."""
        for path in self.list_files():
            yield from read_samples(path, "template")

    def boxes(self) -> Iterator[Floats]:
        """Where the float tracker saw each run's target: [length,4], beside the run's `truth`."""
        for path in self.list_files():
            yield read_array(path, "boxes")

    def perturbed_boxes(self) -> Iterator[Floats]:
        """The same from perturbed starts: [starts,length,4]."""
        for path in self.list_files():
            yield read_array(path, "nudged")


def record_samples(
    bundle: Bundle,
    runs: Sequence[Run],
    folder: Path,
    advance: Callable[[], None] = lambda: None,
) -> Recording:
    """Track every run that the folder does not hold yet, also from perturbed starts.

    `advance` is called for each frame tracked. Whatever ends it, whole runs are kept, and the same
    call goes on from there.
    """
    if not runs:
        raise InputError("runs to record", found="none", expected="1 or more")
    recording = Recording(folder, tuple(runs))
    claim_folder(folder, describe_recording(bundle, runs))
    with lock_output(folder, wait=True):  # what another process is recording need not be twice
        if missing := recording.list_missing():
            _record_runs(bundle, missing, advance)
    return recording


def count_tracked(runs: Sequence[Run]) -> int:
    """How often `record_samples` calls `advance`: for the runs and for their perturbed ones."""
    return (1 + len(START_SHIFTS)) * sum(run.length for run in runs)


def track_run(
    runtime: Runtime, run: Run, box: Box, advance: Callable[[], None] = lambda: None
) -> Floats:
    """The boxes of the frames after the start frame, [length,4] x, y, w, h."""
    with closing(run.clip.read_frames(run.frames)) as frames:
        return follow_target(runtime, frames, box, advance)


def _record_runs(
    bundle: Bundle, missing: Sequence[tuple[Path, Run]], advance: Callable[[], None]
) -> None:
    with closing(open_runtime(bundle, "onnxruntime", "fp32")) as runtime:
        encode = open_encoder(bundle)
        for path, run in missing:
            with create_samples(path) as writer:
                recorder = RecordingRuntime(runtime, encode, writer)
                writer.write_array("boxes", track_run(recorder, run, run.box, advance))
                perturbed = [
                    track_run(runtime, run, box, advance) for box in perturb_start(run.box)
                ]
                writer.write_array("nudged", np.array(perturbed))
