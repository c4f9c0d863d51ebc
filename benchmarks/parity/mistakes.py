"""The reference with a mistake made on purpose: does it then err as the candidate does?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.paired_runtime import FramePair, Outputs, collect_outputs
from relo_edge.benchmarks.parity.probes import ProbeStep, Stepper, TemplateInput
from relo_edge.contract import GraphContract

__all__ = ["EXPLAINS", "Explanation", "Mistake", "State", "StateRule", "explain_outputs", "replay"]

EXPLAINS = 4
"""A mistake that leaves less than this part of the error is what happened."""

PROVES = 1000
"""One that leaves less than this part needs no other to be tried."""

Array = NDArray[np.float32]
PixelChange = Callable[[NDArray[np.float64]], NDArray[np.float64]]
State = Mapping[str, Array]
StateRule = Callable[[list[State], list[State]], "State | None"]
"""The states that the target's frames and that all frames so far left behind → the one that the
next frame is given; None for a first frame."""


@runtime_checkable
class WritableState(Protocol):
    """A reference whose state can be set, as the network in PyTorch."""

    def write_state(self, slot: int, state: State) -> None: ...


@dataclass(frozen=True, eq=False)
class Mistake:
    """What is done wrong; everything else is done right."""

    part: str
    what: str
    search: PixelChange | None = None
    template: PixelChange | None = None
    template_box: Callable[[Array], Array] | None = None
    state: StateRule | None = None
    delays_update: bool = False
    keeps_first_template: bool = False
    skips_rewind: bool = False


@dataclass(frozen=True)
class Explanation:
    """A mistake, the error before, and what is left of it when the reference makes the mistake."""

    part: str
    what: str
    error: float
    left: float


def explain_outputs(
    contract: GraphContract,
    reference: Stepper,
    steps: Sequence[ProbeStep],
    pairs: Sequence[FramePair],
    mistakes: Iterable[Mistake],
    names: Sequence[str],
) -> Explanation | None:
    """The mistake that explains these outputs of the steps best, if one does."""
    error = max(pair.measure_error(name) for pair in pairs for name in names)
    best = None
    for mistake in mistakes:
        if not _can_make(reference, mistake):
            continue
        left = 0.0
        for pair, answer in zip(pairs, replay(contract, reference, steps, mistake), strict=True):
            left = max(left, *(_measure_left(pair, answer, name) for name in names))
            if not left < error / EXPLAINS:
                break
        if left < error / EXPLAINS and (best is None or left < best.left):
            best = Explanation(mistake.part, mistake.what, error, left)
        if left < error / PROVES:
            break
    return best


def replay(
    contract: GraphContract, reference: Stepper, steps: Sequence[ProbeStep], mistake: Mistake
) -> Iterator[Outputs]:
    """The reference's answers to the steps, with the mistake made in each."""
    past: list[State] = []
    every: list[State] = []
    taken = _delay_updates(steps) if mistake.delays_update else steps
    for number, step in enumerate(taken):
        _prepare(reference, step, mistake, first=number == 0)
        if step.forget:
            past = []
        if step.rewind and past and not mistake.skips_rewind:
            past.pop()
            every.pop()
        if mistake.state is not None:
            state = mistake.state(past, every)
            reference.forget(0)
            if state is not None:
                cast(WritableState, reference).write_state(0, state)
        answer = reference.step([0], _change(step.search, mistake.search)[None], step.window)
        left = reference.read_state(0)
        past.append(left)
        every.append(left)
        yield collect_outputs(contract, answer, 0, left)


def _measure_left(pair: FramePair, answer: Outputs, name: str) -> float:
    largest = max(float(np.abs(pair.reference[name]).max()), 1e-12)
    wrong = float(np.abs(answer[name] - pair.candidate[name]).max())
    return wrong / largest if np.isfinite(wrong) else float("inf")


def _prepare(reference: Stepper, step: ProbeStep, mistake: Mistake, first: bool) -> None:
    for template in step.templates if first or not mistake.keeps_first_template else ():
        box = template.box if mistake.template_box is None else mistake.template_box(template.box)
        crop = _change(template.crop, mistake.template)
        reference.encode_template(0, template.place, crop, box.astype(np.float32))
    for name, values in step.targets.items():
        reference.set_target(0, name, values)
    if step.forget:
        reference.forget(0)
    if step.rewind and not mistake.skips_rewind and mistake.state is None:
        reference.rewind(0)


def _delay_updates(steps: Sequence[ProbeStep]) -> Iterator[ProbeStep]:
    """The steps with each new template taken over only when the target's history is dropped."""
    waiting: tuple[TemplateInput, ...] = ()
    for step in steps:
        waiting += step.templates
        yield replace(step, templates=waiting if step.forget else ())
        if step.forget:
            waiting = ()


def _can_make(reference: Stepper, mistake: Mistake) -> bool:
    """The network in PyTorch takes any crop and state; other references only bytes."""
    simple = mistake.search is None and mistake.template is None and mistake.state is None
    return simple or isinstance(reference, WritableState)


def _change(crop: NDArray[np.uint8], change: PixelChange | None) -> NDArray[np.uint8]:
    """The crop by mistake, in fractions: the reference network takes any type of number."""
    if change is None:
        return crop
    wrong = np.ascontiguousarray(change(crop.astype(np.float64)), np.float32)
    return cast("NDArray[np.uint8]", wrong)
