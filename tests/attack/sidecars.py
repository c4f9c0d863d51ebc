"""Engines that nobody here built, and sidecars that lie about them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bundles import copy_bundle
from harness import Act, Attack, run_words
from mutations import RAW, spoil

from relo_edge.bundle import open_bundle
from relo_edge.export.demo import find_demo_bundle
from relo_edge.runtimes.tensorrt.sidecar import list_sidecars

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
from sidecars_on_disk import describe_engine, write_engine


def list_attacks() -> Iterator[Attack]:
    """Every one of this kind."""
    plain = describe_engine(find_demo_bundle(), "step")
    for name, changed in spoil(plain):
        text = json.dumps(changed).encode(errors="surrogatepass")
        yield Attack(f"inspect {name}", _write(text, _inspect))
        yield Attack(f"list {name}", _write(text, _list))
    for name, content in RAW.items():
        yield Attack(f"inspect {name}", _write(content, _inspect), must_fail=True)
    for name, plant in PLANTS.items():
        yield Attack(f"inspect {name}", _plant(plant), must_fail=True)


def _inspect(path: Path) -> Act:
    return run_words("inspect", path)


def _list(path: Path) -> Act:
    return lambda: list_sidecars(open_bundle(path), "tensorrt-rtx")


def _write(content: bytes, act: Callable[[Path], Act]) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        path = copy_bundle(folder)
        write_engine(open_bundle(path), "step").write_bytes(content)
        return act(path)

    return prepare


def _plant(plant: Callable[[Path, Path], None]) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        path = copy_bundle(folder)
        plant(write_engine(open_bundle(path), "step"), folder)
        return _inspect(path)

    return prepare


def _evil_plan(sidecar: Path, _folder: Path) -> None:
    sidecar.with_suffix(".plan").write_bytes(b"another plan")


def _fifo_plan(sidecar: Path, _folder: Path) -> None:
    sidecar.with_suffix(".plan").unlink()
    os.mkfifo(sidecar.with_suffix(".plan"))


def _linked_plan(sidecar: Path, folder: Path) -> None:
    sidecar.with_suffix(".plan").rename(folder / "evil.plan")
    sidecar.with_suffix(".plan").symlink_to(folder / "evil.plan")


def _device_plan(sidecar: Path, _folder: Path) -> None:
    sidecar.with_suffix(".plan").unlink()
    sidecar.with_suffix(".plan").symlink_to("/dev/zero")


def _fifo_sidecar(sidecar: Path, _folder: Path) -> None:
    sidecar.unlink()
    os.mkfifo(sidecar)


PLANTS = {
    "another plan": _evil_plan,
    "plan is a FIFO": _fifo_plan,
    "plan leads out": _linked_plan,
    "plan is a device": _device_plan,
    "sidecar is a FIFO": _fifo_sidecar,
}
