"""Every layout is recognised and read as its own tools read it, or one line says what is wrong."""

import numpy as np
import pytest
from layouts import (
    list_boxes,
    write_boxes,
    write_frames,
    write_got10k,
    write_got10k_test,
    write_lasot,
    write_nfs,
    write_nfs_prepared,
    write_otb,
    write_plain,
    write_tnl2k,
    write_trackingnet,
    write_uav,
)

from relo_edge.datasets.layouts import LAYOUTS, find_videos, read_dataset
from relo_edge.datasets.published_splits import LASOT_TEST, UAV_STARTS
from relo_edge.errors import InputError, ReloError, SourceError

WRITERS = {
    "plain": write_plain,
    "otb": write_otb,
    "lasot": write_lasot,
    "lasotext": lambda root: write_lasot(root, "atv-1"),
    "got10k": write_got10k,
    "trackingnet": write_trackingnet,
    "uav": write_uav,
    "nfs": write_nfs,
    "tnl2k": write_tnl2k,
}


def read_one(root, **options):
    (sequence,) = read_dataset(root, **options).sequences
    return sequence


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised_and_named(tmp_path, layout):
    WRITERS[layout](tmp_path)
    found = read_dataset(tmp_path)
    assert found.layout == layout
    assert [s.name for s in read_dataset(tmp_path, layout).sequences] == [
        s.name for s in found.sequences
    ]
    for sequence in found.sequences:
        assert len(sequence.images) == len(sequence.boxes) == len(sequence.absent)
        assert all(image.is_file() for image in sequence.images)


@pytest.mark.parametrize(
    ("layout", "settings"), [("plain", "default"), ("otb", "default"), ("uav", "uav")]
)
def test_the_releases_settings_for_a_layout(tmp_path, layout, settings):
    WRITERS[layout](tmp_path)
    assert read_dataset(tmp_path).settings == settings


def test_the_releases_nfs_folders(tmp_path):
    sequence = read_one(write_nfs_prepared(tmp_path))
    assert (sequence.name, sequence.boxes.tolist()) == ("bee", list_boxes(3))


def test_one_sequence_is_a_dataset_too(tmp_path):
    write_plain(tmp_path, ["one"])
    assert read_one(tmp_path / "one").name == "one"


def test_boxes_that_count_from_1(tmp_path):
    write_plain(tmp_path)
    (tmp_path / "two" / "meta.json").write_text('{"origin": 0}')
    one, two = read_dataset(tmp_path, origin=1.0).sequences
    assert one.boxes[0].tolist() == [0, 4, 20, 10]
    assert two.boxes[0].tolist() == [1, 5, 20, 10], "what the sequence says wins"
    (tmp_path / "one" / "meta.json").write_text('{"origin": 1}')
    assert read_dataset(tmp_path).sequences[0].boxes[0].tolist() == [0, 4, 20, 10]


def test_two_targets_of_an_otb_video(tmp_path):
    write_otb(tmp_path, "Jogging", target=".1")
    write_boxes(tmp_path / "Jogging" / "groundtruth_rect.2.txt", list_boxes(4, 9))
    first, second = read_dataset(tmp_path).sequences
    assert (first.name, second.name) == ("Jogging.1", "Jogging.2")
    assert first.images == second.images
    assert (first.boxes[0, 0], second.boxes[0, 0]) == (1, 9)


def test_an_otb_target_with_an_empty_file_does_not_count(tmp_path):
    write_otb(tmp_path, "Human4", target=".2")
    (tmp_path / "Human4" / "groundtruth_rect.1.txt").write_text("\n")
    assert read_one(tmp_path).name == "Human4"


def test_an_otb_video_that_starts_late(tmp_path):
    sequence = read_one(write_otb(tmp_path, "David", range(298, 772), 471))
    assert [image.stem for image in sequence.images[:: len(sequence.images) - 1]] == [
        "0300",
        "0770",
    ]


def test_frames_that_the_release_leaves_out(tmp_path):
    sequence = read_one(write_otb(tmp_path, "Tiger1", range(1, 9), 8))
    assert sequence.images[0].stem == "0006"
    assert sequence.boxes[:, 0].tolist() == [6, 7, 8]


def test_lasots_labels_hide_frames_that_have_boxes(tmp_path):
    sequence = read_one(write_lasot(tmp_path, hidden=[1], unseen=[1, 2]))
    assert sequence.hidden.tolist() == [False, True, True, False]
    assert not sequence.absent.any()


