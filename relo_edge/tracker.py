"""The tracker: the release's protocol around any runtime, for one target or several at once."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import STEP, describe_graph
from relo_edge.errors import InputError
from relo_edge.families.motion import RgbCropper
from relo_edge.families.registry import find_family
from relo_edge.geometry import Box, CropWindow, check_box, check_frame, check_size, crop_into
from relo_edge.host.opencv import cv2
from relo_edge.lost import LostRule, Recovery
from relo_edge.runtime import Runtime
from relo_edge.spec import TrackerProtocol

__all__ = ["MultiTracker", "SearchView", "Track", "Tracker", "check_box"]

Frame = NDArray[np.uint8]
Color = Literal["bgr", "rgb"]


@dataclass(frozen=True)
class Track:
    """Where a target is in one frame; the box is finite.

    Attributes:
        box: x, y, w, h in pixels; x and y are the top left corner, counted from 0.
        score: the windowed value of the chosen cell, as in the release; NaN where the family
            gives none.
        confidence: how sure the tracker is, as a policy tells it: its probability within the 3x3
            cells around the chosen one. NaN for a family without a policy.
        lost: whether the lost rule calls the target lost; it never changes the box. Without a
            confidence nothing is called lost.
    """

    box: Box
    score: float
    confidence: float
    lost: bool


@dataclass(frozen=True, eq=False)
class SearchView:
    """The search window of the last frame, and the map over it."""

    window: CropWindow
    logits: NDArray[np.float32]
    """[grid,grid] before the window: the larger, the likelier."""


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
        if self.size is not None:
            check_size(frame, self.size)
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

    def shrink(self, frame: Frame, target: Frame) -> None:
        """Fill `target` with the whole RGB frame."""
        RgbCropper().shrink(frame, target)
        if self.color == "bgr":
            cv2.cvtColor(target, cv2.COLOR_BGR2RGB, dst=target)


class MultiTracker:
    """Several targets in the same frames, added and removed at any time, stepped as one batch.

    Not for several threads at once; and each tracker needs a runtime of its own.

    Args:
        runtime: an open runtime; its `batch` is the largest number of targets.
        protocol: the release's settings for a dataset; without them, the default ones.
        color: "bgr" or "rgb", the order of the frames' channels.
        lost_rule: when a target counts as lost.
        recovery: how a lost target is searched for; without one it is not.
        told: tensors that each target is given beside its box, such as `encode_sentence` makes.

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
        told: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        if color not in ("bgr", "rgb"):
            raise InputError("frame colour order", found=color, expected="'bgr' or 'rgb'")
        variant = runtime.variant
        self.runtime = runtime
        self.protocol = protocol or variant.protocol()
        self.motion = find_family(variant.family).motion(variant, self.protocol)
        if recovery is not None and not self.motion.has_confidence:
            raise InputError(
                f"{variant.name} cannot tell that a target is lost, so none is searched for",
                fix="leave recovery out",
            )
        self.lost_rule = lost_rule or LostRule()
        self.recovery, self.told = recovery, dict(told or {})
        self.views: dict[int, SearchView] = {}
        self._has_score = describe_graph(variant, STEP).find_output("score") is not None
        self._cropper = _Cropper(color)
        self._targets: dict[int, _Target] = {}
        self._next_id = 0
        self._pixels = np.empty((runtime.batch, *self.motion.pixels), np.uint8)
        self._template = np.empty(self.motion.template_pixels, np.uint8)

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
            expected = f"at most {self.runtime.batch}"
            fix = "open the runtime with a larger batch"
            raise InputError("targets", found=len(taken) + 1, expected=expected, fix=fix)
        target = _Target(free[0], box, box)
        _holders.setdefault(self.runtime, {})[target.slot] = weakref.ref(target)
        size = (frame.shape[1], frame.shape[0])
        for index in range(self.motion.templates):
            self._encode_template(frame, target, index)
        for name, values in {**self.motion.describe_target(box, size), **self.told}.items():
            self.runtime.set_target(target.slot, name, values)
        self.runtime.forget(target.slot)
        if self.motion.steps_first_frame:
            self._fill_pixels(frame, target, self._pixels[0])
            self.runtime.step([target.slot], self._pixels[:1], self.motion.shared)
        self._cropper.size = size
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
            keeps its box and state, and its score and confidence, where the family has them, are 0.

        Raises:
            InputError: a frame of another size, or a runtime that another tracker has used.
        """
        frame = self._cropper.check_frame(frame)
        if not self._targets:
            return {}
        targets = list(self._targets.values())
        self._check_slots(targets)
        pixels = self._pixels[: len(targets)]
        windows = [self._fill_pixels(frame, t, p) for t, p in zip(targets, pixels, strict=True)]
        step = self.runtime.step([t.slot for t in targets], pixels, self.motion.shared)
        tracks = {}
        for row, (name, target) in enumerate(self._targets.items()):
            predicted, score = step.boxes[row], float(step.scores[row])
            scores = None if step.maps is None else step.maps[row]
            confidence = self.motion.measure_confidence(scores)
            if (window := windows[row]) is not None and scores is not None:
                self.views[name] = SearchView(window, self.motion.list_logits(scores))
            finite = self._is_finite(predicted, score, confidence)
            if not finite:
                score = 0.0 if self._has_score else math.nan
                confidence = 0.0 if self.motion.has_confidence else math.nan
            lost = self._search_again(target, confidence)
            if not lost:
                if finite:
                    self._move_target(frame, target, predicted, windows[row])
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

    def _fill_pixels(self, frame: Frame, target: _Target, pixels: Frame) -> CropWindow | None:
        widen = 1.0
        if self.recovery and target.searches is not None:
            widen = self.recovery.widen(target.searches)
        return self.motion.fill_pixels(pixels, frame, target.box, widen, self._cropper)

    def _is_finite(self, box: NDArray[np.float32], score: float, confidence: float) -> bool:
        """Of what the family gives at all."""
        told = [score] * self._has_score + [confidence] * self.motion.has_confidence
        return all(map(math.isfinite, told)) and bool(np.isfinite(box).all())

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
        self,
        frame: Frame,
        target: _Target,
        predicted: NDArray[np.float32],
        window: CropWindow | None,
    ) -> None:
        size = (frame.shape[1], frame.shape[0])
        target.box = self.motion.locate(predicted, target.box, window, size)
        target.frames += 1

    def _judge_lost(self, target: _Target, confidence: float, finite: bool) -> bool:
        if not self.motion.has_confidence:
            return False
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
        spare = self.motion.templates - 1
        due = target.frames % self.protocol.update_interval == 0
        if spare > 0 and due and score > self.protocol.update_threshold:
            self._encode_template(frame, target, 1 + target.template_updates % spare)
            target.template_updates += 1

    def _encode_template(self, frame: Frame, target: _Target, index: int) -> None:
        box = self.motion.crop_template(self._template, frame, target.box, self._cropper)
        self.runtime.encode_template(target.slot, index, self._template, box)


class Tracker:
    """One target: `init` on its first box, then `update` with every frame that follows.

    Args:
        runtime: an open runtime that no other tracker uses.
        protocol: the release's settings for a dataset; without them, the default ones.
        color: "bgr" or "rgb", the order of the frames' channels.
        lost_rule: when the target counts as lost.
        recovery: how the lost target is searched for; without one it is not.
        told: tensors that the target is given beside its box, such as `encode_sentence` makes.

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
        told: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self._targets = MultiTracker(
            runtime, protocol, color=color, lost_rule=lost_rule, recovery=recovery, told=told
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
