"""Mistakes with pixels, made on purpose in the reference, until it errs as a candidate does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.paired_runtime import TwinRuntime
from relo_edge.spec import PIXEL_MEAN, PIXEL_STD

__all__ = ["EXPLAINS", "explain_pixels"]

EXPLAINS = 4
"""A mistake that leaves less than this part of the error is what happened."""

PLACES = {"": (True, True), " of the search crop": (True, False), " of the template": (False, True)}
"""Which of the two crops a mistake is made with."""

Pixels = NDArray[np.float64]
Mistake = Callable[[Pixels], Pixels]
Explanation = tuple[str, str, float, float]
"""The part, what is wrong with it, the error, and what the mistake leaves of it."""


def explain_pixels(twin: TwinRuntime) -> Explanation | None:
    """What was done to the pixels, if any mistake with them explains the first frame's error."""
    bench = _Bench(twin)
    tried = [
        (bench.measure(mistake, *where), part, what + place)
        for part, what, mistake in _list_mistakes()
        for place, where in PLACES.items()
    ]
    left, part, what = min(tried)
    if left < bench.error / EXPLAINS:
        return part, what, bench.error, left
    return None


@dataclass
class _Bench:
    """The first frame again, with other pixels: how far is the reference from the candidate?"""

    twin: TwinRuntime

    def __post_init__(self) -> None:
        pair = self.twin.pairs[0]
        self._target = pair.candidate["policy_logits"]
        self._largest = float(np.abs(pair.reference["policy_logits"]).max())
        self.error = pair.measure_error("policy_logits")

    def measure(self, mistake: Mistake, search: bool, template: bool) -> float:
        """The logits' error when the reference makes the mistake with these crops."""
        reference, call = self.twin.reference, self.twin.steps[0]
        for slot, index, crop, box in self.twin.templates:
            reference.encode_template(slot, index, _spoil(crop, mistake, template), box)
        reference.forget(call.slots[0])
        answer = reference.step(call.slots, _spoil(call.crops, mistake, search), call.window)
        largest = float(np.abs(answer.policy_logits[0] - self._target).max()) / self._largest
        return largest if np.isfinite(largest) else float("inf")


def _spoil(crop: NDArray[np.uint8], mistake: Mistake, wanted: bool) -> NDArray[np.uint8]:
    """The crop by mistake, in fractions: the reference network takes any type of number."""
    if not wanted:
        return crop
    wrong = np.ascontiguousarray(mistake(crop.astype(np.float64)), np.float32)
    return cast("NDArray[np.uint8]", wrong)


def _list_mistakes() -> Iterator[tuple[str, str, Mistake]]:
    """Part, what is wrong, and the pixels from which the reference makes the same of it."""
    mean, std = np.array(PIXEL_MEAN), np.array(PIXEL_STD)

    def normalise(wrong: Mistake) -> Mistake:
        """Pixels that the right normalisation makes of what the wrong one makes of pixels."""
        return lambda pixels: 255 * (wrong(pixels) * std + mean)

    yield "channels", "BGR for RGB: red and blue are swapped", lambda p: p[..., ::-1]
    for what, wrong in {
        "left out: pixels are only divided by 255": lambda p: p / 255,
        "left out: pixels are taken from 0 to 255": lambda p: p,
        "mean and deviation 0.5 in place of ImageNet's": lambda p: p / 127.5 - 1,
        "ImageNet's mean and deviation in BGR order": lambda p: (p / 255 - mean[::-1]) / std[::-1],
        "the mean is subtracted, the deviation not divided by": lambda p: p / 255 - mean,
        "mean and deviation applied to pixels from 0 to 255": lambda p: (p - mean) / std,
        "pixels are divided by 255 twice": lambda p: (p / 255**2 - mean) / std,
    }.items():
        yield "normalisation", what, normalise(wrong)
