"""How a frame becomes what a step is fed, and how its answer becomes a box in the frame."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import (
    Box,
    CropWindow,
    box_in_template,
    box_to_image,
    clip_box,
    crop_into,
    hann_window,
    place_crop,
)
from relo_edge.host.opencv import cv2
from relo_edge.spec import TrackerProtocol, Variant

__all__ = ["CropMotion", "Cropper", "Motion", "PolicyMotion", "RgbCropper", "measure_confidence"]

Frame = NDArray[np.uint8]
Array = NDArray[np.float32]


class Cropper(Protocol):
    """Cuts RGB pictures out of a frame, whatever the order of the frame's channels."""

    def crop(self, frame: Frame, window: CropWindow, target: Frame) -> None:
        """Fill `target` [size,size,3] with a window, black outside the frame."""

    def shrink(self, frame: Frame, target: Frame) -> None:
        """Fill `target` [height,width,3] with the whole frame."""


class RgbCropper:
    """A Cropper for frames that are RGB already."""

    def crop(self, frame: Frame, window: CropWindow, target: Frame) -> None:
        """Fill `target` with a window."""
        crop_into(target, frame, window)

    def shrink(self, frame: Frame, target: Frame) -> None:
        """Fill `target` with the whole frame; each new pixel is the mean of those in its place."""
        height, width = target.shape[:2]
        cv2.resize(frame, (width, height), dst=target, interpolation=cv2.INTER_AREA)


class Motion(ABC):
    """A tracker's protocol but for the network; it holds no target.

    Attributes:
        pixels: the shape of what a step is fed of one target.
        template_pixels: the shape of a template's crop.
        templates: how many templates a target has; 0 where there is no template graph.
        shared: what the step's `shared` input is fed; None where it has none.
        steps_first_frame: whether a target starts with a step on its first frame, for the state.
        has_confidence: whether an answer tells how sure it is. Without that no target counts as
            lost, and none is searched for.
    """

    pixels: tuple[int, int, int]
    template_pixels: tuple[int, int, int] = (0, 0, 3)
    templates: int = 0
    shared: Array | None = None
    steps_first_frame: bool = False
    has_confidence: bool = False

    @abstractmethod
    def fill_pixels(
        self, pixels: Frame, frame: Frame, box: Box, widen: float, cropper: Cropper
    ) -> CropWindow | None:
        """Fill a step's pixels from the frame after the one in which the box was found.

        Args:
            pixels: [height,width,3], filled with RGB.
            frame: the new frame.
            box: the target's last box, in the frame's pixels.
            widen: how many times wider than usual the search is; 1 but for a lost target.
            cropper: cuts the picture out.

        Returns:
            The part of the frame that is shown; None where it is the whole frame.
        """

    @abstractmethod
    def locate(
        self, answer: Array, previous: Box, window: CropWindow | None, size: tuple[int, int]
    ) -> Box:
        """The answer [4] as x, y, w, h in the pixels of a frame of that width and height."""

    def measure_confidence(self, scores: Array | None) -> float:
        """How sure the answer is, from 0 to 1, of its map; NaN where the family does not say."""
        del scores
        return math.nan

    def list_logits(self, scores: Array) -> Array:
        """The map as logits, for drawing."""
        return scores

    def crop_template(self, template: Frame, frame: Frame, box: Box, cropper: Cropper) -> Array:
        """Fill a template's pixels; returns the box in them, as the template graph takes it."""
        del template, frame, box, cropper
        raise TypeError("there are no templates")

    def describe_target(self, box: Box, size: tuple[int, int]) -> dict[str, Array]:
        """The target tensors that no graph makes, by name, without the batch."""
        del box, size
        return {}


class CropMotion(Motion):
    """A square search crop around the last box, and square crops as templates."""

    has_confidence = False

    def __init__(self, variant: Variant, protocol: TrackerProtocol) -> None:
        self.protocol = protocol
        self.templates = variant.templates
        self.pixels = (variant.search_size, variant.search_size, 3)
        self.template_pixels = (variant.template_size, variant.template_size, 3)
        self.shared = hann_window(variant.grid, protocol.window_factor)

    def fill_pixels(
        self, pixels: Frame, frame: Frame, box: Box, widen: float, cropper: Cropper
    ) -> CropWindow:
        """A crop that shows the whole frame need not be wider."""
        factor = self.protocol.search_factor
        if widen != 1:
            largest = 2 * max(frame.shape) / math.sqrt(box[2] * box[3])
            factor = min(factor * widen, max(largest, factor))
        window = place_crop(box, factor, pixels.shape[0])
        cropper.crop(frame, window, pixels)
        return window

    def locate(
        self, answer: Array, previous: Box, window: CropWindow | None, size: tuple[int, int]
    ) -> Box:
        """cx, cy, w, h from 0 to 1 in the crop, clipped to the frame."""
        assert window is not None
        box = box_to_image(answer, previous, window.scale, self.pixels[0])
        return clip_box(box, *size, self.protocol.margin)

    def crop_template(self, template: Frame, frame: Frame, box: Box, cropper: Cropper) -> Array:
        """The box lies in the middle of its own crop."""
        size = template.shape[0]
        window = place_crop(box, self.protocol.template_factor, size)
        cropper.crop(frame, window, template)
        return box_in_template(box, window, size)


class PolicyMotion(CropMotion):
    """Crops, and a map of logits whose softmax is a policy: it says how sure an answer is."""

    has_confidence = True

    def measure_confidence(self, scores: Array | None) -> float:
        """The policy's probability within one cell of the chosen one; NaN for such logits."""
        assert scores is not None
        assert self.shared is not None
        return measure_confidence(scores, self.shared)


def measure_confidence(logits: Array, window: Array) -> float:
    """The policy's probability within one cell of the chosen one; NaN for such logits."""
    with np.errstate(invalid="ignore"):
        row, column = divmod(int(np.argmax(logits * window)), logits.shape[1])
        weights = np.exp(logits - logits.max())
        near = weights[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        return float(near.sum() / weights.sum())
