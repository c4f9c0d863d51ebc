"""Scripted steps on hard targets with random windows: what a few clips alone would never show.

A script is independent of what either side answers, so it can be run on the reference, on the
candidate and, for a diagnosis, on the reference with a mistake made on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.paired_runtime import FramePair, Outputs, collect_outputs
from relo_edge.clips.hard_targets import HARD_TARGETS, make_hard_clip
from relo_edge.geometry import (
    Box,
    box_in_template,
    crop_into,
    hann_window,
    place_crop,
    read_box,
)
from relo_edge.measures.gates import GATES
from relo_edge.runtime import Runtime, StepResult
from relo_edge.spec import TrackerProtocol, Variant
from relo_edge.video.opening import Frame

__all__ = [
    "SLOTS",
    "ProbeRun",
    "ProbeStep",
    "Probes",
    "Stepper",
    "TemplateInput",
    "count_probe_steps",
    "prepare_probes",
    "run_probes",
    "run_script",
]

FIRST, HISTORY, REWIND = "first frame", "with history", "after a rewind"
UPDATE, FORGET, SLOTS = "after a template update", "after forget", "two targets"

SEED = 20
FRAMES = 5
KINDS = 7
"""Steps that the first target's script has."""

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class TemplateInput(NamedTuple):
    """What one template is made of."""

    place: int
    crop: Pixels
    box: Array


@dataclass(frozen=True, eq=False)
class ProbeStep:
    """One step of a target, and what is done to the target before it."""

    scene: str
    label: str
    """What the step adds to the one before."""
    search: Pixels
    window: Array
    templates: tuple[TemplateInput, ...] = ()
    forget: bool = False
    rewind: bool = False
    plain_window: bool = False
    """Whether the window is the protocol's, not a random one."""


class Stepper(Protocol):
    """The part of a runtime that a script needs."""

    def encode_template(self, slot: int, index: int, template: Pixels, box: Array) -> None:
        """See `relo_edge.runtime.Runtime`, as for the others."""

    def forget(self, slot: int) -> None:
        """Drop the slot's history."""

    def rewind(self, slot: int) -> None:
        """Take its last step back."""

    def step(self, slots: Sequence[int], searches: Pixels, window: Array) -> StepResult:
        """Localize one crop for each slot."""

    def read_state(self, slot: int) -> Array:
        """Its temporal tokens."""


@dataclass(frozen=True, eq=False)
class Probes:
    """The scripts and the reference's answers, the same for every candidate."""

    steps: list[ProbeStep]
    answers: list[Outputs]
    together: list[list[ProbeStep]]
    """Two targets that are stepped together in the candidate; the reference takes them in turn."""
    together_answers: list[list[Outputs]]


@dataclass(frozen=True, eq=False)
class ProbeRun:
    """The steps with what both sides answered to each."""

    steps: list[ProbeStep]
    pairs: list[FramePair]
    slots: list[FramePair]
    """Two targets stepped together, both in turn; none where the candidate holds one target."""


def make_script(variant: Variant) -> list[ProbeStep]:
    """One target after the other: every kind of step on the first, the first few on the rest."""
    steps: list[ProbeStep] = []
    for scene in HARD_TARGETS:
        made = list(_make_scene(scene, variant))
        steps += made if not steps else made[:3]
    return steps


def count_probe_steps() -> int:
    """How often `prepare_probes` and `run_probes` each call `advance`."""
    return KINDS + 3 * (len(HARD_TARGETS) - 1)


def prepare_probes(
    reference: Stepper, variant: Variant, advance: Callable[[], None] = lambda: None
) -> Probes:
    """Run the scripts on the reference."""
    steps, answers = make_script(variant), []
    for answer in run_script(reference, steps):
        answers.append(answer)
        advance()
    together = _make_together(variant)
    return Probes(steps, answers, together, [list(run_script(reference, s)) for s in together])


def run_probes(
    probes: Probes, candidate: Runtime, advance: Callable[[], None] = lambda: None
) -> ProbeRun:
    """Run the script on the candidate, then two targets together where it holds two."""
    tolerance = GATES[candidate.precision].choice
    pairs = []
    sides = zip(probes.answers, run_script(candidate, probes.steps), strict=True)
    for step, (want, got) in zip(probes.steps, sides, strict=True):
        fresh = step.label in (FIRST, FORGET)
        pairs.append(FramePair(want, got, step.window, fresh, tolerance))
        advance()
    slots = list(_probe_slots(probes, candidate, tolerance)) if candidate.batch > 1 else []
    return ProbeRun(probes.steps, pairs, slots)


