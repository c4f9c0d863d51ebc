"""A result is taken up again only where it is whole and of the very same run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from clips import StillRuntime
from layouts import write_frames, write_plain
from tracked import make_track

from relo_edge.benchmarks.accuracy.results_folder import ResultsFolder, describe_run
from relo_edge.datasets.layouts import read_dataset
from relo_edge.errors import SourceError
from relo_edge.spec import TrackerProtocol

RUN = {"runtime": "onnxruntime", "precision": "int8", "weights": {"step": "abc"}}


@pytest.fixture
def sequence(tmp_path):
    return read_dataset(write_plain(tmp_path / "data", ["one"])).sequences[0]


@pytest.fixture
def results(tmp_path, sequence):
    folder = ResultsFolder(tmp_path / "results", RUN)
    folder.save(sequence, make_track())
    return folder


def find_file(results):
    (file,) = (results.path / "sequences").iterdir()
    return file


def test_what_was_saved_is_loaded_to_the_last_bit(results, sequence):
    found = results.load(sequence)
    assert found.boxes.tolist() == make_track().boxes.tolist()
    assert found.seconds.tolist() == make_track().seconds.tolist()
    assert ResultsFolder(results.path, RUN).load(sequence) is not None


def test_nothing_was_saved(tmp_path, sequence):
    assert ResultsFolder(tmp_path / "new", RUN).load(sequence) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_off(results, sequence, share, caplog):
    content = find_file(results).read_bytes()
    find_file(results).write_bytes(content[: int(share * len(content))])
    with caplog.at_level("INFO", "relo_edge"):
        assert results.load(sequence) is None
    assert "one: tracked again, its result is damaged" in caplog.text


def change_number(stored):
    stored["boxes"][2][0] += 1


def drop_hash(stored):
    del stored["sha256"]


def drop_box(stored):
    stored["boxes"].pop()


def word_box(stored):
    stored["boxes"][0] = "box"


def new_format(stored):
    stored["format"] = 2


@pytest.mark.parametrize("change", [change_number, drop_hash, drop_box, word_box, new_format])
def test_a_file_that_was_changed(results, sequence, change):
    stored = json.loads(find_file(results).read_text())
    change(stored)
    find_file(results).write_text(json.dumps(stored))
    assert results.load(sequence) is None


@pytest.mark.parametrize("content", ["[]", "null", "{}", "3", '{"sequence": 3}', b"\xff\xfe"])
def test_a_file_that_is_something_else(results, sequence, content):
    find_file(results).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert results.load(sequence) is None


def test_a_box_too_few_even_with_the_right_hash(results, sequence):
    short = make_track(3)
    results.save(sequence, short)
    assert results.load(sequence) is None


@pytest.mark.parametrize("key", RUN)
def test_a_result_of_another_run(results, sequence, key, caplog):
    other = ResultsFolder(results.path, {**RUN, key: "other"})
    with caplog.at_level("INFO", "relo_edge"):
        assert other.load(sequence) is None
    assert f"its result is of another {key}" in caplog.text


def test_a_result_of_other_images(results, sequence):
    write_frames(sequence.images[0].parent, [2], "{}.jpg", size=(80, 60))
    assert results.load(sequence) is not None, "the name differs, so it is another image"
    write_frames(sequence.images[0].parent, [2], size=(80, 60))
    assert results.load(sequence) is None


def test_a_first_image_of_the_same_size(results, sequence):
    image = sequence.images[0]
    content = bytearray(image.read_bytes())
    content[-10] ^= 1
    image.write_bytes(content)
    assert results.load(sequence) is None


def test_a_result_of_another_start(results, sequence):
    moved = sequence.boxes.copy()
    moved[0, 0] += 1
    assert results.load(replace(sequence, boxes=moved)) is None


def test_truth_that_was_corrected_needs_no_tracking(results, sequence):
    moved = sequence.boxes.copy()
    moved[1:] += 1
    assert results.load(replace(sequence, boxes=moved)) is not None


def test_images_that_went_away(results, sequence):
    sequence.images[1].unlink()
    with pytest.raises(SourceError, match="image of one: found .*No such file"):
        results.load(sequence)


@pytest.mark.parametrize(
    ("name", "found"), [("note.txt", "a file"), ("note.txt/out", "Not a directory")]
)
def test_a_folder_that_cannot_be(tmp_path, name, found):
    (tmp_path / "note.txt").write_text("mine")
    said = f"results folder .*{name}': found {found}; choose another folder with --output"
    with pytest.raises(SourceError, match=said):
        ResultsFolder(tmp_path / name, RUN)


def test_a_run_is_its_weights_runtime_and_settings(small_bundle, tmp_path):
    runtime, settings = StillRuntime(), TrackerProtocol(2.0)
    run = describe_run(small_bundle, runtime, settings, None)
    files = small_bundle.manifest["files"]
    assert run["weights"]["step"] == files["step.onnx"]["sha256"]
    assert (run["runtime"], run["precision"], run["variant"]) == ("still", "fp32", "demo")
    assert run["settings"]["window_factor"] == 2.0
    assert json.loads(json.dumps(run)) == run
    runtime.precision = "bf16"
    assert describe_run(small_bundle, runtime, settings, None)["weights"] == run["weights"]


def test_the_reference_is_its_checkpoint(small_bundle, tmp_path):
    runtime = StillRuntime()
    runtime.name = "pytorch"
    published = small_bundle.manifest["checkpoint"]["sha256"]
    run = describe_run(small_bundle, runtime, TrackerProtocol(2.0), None)
    assert run["weights"] == {"checkpoint": published}
    other = tmp_path / "other.safetensors"
    other.write_bytes(np.arange(3).tobytes())
    run = describe_run(small_bundle, runtime, TrackerProtocol(2.0), other)
    assert len(run["weights"]["checkpoint"]) == 64
    assert run["weights"]["checkpoint"] != published
