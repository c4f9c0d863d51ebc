"""Latency: contenders take turns in one run, so that noise is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from relo_edge.benchmarks.parity.compare import (
    compare_runtimes,
    count_compared,
    run_reference,
)
from relo_edge.benchmarks.parity.rollout import find_segments
from relo_edge.benchmarks.speed.contenders import WARM_UP, Contender, Lap, RuntimeContender
from relo_edge.benchmarks.speed.environment import describe_machine
from relo_edge.benchmarks.speed.load import LoadMeter, MachineLoad, wait_until_quiet
from relo_edge.benchmarks.speed.power import PowerMeter
from relo_edge.benchmarks.speed.results import BenchResult, BenchRow, Proof
from relo_edge.benchmarks.speed.startup import StartUp
from relo_edge.clips.clip import Clip, find_clips, make_synthetic_clip
from relo_edge.errors import InputError
from relo_edge.geometry import Box
from relo_edge.host.cpu import count_cores
from relo_edge.host.opencv import cv2
from relo_edge.runtime import Runtime
from relo_edge.video.opening import Frame

__all__ = [
    "Scene",
    "count_parity_frames",
    "count_turns",
    "make_rows",
    "prove_parity",
    "read_scene",
    "take_turns",
    "time_runtimes",
]

REFERENCE = "pytorch"
SIZE = (1280, 720)
FRAMES = 8
TURNS = 24
"""Enough that what the machine does meanwhile hardly moves the ratios' median."""

SPREAD = 0.25
"""How far the quartiles of a contender's turns may be apart, beside their median."""

LONGEST = 200
"""Frames of the clip that are tracked end to end."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What is tracked: a first frame with a target, and the frames of each turn."""

    name: str
    first: Frame
    frames: list[Frame]
    box: Box
    clip: Clip | None
    """The user's clip, which is also tracked end to end."""


def read_scene(path: str | None) -> Scene:
    """The first frames of a clip from where its target can be set, or drawn ones."""
    length = 1 + WARM_UP + FRAMES
    if path is None:
        clip = make_synthetic_clip(0, length, SIZE)
    else:
        clips = find_clips([path])
        if len(clips) > 1:
            raise InputError(f"clip {path!r}", found=f"{len(clips)} clips", expected="one")
        clip = clips[0]
    start = clip.starts[0]
    numbers = range(start.frame, min(start.frame + length, clip.frame_count))
    with closing(clip.read_frames(numbers)) as source:
        first, *frames = source
    if len(frames) <= WARM_UP:
        found = f"{len(frames)} frames after its target comes into sight"
        raise InputError(f"clip {clip.name}", found=found, expected=f"more than {WARM_UP}")
    return Scene(clip.name, first, frames, start.box, clip if path else None)


def count_turns(contenders: int) -> int:
    """How often `advance` will be called."""
    return TURNS * contenders


