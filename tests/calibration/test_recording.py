"""Recordings: what the tracker really fed its graphs, kept whole and read as a stream."""

import errno
import shutil
import subprocess
import sys
import tracemalloc
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pytest

from relo_edge.bundle import open_bundle
from relo_edge.calibration import recording as recording_module
from relo_edge.calibration import samples as samples_module
from relo_edge.calibration.plan import plan_runs
from relo_edge.calibration.recording import record_samples, track_run
from relo_edge.clips.clip import find_clips
from relo_edge.contract import describe_graph
from relo_edge.errors import BundleError, InputError, SourceError
from relo_edge.geometry import crop_into, place_crop
from relo_edge.runtime import open_runtime

FRAMES = 12


@pytest.fixture(scope="module")
def runs():
    return plan_runs(find_clips([])[:2], FRAMES)


@pytest.fixture(scope="module")
def recording(small_bundle, runs, tmp_path_factory):
    """Not to be changed."""
    return record_samples(small_bundle, runs, tmp_path_factory.mktemp("recorded") / "cache")


def list_folder(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_every_frame_asked_for_is_recorded(recording, runs):
    assert len(list(recording.step_feeds())) == FRAMES == sum(run.length for run in runs)
    assert len(list(recording.template_feeds())) == len(runs)
    assert list_folder(recording.folder) == ["recording.json", "run-0000.npz", "run-0001.npz"]


@pytest.mark.slow
def test_a_bundle_of_the_name_demo_is_not_the_built_in_one(
    recording, small_bundle, runs, tmp_path, monkeypatch
):
    shutil.copytree(small_bundle.path, tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    named = record_samples(open_bundle("./demo"), runs, tmp_path / "cache")
    assert all(map(np.array_equal, named.boxes(), recording.boxes()))


@pytest.mark.parametrize("graph", ["step", "template"])
def test_samples_can_be_fed_as_they_are(recording, small_bundle, graph):
    contract = describe_graph(small_bundle.variant, graph)
    for feeds in getattr(recording, f"{graph}_feeds")():
        assert list(feeds) == [spec.name for spec in contract.inputs]
        for spec in contract.inputs:
            assert feeds[spec.name].shape == spec.at_batch(1)
            assert feeds[spec.name].dtype == spec.dtype


def crop_search(frame, box, variant):
    window = place_crop(tuple(box), variant.protocol().search_factor, variant.search_size)
    crop = np.empty((variant.search_size, variant.search_size, 3), np.uint8)
    return crop_into(crop, frame, window)[..., ::-1]


@pytest.mark.slow
def test_the_samples_are_the_closed_loop(recording, small_bundle, runs):
    """Each step's state is the one before's output, its crop lies around the box before."""
    step, template = (
        onnxruntime.InferenceSession(small_bundle.graph(name)) for name in ("step", "template")
    )
    templates, samples = recording.template_feeds(), recording.step_feeds()
    for run, boxes in zip(runs, recording.boxes(), strict=True):
        tokens = template.run(None, next(templates))[0]
        state = np.zeros((1, *small_bundle.variant.state_shape), np.float32)
        frames = list(run.clip.read_frames(run.frames))[1:]
        for index, (frame, box) in enumerate(zip(frames, [run.box, *boxes[:-1]], strict=True)):
            feeds = next(samples)
            assert np.array_equal(feeds["search"][0], crop_search(frame, box, small_bundle.variant))
            assert feeds["has_history"].tolist() == [float(index > 0)]
            np.testing.assert_allclose(feeds["template_tokens"], tokens, atol=1e-5)
            np.testing.assert_allclose(feeds["temporal_tokens"], state, atol=1e-4)
            state = step.run(["temporal_tokens_out"], feeds)[0]


@pytest.mark.slow
def test_the_boxes_are_the_float_trackers(recording, small_bundle, runs):
    with closing(open_runtime(small_bundle.path, "onnxruntime", "fp32")) as runtime:
        for run, boxes in zip(runs, recording.boxes(), strict=True):
            assert boxes.shape == run.truth.shape == (run.length, 4)
            np.testing.assert_allclose(boxes, track_run(runtime, run, run.box), atol=1e-3)


@pytest.mark.slow
def test_what_is_whole_is_kept(small_bundle, runs, tmp_path):
    folder = tmp_path / "cache"
    steps = []
    first = record_samples(small_bundle, runs, folder, lambda: steps.append(1))
    assert len(steps) == 3 * FRAMES
    kept, lost = first.list_files()
    before, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    record_samples(small_bundle, runs, folder, lambda: steps.append(1))
    assert len(steps) == 3 * FRAMES + 3 * runs[1].length
    assert kept.stat().st_mtime_ns == before
    # A zip notes the time at which its members were written; what was tracked is the same.
    assert len(lost.read_bytes()) == len(content)


def test_nothing_is_opened_when_nothing_is_missing(recording, small_bundle, runs, monkeypatch):
    monkeypatch.setattr(recording_module, "open_runtime", None)
    assert record_samples(small_bundle, runs, recording.folder) == recording


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_half_file(small_bundle, runs, tmp_path):
    folder, calls = tmp_path / "cache", []

    def interrupt_second_run():
        calls.append(1)
        if len(calls) == 3 * runs[0].length + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_samples(small_bundle, runs, folder, interrupt_second_run)
    assert list_folder(folder) == ["recording.json", "run-0000.npz"]
    assert len(list(record_samples(small_bundle, runs, folder).step_feeds())) == FRAMES


@pytest.mark.slow
def test_a_recording_does_not_depend_on_what_was_kept(recording, small_bundle, runs, tmp_path):
    """A slot remembers the run before; a resumed recording has another one before."""
    resumed = record_samples(small_bundle, runs, tmp_path / "cache")
    resumed.list_files()[0].unlink()
    resumed = record_samples(small_bundle, runs, tmp_path / "cache")
    for one, other in zip(recording.step_feeds(), resumed.step_feeds(), strict=True):
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)


def test_a_foreign_recording_is_left_alone(recording, small_bundle, runs):
    before = list_folder(recording.folder)
    with pytest.raises(BundleError, match="is of another plan"):
        record_samples(small_bundle, runs * 2, recording.folder)
    assert list_folder(recording.folder) == before


def test_nothing_to_record(small_bundle, tmp_path):
    with pytest.raises(InputError, match="runs to record: found none"):
        record_samples(small_bundle, [], tmp_path / "cache")
    assert list_folder(tmp_path) == []


@pytest.mark.parametrize("cut", [0, 100, 0.5])
def test_a_damaged_file_is_named(recording, small_bundle, runs, tmp_path, cut):
    damaged = replace(recording, folder=tmp_path)
    for path in recording.list_files():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: int(cut * len(content)) if cut < 1 else cut])
    for read in (damaged.step_feeds, damaged.template_feeds, damaged.boxes):
        with pytest.raises(BundleError, match=r"run-0000.npz is damaged.*delete that file"):
            list(read())


