"""The tracker: the release's protocol around any runtime, for one target or several at once."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError
from relo_edge.geometry import (
    Box,
    CropWindow,
    box_in_template,
    box_to_image,
    check_box,
    check_frame,
    clip_box,
    crop_into,
    hann_window,
    place_crop,
)
from relo_edge.host.opencv import cv2
from relo_edge.lost import LostRule, Recovery
from relo_edge.runtime import Runtime
from relo_edge.spec import TrackerProtocol

__all__ = ["MultiTracker", "SearchView", "Track", "Tracker", "check_box"]

Frame = NDArray[np.uint8]
Color = Literal["bgr", "rgb"]


@dataclass(frozen=True)
class Track:
    """Where a target is in one frame; all numbers are finite.

    Attributes:
        box: x, y, w, h in pixels; x and y are the top left corner, counted from 0.
        score: the windowed policy logit of the chosen cell, as in the release.
        confidence: the policy's probability within the 3x3 cells around the chosen one.
        lost: whether the lost rule calls the target lost; it never changes the box.
    """

    box: Box
    score: float
    confidence: float
    lost: bool


@dataclass(frozen=True, eq=False)
class SearchView:
    """The search window of the last frame, and the policy map over it."""

    window: CropWindow
    policy: NDArray[np.float32]
    """[grid,grid] logits before the window."""


@dataclass(eq=False)
class _Target:
    slot: int
    box: Box
    sure_box: Box
    frames: int = 0
    doubtful: int = 0
    template_updates: int = 0
    searches: int | None = None
    """Failed searches since the target was lost; None while it is tracked."""

    @property
    def in_doubt(self) -> bool:
        """Whether its confidence was too low in the last frame."""
        return self.doubtful > 0 or self.searches is not None


_holders: weakref.WeakKeyDictionary[Runtime, dict[int, weakref.ref[_Target]]] = (
    weakref.WeakKeyDictionary()
)
"""Whose state is in each slot of a runtime: a second tracker on one runtime is refused."""


@dataclass
class _Cropper:
    """Crops frames of one size and colour order; the first target fixes the size."""

    color: Color
    size: tuple[int, int] | None = None
    scratch: dict[int, Frame] = field(default_factory=dict)

    def check_frame(self, frame: object) -> Frame:
        """The frame, if it can be tracked."""
        frame = check_frame(frame)
        size = (frame.shape[1], frame.shape[0])
        if self.size is not None and size != self.size:
            raise InputError(
                "frame size changed",
                found="{}x{}".format(*size),
                expected="{}x{}".format(*self.size),
                fix="start the target again on the new size",
            )
        return frame

    def crop(self, frame: Frame, window: CropWindow, target: Frame) -> None:
        """Fill `target` with the RGB crop."""
        if self.color == "rgb":
            crop_into(target, frame, window)
            return
        size = target.shape[0]
        if size not in self.scratch:
            self.scratch[size] = np.empty_like(target)
        scratch = self.scratch[size]
        cv2.cvtColor(crop_into(scratch, frame, window), cv2.COLOR_BGR2RGB, dst=target)


class MultiTracker:
    """Several targets in the same frames, added and removed at any time, stepped as one batch.

    Not for several threads at once; and each tracker needs a runtime of its own.

    Args:
        runtime: an open runtime; its `batch` is the largest number of targets.
        protocol: the release's settings for a dataset; without them, the default ones.
        color: "bgr" or "rgb", the order of the frames' channels.
        lost_rule: when a target counts as lost.
        recovery: how a lost target is searched for; without one it is not.

    Attributes:
        views: by target, how the last frame was searched, for drawing.

    Raises:
        InputError: an unknown colour order.
    """

    def __init__(
        self,
        runtime: Runtime,
        protocol: TrackerProtocol | None = None,
        *,
        color: Color,
        lost_rule: LostRule | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        if color not in ("bgr", "rgb"):
            raise InputError("frame colour order", found=color, expected="'bgr' or 'rgb'")
        variant = runtime.variant
        self.runtime = runtime
        self.protocol = protocol or variant.protocol()
        self.lost_rule = lost_rule or LostRule()
        self.recovery = recovery
        self.views: dict[int, SearchView] = {}
        self._window = hann_window(variant.grid, self.protocol.window_factor)
        self._cropper = _Cropper(color)
        self._targets: dict[int, _Target] = {}
        self._next_id = 0
        side = variant.search_size
        self._searches = np.empty((runtime.batch, side, side, 3), np.uint8)
        self._template = np.empty((variant.template_size, variant.template_size, 3), np.uint8)

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, frame: Frame, box: Box) -> int:
        """Start a target at its box in this frame.

        Args:
            frame: uint8 [height, width, 3].
            box: x, y, w, h in pixels.

        Returns:
            The number of the target: its key in what `update` returns.

        Raises:
            InputError: a frame or box that cannot be tracked, or too many targets.
        """
        frame = self._cropper.check_frame(frame)
        box = check_box(box, frame)
        taken = {target.slot for target in self._targets.values()}
        free = [slot for slot in range(self.runtime.batch) if slot not in taken]
        if not free:
            raise InputError(
                "targets",
                found=f"{len(taken) + 1}",
                expected=f"at most {self.runtime.batch}",
                fix="open the runtime with a larger batch",
            )
        target = _Target(free[0], box, box)
        _holders.setdefault(self.runtime, {})[target.slot] = weakref.ref(target)
        for index in range(self.runtime.variant.templates):
            self._encode_template(frame, target, index)
        self.runtime.forget(target.slot)
        self._cropper.size = (frame.shape[1], frame.shape[0])
        self._targets[self._next_id] = target
        self._next_id += 1
        return self._next_id - 1

    def remove(self, target: int) -> None:
        """Stop tracking a target and free its slot.

        Raises:
            InputError: there is no such target.
        """
        if target not in self._targets:
            raise InputError("target", found=target, expected=f"one of {sorted(self._targets)}")
        del self._targets[target]
        self.views.pop(target, None)
        if not self._targets:
            self._cropper.size = None

    def update(self, frame: Frame) -> dict[int, Track]:
        """Track all targets into the next frame.

        Args:
            frame: uint8 [height, width, 3], of the size that the first target was started in.

        Returns:
            By target number, where it is. Where the network's answer is not finite, the target
            keeps its box and temporal state, and its score and confidence are 0.

        Raises:
            InputError: a frame of another size, or a runtime that another tracker has used.
        """
        frame = self._cropper.check_frame(frame)
        if not self._targets:
            return {}
        targets = list(self._targets.values())
        self._check_slots(targets)
        searches = self._searches[: len(targets)]
        windows = [self._crop_search(frame, t, s) for t, s in zip(targets, searches, strict=True)]
        step = self.runtime.step([t.slot for t in targets], searches, self._window)
        tracks = {}
        for row, (name, target) in enumerate(self._targets.items()):
            predicted, score = step.boxes[row], float(step.scores[row])
            confidence = measure_confidence(step.policy_logits[row], self._window)
            self.views[name] = SearchView(windows[row], step.policy_logits[row])
            finite = math.isfinite(confidence + score) and bool(np.isfinite(predicted).all())
            if not finite:
                score = confidence = 0.0
            lost = self._search_again(target, confidence)
            if not lost:
                if finite:
                    self._move_target(frame, target, predicted, windows[row].scale)
                lost = self._judge_lost(target, confidence, finite)
            if not finite or (self.recovery and target.in_doubt):
                self.runtime.rewind(target.slot)
            if finite and target.searches is None:
                self._update_template(frame, target, score)
            tracks[name] = Track(target.box, score, confidence, lost)
        return tracks

    def _check_slots(self, targets: list[_Target]) -> None:
        """Refuse to go on from a state that another tracker has overwritten."""
        holders = _holders[self.runtime]
        if any(holders[target.slot]() is not target for target in targets):
            raise InputError(
                "another tracker has used this tracker's runtime",
                fix="open one for each, or track all targets with one MultiTracker",
            )

    def _crop_search(self, frame: Frame, target: _Target, search: Frame) -> CropWindow:
        factor = self.protocol.search_factor
        if self.recovery and target.searches is not None:
            factor *= self.recovery.widen(target.searches)
            # A crop that shows the whole frame need not be wider.
            largest = 2 * max(frame.shape) / math.sqrt(target.box[2] * target.box[3])
            factor = min(factor, max(largest, self.protocol.search_factor))
        window = place_crop(target.box, factor, search.shape[0])
        self._cropper.crop(frame, window, search)
        return window

    def _search_again(self, target: _Target, confidence: float) -> bool:
        """Whether a lost target stays lost; one that is found is tracked on from there."""
        if self.recovery is None or target.searches is None:
            return False
        if confidence >= self.recovery.resume:
            target.searches, target.doubtful = None, 0
            return False
        target.searches += 1
        return True

    def _move_target(
        self, frame: Frame, target: _Target, predicted: NDArray[np.float32], scale: float
    ) -> None:
        size = self.runtime.variant.search_size
        box = box_to_image(predicted, target.box, scale, size)
        height, width = frame.shape[:2]
        target.box = clip_box(box, width, height, self.protocol.margin)
        target.frames += 1

    def _judge_lost(self, target: _Target, confidence: float, finite: bool) -> bool:
        doubtful = not finite or confidence < self.lost_rule.threshold
        target.doubtful = target.doubtful + 1 if doubtful else 0
        if not doubtful:
            target.sure_box = target.box
        lost = target.doubtful >= self.lost_rule.patience
        if lost and self.recovery:
            target.box, target.searches = target.sure_box, 0
        return lost

    def _update_template(self, frame: Frame, target: _Target, score: float) -> None:
        """Replace the oldest template but the first, where the protocol's settings allow."""
        spare = self.runtime.variant.templates - 1
        due = target.frames % self.protocol.update_interval == 0
        if spare and due and score > self.protocol.update_threshold:
            self._encode_template(frame, target, 1 + target.template_updates % spare)
            target.template_updates += 1

    def _encode_template(self, frame: Frame, target: _Target, index: int) -> None:
        size = self.runtime.variant.template_size
        window = place_crop(target.box, self.protocol.template_factor, size)
        self._cropper.crop(frame, window, self._template)
        box = box_in_template(target.box, window, size)
        self.runtime.encode_template(target.slot, index, self._template, box)