def test_lasot_is_its_test_part(tmp_path, caplog):
    write_lasot(tmp_path, "bear-2")
    write_lasot(tmp_path, "bear-3")
    with caplog.at_level("INFO", "relo_edge"):
        assert read_one(tmp_path).name == "bear-2"
    assert "left out 1 sequences of LaSOT's training part" in caplog.text
    assert len(LASOT_TEST) == 280


def test_sequences_of_lasot_that_are_all_of_training(tmp_path):
    assert read_one(write_lasot(tmp_path, "bear-3")).name == "bear-3"


def test_lasot_without_class_folders(tmp_path):
    write_lasot(tmp_path / "source")
    (tmp_path / "source" / "bear" / "bear-2").rename(tmp_path / "bear-2")
    (tmp_path / "source" / "bear").rmdir()
    (tmp_path / "source").rmdir()
    assert read_one(tmp_path).name == "bear-2"


def test_got10ks_cover_and_size(tmp_path):
    sequence = read_one(write_got10k(tmp_path))
    assert sequence.hidden.tolist() == [False, False, True, False]
    assert sequence.picture == (64, 48)


def test_got10k_in_the_order_of_its_list(tmp_path):
    names = ["GOT-10k_Val_000002", "GOT-10k_Val_000001"]
    write_got10k(tmp_path, names)
    assert [s.name for s in read_dataset(tmp_path).sequences] == names


@pytest.mark.parametrize(("write", "frames"), [(write_got10k_test, 4), (write_trackingnet, 11)])
def test_a_dataset_that_gives_first_boxes_only(tmp_path, write, frames):
    write(tmp_path)
    dataset = read_dataset(tmp_path)
    (sequence,) = dataset.sequences
    assert dataset.withheld
    assert sequence.boxes[0].tolist() == [1, 5, 20, 10]
    assert np.isnan(sequence.boxes[1:]).all()
    assert len(sequence.images) == len(sequence.boxes) == frames


def test_trackingnets_frames_are_in_the_order_of_their_numbers(tmp_path):
    sequence = read_one(write_trackingnet(tmp_path))
    assert [image.stem for image in sequence.images] == [str(number) for number in range(11)]


def test_a_part_of_trackingnet_with_all_boxes(tmp_path):
    dataset = read_dataset(write_trackingnet(tmp_path, boxes=11) / "TEST")
    assert not dataset.withheld
    assert dataset.sequences[0].boxes.tolist() == list_boxes(11)


def test_a_uav_target_starts_where_its_part_of_the_video_does(tmp_path):
    write_uav(tmp_path)
    write_uav(tmp_path, numbers=range(775, 780), target="bird1_2", boxes=3)
    first, second = read_dataset(tmp_path).sequences
    assert [image.stem for image in first.images] == ["000001", "000002", "000003", "000004"]
    assert [image.stem for image in second.images] == ["000775", "000776", "000777"]
    assert len(UAV_STARTS) == 32


def test_a_uav_name_that_ends_in_a_number_without_being_a_part(tmp_path):
    write_uav(tmp_path, "car_1", target="car_1")
    write_uav(tmp_path, "car", numbers=[9], target="car", boxes=1)
    assert [len(s.images) for s in read_dataset(tmp_path).sequences] == [1, 4]


def test_uav_frames_without_target(tmp_path):
    write_uav(tmp_path)
    (tmp_path / "anno" / "UAV123" / "bird1_1.txt").write_text("1,5,20,10\nNaN,NaN,NaN,NaN\n")
    assert read_one(tmp_path).absent.tolist() == [False, True]


@pytest.mark.parametrize("lines", [3, 24, 22, 25])
def test_nfs_annotates_every_frame_or_every_eighth(tmp_path, lines):
    sequence = read_one(write_nfs(tmp_path, lines=lines))
    step = 8 if lines > 3 else 1
    assert sequence.boxes.tolist() == [[step * i, 5, 20, 10] for i in range(3)]


def test_nfs_with_a_box_too_many(tmp_path):
    assert len(read_one(write_nfs(tmp_path, lines=4)).images) == 3


def test_tnl2k_frames_without_target_or_box(tmp_path):
    sequence = read_one(write_tnl2k(tmp_path))
    assert sequence.absent.tolist() == [False, True, False, False]
    assert len(sequence.images) == 4


