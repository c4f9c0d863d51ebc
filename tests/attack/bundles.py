"""Manifests and bundle folders of strangers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import Act, Attack, run_words
from mutations import RAW, spoil

from relo_edge.bundle import MANIFEST
from relo_edge.export.demo import find_demo_bundle


def copy_bundle(folder: Path) -> Path:
    """A bundle of links to the built-in one's files, its manifest a copy."""
    source, path = find_demo_bundle().path, folder / "bundle"
    shutil.copytree(source, path, copy_function=os.link)
    (path / MANIFEST).unlink()
    shutil.copyfile(source / MANIFEST, path / MANIFEST)
    return path


def list_attacks() -> Iterator[Attack]:
    """Every one of this kind."""
    manifest = dict(find_demo_bundle().manifest)
    for name, changed in spoil(manifest):
        yield Attack(f"manifest {name}", _write_text(json.dumps(changed)))
    for name, content in RAW.items():
        yield Attack(f"manifest {name}", _write_bytes(content), must_fail=True)
    for name, plant in PLANTS.items():
        yield Attack(f"folder {name}", _plant(plant), must_fail=True)


def _write_text(text: str) -> Callable[[Path, Path], Act]:
    return _write_bytes(text.encode(errors="surrogatepass"))


def _write_bytes(content: bytes) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        path = copy_bundle(folder)
        (path / MANIFEST).write_bytes(content)
        return run_words("inspect", path)

    return prepare


def _plant(plant: Callable[[Path, Path], None]) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        path = copy_bundle(folder)
        plant(path, folder)
        return run_words("inspect", path)

    return prepare


def _fifo(name: str) -> Callable[[Path, Path], None]:
    def plant(path: Path, _folder: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    return plant


def _link(name: str, target: str) -> Callable[[Path, Path], None]:
    def plant(path: Path, _folder: Path) -> None:
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(target)

    return plant


def _folder(name: str) -> Callable[[Path, Path], None]:
    def plant(path: Path, _folder: Path) -> None:
        (path / name).unlink()
        (path / name).mkdir()

    return plant


def _grow(path: Path, _folder: Path) -> None:
    with (path / MANIFEST).open("r+b") as file:
        file.truncate(1 << 40)


def _engines_elsewhere(path: Path, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "a.json").write_text("{}")
    (path / "engines").symlink_to("../elsewhere")


PLANTS = {
    "manifest is a FIFO": _fifo(MANIFEST),
    "graph is a FIFO": _fifo("step.onnx"),
    "manifest is a device": _link(MANIFEST, "/dev/zero"),
    "graph is a device": _link("step.onnx", "/dev/zero"),
    "manifest leads out": _link(MANIFEST, "/etc/hostname"),
    "graph leads out": _link("step.onnx", "/etc/passwd"),
    "graph leads to itself": _link("step.onnx", "step.onnx"),
    "manifest is a folder": _folder(MANIFEST),
    "graph is a folder": _folder("template.onnx"),
    "manifest of a terabyte": _grow,
    "engines lie elsewhere": _engines_elsewhere,
}
