"""Cut-outs: whole objects with tight boxes, pictures kept back, folders that hold none."""

import json
import zlib

import cv2
import numpy as np
import pytest
import torch
from small_training import SMALL

from relo_edge.errors import InputError, SourceError
from relo_edge.training.cutouts import HELD_OUT, cut_object, read_photos
from relo_edge.training.render import Jitter, render_clips
from relo_edge.training.textures import build_atlas

GREEN, RED = (40, 200, 40), (220, 30, 30)


@pytest.fixture
def coco(tmp_path):
    """Twenty pictures, each a red disc on green."""
    pictures, annotations = [], []
    (tmp_path / "train2017").mkdir()
    for index in range(20):
        image = np.full((120, 160, 3), GREEN[::-1], np.uint8)
        cv2.ellipse(image, (80, 60), (40, 20), 0, 0, 360, RED[::-1], cv2.FILLED)
        turn = np.linspace(0, 2 * np.pi, 60)
        outline = np.stack([80.5 + 40 * np.cos(turn), 60.5 + 20 * np.sin(turn)], 1)
        name = f"{index}.png"
        cv2.imwrite(str(tmp_path / "train2017" / name), image)
        pictures.append({"id": index, "file_name": name, "width": 160, "height": 120})
        entry = {"image_id": index, "category_id": index % 2, "bbox": [0, 0, 160, 120]}
        annotations.append({**entry, "segmentation": [outline.flatten().tolist()]})
    (tmp_path / "annotations").mkdir()
    content = {"images": pictures, "annotations": annotations}
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return tmp_path


def test_a_cut_out_is_the_object_alone_and_its_outline_fits(coco):
    photo = read_photos([coco])[0]
    assert photo.objects[0].box == pytest.approx((40, 40, 81, 41), abs=1), "not the loose box"
    cut = cut_object(photo, 0, 64)
    opacity = cut.texture[..., 3]
    inside = cut.texture[opacity > 250][:, :3].astype(int)
    assert np.abs(inside - RED).max() < 40
    columns = np.flatnonzero((opacity > 127).any(axis=0))
    rows = np.flatnonzero((opacity > 127).any(axis=1))
    low, high = (cut.outline.min(axis=0) + 1) * 32, (cut.outline.max(axis=0) + 1) * 32
    assert (columns[0], columns[-1] + 1) == pytest.approx((low[0], high[0]), abs=1)
    assert (rows[0], rows[-1] + 1) == pytest.approx((low[1], high[1]), abs=1)


def test_some_pictures_are_kept_back_and_never_trained_on(coco):
    trained = {photo.name for photo in read_photos([coco])}
    kept = {photo.name for photo in read_photos([coco], held_out=True)}
    assert trained | kept == {f"{index}.png" for index in range(20)}
    assert not trained & kept
    assert kept == {name for name in kept if zlib.crc32(name.encode()) % HELD_OUT == 0}
    assert kept


def test_pictures_that_cannot_be_read_are_told(coco, caplog):
    whole = {photo.name for photo in read_photos([coco])}
    missing, broken = sorted(whole)[:2]
    (coco / "train2017" / missing).unlink()
    (coco / "train2017" / broken).write_bytes(b"no picture")
    assert {photo.name for photo in read_photos([coco])} == whole - {missing, broken}
    assert "left out 2 of" in caplog.text
    assert missing in caplog.text


def change_annotations(folder, change):
    file = folder / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        change(entry)
    file.write_text(json.dumps(content))


def test_an_outline_that_is_none_costs_its_object(coco, caplog):
    whole = read_photos([coco])
    chosen = int(whole[0].name.partition(".")[0])

    def spoil(entry):
        entry["id"] = 70 + entry["image_id"]
        if entry["image_id"] == chosen:
            entry["segmentation"] = [[1.0, 2.0, 3.0]]

    change_annotations(coco, spoil)
    photos = read_photos([coco])
    assert [len(photo.objects) for photo in photos] == [0, *[1] * (len(whole) - 1)]
    assert f"left out 1 of {coco.name}'s objects: annotation {70 + chosen}: " in caplog.text


def test_a_number_means_another_category_in_another_folder(coco, tmp_path):
    photos = read_photos([coco, coco])
    kinds = [
        {one.category for photo in half for one in photo.objects}
        for half in (photos[: len(photos) // 2], photos[len(photos) // 2 :])
    ]
    assert kinds[0] == {0, 1}
    assert not kinds[0] & kinds[1]


@pytest.mark.slow
def test_clips_are_drawn_of_them_with_tight_boxes(coco, monkeypatch):
    monkeypatch.setattr("relo_edge.training.textures.PHOTO_SHARE", 1.0)
    atlas = build_atlas((), seed=2, backgrounds=4, sprites=8, photos=read_photos([coco]))
    for share in ("DISTRACTOR_SHARE", "OCCLUDER_SHARE", "REGION_SHARE", "EDGE_SHARE"):
        monkeypatch.setattr(f"relo_edge.training.scenes.{share}", 0.0)
    atlas.backgrounds[:] = torch.tensor(GREEN, dtype=torch.uint8).view(1, 3, 1, 1)
    generator = torch.Generator().manual_seed(0)
    batch = render_clips(atlas, SMALL, generator, 8, 2, Jitter(1.0, 0.1))
    size = SMALL.search_size
    checked = 0
    for picture, box, seen in zip(
        batch.searches.flatten(0, 1), batch.boxes.flatten(0, 1), batch.seen.flatten(), strict=True
    ):
        red, green, _ = picture.int().unbind(2)
        mask = (red - green > 30).numpy()
        low, high = (box[:2] - box[2:] / 2) * size, (box[:2] + box[2:] / 2) * size
        if not seen or low.min() < 1 or high.max() > size - 1 or not mask.any():
            continue
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        assert (columns[0], rows[0]) == pytest.approx(low.tolist(), abs=2.5)
        assert (columns[-1] + 1, rows[-1] + 1) == pytest.approx(high.tolist(), abs=2.5)
        checked += 1
    assert checked >= 4


def test_look_alikes_are_of_the_same_kind(coco, monkeypatch):
    monkeypatch.setattr("relo_edge.training.textures.PHOTO_SHARE", 1.0)
    kinds = []
    find = build_atlas.__globals__["_find_peers"]
    monkeypatch.setitem(
        build_atlas.__globals__, "_find_peers", lambda rng, k: kinds.extend(k) or find(rng, k)
    )
    atlas = build_atlas((), seed=2, backgrounds=1, sprites=12, photos=read_photos([coco]))
    assert set(kinds) == {0, 1}
    for own, peers in zip(kinds, atlas.peers.tolist(), strict=True):
        assert {kinds[peer] for peer in peers} == {own}


def test_folders_without_cut_outs_are_refused(coco, tmp_path):
    with pytest.raises(InputError, match="found no COCO annotations"):
        read_photos([tmp_path / "none"])
    file = coco / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        del entry["segmentation"]
    file.write_text(json.dumps(content))
    with pytest.raises(SourceError, match="found no object with an outline"):
        read_photos([coco])
    file.write_text('{"images": 3}')
    with pytest.raises(SourceError, match="expected COCO annotations"):
        read_photos([coco])
