"""Crops of real pictures are the tracker's, and their boxes say where the target is in them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_training import SMALL

from relo_edge.errors import SourceError
from relo_edge.geometry import box_in_template, box_to_image, crop_into, place_crop
from relo_edge.host.opencv import cv2
from relo_edge.training import real_crops as filming
from relo_edge.training.real_clips import ClipFrames, UnusableClip
from relo_edge.training.real_crops import cut_clip
from relo_edge.training.render import Jitter

CALM = Jitter(centre=0.0, scale=0.0)
TEMPLATE, SEARCH = SMALL.template_size, SMALL.search_size


def write_picture(path, size=(320, 240), box=None, seed=0):
    """Noise, or a white box on black."""
    picture = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    if box is not None:
        picture[:] = 0
        x, y, width, height = box
        picture[y : y + height, x : x + width] = 255
    assert cv2.imwrite(str(path), picture)
    return path


def make_shot(path, boxes, size=None):
    return ClipFrames("walk", (path,) * len(boxes), np.array(boxes, np.float64), size)


def find_white(crop):
    rows, columns = np.nonzero(crop.max(axis=2) > 100)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def list_corners(box, size):
    """The part of a box cx, cy, w, h that is in the crop, in its pixels."""
    corners = np.array([*(box[:2] - box[2:] / 2), *(box[:2] + box[2:] / 2)]) * size
    return corners.clip(0, size)


shared = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)


@shared
@given(
    st.integers(2, 200), st.integers(2, 150), st.integers(10, 100), st.integers(10, 80),
    st.integers(0, 10**6), st.sampled_from([".png", ".jpg"]),
)  # fmt: skip
def test_boxes_are_where_the_crops_show_the_target(tmp_path, x, y, width, height, seed, suffix):
    box = (x, y, width, height)
    path = write_picture(tmp_path / f"white{suffix}", box=box)
    crops = cut_clip(make_shot(path, [box] * 4), SMALL, Jitter(), np.random.default_rng(seed))
    assert crops.seen.all(), "the widest shift leaves the centre in the crop"
    for crop, told in zip(crops.searches, crops.boxes, strict=True):
        expected = list_corners(told, SEARCH)
        assert np.abs(find_white(crop) - expected).max() < 1.5 + SEARCH * 0.02
    x, y, width, height = crops.template_box * (TEMPLATE - 1)
    expected = (np.array([x, y, x + width, y + height]) + 0.5).clip(0, TEMPLATE)
    assert np.abs(find_white(crops.template) - expected).max() < 1.5 + TEMPLATE / min(box[2:]) / 2


@shared
@given(
    *(st.integers(8 * least, 8 * most).map(lambda number: number / 8)  # sums are exact
      for least, most in ((-15, 280), (-15, 200), (25, 60), (25, 60))),
    st.integers(0, 10**6),
)  # fmt: skip
def test_without_jitter_it_is_what_the_tracker_sees(tmp_path, x, y, width, height, seed):
    seen = (min(x + width, 320) - max(x, 0)) * (min(y + height, 240) - max(y, 0))
    assume(seen > 0.35 * width * height)  # training leaves out what a picture hardly shows
    path, box = tmp_path / "noise.png", (x, y, width, height)
    if not path.exists():
        write_picture(path)
    frame = cv2.imread(str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filming, "BRIGHTNESS", 0.0)
        crops = cut_clip(make_shot(path, [box] * 2), SMALL, CALM, np.random.default_rng(seed))
    template = place_crop(box, 2.0, TEMPLATE)
    search = place_crop(box, 4.0, SEARCH)
    seen = [
        crop_into(np.empty((size, size, 3), np.uint8), frame, window)[..., ::-1]
        for window, size in ((template, TEMPLATE), (search, SEARCH))
    ]
    mirrored = not np.array_equal(crops.template, seen[0])
    way = slice(None, None, -1 if mirrored else 1)
    assert np.array_equal(crops.template, seen[0][:, way])
    assert np.array_equal(crops.searches[0], seen[1][:, way])
    assert np.array_equal(crops.template_box, box_in_template(box, template, TEMPLATE))
    told = crops.boxes[0].copy()
    told[0] = 1 - told[0] if mirrored else told[0]
    left, top, *size = box_to_image(told, box, search.scale, SEARCH)
    corners = [left, top, left + size[0], top + size[1]]
    shown = [max(x, 0), max(y, 0), min(x + width, 320), min(y + height, 240)]
    # The tracker does not know to which pixel its crop was rounded.
    assert corners == pytest.approx(shown, abs=0.51)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("side", [100, 200, 400, 900])
def test_large_targets_are_read_small_and_their_boxes_are_as_exact(tmp_path, suffix, side):
    box = (301, 203, side, side - 7)
    path = write_picture(tmp_path / f"white{suffix}", size=(1403, 1205), box=box)
    for seed in range(4):
        crops = cut_clip(make_shot(path, [box] * 3), SMALL, Jitter(), np.random.default_rng(seed))
        for crop, told in zip(crops.searches, crops.boxes, strict=True):
            assert np.abs(find_white(crop) - list_corners(told, SEARCH)).max() < 2
    crops = cut_clip(make_shot(path, [box] * 2), SMALL, CALM, np.random.default_rng(0))
    shown = np.array(box[2:]) / (4 * np.sqrt(box[2] * box[3]))
    assert crops.boxes[0, 2:] == pytest.approx(shown, rel=0.01)


def test_a_small_reading_is_a_faster_one(tmp_path, monkeypatch):
    flags = []
    read = filming.read_image
    monkeypatch.setattr(
        filming, "read_image", lambda path, flag: flags.append(flag) or read(path, flag)
    )
    path = write_picture(tmp_path / "white.jpg", size=(1400, 1200), box=(300, 200, 600, 600))
    cut_clip(make_shot(path, [(300, 200, 600, 600)] * 5), SMALL, CALM, np.random.default_rng(0))
    assert flags == [cv2.IMREAD_REDUCED_COLOR_8], "once, though five frames show it"
    cut_clip(make_shot(path, [(300, 200, 30, 30)] * 2), SMALL, CALM, np.random.default_rng(0))
    assert flags[1:] == [cv2.IMREAD_COLOR]


def test_one_seed_one_film(tmp_path):
    shot = make_shot(write_picture(tmp_path / "a.png"), [(50, 60, 40, 30)] * 3)
    first, again, other = (
        cut_clip(shot, SMALL, Jitter(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one, two)
    assert not np.array_equal(first.searches, other.searches)


def test_a_clip_is_mirrored_as_a_whole_and_crops_are_lit_one_by_one(tmp_path):
    path = write_picture(tmp_path / "white.png", box=(100, 60, 60, 120))
    picture = cv2.imread(str(path))
    picture[:, 130:] //= 2
    cv2.imwrite(str(path), picture)
    sides, gains = [], set()
    for seed in range(12):
        shot = make_shot(path, [(100, 60, 60, 120)] * 4)
        crops = cut_clip(shot, SMALL, CALM, np.random.default_rng(seed))
        halves = [
            crop[:, : crop.shape[1] // 2].sum() > crop[:, crop.shape[1] // 2 :].sum()
            for crop in (crops.template, *crops.searches)
        ]
        assert len(set(halves)) == 1
        sides.append(halves[0])
        gains |= {int(crop.max()) for crop in crops.searches}
    assert len(set(sides)) == 2
    assert len(gains) > 3
    assert min(gains) >= 203


def film_one(path, box=(50, 60, 40, 30), size=None):
    shot = make_shot(path, [box] * 2, size)
    return cut_clip(shot, SMALL, CALM, np.random.default_rng(0))


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_half_a_jpeg_is_not_learned_from(tmp_path, share):
    path = write_picture(tmp_path / "noise.jpg")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SourceError, match="noise.jpg.*found half of it, expected a whole JPEG"):
        film_one(path)


def test_what_cameras_add_to_a_jpeg_does_no_harm(tmp_path):
    path = write_picture(tmp_path / "noise.jpg")
    whole = film_one(path)
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert np.array_equal(film_one(path).searches, whole.searches)


def test_a_file_is_what_it_holds_not_what_it_is_called(tmp_path):
    path = write_picture(tmp_path / "noise.png")
    whole = film_one(path)
    assert np.array_equal(film_one(path.rename(tmp_path / "noise.jpg")).searches, whole.searches)


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_what_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.jpg' cannot be read"):
        film_one(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_of_another_size_than_annotated(tmp_path, suffix):
    path = write_picture(tmp_path / f"a{suffix}")
    film_one(path, size=(320, 240))
    with pytest.raises(SourceError, match="found 320x240 pixels, expected 240x320, as annotated"):
        film_one(path, size=(240, 320))


@pytest.mark.parametrize(
    "box",
    [
        (400, 60, 40, 30),
        (300, 60, 100, 30),
        (50, 60, 3, 30),
        (-1e9, -1e9, 2e9, 2e9),
        (50, 60, 1e200, 1e200),
        (1e200, 60, 40, 30),
        (50, 60, 1e-300, 1e-300),
    ],
)
def test_targets_that_the_picture_hardly_shows_are_unfit(tmp_path, box):
    with pytest.raises(UnusableClip):
        film_one(write_picture(tmp_path / "a.png"), box)


def test_a_crop_of_a_huge_picture_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(filming, "WIDEST", 200)
    with pytest.raises(UnusableClip, match="needs a crop of 240 pixels"):
        film_one(write_picture(tmp_path / "a.png"), (10, 10, 60, 60))
