"""COCO annotations become boxes in pictures, or one line says what is wrong with them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import write_coco

from relo_edge.datasets.coco import holds_coco, read_coco
from relo_edge.errors import InputError, ReloError, SourceError


def test_boxes_belong_to_their_pictures(tmp_path):
    found = read_coco(write_coco(tmp_path))
    assert found.names == tuple(f"{number:012d}.jpg" for number in range(3))
    assert found.sizes.tolist() == [[64, 48]] * 3
    assert found.owners.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.boxes[:2].tolist() == [[5, 5, 20, 10], [30, 8, 16, 24]]
    assert found.folder == tmp_path / "train2017"


numbers = st.one_of(st.floats(-50, 700), st.just(float("nan")), st.just(float("inf")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.lists(numbers, min_size=4, max_size=4), st.integers(0, 1)),
        min_size=1,
    )
)
def test_crowds_specks_and_what_is_in_no_picture_are_left_out(tmp_path, entries):
    annotations = [
        {"image_id": image, "bbox": box, "iscrowd": crowd, "segmentation": {"counts": [1, 2]}}
        for image, box, crowd in entries
    ]
    expected = [
        (image, box)
        for image, box, crowd in entries
        if image < 3 and not crowd and all(map(is_finite, box)) and min(box[2:]) >= 4
    ]
    write_coco(tmp_path, annotations=annotations)
    if not expected:
        with pytest.raises(SourceError, match="found no box that can be followed"):
            read_coco(tmp_path)
        return
    found = read_coco(tmp_path)
    assert list(zip(found.owners.tolist(), found.boxes.tolist(), strict=True)) == expected


def is_finite(value):
    return abs(value) < float("inf")


def test_the_newest_training_part_is_taken(tmp_path):
    for part in ("train2014", "train2017", "val2017"):
        write_coco(tmp_path, part)
    assert read_coco(tmp_path).folder.name == "train2017"
    assert read_coco(write_coco(tmp_path / "only", "val2017")).folder.name == "val2017"


@pytest.mark.parametrize("place", ["train2017", "images/train2017", "images"])
def test_where_pictures_may_lie(tmp_path, place):
    assert read_coco(write_coco(tmp_path, folder=place)).folder == tmp_path / place


def test_annotations_without_pictures(tmp_path):
    write_coco(tmp_path, folder="elsewhere")
    with pytest.raises(InputError, match=f"no pictures of train2017, expected {tmp_path}/train201"):
        read_coco(tmp_path)


IMAGE = '"images": [{"id": 0, "file_name": "a.jpg", "width": 9, "height": 9}]'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        "{}",
        '{"images": [], "annotations": 5}',
        '{"images": [{"file_name": "a.jpg"}], "annotations": []}',
        f'{{{IMAGE}, "annotations": [{{"bbox": [1, 2, 3, 4]}}]}}',
        f'{{{IMAGE}, "annotations": [{{"image_id": 0, "bbox": [1, 2, 3]}}]}}',
        f'{{{IMAGE}, "annotations": [{{"image_id": 0, "bbox": "wide"}}]}}',
        f'{{{IMAGE}, "annotations": [{{"image_id": [], "bbox": [1, 2, 3, 4]}}]}}',
        f'{{{IMAGE}, "annotations": [{{"image_id": 0, "bbox": [1, 2, 3, 1{"0" * 400}]}}]}}',
        "[" * 200_000,
    ],
)
def test_files_that_hold_no_annotations(tmp_path, text):
    write_coco(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    file.write_text(text)
    with pytest.raises(ReloError, match=f"{file} holds no COCO annotations") as caught:
        read_coco(tmp_path)
    assert "\n" not in str(caught.value)


def test_annotations_that_are_no_text_or_no_file(tmp_path):
    write_coco(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    file.write_bytes(b'{"images": "\xff\xfe"}')
    with pytest.raises(SourceError, match="holds no COCO annotations"):
        read_coco(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(SourceError, match="cannot be read: found Is a directory"):
        read_coco(tmp_path)


def test_which_folders_hold_annotations(tmp_path):
    assert not holds_coco(tmp_path)
    assert holds_coco(write_coco(tmp_path))
