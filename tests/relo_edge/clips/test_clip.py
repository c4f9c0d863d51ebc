"""Clips: found wherever they are, read in any direction, and refused in one line."""

from dataclasses import replace

import numpy as np
import pytest
from clips import SIZE, cut_file, draw_frame, write_images, write_video

from relo_edge.clips import clip as clips_module
from relo_edge.clips.clip import find_clips, make_synthetic_clip
from relo_edge.errors import InputError, SourceError
from relo_edge.host.opencv import cv2


def write_sequence(folder, boxes, count=None):
    names = [f"{index}.png" for index in range(len(boxes) if count is None else count)]
    write_images(folder / "img", names)
    lines = [",".join(map(str, box)) for box in boxes]
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    return folder


def read_levels(clip, indices):
    return [int(frame[40, 60, 0]) for frame in clip.read_frames(indices)]


def refuse(path, kind, message):
    with pytest.raises(kind, match=message) as caught:
        find_clips([path])
    assert "\n" not in str(caught.value)


BOX = (8, 8, 8, 8)
SEEN = (8.0, 8.0, 8.0, 8.0)


@pytest.mark.slow
def test_without_a_path_there_are_built_in_clips():
    clips, again = find_clips([]), find_clips([])
    assert len(clips) == 8
    assert len({clip.digest for clip in clips}) == 8
    assert [clip.digest for clip in clips] == [clip.digest for clip in again]
    for clip in clips:
        assert len(clip.starts) == len(clip.truth) == clip.frame_count
    first, second = clips[0].read_frames(range(3, 2, -1)), again[0].read_frames(range(3, 4))
    assert np.array_equal(next(first), next(second))


def test_a_video_offers_what_can_be_followed(tmp_path):
    clip = find_clips([write_video(tmp_path / "walk.mp4", frames=20)])[0]
    assert (clip.name, clip.frame_count, clip.truth) == ("walk.mp4", 20, None)
    assert {start.frame for start in clip.starts} == {0, 15}
    for start in clip.starts:
        x, y, width, height = start.box
        assert x > 0 < y
        assert x + width < SIZE[0]
        assert y + height < SIZE[1]


def test_a_long_video_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(clips_module, "LONGEST", 6)
    assert find_clips([write_video(tmp_path / "walk.mp4", frames=20)])[0].frame_count == 6


@pytest.mark.parametrize(
    "indices",
    [
        range(12),
        range(3, 10, 3),
        range(11, -1, -1),
        range(10, 1, -3),
        range(5, 6),
        range(0, 15, 4),
    ],
)
def test_frames_come_in_the_order_asked_for(tmp_path, indices):
    boxes = [BOX] * 16
    clip = find_clips([write_sequence(tmp_path / "walk", boxes)])[0]
    assert read_levels(clip, indices) == [20 + 5 * index for index in indices]


def test_a_video_named_by_a_number_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "walk.mp4").rename("7")
    assert find_clips(["7"])[0].frame_count == 12


def test_a_sequence_starts_wherever_its_target_is_seen(tmp_path):
    nan = float("nan")
    boxes = [
        BOX,
        (nan, nan, nan, nan),
        (0, 0, 0, 0),
        (200, 8, 8, 8),
        (94, 8, 8, 8),
        (-4, 60, 8, 30),
    ]
    clip = find_clips([write_sequence(tmp_path / "walk", boxes)])[0]
    assert [(s.frame, s.box) for s in clip.starts] == [(0, SEEN), (5, (0.0, 60.0, 4.0, 4.0))]
    assert np.isnan(clip.truth[1:3]).all()
    assert clip.truth[3].tolist() == [200, 8, 8, 8]


def test_a_folder_of_sequences_gives_them_all(tmp_path):
    for name in ("walk", "run"):
        write_sequence(tmp_path / "set" / name, [BOX] * 3)
    (tmp_path / "set" / "README.md").write_text("two sequences")
    (tmp_path / "set" / "empty").mkdir()
    video = write_video(tmp_path / "ride.mp4")
    clips = find_clips([tmp_path / "set", video])
    assert [clip.name for clip in clips] == ["run", "walk", "ride.mp4"]


def test_the_digest_tells_contents_apart(tmp_path):
    folder = write_sequence(tmp_path / "walk", [BOX] * 3)

    def read_digest():
        return find_clips([folder])[0].digest

    digests = [read_digest()]
    assert read_digest() == digests[0]
    cv2.imwrite(str(folder / "img" / "1.png"), draw_frame(9))
    digests.append(read_digest())
    (folder / "img" / "2.png").rename(folder / "img" / "3.png")
    digests.append(read_digest())
    (folder / "groundtruth.txt").write_text("8,8,8,9\n" * 3)
    digests.append(read_digest())
    assert len(set(digests)) == 4


def test_a_clip_that_shrank_meanwhile(tmp_path):
    folder = write_sequence(tmp_path / "walk", [BOX] * 6)
    clip = find_clips([folder])[0]
    (folder / "img" / "5.png").unlink()
    with pytest.raises(SourceError, match="5.png' cannot be read: found no such file"):
        list(clip.read_frames(range(6)))


