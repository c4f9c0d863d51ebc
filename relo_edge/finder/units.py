"""The picture that a model is sent, and what its coordinates count."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import FinderError, InputError
from relo_edge.finder.answers import Corners
from relo_edge.geometry import Box, clip_to_picture, is_usable
from relo_edge.host.opencv import cv2

__all__ = ["UNITS", "Units", "choose_units", "corners_to_box", "shrink_picture"]

Units = Literal["pixels", "thousand"]
UNITS: tuple[Units, ...] = ("pixels", "thousand")

MULTIPLE = 28
"""Qwen2.5-VL works in patches of 28 pixels: a picture of other sides is resized by the server,
and the answer then counts pixels of a picture that nobody here has seen."""

FEWEST = 2
"""Patches along a side; smaller pictures are enlarged by the server."""

LONGEST = 36 * MULTIPLE
"""The longest side sent: 720 patches for a picture of 16:9."""

SLACK = 0.02
"""By how much of its side a box may reach beyond the picture, to be cut there."""

FAMILIES: tuple[tuple[str, Units], ...] = (
    (r"qwen-?2[._-]?5-?(vl|omni)", "pixels"),
    (r"r1-?track", "pixels"),
    (r"qwen-?(2|3|3[._-]5)-?vl", "thousand"),
    (r"internvl", "thousand"),
    (r"glm-?4[._-]?[156]v", "thousand"),
)
"""By the model's name, in lower case and with - for _; the first that fits."""


def choose_units(wanted: str, model: str) -> Units:
    """What `--finder-units` says, or what the model's family is known to answer in."""
    for units in UNITS:
        if wanted == units:
            return units
    if wanted != "auto":
        raise InputError(
            "--finder-units", found=repr(wanted), expected=" | ".join(["auto", *UNITS])
        )
    name = model.lower().replace("_", "-")
    for pattern, units in FAMILIES:
        if re.search(pattern, name):
            return units
    raise InputError(
        f"the coordinates of {model!a} are not known by its name",
        fix="give --finder-units pixels or --finder-units thousand",
    )


def shrink_picture(frame: NDArray[np.uint8], longest: int = LONGEST) -> NDArray[np.uint8]:
    """The frame with sides that the model does not have to change."""
    height, width = frame.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = tuple(max(FEWEST, round(side * scale / MULTIPLE)) * MULTIPLE for side in (width, height))
    if size == (width, height):
        return frame
    shrunk = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return shrunk.astype(np.uint8, copy=False)


def corners_to_box(
    corners: Corners, units: Units, sent: tuple[int, int], frame: tuple[int, int]
) -> Box:
    """The box in the frame's pixels; sizes are width and height."""
    scales = [
        whole / (1000 if units == "thousand" else shown)
        for whole, shown in zip(frame, sent, strict=True)
    ]
    left, right = (value * scales[0] for value in corners[::2])
    top, bottom = (value * scales[1] for value in corners[1::2])
    reach = [SLACK * side for side in frame]
    outside = left < -reach[0] or top < -reach[1]
    if outside or right > frame[0] + reach[0] or bottom > frame[1] + reach[1]:
        raise FinderError(
            "the finder's box lies outside the picture",
            found=f"{left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}",
            expected=f"a box within {frame[0]}x{frame[1]}",
            fix="check --finder-units",
        )
    box = clip_to_picture((left, top, right - left, bottom - top), frame)
    if not is_usable(box):
        raise FinderError(
            "the finder's box is too small to follow",
            found=f"{box[2]:.1f}x{box[3]:.1f} pixels",
            expected="4 or more a side",
        )
    return box