def take_turns(
    contenders: Sequence[Contender],
    scene: Scene,
    meter: PowerMeter,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Time the contenders turn by turn; `advance` is called after each turn."""
    for _ in range(TURNS):
        for contender in contenders:
            contender.take_turn(scene.frames, meter)
            advance()


def time_runtimes(
    runtimes: Sequence[Runtime], advance: Callable[[], None] = lambda: None
) -> BenchResult:
    """Speed alone, in turns, for runtimes whose parity is known already."""
    scene = read_scene(None)
    contenders = [RuntimeContender(runtime, scene.first, scene.box) for runtime in runtimes]
    wait_until_quiet()
    with PowerMeter() as meter:
        load = LoadMeter()
        take_turns(contenders, scene, meter, advance)
        measured = load.read()
    return make_rows(contenders, scene, None, {}, {}, measured)


def prove_parity(
    reference: Runtime, contenders: Sequence[Contender], advance: Callable[[], None]
) -> dict[int, Proof]:
    """By place: whether each contender that runs this network is the same tracker."""
    proofs = {}
    alone = run_reference(reference, find_segments([]), advance)
    for place, contender in enumerate(contenders):
        if isinstance(contender, RuntimeContender) and contender.name != REFERENCE:
            found = compare_runtimes(reference, contender.runtime, alone, advance)
            proofs[place] = Proof(
                found.passed,
                found.judged,
                found.closed_loop_iou,
                found.argmax_agreement,
                found.failures,
            )
    return proofs


def count_parity_frames(contenders: Sequence[Contender]) -> int:
    """How often `prove_parity` will call `advance`."""
    judged = [c for c in contenders if isinstance(c, RuntimeContender) and c.name != REFERENCE]
    return count_compared(find_segments([]), len(judged))


def make_rows(
    contenders: Sequence[Contender],
    scene: Scene,
    threads: int | None,
    proofs: dict[int, Proof],
    starts: dict[int, StartUp],
    load: MachineLoad | None = None,
) -> BenchResult:
    """Everything that was measured of each contender, with its ratio to the reference."""
    reference = next((c for c in contenders if c.name == REFERENCE), None)
    rows = []
    for place, contender in enumerate(contenders):
        numbers = _sum_up(contender, scene)
        ratios = _compare_turns(reference, contender) if reference else None
        start = starts.get(place)
        rows.append(
            BenchRow(
                runtime=contender.name,
                precision=contender.precision,
                device=contender.device,
                batch=contender.batch,
                threads=threads or _count_threads(contender),
                ratio_to_reference=ratios[1] if ratios else None,
                ratio_quartiles=(ratios[0], ratios[2]) if ratios else None,
                role=_name_role(contender),
                parity=proofs.get(place),
                doubts=_list_doubts(contender, load),
                start_up_ms=start.start_up_ms if start else None,
                first_frame_ms=start.first_frame_ms if start else None,
                peak_memory_mb=start.peak_memory_mb if start else None,
                **numbers,
            )
        )
    width, height = scene.first.shape[1], scene.first.shape[0]
    environment = {**describe_machine(), "clip": scene.name, "frame": f"{width}x{height}"}
    if load is not None:
        environment |= {"other_cores": load.other_cores, "steal": load.steal}
        environment |= {"involuntary_switches": load.switches, "load": load.load}
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in environment.items()}
    return BenchResult({k: v for k, v in rounded.items() if v is not None}, rows)


def _list_doubts(contender: Contender, load: MachineLoad | None) -> tuple[str, ...]:
    """Why a contender's times are doubtful: the machine's load, turns that differ too much."""
    found = list(load.doubts) if load else []
    medians = [float(np.median([lap.total for lap in turn])) for turn in contender.turns]
    low, middle, high = np.percentile(medians, [25, 50, 75])
    spread = float((high - low) / middle)
    if spread > SPREAD:
        name = f"{contender.name} ({contender.precision})"
        found.append(f"turns of {name} differ by {spread:.0%}")
    return tuple(found)


def _count_threads(contender: Contender) -> int:
    """How many a contender takes that was not told."""
    return count_cores() if isinstance(contender, RuntimeContender) else cv2.getNumThreads()


def _name_role(contender: Contender) -> str:
    if contender.name == REFERENCE:
        return "reference"
    return "candidate" if isinstance(contender, RuntimeContender) else "peer"


def _sum_up(contender: Contender, scene: Scene) -> dict[str, Any]:
    """The times of all laps, in milliseconds."""
    laps = contender.laps
    times = 1e3 * np.array([lap.total for lap in laps])
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    stages = {
        name: 1e3 * float(np.median([lap.stages[name] for lap in laps])) for name in laps[0].stages
    }
    changes = [
        abs(one.total - other.total) for turn in contender.turns for one, other in pairwise(turn)
    ]
    end_to_end = None
    if scene.clip is not None:
        start = scene.clip.starts[0].frame
        stop = min(start + LONGEST, scene.clip.frame_count)
        end_to_end, decode = contender.time_clip(scene.clip.read_frames(range(start, stop)))
        stages = {"decode": 1e3 * decode, **stages}
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "min_ms": float(times.min()),
        "jitter_ms": 1e3 * float(np.mean(changes)) if changes else 0.0,
        "fps": 1e3 / p50,
        "stages_ms": stages,
        "overhead_ms": _measure_overhead(laps),
        "end_to_end_fps": end_to_end,
        "joules_per_frame": float(np.mean(contender.joules)) if contender.joules else None,
        "times_ms": [round(float(value), 4) for value in times],
    }


def _measure_overhead(laps: Sequence[Lap]) -> float | None:
    """The median of a frame's time outside the network; None where stages are not known."""
    if "network" not in laps[0].stages:
        return None
    return 1e3 * float(np.median([lap.total - lap.stages["network"] for lap in laps]))


def _compare_turns(reference: Contender, contender: Contender) -> tuple[float, float, float]:
    """Quartiles: turns that follow each other see the same machine, their ratios vary least."""
    ratios = [
        np.median([lap.total for lap in one]) / np.median([lap.total for lap in other])
        for one, other in zip(reference.turns, contender.turns, strict=True)
    ]
    low, middle, high = np.percentile(ratios, [25, 50, 75]) * contender.batch / reference.batch
    return float(low), float(middle), float(high)
