"""Pseudo-labels: what trackers agree on, in both directions; a plain folder that `--data` takes."""

import json

import numpy as np
import pytest
from verbs import run_verb

from relo_edge.datasets.layouts import read_dataset
from relo_edge.errors import InputError, SourceError
from relo_edge.geometry import box_iou
from relo_edge.host.opencv import cv2
from relo_edge.peers.peer import unscored
from relo_edge.pipeline import pseudo_label
from relo_edge.training import pseudo_labels
from relo_edge.training.moving_targets import find_moving
from relo_edge.training.pseudo_labels import SHORTEST, agree, has_moved
from relo_edge.training.real_clips import open_sources

SIZE = (160, 96)
SIDE = 24
TWO = ["right", "wrong"]
COARSE = np.random.default_rng(0).integers(0, 2, (6, 6, 1), np.uint8) * 200 + 30
TEXTURE = np.repeat(cv2.resize(COARSE, (SIDE, SIDE), interpolation=0)[..., None], 3, axis=2)


def place(index):
    """Where the square is in a frame: it moves two pixels a frame."""
    return (10.0 + 2 * index, 30.0, float(SIDE), float(SIDE))


def draw(index, box=None):
    x, y, width, height = map(int, box or place(index))
    frame = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    frame[y : y + height, x : x + width] = TEXTURE[: SIZE[1] - y, : SIZE[0] - x]
    frame[0] = index + 1  # the peers below read a frame's number here
    return frame


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 30, SIZE)
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "walk.avi", [draw(index) for index in range(50)])


class Square:
    """Sees the square; from the frame `until` on it answers the same corner."""

    device, precision, identity = "cpu", "fp32", {"tracker": "square"}

    def __init__(self, until=999, shift=0.0):
        self.name, self.until, self.shift = "square", until, shift

    def init(self, frame, box):
        if min(box[2:]) < 8:
            raise InputError("box", found="too small")

    def update(self, frame):
        index = round(float(frame[0].mean())) - 1
        x, y, *sides = place(index)
        far = index >= self.until
        return unscored((0.0, 0.0, *sides) if far else (x + self.shift, y, *sides), lost=False)


@pytest.fixture
def peers(monkeypatch):
    """Two trackers by the words `right` and `wrong`; tests change the second."""
    opened = {"right": Square(), "wrong": Square(shift=2.0)}
    monkeypatch.setattr(pseudo_labels, "open_peer", opened.__getitem__)
    return opened


