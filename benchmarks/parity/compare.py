"""A whole comparison of one candidate with the reference: clips, probes, verdict, layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relo_edge.benchmarks.parity.layer_errors import LayerWalk
from relo_edge.benchmarks.parity.probes import (
    ProbeRun,
    Probes,
    ProbeStep,
    count_probe_steps,
    prepare_probes,
    run_probes,
)
from relo_edge.benchmarks.parity.rollout import (
    ClipSegment,
    compare_clips,
    count_frames,
    track_perturbed,
)
from relo_edge.benchmarks.parity.verdict import ParityResult, add_layers, find_gate, judge_parity
from relo_edge.geometry import Floats
from relo_edge.runtime import Runtime

__all__ = ["ReferenceRun", "Walk", "compare_runtimes", "count_compared", "run_reference"]

Walk = Callable[[Sequence[ProbeStep]], LayerWalk]
"""Compares the graphs of both sides on one target's steps."""


@dataclass(frozen=True, eq=False)
class ReferenceRun:
    """What the reference makes of the clips and probes alone, the same for every candidate."""

    segments: Sequence[ClipSegment]
    perturbed: list[list[Floats]]
    """Its boxes from perturbed starts, by segment."""
    probes: Probes


def count_compared(segments: Sequence[ClipSegment], candidates: int = 1) -> int:
    """How often `advance` will be called for so many candidates and their reference."""
    return count_frames(segments, candidates) + (1 + candidates) * count_probe_steps()


def run_reference(
    reference: Runtime,
    segments: Sequence[ClipSegment],
    advance: Callable[[], None] = lambda: None,
) -> ReferenceRun:
    """Track the segments from perturbed starts and answer the probes."""
    perturbed = track_perturbed(reference, segments, advance)
    return ReferenceRun(segments, perturbed, prepare_probes(reference, reference.variant, advance))


def compare_runtimes(
    reference: Runtime,
    candidate: Runtime,
    alone: ReferenceRun,
    advance: Callable[[], None] = lambda: None,
    *,
    walk: Walk | None = None,
    always_walk: bool = False,
) -> ParityResult:
    """Track the segments with both, probe both, and judge the candidate.

    The graphs are compared where a failure is not explained otherwise, or always if asked for.
    """
    find_gate(candidate.precision)
    # The probes first: they tell most of a candidate that has not been used yet.
    run = run_probes(alone.probes, candidate, advance)
    rollouts = compare_clips(reference, candidate, alone.segments, advance, alone.perturbed)
    result = judge_parity(rollouts, run)
    unsure = any(not cause.exact for cause in result.causes)
    if walk is None or not (always_walk or unsure):
        return result
    return add_layers(result, walk(_choose_steps(run)))


def _choose_steps(run: ProbeRun) -> list[ProbeStep]:
    """The first steps of the target on which the map, or the box, is most wrong."""
    errors = [pair.measure_error(pair.cells or "box") for pair in run.pairs]
    worst = run.steps[max(range(len(errors)), key=errors.__getitem__)].scene
    return [step for step in run.steps if step.scene == worst][:3]