def test_plain_sequences_may_have_their_images_in_imgs(tmp_path):
    """They used to be taken for TNL2K: another's settings, and no check of the boxes' number."""
    write_frames(tmp_path / "walk" / "imgs", range(4))
    write_boxes(tmp_path / "walk" / "groundtruth.txt", list_boxes(4))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "language.txt").touch()
    found = read_dataset(tmp_path)
    assert (found.layout, found.settings) == ("plain", "default")
    write_frames(tmp_path / "walk" / "imgs", [4])
    refuse(tmp_path, "found 5 images and 4 boxes in groundtruth.txt, expected a box for each")
    assert len(read_one(tmp_path, layout="tnl2k").images) == 4, "named, it is read without them"


def test_two_sequences_of_one_name_are_refused(tmp_path):
    write_lasot(tmp_path, "bear-2")
    (tmp_path / "copy").symlink_to(tmp_path / "bear")
    refuse(tmp_path, "found 2 sequences called bear-2, expected a name of its own", SourceError)


def refuse(root, match, error=ReloError, **options):
    with pytest.raises(error, match=match) as caught:
        read_dataset(root, **options)
    assert "\n" not in str(caught.value)


def test_folders_that_hold_no_dataset(tmp_path):
    refuse(tmp_path / "none", "found no such folder, expected a folder", InputError)
    refuse(tmp_path, "no layout that fits, expected got10k | trackingnet", InputError)
    (tmp_path / "val").mkdir()
    refuse(tmp_path, f"pass {tmp_path / 'val'}", InputError)
    (tmp_path / "file").touch()
    refuse(tmp_path / "file", "found a file, expected a folder", InputError)


def test_a_layout_that_is_not_there(tmp_path):
    write_plain(tmp_path)
    refuse(tmp_path, "layout: found imagenet, expected got10k", InputError, layout="imagenet")
    for layout in ("otb", "uav", "nfs", "trackingnet"):
        refuse(tmp_path, f"as {layout}: found no sequences", InputError, layout=layout)


def test_a_first_frame_without_target(tmp_path):
    write_plain(tmp_path)
    write_boxes(tmp_path / "two" / "groundtruth.txt", [[0, 0, 0, 0], *list_boxes(3)])
    refuse(tmp_path, "sequence two: found no box in its first frame", SourceError)


def test_boxes_without_images(tmp_path):
    refuse(write_otb(tmp_path / "a", boxes=5), "4 images and 5 boxes in groundtruth_rect.txt")
    write_lasot(tmp_path / "b")
    (tmp_path / "b" / "bear" / "bear-2" / "img" / "00000004.jpg").unlink()
    refuse(tmp_path / "b", "3 images and 4 boxes")
    refuse(write_nfs(tmp_path / "c", lines=40), "3 images and 40 boxes")
    write_uav(tmp_path / "d", target="bird2", video="bird1")
    refuse(tmp_path / "d", "bird2': found no such folder")
    refuse(write_trackingnet(tmp_path / "e", boxes=12), "11 images and 12 boxes")


def test_labels_that_do_not_fit(tmp_path):
    folder = write_got10k(tmp_path) / "GOT-10k_Val_000001"
    (folder / "cover.label").write_text("8\n8\n8\n")
    refuse(tmp_path, "cover.label: found 3 labels, expected 4")
    (folder / "cover.label").write_text("8\nx\n8\n8\n")
    refuse(tmp_path, "cover.label cannot be read")
    (folder / "cover.label").unlink()
    refuse(tmp_path, "cover.label: found no such file")


def test_got10k_without_a_size(tmp_path):
    folder = write_got10k(tmp_path) / "GOT-10k_Val_000001"
    (folder / "meta_info.ini").write_text("[METAINFO]\n")
    refuse(tmp_path, "meta_info.ini: found no resolution")


def test_a_listed_sequence_that_is_not_there(tmp_path):
    write_got10k(tmp_path)
    (tmp_path / "list.txt").write_text("GOT-10k_Val_000001\nGOT-10k_Val_000002")
    refuse(tmp_path, "000002': found no such folder, expected what list.txt names")


def test_a_list_that_is_no_text(tmp_path):
    write_got10k(tmp_path)
    (tmp_path / "list.txt").write_bytes(b"GOT-10k_Val_000001\n\n\xff\xfe\n")
    refuse(tmp_path, "found no such folder, expected what list.txt names")


