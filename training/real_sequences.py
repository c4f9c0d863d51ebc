"""Real clips for closed-loop training: a wide region around each frame's target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from relo_edge.geometry import place_crop, read_box
from relo_edge.spec import Variant
from relo_edge.training.real_clips import ClipFrames
from relo_edge.training.real_crops import (
    BRIGHTNESS,
    View,
    box_template,
    check_boxes,
    cut_crop,
    keep_visible,
    read_pictures,
)
from relo_edge.training.sequences import Sequences

__all__ = ["Regions", "SequenceCrops", "cut_sequence", "pack_sequences"]

WIDER = 2.5
"""How much wider than the true search crop a region is; a tracker that looks beyond sees black."""


class SequenceCrops(NamedTuple):
    """One clip of F frames; lengths are the picture's pixels."""

    template: NDArray[np.uint8]
    template_box: NDArray[np.float32]
    regions: NDArray[np.uint8]
    """[F,side,side,3] RGB."""
    places: NDArray[np.float32]
    """[F,3] left, top and side of each region."""
    boxes: NDArray[np.float32]
    """[F+1,4] cx, cy, w, h."""
    edges: NDArray[np.float32]
    """[4] left, top, right, bottom of the picture."""
    margin: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of real clips that were read."""

    pictures: Tensor
    """[B,F,side,side,3] uint8 RGB."""
    places: Tensor
    """[B,F,3]"""

    def crop(self, frame: int, middles: Tensor, sides: Tensor, size: int) -> Tensor:
        """Around middles [B,2], sides [B] wide: uint8 RGB [B,size,size,3]."""
        place = self.places[:, frame - 1]
        steps = (torch.arange(size, device=sides.device) + 0.5) / size - 0.5
        unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
        points = middles[:, None, None] + sides[:, None, None, None] * unit
        inside = (points - place[:, None, None, :2]) / place[:, None, None, 2:] * 2 - 1
        picture = self.pictures[:, frame - 1].permute(0, 3, 1, 2).float()
        drawn = F.grid_sample(picture, inside, mode="bilinear", align_corners=False)
        return drawn.round().byte().permute(0, 2, 3, 1).contiguous()

    def to(self, device: torch.device) -> Regions:
        """The same elsewhere."""
        return Regions(self.pictures.to(device), self.places.to(device))


def cut_sequence(clip: ClipFrames, variant: Variant, rng: np.random.Generator) -> SequenceCrops:
    """Cut the template and the regions out of the clip's pictures, mirrored as a whole or not."""
    check_boxes(clip)
    protocol, first = variant.protocol(), read_box(clip.boxes[0])
    views = [View(first, protocol.template_factor, variant.template_size)]
    wide, size = WIDER * protocol.search_factor, round(WIDER * variant.search_size)
    views += [View(read_box(row), wide, size) for row in clip.boxes[1:]]
    readings = read_pictures(clip, views)
    mirrored = bool(rng.random() < 0.5)
    crops, places, boxes = [], [], []
    whole = readings[clip.pictures[0]]
    height, width = (side * whole.reduction for side in whole.frame.shape[:2])
    for view, path, row in zip(views, clip.pictures, clip.boxes, strict=True):
        reading = readings[path]
        x, y, *sides = (reading.reduction * v for v in keep_visible(clip, read_box(row), reading))
        window = place_crop(reading.shrink(view.box), view.factor, view.size)
        gain = 1 + BRIGHTNESS * rng.uniform(-1, 1)
        crops.append(cut_crop(clip, reading.frame, window, view.size, gain, mirrored))
        left, top, side = (reading.reduction * value for value in window[:3])
        cx = x + sides[0] / 2
        places.append((width - left - side if mirrored else left, top, side))
        boxes.append((width - cx if mirrored else cx, y + sides[1] / 2, *sides))
    return SequenceCrops(
        crops[0],
        box_template(views[0], whole),
        np.stack(crops[1:]),
        np.array(places[1:], np.float32),
        np.array(boxes, np.float32),
        np.array([0, 0, width, height], np.float32),
        np.array(protocol.margin, np.float32),
    )


def pack_sequences(clips: Sequence[SequenceCrops]) -> Sequences:
    """Clips of one length as a batch; real clips show their target in every frame."""
    template, box, regions, places, boxes, edges, margin = (
        torch.from_numpy(np.stack(parts)) for parts in zip(*clips, strict=True)
    )
    visible = torch.ones(boxes.shape[:2], dtype=torch.bool)
    return Sequences(Regions(regions, places), template, box, boxes, visible, edges, margin)