def test_a_clip_that_ends_before_it_did():
    clip = replace(make_synthetic_clip(7, 6, (160, 120)), frame_count=8)
    with pytest.raises(SourceError, match="changed while it was read: found 3 frames, expected 5"):
        list(clip.read_frames(range(3, 8)))


@pytest.mark.parametrize("kind", ["synthetic", "sequence", "video"])
def test_frames_are_the_same_from_any_number_on(tmp_path, kind):
    if kind == "synthetic":
        clip = make_synthetic_clip(7, 6, (160, 120))
    elif kind == "sequence":
        clip = find_clips([write_sequence(tmp_path / "walk", [BOX] * 6)])[0]
    else:
        clip = find_clips([write_video(tmp_path / "ride.mp4")])[0]
    whole = list(clip.read_frames(range(6)))
    for indices in (range(6), range(3, 6), range(1, 6, 2), range(5, 2, -1)):
        read = list(clip.read_frames(indices))
        assert all(map(np.array_equal, read, [whole[index] for index in indices]))
        assert len(read) == len(indices)


def test_a_picture_before_the_first_is_not_decoded(tmp_path):
    folder = write_sequence(tmp_path / "walk", [BOX] * 6)
    clip = find_clips([folder])[0]
    (folder / "img" / "1.png").write_bytes(b"nothing")
    assert len(list(clip.read_frames(range(3, 6)))) == 3


def test_frames_of_several_sizes(tmp_path):
    folder = write_sequence(tmp_path / "walk", [BOX] * 3)
    cv2.imwrite(str(folder / "img" / "2.png"), draw_frame(2, (48, 32)))
    with pytest.raises(SourceError, match="clip walk: found frames of several sizes"):
        list(find_clips([folder])[0].read_frames(range(3)))


def test_no_such_path(tmp_path):
    refuse(tmp_path / "none.mp4", InputError, "none.mp4': found no such file or folder")


def test_a_folder_without_clips(tmp_path):
    refuse(tmp_path, InputError, "no clip in .*neither ground truth nor videos.*one by one")


def test_images_without_truth(tmp_path):
    write_images(tmp_path, ["1.png", "2.png"])
    refuse(tmp_path, InputError, "neither ground truth nor videos, expected groundtruth.txt or")


def test_an_unreadable_video(tmp_path):
    path = tmp_path / "walk.mp4"
    path.write_bytes(b"no video at all")
    refuse(path, SourceError, "walk.mp4' cannot be opened")


def test_a_video_that_was_cut_off(tmp_path):
    whole = write_video(tmp_path / "whole.avi", frames=40, fourcc="MJPG")
    refuse(cut_file(whole, 0.5, tmp_path / "cut.avi"), SourceError, "cut.avi' ends early")


def test_a_single_image(tmp_path):
    write_images(tmp_path, ["1.png"])
    refuse(tmp_path / "1.png", InputError, "a single image")


def test_a_video_of_one_frame(tmp_path):
    path = write_video(tmp_path / "walk.mp4", frames=1)
    refuse(path, SourceError, "clip walk.mp4: found 1 frame, expected 2 or more")


def test_a_sequence_of_one_frame(tmp_path):
    folder = write_sequence(tmp_path / "walk", [BOX])
    refuse(folder, SourceError, "clip walk: found 1 frame, expected 2 or more")


@pytest.mark.parametrize("box", [("nan",) * 4, (0, 0, 0, 0), (8, 8, 3, 3), (-50, 8, 20, 20)])
def test_a_sequence_without_a_usable_target(tmp_path, box):
    folder = write_sequence(tmp_path / "walk", [box] * 4)
    refuse(folder, SourceError, "clip walk: found no usable target, expected a box of at least 4x4")


def test_a_video_of_a_blank_wall(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "wall.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, SIZE)
    for _ in range(4):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
    writer.release()
    refuse(tmp_path / "wall.mp4", SourceError, "clip wall.mp4: found no usable target")


def test_too_few_boxes(tmp_path):
    folder = write_sequence(tmp_path / "walk", [BOX] * 3, count=5)
    refuse(folder, SourceError, "5 images and 3 boxes")


def test_an_image_that_does_not_decode(tmp_path):
    folder = write_sequence(tmp_path / "walk", [BOX] * 3)
    (folder / "img" / "0.png").write_bytes(b"no image")
    refuse(folder, SourceError, "0.png' cannot be read")


def test_a_folder_or_a_glob_of_videos_names_each(tmp_path):
    for name in ("b.mp4", "a.mp4"):
        write_video(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a video")
    assert [found.name for found in find_clips([tmp_path])] == ["a.mp4", "b.mp4"]
    assert [found.name for found in find_clips([tmp_path / "b*.mp4"])] == ["b.mp4"]


def test_a_glob_that_names_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--clips .*none\*.mp4.*nothing of that name"):
        find_clips([tmp_path / "none*.mp4"])


def test_a_file_with_a_globs_letters_in_its_name_is_itself(tmp_path):
    (tmp_path / "a[1].mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"a\[1\].mp4"):
        find_clips([tmp_path / "a[1].mp4"])