def test_a_truth_that_is_a_folder(tmp_path):
    write_uav(tmp_path)
    (tmp_path / "anno" / "UAV123" / "bird9.txt").mkdir()
    refuse(tmp_path, "bird9.txt cannot be read: found .*Is a directory")
    write_otb(tmp_path / "otb", target=".1")
    (tmp_path / "otb" / "Basketball" / "groundtruth_rect.2.txt").mkdir()
    refuse(tmp_path / "otb", "cannot be read: found .*Is a directory", SourceError)


def test_withheld_beside_given_boxes(tmp_path):
    write_got10k_test(tmp_path)
    write_got10k(tmp_path)
    (tmp_path / "list.txt").unlink()
    refuse(tmp_path, "GOT-10k_Val_000001: found all boxes, expected what the other")


def test_an_image_without_a_number(tmp_path):
    write_uav(tmp_path)
    write_frames(tmp_path / "data_seq" / "UAV123" / "bird1", [1], "cover{}x.jpg")
    refuse(tmp_path, "cover1x.jpg': found no number")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_judged_by_can_be_learned_from_one_video_at_a_time(tmp_path, layout):
    WRITERS[layout](tmp_path)
    if layout == "lasot":
        write_lasot(tmp_path, "bear-3")
        (tmp_path / "bear" / "bear-2").rename(tmp_path / "bear" / "bear-4")
    if layout == "trackingnet":
        write_trackingnet(tmp_path, boxes=11, part="TRAIN_0")
    name, places = find_videos(tmp_path)
    assert name == layout
    sequences = [one for place in places for one in LAYOUTS[name].read(place, 0.0)]
    assert len(sequences) >= len(places) > 0
    assert all(sequence.visible.any() for sequence in sequences)


def test_lasot_without_its_test_part(tmp_path, caplog):
    for name in ("bear-2", "bear-3", "bear-5"):
        write_lasot(tmp_path, name)
    with caplog.at_level("INFO", "relo_edge"):
        _, places = find_videos(tmp_path)
    assert [place.name for place in places] == ["bear-3", "bear-5"]
    assert "left out 1 sequences of LaSOT's test part" in caplog.text


def test_the_test_part_alone_is_not_learned_from(tmp_path):
    write_lasot(tmp_path / "a", "bear-2")
    write_trackingnet(tmp_path / "b", boxes=11)
    for part in "ab":
        with pytest.raises(InputError, match="found its test part alone, expected sequences to"):
            find_videos(tmp_path / part)


def test_trackingnets_training_parts(tmp_path):
    write_trackingnet(tmp_path)
    write_trackingnet(tmp_path, ["a", "b"], boxes=11, part="TRAIN_0")
    write_trackingnet(tmp_path, ["c"], boxes=11, part="TRAIN_11")
    write_boxes(tmp_path / "TRAIN_5" / "anno" / "no_frames_yet.txt", list_boxes(3))
    _, places = find_videos(tmp_path)
    assert [place.stem for place in places] == ["a", "b", "c"]
    _, places = find_videos(tmp_path / "TRAIN_0")
    assert [place.stem for place in places] == ["a", "b"]
    assert [s.name for s in read_dataset(tmp_path).sequences] == ["clip_0"], "eval takes the test"


def test_a_part_of_got10k_is_what_is_there(tmp_path, caplog):
    names = [f"GOT-10k_Train_{number:06d}" for number in (1, 2, 3)]
    write_got10k(tmp_path, names)
    (tmp_path / names[1]).rename(tmp_path / "elsewhere")
    with caplog.at_level("INFO", "relo_edge"):
        _, places = find_videos(tmp_path)
    assert [place.name for place in places] == [names[0], names[2]]
    assert "1 sequences that list.txt names are not there" in caplog.text
    refuse(tmp_path, "found no such folder, expected what list.txt names")


def test_got10ks_training_part_is_pointed_to(tmp_path):
    write_got10k(tmp_path / "train")
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match=f"pass {tmp_path / 'train'}"):
        find_videos(tmp_path)


def test_absence_labels_that_do_not_fit(tmp_path):
    folder = write_got10k(tmp_path) / "GOT-10k_Val_000001"
    (folder / "absence.label").write_text("0\n0\n")
    refuse(tmp_path, "absence.label: found 2 labels, expected 4")
