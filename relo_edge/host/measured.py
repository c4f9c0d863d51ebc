"""What was measured on this machine, so that `auto` need not guess what is fastest here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import lru_cache

from relo_edge.errors import ReloError
from relo_edge.host.cpu import count_cores, read_text
from relo_edge.host.files import find_state, write_text
from relo_edge.host.libcuda import list_devices
from relo_edge.host.tools import read_power_mode

__all__ = ["Measurement", "describe_place", "keep_measurement", "list_measurements"]

FOLDER = "measured"


@dataclass(frozen=True)
class Measurement:
    """One runtime's step in one precision: how fast, and whether it is still the same tracker."""

    bundle: str
    """The sha256 of the bundle's float32 step graph."""
    artefact: str
    """The sha256 of what ran: a plan, or a graph."""
    runtime: str
    precision: str
    batch: int
    milliseconds: float
    passed: bool
    version: str
    place: Mapping[str, str]

    def __post_init__(self) -> None:
        if not (self.batch >= 1 and self.milliseconds > 0):
            found = f"{self.milliseconds} ms for {self.batch} targets"
            raise ValueError(f"a step takes time for targets, not {found}")

    @property
    def key(self) -> str:
        """The same for what replaces this measurement."""
        plain = asdict(self)
        same = {
            name: plain[name] for name in sorted(plain) if name not in ("milliseconds", "passed")
        }
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=1)
def describe_place() -> Mapping[str, str]:
    """This machine, its first GPU and its power mode: times of another place say nothing here."""
    model = re.search(r"^model name\s*: (.+)$", read_text("/proc/cpuinfo"), re.MULTILINE)
    found = {
        "cpu": model[1] if model else "",
        "cores": str(count_cores()),
        "board": read_text("/proc/device-tree/model").strip("\0\n"),
        "power_mode": read_power_mode(),
    }
    try:
        devices = list_devices()["devices"]
    except OSError:
        devices = []
    if devices:
        found |= {"gpu": devices[0]["name"], "sm_count": str(devices[0]["sm_count"])}
    return found


def keep_measurement(measurement: Measurement) -> None:
    """Write it down in the user's state folder; one of the same kind is replaced."""
    folder = find_state() / FOLDER
    folder.mkdir(exist_ok=True)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    plain = {**asdict(measurement), "date": now}
    write_text(folder / f"{measurement.key}.json", json.dumps(plain, indent=1) + "\n")


def list_measurements(bundle: str) -> list[Measurement]:
    """All made of a bundle at this place, the fastest per target first; damaged ones are none."""
    place = describe_place()
    found = [m for m in _read_all() if m.bundle == bundle and m.place == place]
    return sorted(found, key=lambda m: m.milliseconds / m.batch)


def _read_all() -> Iterator[Measurement]:
    try:
        paths = sorted((find_state() / FOLDER).glob("*.json"))
    except ReloError:  # no folder that can be written: nothing was kept
        return
    for path in paths:
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            plain.pop("date", None)
            yield Measurement(**plain)
        except (OSError, ValueError, TypeError):
            continue