def test_a_full_disk_is_told_in_one_line(small_bundle, runs, tmp_path, monkeypatch):
    def fill_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(samples_module.np.lib.format, "write_array", fill_disk)
    with pytest.raises(SourceError, match=r"run-0000.npz cannot be written: found No space left"):
        record_samples(small_bundle, runs, tmp_path / "cache")
    assert list_folder(tmp_path / "cache") == ["recording.json"]


def measure_peak(task):
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_samples(small_bundle, tmp_path):
    run = plan_runs(find_clips([])[:1], 5)
    record_peaks, read_peaks = [], []
    for times in (1, 4):
        job = partial(record_samples, small_bundle, run * times, tmp_path / str(times))
        record_peaks.append(measure_peak(job))
        recorded = job()
        read_peaks.append(measure_peak(lambda: sum(1 for _ in recorded.step_feeds())))  # noqa: B023
    sample = sum(array.nbytes for array in next(recorded.step_feeds()).values())
    assert read_peaks[0] < 5 * sample
    assert read_peaks[1] - read_peaks[0] < sample
    assert record_peaks[1] - record_peaks[0] < sample


FOLLOW = """
import sys
from pathlib import Path
from relo_edge.bundle import open_bundle
from relo_edge.clips.clip import find_clips
from relo_edge.calibration.plan import plan_runs
from relo_edge.calibration.recording import record_samples
record_samples(open_bundle(sys.argv[1]), plan_runs(find_clips([])[:1], 2), Path(sys.argv[2]))
assert not {"torch", "onnx"} & set(sys.modules), "heavy"
"""


@pytest.mark.slow
def test_recording_needs_neither_torch_nor_onnx(small_bundle, tmp_path):
    command = [sys.executable, "-c", FOLLOW, str(small_bundle.path), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr
