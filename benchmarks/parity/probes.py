"""Scripted steps on hard targets with random windows: what a few clips alone would never show.

A script is independent of what either side answers, so it can be run on the reference, on the
candidate and, for a diagnosis, on the reference with a mistake made on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.paired_runtime import (
    FramePair,
    Outputs,
    collect_outputs,
    name_map,
)
from relo_edge.clips.hard_targets import HARD_TARGETS, make_hard_clip
from relo_edge.contract import STEP, GraphContract, describe_graph
from relo_edge.families.motion import Motion, RgbCropper
from relo_edge.families.registry import find_family
from relo_edge.geometry import Box, read_box
from relo_edge.measures.gates import GATES
from relo_edge.runtime import Runtime, StepResult
from relo_edge.spec import TrackerVariant
from relo_edge.video.opening import Frame

__all__ = [
    "FIRST",
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
    window: Array | None
    templates: tuple[TemplateInput, ...] = ()
    targets: Mapping[str, Array] = field(default_factory=dict)
    """Target tensors that no template makes, which are set."""
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

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """Set a target tensor that no template makes."""

    def step(self, slots: Sequence[int], pixels: Pixels, shared: Array | None) -> StepResult:
        """Localize the target of each slot."""

    def read_state(self, slot: int) -> Outputs:
        """What it carries."""


@dataclass(frozen=True, eq=False)
class Probes:
    """The scripts and the reference's answers, the same for every candidate."""

    contract: GraphContract
    steps: list[ProbeStep]
    answers: list[Outputs]
    together: list[list[ProbeStep]]
    """Two targets that are stepped together in the candidate; the reference takes them in turn."""
    together_answers: list[list[Outputs]]


@dataclass(frozen=True, eq=False)
class ProbeRun:
    """The steps with what both sides answered to each."""

    contract: GraphContract
    steps: list[ProbeStep]
    pairs: list[FramePair]
    slots: list[FramePair]
    """Two targets stepped together, both in turn; none where the candidate holds one target."""


def make_script(variant: TrackerVariant) -> list[ProbeStep]:
    """One target after the other: every kind of step on the first, the first few on the rest."""
    steps: list[ProbeStep] = []
    for scene in HARD_TARGETS:
        made = _make_scene(scene, variant)
        steps += made if not steps else made[:3]
    return steps


def count_probe_steps() -> int:
    """How often `prepare_probes` and `run_probes` each call `advance`."""
    return KINDS + 3 * (len(HARD_TARGETS) - 1)


def prepare_probes(
    reference: Stepper, variant: TrackerVariant, advance: Callable[[], None] = lambda: None
) -> Probes:
    """Run the scripts on the reference."""
    contract, steps, answers = describe_graph(variant, STEP), make_script(variant), []
    for answer in run_script(contract, reference, steps):
        answers.append(answer)
        advance()
    together = _make_together(variant)
    told = [list(run_script(contract, reference, script)) for script in together]
    return Probes(contract, steps, answers, together, told)


def run_probes(
    probes: Probes, candidate: Runtime, advance: Callable[[], None] = lambda: None
) -> ProbeRun:
    """Run the script on the candidate, then two targets together where it holds two."""
    tolerance = GATES[candidate.precision].choice
    pairs = []
    cells, script = name_map(probes.contract), run_script(probes.contract, candidate, probes.steps)
    sides = zip(probes.answers, script, strict=True)
    for step, (want, got) in zip(probes.steps, sides, strict=True):
        fresh = step.label in (FIRST, FORGET)
        pairs.append(FramePair(want, got, step.window, fresh, tolerance, cells))
        advance()
    slots = list(_probe_slots(probes, candidate, tolerance)) if candidate.batch > 1 else []
    return ProbeRun(probes.contract, probes.steps, pairs, slots)


def run_script(
    contract: GraphContract, runtime: Stepper, steps: Sequence[ProbeStep], slot: int = 0
) -> Iterator[Outputs]:
    """The runtime's answer to each step, in turn."""
    for step in steps:
        _prepare(runtime, step, slot)
        answer = runtime.step([slot], step.search[None], step.window)
        yield collect_outputs(contract, answer, 0, runtime.read_state(slot))


def _prepare(runtime: Stepper, step: ProbeStep, slot: int) -> None:
    for template in step.templates:
        runtime.encode_template(slot, template.place, template.crop, template.box)
    for name, values in step.targets.items():
        runtime.set_target(slot, name, values)
    if step.forget:
        runtime.forget(slot)
    if step.rewind:
        runtime.rewind(slot)


def _make_together(variant: TrackerVariant) -> list[list[ProbeStep]]:
    """The first steps of two targets, the second with the first one's windows."""
    first, second = (list(_make_scene(scene, variant)[:3]) for scene in ("plain", "large"))
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
            got = collect_outputs(probes.contract, answer, place, candidate.read_state(slot))
            want = probes.together_answers[slot][row]
            yield FramePair(want, got, window, fresh, tolerance, name_map(probes.contract))


@lru_cache(maxsize=2 * len(HARD_TARGETS))
def _make_scene(scene: str, variant: TrackerVariant) -> tuple[ProbeStep, ...]:
    """Every kind of step on one target, drawn once for all runtimes that are compared."""
    clip = make_hard_clip(scene, FRAMES)
    frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in clip.frames()]
    boxes = [read_box(box) for box in clip.boxes]
    motion = find_family(variant.family).motion(variant, variant.protocol())
    rng = np.random.default_rng((SEED, list(HARD_TARGETS).index(scene)))

    def search(number: int) -> Pixels:
        pixels = np.empty(motion.pixels, np.uint8)
        motion.fill_pixels(pixels, frames[number], boxes[number - 1], 1.0, RgbCropper())
        return pixels

    def draw() -> Array | None:
        return None if motion.shared is None else _draw_window(rng, motion.shared.shape)

    first = tuple(
        _make_template(place, frames[place % 2], boxes[place % 2], motion)
        for place in range(motion.templates)
    )
    newest = _make_template(motion.templates - 1, frames[4], boxes[4], motion) if first else None
    targets = _disturb(motion.describe_target(boxes[0], (frames[0].shape[1], frames[0].shape[0])))
    again = _disturb(motion.describe_target(boxes[2], (frames[2].shape[1], frames[2].shape[0])))
    begun = ProbeStep(scene, FIRST, search(1), motion.shared, first, targets, forget=True)
    return (
        replace(begun, plain_window=True),
        ProbeStep(scene, HISTORY, search(2), draw()),
        ProbeStep(scene, HISTORY, search(3), draw()),
        ProbeStep(scene, HISTORY, search(1), draw()),
        ProbeStep(scene, REWIND, search(4), draw(), rewind=True),
        ProbeStep(scene, UPDATE, search(2), draw(), (newest,) if newest else ()),
        ProbeStep(scene, FORGET, search(3), draw(), targets=again, forget=True),
    )


def _make_template(place: int, frame: Frame, box: Box, motion: Motion) -> TemplateInput:
    crop = np.empty(motion.template_pixels, np.uint8)
    return TemplateInput(place, crop, motion.crop_template(crop, frame, box, RgbCropper()))


def _disturb(targets: Mapping[str, Array]) -> dict[str, Array]:
    """What is zero in every target by itself would not be missed."""
    rng = np.random.default_rng(SEED)
    return {n: (a + rng.normal(0, 0.1, a.shape)).astype(np.float32) for n, a in targets.items()}


def _draw_window(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Weights from 0 to 1 without symmetry or ties, so steep that they often decide alone."""
    return rng.uniform(0.02, 1, shape).astype(np.float32) ** 3
