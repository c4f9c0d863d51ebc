"""Sequence folders: the boxes as they were written, or one line on what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from clips import write_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import write_got10k, write_got10k_test, write_lasot, write_plain, write_tnl2k

from relo_edge.datasets.layouts import read_dataset
from relo_edge.datasets.sequences import find_truth, read_sequence
from relo_edge.errors import InputError, SourceError

NAMES = ["1.png", "2.png", "10.png"]
BOXES = "1,2,3,4\n5,6,7,8\n9,10,11,12\n"


def write_sequence(folder, text=BOXES, place=".", truth="groundtruth.txt", names=NAMES):
    write_images(folder / place, names)
    (folder / truth).write_text(text)
    return folder


@pytest.mark.parametrize("place", [".", "frames", "img"])
@pytest.mark.parametrize("truth", ["groundtruth.txt", "groundtruth_rect.txt"])
def test_images_and_boxes_belong_together(tmp_path, place, truth):
    sequence = read_sequence(write_sequence(tmp_path / "walk", place=place, truth=truth))
    assert sequence.name == "walk"
    assert [image.name for image in sequence.images] == NAMES
    assert (sequence.boxes.dtype, sequence.boxes.shape) == (np.float64, (3, 4))
    assert sequence.boxes.ravel().tolist() == list(range(1, 13))
    assert not sequence.absent.any()


def test_a_sequence_is_called_what_its_folder_is_called_where_it_is_given(tmp_path, monkeypatch):
    folder = write_sequence(tmp_path / "store" / "seq")
    (tmp_path / "walk").symlink_to(folder)
    assert read_sequence(tmp_path / "walk").name == "walk"
    monkeypatch.chdir(folder / ".")
    assert read_sequence(Path()).name == "seq"
    (folder / "inside").mkdir()
    assert read_sequence(folder / "inside" / "..").name == "seq"


numbers = st.floats(allow_nan=False, allow_infinity=False)
sides = st.floats(1e-300, 1e300)
separators = st.sampled_from([",", "\t", " ", ", ", "  ", " ,\t"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    boxes=st.lists(st.tuples(numbers, numbers, sides, sides), min_size=3, max_size=3),
    separator=separators,
    newline=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_what_was_written_is_read(tmp_path, boxes, separator, newline, mark):
    folder = tmp_path / "walk"
    if not folder.exists():
        write_images(folder, NAMES)
    lines = [separator.join(map(repr, box)) for box in boxes]
    text = mark + newline.join([*lines, ""])
    (folder / "groundtruth.txt").write_bytes(text.encode())
    assert read_sequence(folder).boxes.tolist() == [list(box) for box in boxes]


@pytest.mark.parametrize(
    ("meta", "first"),
    [('{"origin": 1}', [0, 1, 3, 4]), ('{"origin": 0}', [1, 2, 3, 4]), ("{}", [1, 2, 3, 4])],
)
def test_boxes_count_from_0_in_the_end(tmp_path, meta, first):
    folder = write_sequence(tmp_path / "walk")
    (folder / "meta.json").write_text(meta)
    assert read_sequence(folder).boxes[0].tolist() == first


@pytest.mark.parametrize(
    "line", ["nan,nan,nan,nan", "NaN 1 2 3", "0,0,0,0", "5,5,3,0", "1,1,inf,2"]
)
def test_an_absent_target_has_no_box(tmp_path, line):
    sequence = read_sequence(write_sequence(tmp_path / "walk", f"1,2,3,4\n{line}\n9,10,11,12\n"))
    assert sequence.absent.tolist() == [False, True, False]
    assert np.isnan(sequence.boxes[1]).all()
    assert sequence.boxes[2].tolist() == [9, 10, 11, 12]


@pytest.mark.parametrize(("count", "said"), [(2, "2 boxes"), (4, "4 boxes"), (0, "0 boxes")])
def test_each_image_needs_a_box(tmp_path, count, said):
    folder = write_sequence(tmp_path / "walk", "1,2,3,4\n" * count)
    with pytest.raises(SourceError, match=f"found 3 images and {said} in groundtruth.txt"):
        read_sequence(folder)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("5,6,7", "3 numbers"),
        ("5,6,7,8,9,10,11,12", "8 numbers"),
        ("5,six,7,8", "'5,six,7,8'"),
        ("", "''"),
        ("5;6;7;8", "'5;6;7;8'"),
        ("x" * 500, "'" + "x" * 40 + "…'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, found):
    folder = write_sequence(tmp_path / "walk", f"1,2,3,4\n{line}\n9,10,11,12\n")
    with pytest.raises(SourceError, match=rf"groundtruth.txt line 2: found {found}, expected four"):
        read_sequence(folder)


def test_truth_that_is_no_text(tmp_path):
    folder = write_sequence(tmp_path / "walk")
    (folder / "groundtruth.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SourceError, match="groundtruth.txt cannot be read.*expected text"):
        read_sequence(folder)


@pytest.mark.parametrize(
    "meta", ['{"origin": 2}', '{"origin": null}', "[]", "{", '{"origin": "x"}']
)
def test_an_origin_that_is_none(tmp_path, meta):
    folder = write_sequence(tmp_path / "walk")
    (folder / "meta.json").write_text(meta)
    with pytest.raises(SourceError, match="meta.json: found no origin"):
        read_sequence(folder)


def test_a_folder_without_truth_is_no_sequence(tmp_path):
    write_images(tmp_path, NAMES)
    assert find_truth(tmp_path) is None
    with pytest.raises(InputError, match=r"no ground truth, expected groundtruth.txt or"):
        read_sequence(tmp_path)


def test_truth_without_images(tmp_path):
    (tmp_path / "groundtruth.txt").write_text(BOXES)
    with pytest.raises(InputError, match="no images"):
        read_sequence(tmp_path)


def test_linked_sequences_have_the_names_of_their_links(tmp_path):
    """Both used to be called `seq`, and all but one were left out of the results."""
    for store in ("a", "b"):
        write_plain(tmp_path / store, ["seq"])
    data = tmp_path / "data"
    data.mkdir()
    for name, store in (("one", "a"), ("two", "b")):
        (data / name).symlink_to(tmp_path / store / "seq")
    assert [s.name for s in read_dataset(data).sequences] == ["one", "two"]


def read_one(root):
    (sequence,) = read_dataset(root).sequences
    return sequence


def test_a_target_is_visible_where_nothing_speaks_against_it(tmp_path):
    folder = write_got10k(tmp_path / "got", cover=(8, 0, 8, 8)) / "GOT-10k_Val_000001"
    (folder / "absence.label").write_text("0\n0\n1\n0\n")
    sequence = read_one(tmp_path / "got")
    assert sequence.visible.tolist() == [True, False, False, True]
    assert sequence.hidden.tolist() == [False, True, False, False], "figures know cover alone"
    sequence = read_one(write_lasot(tmp_path / "lasot", hidden=[1], unseen=[3]))
    assert sequence.visible.tolist() == [True, False, True, False]
    assert read_one(write_tnl2k(tmp_path / "tnl2k")).visible.tolist() == [True, False, True, True]
    sequence = read_one(write_got10k_test(tmp_path / "test"))
    assert sequence.visible.tolist() == [True, False, False, False]
