"""Tiny datasets in the layouts of the public ones."""

import json

import numpy as np

from relo_edge.host.opencv import cv2


def write_frames(folder, numbers, pattern="{:04d}.jpg", size=(64, 48)):
    """Noisy pictures named by their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
        assert cv2.imwrite(str(folder / pattern.format(number)), picture)
    return folder


def list_boxes(count, start=1):
    """Boxes that tell which frame they belong to by their x."""
    return [[start + index, 5, 20, 10] for index in range(count)]


def write_boxes(path, boxes, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(f"{value:g}" for value in box) for box in boxes]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_plain(root, names=("one", "two"), frames=4):
    for name in names:
        write_frames(root / name / "frames", range(frames))
        write_boxes(root / name / "groundtruth.txt", list_boxes(frames))
    return root


def write_otb(root, name="Basketball", numbers=range(1, 5), boxes=4, target=""):
    write_frames(root / name / "img", numbers)
    write_boxes(root / name / f"groundtruth_rect{target}.txt", list_boxes(boxes), "\t")
    return root


def write_lasot(root, name="bear-2", hidden=(), unseen=(), frames=4):
    folder = root / name.split("-")[0] / name
    write_frames(folder / "img", range(1, frames + 1), "{:08d}.jpg")
    write_boxes(folder / "groundtruth.txt", list_boxes(frames))
    for label, marked in (("full_occlusion", hidden), ("out_of_view", unseen)):
        flags = ",".join(str(int(frame in marked)) for frame in range(frames))
        (folder / f"{label}.txt").write_text(flags + "\n")
    return root


def write_got10k(root, names=("GOT-10k_Val_000001",), frames=4, cover=(8, 8, 0, 8)):
    for name in names:
        folder = write_frames(root / name, range(1, frames + 1), "{:08d}.jpg")
        write_boxes(folder / "groundtruth.txt", list_boxes(frames))
        (folder / "cover.label").write_text("".join(f"{value}\n" for value in cover))
        (folder / "meta_info.ini").write_text("[METAINFO]\nanno_fps: 10Hz\nresolution: (64, 48)\n")
    (root / "list.txt").write_text("\n".join(names))
    return root


def write_got10k_test(root, names=("GOT-10k_Test_000001",), frames=4):
    for name in names:
        folder = write_frames(root / name, range(1, frames + 1), "{:08d}.jpg")
        write_boxes(folder / "groundtruth.txt", list_boxes(1))
    return root


def write_trackingnet(root, names=("clip_0",), frames=11, boxes=1, part="TEST"):
    for name in names:
        write_frames(root / part / "frames" / name, range(frames), "{}.jpg")
        write_boxes(root / part / "anno" / f"{name}.txt", list_boxes(boxes))
    return root


def write_coco(root, part="train2017", pictures=3, annotations=None, folder=None):
    """Two boxes in each picture, unless the caller has others."""
    write_frames(root / (folder or part), range(pictures), "{:012d}.jpg")
    boxes = [[5, 5, 20, 10], [30, 8, 16, 24]]
    if annotations is None:
        annotations = [
            {"image_id": image, "bbox": box, "iscrowd": 0, "segmentation": [[1.0, 2.0, 3.0, 4.0]]}
            for image in range(pictures)
            for box in boxes
        ]
    images = [
        {"id": image, "file_name": f"{image:012d}.jpg", "width": 64, "height": 48}
        for image in range(pictures)
    ]
    file = root / "annotations" / f"instances_{part}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}))
    return root


def write_uav(root, video="bird1", numbers=range(1, 5), target="bird1_1", boxes=4):
    write_frames(root / "data_seq" / "UAV123" / video, numbers, "{:06d}.jpg")
    write_boxes(root / "anno" / "UAV123" / f"{target}.txt", list_boxes(boxes))
    return root


def write_nfs(root, name="bee", frames=3, lines=24):
    write_frames(root / name / "30" / name, range(1, frames + 1), "{:05d}.jpg")
    corners = [f'0 {x} 5 {x + 20} 15 {x} 0 0 0 "bee"\n' for x in range(lines)]
    (root / name / "30" / f"{name}.txt").write_text("".join(corners))
    return root


def write_nfs_prepared(root, name="bee", frames=3):
    write_frames(root / "sequences" / name, range(1, frames + 1), "{:05d}.jpg")
    write_boxes(root / "anno" / f"nfs_{name}.txt", list_boxes(frames), "\t")
    return root


def write_tnl2k(root, name="advSamp_car", frames=4):
    write_frames(root / name / "imgs", range(1, frames + 2), "{:05d}.png")
    boxes = list_boxes(frames)
    boxes[1] = [0, 0, 0, 0]
    write_boxes(root / name / "groundtruth.txt", boxes)
    (root / name / "language.txt").write_text("the car on the left\n")
    return root