class Tracker:
    """One target: `init` on its first box, then `update` with every frame that follows.

    Args:
        runtime: an open runtime that no other tracker uses.
        protocol: the release's settings for a dataset; without them, the default ones.
        color: "bgr" or "rgb", the order of the frames' channels.
        lost_rule: when the target counts as lost.
        recovery: how the lost target is searched for; without one it is not.

    Raises:
        InputError: an unknown colour order.
    """

    def __init__(
        self,
        runtime: Runtime,
        protocol: TrackerProtocol | None = None,
        *,
        color: Color,
        lost_rule: LostRule | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        self._targets = MultiTracker(
            runtime, protocol, color=color, lost_rule=lost_rule, recovery=recovery
        )
        self._target: int | None = None

    @property
    def runtime(self) -> Runtime:
        """The runtime that computes the network."""
        return self._targets.runtime

    def init(self, frame: Frame, box: Box) -> None:
        """Start, or start again, on a box in this frame.

        Args:
            frame: uint8 [height, width, 3].
            box: x, y, w, h in pixels.

        Raises:
            InputError: a frame or box that cannot be tracked; the former target is kept then.
        """
        check_box(box, check_frame(frame))
        if self._target is not None:
            self._targets.remove(self._target)
            self._target = None
        self._target = self._targets.add(frame, box)

    def update(self, frame: Frame) -> Track:
        """Track the target into the next frame.

        Args:
            frame: uint8 [height, width, 3], of the size that the target was started in.

        Returns:
            Where the target is; see `MultiTracker.update` for answers that are not finite.

        Raises:
            InputError: no target, or a frame of another size.
        """
        if self._target is None:
            raise InputError("the tracker has no target", fix="call init(frame, box) first")
        return self._targets.update(frame)[self._target]


def measure_confidence(logits: NDArray[np.float32], window: NDArray[np.float32]) -> float:
    """The policy's probability within one cell of the chosen one; NaN for such logits."""
    with np.errstate(invalid="ignore"):
        row, column = divmod(int(np.argmax(logits * window)), logits.shape[1])
        weights = np.exp(logits - logits.max())
        near = weights[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        return float(near.sum() / weights.sum())
