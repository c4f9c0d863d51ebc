"""`bench --streams`: so many streams on one runtime, beside as many processes, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from relo_edge.benchmarks.speed.environment import describe_machine
from relo_edge.benchmarks.speed.load import LoadMeter, wait_until_quiet
from relo_edge.benchmarks.speed.results import align_table
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.host.cpu import count_cores
from relo_edge.host.progress import show_progress
from relo_edge.runtime import resolve_bundle
from relo_edge.streams.sharing import count_lanes

__all__ = ["StreamsRequest", "StreamsResult", "StreamsRow", "bench_streams"]

SECONDS = 2.0
"""The length of a turn."""
TURNS = 6
MOST_STREAMS = 64

COLUMNS = ("streams", "way", "FPS", "FPS each", "p50 ms", "p99 ms", "CPU ms", "memory MB", "ratio")


@dataclass(frozen=True)
class StreamsRequest:
    """What is to be timed."""

    bundle: str
    streams: tuple[int, ...]
    runtime: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    trust_engines: bool = False
    seconds: float = SECONDS
    turns: int = TURNS

    def __post_init__(self) -> None:
        if not self.streams or not all(1 <= count <= MOST_STREAMS for count in self.streams):
            found, expected = list(self.streams), f"numbers from 1 to {MOST_STREAMS}"
            raise InputError("--streams", found=found, expected=expected)


@dataclass(frozen=True)
class StreamsRow:
    """So many streams in one of the two ways; frames come as fast as they are tracked."""

    streams: int
    way: str
    """`one runtime`, or `processes`: one for each stream."""
    runtime: str
    precision: str
    device: str
    lanes: int
    """How many streams each process computes side by side."""
    threads: int
    """CPU threads of each process."""
    fps: float
    """Frames per second of all streams together: the turns' median."""
    fps_per_stream: float
    p50_ms: float
    """From a frame's coming to its box, with all other streams at work."""
    p99_ms: float
    cpu_ms: float
    """CPU time of a frame, all threads together: what a busy machine does not change."""
    memory_mb: float
    """Peak resident memory of all processes, what they share counted in each."""
    ratio: float
    """How many times the frames of as many processes: the turns' median."""
    ratio_quartiles: tuple[float, float]

    def list_cells(self) -> list[str]:
        """The row of the table."""
        low, high = self.ratio_quartiles
        numbers = (self.fps, self.fps_per_stream, self.p50_ms, self.p99_ms, self.cpu_ms)
        ratio = f"{self.ratio:.2f} x ({low:.2f}-{high:.2f})"
        cells = [f"{number:.1f}" for number in numbers]
        return [str(self.streams), self.way, *cells, f"{self.memory_mb:.0f}", ratio]


@dataclass(frozen=True)
class StreamsResult:
    """Every row, and where it was measured."""

    environment: dict[str, Any]
    rows: list[StreamsRow]
    doubts: tuple[str, ...]
    """Why the numbers are not to be trusted: a busy machine."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"trusted": not self.doubts, **asdict(self)}

    def describe(self) -> str:
        """A table, and the machine."""
        lines = align_table([list(COLUMNS), *(row.list_cells() for row in self.rows)], ("way",))
        if self.doubts:
            why = "; ".join(self.doubts)
            lines.append(
                f"this machine is busy, which favours many processes: compare CPU ms ({why})"
            )
        first = self.rows[0]
        place = {"runtime": f"{first.runtime} in {first.precision}", **self.environment}
        return "\n".join([*lines, "", ", ".join(f"{k} {v}" for k, v in place.items())])


class _Child:
    """A process with some streams on one runtime."""

    def __init__(self, seeds: Sequence[int], opening: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the child
        asked = json.dumps({"seeds": list(seeds), "opening": opening})
        command = [sys.executable, "-m", "relo_edge.benchmarks.speed.stream_worker", asked]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, cwd="/"
        )

    def read(self) -> dict[str, Any]:
        """Its next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no reason"])[-1]
            raise RuntimeUnavailable("a process of the benchmark ended", found=last)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def begin_turn(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


@dataclass
class _Way:
    """One way to run the streams, and what was measured of it."""

    name: str
    lanes: int
    threads: int
    children: list[_Child]
    facts: dict[str, Any]
    rates: list[float]
    times: list[float]
    cpu: float = 0.0
    memory: float = 0.0

    def take_turn(self, seconds: float) -> None:
        for child in self.children:
            child.begin_turn(seconds)
        answers = [child.read() for child in self.children]
        streams = [times for answer in answers for times in answer["times_ms"]]
        # The last frame of a turn ends after it: each stream's rate is by its own time.
        self.rates.append(sum(1e3 * len(times) / sum(times) for times in streams))
        self.times += [time for times in streams for time in times]
        self.cpu += sum(answer["cpu_ms"] for answer in answers)
        self.memory = sum(answer["memory_mb"] for answer in answers)


def bench_streams(request: StreamsRequest) -> StreamsResult:
    """Time every number of streams in both ways, turn by turn."""
    rows: list[StreamsRow] = []
    # Its processes begin in another folder.
    found = replace(request, bundle=str(resolve_bundle(request.bundle).path.resolve()))
    wait_until_quiet()
    load = LoadMeter()
    total = 2 * request.turns * len(request.streams)
    with show_progress("timing streams", total, "turns") as advance:
        for count in request.streams:
            rows += _time_count(found, count, advance)
    environment = {"bundle": request.bundle, **describe_machine()}
    return StreamsResult(environment, rows, load.read().doubts)


def _time_count(
    request: StreamsRequest, count: int, advance: Callable[[], None]
) -> list[StreamsRow]:
    cores = request.threads or count_cores()
    with ExitStack() as stack:
        seeds = list(range(count))
        lanes, alone = count_lanes(count, request.threads), max(1, cores // count)
        ways = [
            _open_way(request, "one runtime", [seeds], lanes, cores, stack),
            _open_way(request, "processes", [[seed] for seed in seeds], 1, alone, stack),
        ]
        for _ in range(request.turns):
            for way in ways:
                way.take_turn(request.seconds)
                advance()
    together, apart = ways
    ratios = np.divide(together.rates, apart.rates)
    return [_make_row(count, together, ratios), _make_row(count, apart, np.ones(1))]


def _open_way(
    request: StreamsRequest,
    name: str,
    groups: Sequence[Sequence[int]],
    lanes: int,
    threads: int,
    stack: ExitStack,
) -> _Way:
    opening = {
        "bundle": request.bundle,
        "name": request.runtime,
        "precision": request.precision,
        "threads": threads,
        "trust_engines": request.trust_engines,
        "lanes": lanes,
    }
    children = []
    for group in groups:
        children.append(_Child(group, opening))
        stack.callback(children[-1].close)
    facts = [child.read() for child in children]
    return _Way(name, lanes, threads, children, facts[0], [], [])


def _make_row(count: int, way: _Way, ratios: Any) -> StreamsRow:
    low, middle, high = (float(np.quantile(ratios, share)) for share in (0.25, 0.5, 0.75))
    fps = float(np.median(way.rates))
    return StreamsRow(
        streams=count,
        way=way.name,
        **way.facts,
        lanes=way.lanes,
        threads=way.threads,
        fps=fps,
        fps_per_stream=fps / count,
        p50_ms=float(np.quantile(way.times, 0.5)),
        p99_ms=float(np.quantile(way.times, 0.99)),
        cpu_ms=way.cpu / len(way.times),
        memory_mb=way.memory,
        ratio=middle,
        ratio_quartiles=(low, high),
    )