def run_script(runtime: Stepper, steps: Sequence[ProbeStep], slot: int = 0) -> Iterator[Outputs]:
    """The runtime's answer to each step, in turn."""
    for step in steps:
        _prepare(runtime, step, slot)
        answer = runtime.step([slot], step.search[None], step.window)
        yield collect_outputs(answer, 0, runtime.read_state(slot))


def _prepare(runtime: Stepper, step: ProbeStep, slot: int) -> None:
    for template in step.templates:
        runtime.encode_template(slot, template.place, template.crop, template.box)
    if step.forget:
        runtime.forget(slot)
    if step.rewind:
        runtime.rewind(slot)


def _make_together(variant: Variant) -> list[list[ProbeStep]]:
    """The first steps of two targets, the second with the first one's windows."""
    first, second = (list(_make_scene(scene, variant))[:3] for scene in ("plain", "large"))
    steps = zip(first, second, strict=True)
    return [first, [replace(two, label=SLOTS, window=one.window) for one, two in steps]]


def _probe_slots(probes: Probes, candidate: Runtime, tolerance: float) -> Iterator[FramePair]:
    """Both targets in each step, the second named first in every other one."""
    for row, together in enumerate(zip(*probes.together, strict=True)):
        for slot, step in enumerate(together):
            _prepare(candidate, step, slot)
        order = [0, 1] if row % 2 == 0 else [1, 0]
        crops = np.stack([together[slot].search for slot in order])
        window, fresh = together[0].window, together[0].forget
        answer = candidate.step(order, crops, window)
        for place, slot in enumerate(order):
            got = collect_outputs(answer, place, candidate.read_state(slot))
            want = probes.together_answers[slot][row]
            yield FramePair(want, got, window, fresh, tolerance)


def _make_scene(scene: str, variant: Variant) -> Iterator[ProbeStep]:
    """Every kind of step on one target."""
    clip = make_hard_clip(scene, FRAMES)
    frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in clip.frames()]
    boxes = [read_box(box) for box in clip.boxes]
    protocol = variant.protocol()
    rng = np.random.default_rng((SEED, list(HARD_TARGETS).index(scene)))

    def search(number: int) -> Pixels:
        return _crop(frames[number], boxes[number - 1], protocol.search_factor, variant.search_size)

    def draw() -> Array:
        return _draw_window(rng, variant.grid)

    first = tuple(
        _make_template(place, frames[place % 2], boxes[place % 2], protocol, variant)
        for place in range(variant.templates)
    )
    newest = _make_template(variant.templates - 1, frames[4], boxes[4], protocol, variant)
    plain = hann_window(variant.grid, protocol.window_factor)
    yield ProbeStep(scene, FIRST, search(1), plain, first, forget=True, plain_window=True)
    yield ProbeStep(scene, HISTORY, search(2), draw())
    yield ProbeStep(scene, HISTORY, search(3), draw())
    yield ProbeStep(scene, HISTORY, search(1), draw())
    yield ProbeStep(scene, REWIND, search(4), draw(), rewind=True)
    yield ProbeStep(scene, UPDATE, search(2), draw(), (newest,))
    yield ProbeStep(scene, FORGET, search(3), draw(), forget=True)


def _make_template(
    place: int, frame: Frame, box: Box, protocol: TrackerProtocol, variant: Variant
) -> TemplateInput:
    size = variant.template_size
    crop = _crop(frame, box, protocol.template_factor, size)
    window = place_crop(box, protocol.template_factor, size)
    return TemplateInput(place, crop, box_in_template(box, window, size))


def _crop(frame: Frame, box: Box, factor: float, size: int) -> Pixels:
    return crop_into(np.empty((size, size, 3), np.uint8), frame, place_crop(box, factor, size))


def _draw_window(rng: np.random.Generator, grid: int) -> Array:
    """Weights from 0 to 1 without symmetry or ties, so steep that they often decide alone."""
    return rng.uniform(0.02, 1, (grid, grid)).astype(np.float32) ** 3
