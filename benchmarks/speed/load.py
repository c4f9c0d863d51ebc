"""Whether the machine was quiet enough for times and their ratios to mean something."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from relo_edge.host.cpu import count_cores, read_text

__all__ = ["LoadMeter", "MachineLoad", "wait_until_quiet"]

log = logging.getLogger("relo_edge")

OTHERS = 0.1
"""The share of this process's cores that others may use meanwhile."""
STEAL = 0.02
"""The share of time that a hypervisor may take away."""
SWITCHES = 100.0
"""How often a second each core may take this process's threads off while they had work to do."""

LONGEST_WAIT = 20.0
"""Seconds in which a busy machine may become quiet, before it is measured as it is."""
INTERVAL = 1.0

IDLE_FIELDS = (3, 4)
"""Idle and waiting for disks, among the numbers of a line of /proc/stat."""
STEAL_FIELD = 7


@dataclass(frozen=True)
class MachineLoad:
    """The load during a measurement; None where the system does not report it."""

    cores: int
    """Those that this process may use."""
    other_cores: float | None
    """Of these, as many as other processes used."""
    steal: float | None
    """The share of time that a hypervisor took away."""
    switches: float | None
    """Involuntary context switches a second, of this process."""
    load: float | None
    """The load average of the last minute, this process included."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why times measured meanwhile are not to be trusted; nothing if they are."""
        found = []
        if self.other_cores is not None and self.other_cores > OTHERS * self.cores:
            found.append(f"other processes used {self.other_cores:.1f} of {self.cores} cores")
        if self.steal is not None and self.steal > STEAL:
            found.append(f"the hypervisor took {self.steal:.0%} of the time")
        if self.switches is not None and self.switches > SWITCHES * self.cores:
            found.append(f"{self.switches:.0f} involuntary context switches a second")
        return tuple(found)


class _CpuSeconds(NamedTuple):
    """Of this process's cores, since the machine started."""

    busy: float
    steal: float
    total: float


@dataclass(frozen=True)
class _Counters:
    """Running sums."""

    wall: float
    own: float
    """CPU seconds of this process, all threads, and of its children that have ended."""
    cpu: _CpuSeconds | None
    switches: int | None


class LoadMeter:
    """Measures the load from its creation on."""

    def __init__(self) -> None:
        self._begin = _read_counters()

    def read(self) -> MachineLoad:
        """The load since then."""
        first, last = self._begin, _read_counters()
        elapsed = max(last.wall - first.wall, 1e-6)
        others = steal = switches = None
        if first.cpu is not None and last.cpu is not None:
            used = last.cpu.busy - first.cpu.busy - (last.own - first.own)
            others = max(used, 0.0) / elapsed
            total = last.cpu.total - first.cpu.total
            steal = (last.cpu.steal - first.cpu.steal) / max(total, 1e-6)
        if first.switches is not None and last.switches is not None:
            switches = (last.switches - first.switches) / elapsed
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return MachineLoad(count_cores(), others, steal, switches, load)


def wait_until_quiet(sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait for other processes to become quiet, and say so; no longer than LONGEST_WAIT."""
    for number in range(round(LONGEST_WAIT / INTERVAL)):
        meter = LoadMeter()
        sleep(INTERVAL)
        doubts = meter.read().doubts
        if not doubts:
            return
        if number == 0:
            log.info("waiting for a quieter machine: %s", "; ".join(doubts))


def _read_counters() -> _Counters:
    own = sum(os.times()[:4])
    return _Counters(time.monotonic(), own, _read_cpu_seconds(), _count_switches())


def _read_cpu_seconds() -> _CpuSeconds | None:
    """Linux's counters of the cores that this process may use; None elsewhere."""
    lines = read_text("/proc/stat").splitlines()
    if not lines or not hasattr(os, "sched_getaffinity"):
        return None
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    second = os.sysconf("SC_CLK_TCK")
    busy = steal = total = 0.0
    for line in lines:
        name, *fields = line.split()
        if name not in names:
            continue
        # The last two, guests, are counted among the first two already.
        ticks = [int(field) for field in fields[:8]]
        everything, idle = sum(ticks), sum(ticks[field] for field in IDLE_FIELDS)
        stolen = ticks[STEAL_FIELD] if len(ticks) > STEAL_FIELD else 0
        busy += (everything - idle - stolen) / second
        steal += stolen / second
        total += everything / second
    return _CpuSeconds(busy, steal, total)


def _count_switches() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