def write_pictures(folder, count):
    paths = [folder / f"{index:03d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), draw(index))
    return paths


def test_labels_are_the_mean_of_all_answers(tmp_path):
    pictures = write_pictures(tmp_path, 30)
    boxes = agree([Square(), Square(shift=2.0)], pictures, place(0))
    wanted = np.add([place(index) for index in range(30)], (1, 0, 0, 0))
    np.testing.assert_allclose(boxes, wanted)


def test_a_poor_start_is_corrected(tmp_path):
    pictures = write_pictures(tmp_path, 30)
    boxes = agree([Square(), Square()], pictures, (6.0, 24.0, 40.0, 40.0))
    np.testing.assert_allclose(boxes[0], place(0))


def test_frames_after_the_last_agreement_are_left_out(tmp_path):
    pictures = write_pictures(tmp_path, 40)
    assert len(agree([Square(), Square(until=25)], pictures, place(0))) == 25
    assert not len(agree([Square(), Square(shift=9.0)], pictures, place(0)))
    assert not len(agree([Square(), Square()], pictures, (10.0, 30.0, 4.0, 4.0)))


def test_a_direction_that_differs_leaves_no_label(tmp_path):
    class Drifting(Square):
        """Further to the right with every answer, wherever it was started."""

        def init(self, frame, box):
            self.shift = 0.0

        def update(self, frame):
            self.shift += 0.5
            return super().update(frame)

    boxes = agree([Drifting(), Drifting()], write_pictures(tmp_path, 30), place(0))
    apart = np.abs(np.arange(30) - (29 - np.arange(30))) / 2
    alike = (SIDE - apart) / (SIDE + apart) >= 0.7
    np.testing.assert_array_equal(np.isfinite(boxes[1:-1, 0]), alike[1:-1])


def test_what_moves_is_found():
    (box,) = find_moving(draw(10), draw(13))
    assert box_iou(box, place(11)) > 0.6
    assert find_moving(draw(10), draw(10)) == []
    noise = np.random.default_rng(0).integers(0, 255, (2, 96, 160, 3), np.uint8)
    assert find_moving(cv2.blur(noise[0], (9, 9)) * 3, cv2.blur(noise[1], (9, 9)) * 3) == []
    assert has_moved(np.array([place(0), place(4)]))
    assert not has_moved(np.array([place(0), place(2)]))


def test_a_folder_that_train_and_eval_take(video, peers, tmp_path):
    result = pseudo_label([video], tmp_path / "out", TWO)
    assert (result.videos, result.sequences) == (1, 1)
    assert result.starts == 1 + result.known, "one square, found in several frames"
    assert result.disagreed == result.still == 0
    dataset = read_dataset(tmp_path / "out")
    (sequence,) = dataset.sequences
    assert dataset.layout == "plain"
    assert len(sequence.images) == result.frames >= SHORTEST
    np.testing.assert_allclose(sequence.boxes[5], np.add(place(5), (1, 0, 0, 0)), atol=0.01)
    (source,) = open_sources([tmp_path / "out"])
    assert len(source.draw(np.random.default_rng(0), 4).pictures) == 5
    told = json.loads((sequence.images[0].parents[1] / "meta.json").read_text())
    assert told["video"] == "walk.avi"
    assert [path.name for path in tmp_path.glob("out/.*")] == []


def test_frames_without_agreement_have_no_box(video, peers, tmp_path):
    class Blinking(Square):
        def update(self, frame):
            self.until = 0 if 9.5 < frame[0].mean() - 1 < 12.5 else 999
            return super().update(frame)

    peers["wrong"] = Blinking()
    pseudo_label([video], tmp_path / "out", TWO)
    (sequence,) = read_dataset(tmp_path / "out").sequences
    np.testing.assert_array_equal(np.flatnonzero(~sequence.visible), [10, 11, 12])


def test_given_targets_are_labelled_instead(video, peers, tmp_path):
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps({"square": {"box": place(20), "frame": 20}}))
    result = pseudo_label([video], tmp_path / "out", TWO, init_from=targets)
    assert (result.starts, result.frames) == (1, 30)
    targets.write_text(json.dumps({"square": {"box": place(20), "frame": 50}}))
    with pytest.raises(InputError, match="target 'square': found frame 50, expected 0 to 49"):
        pseudo_label([video], tmp_path / "late", TWO, init_from=targets)
    with pytest.raises(InputError, match="found 2 videos, expected one"):
        pseudo_label([video, video], tmp_path / "both", TWO, init_from=targets)
    assert not (tmp_path / "late").exists()


def test_a_long_sequence_is_cut(video, peers, tmp_path, monkeypatch):
    monkeypatch.setattr(pseudo_labels, "LONGEST", 30)
    pseudo_label([video], tmp_path / "out", TWO)
    lengths = [len(one.images) for one in read_dataset(tmp_path / "out").sequences]
    assert lengths == [30, 20], "the rest is labelled from the next start on"


def test_two_videos_of_one_name(video, peers, tmp_path):
    (tmp_path / "other").mkdir()
    again = write_video(tmp_path / "other" / "walk.avi", [draw(index) for index in range(40)])
    pseudo_label([video, again], tmp_path / "out", TWO)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["walk-000", "walk_2-000"]


def test_no_agreement_leaves_nothing_behind(video, peers, tmp_path):
    peers["wrong"] = Square(until=0)
    with pytest.raises(SourceError, match="expected 20 frames of agreement"):
        pseudo_label([video], tmp_path / "out", TWO)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.avi"]


@pytest.mark.parametrize(
    ("trackers", "message"),
    [
        ([], "--tracker: found none, expected two different trackers or more"),
        (["mil"], "--tracker: found mil, expected two different trackers or more"),
        (["mil", "mil"], "--tracker: found mil, mil, expected two different trackers or more"),
        (["mil", "cat"], "tracker: found 'cat', expected"),
        (["mil", "vit=no.onnx"], "tracker vit: found no file no.onnx"),
    ],
)
def test_trackers_that_cannot_be(video, tmp_path, capsys, trackers, message):
    words = [word for tracker in trackers for word in ("--tracker", tracker)]
    code, _, told = run_verb(capsys, "pseudo-label", video, *words, "-o", tmp_path / "out")
    assert code == 2
    assert message in told
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_kept(video, peers, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="found it exists, expected a new folder"):
        pseudo_label([video], tmp_path / "out", TWO)


def test_a_video_that_cannot_be_read(peers, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(SourceError, match="cannot be opened"):
        pseudo_label([broken], tmp_path / "out", TWO)
    with pytest.raises(InputError, match="no such file or folder"):
        pseudo_label([tmp_path / "none.mp4"], tmp_path / "out", TWO)
    assert not (tmp_path / "out").exists()
