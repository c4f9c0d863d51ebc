"""The word `demo` as a bundle: shipped in this package, copied once into the user's cache.

The copy is the user's: `quantize` and `build-engine` add to it. So that an install for a CPU alone
can track it, the graphs are shipped beside the weights that they were made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import relo_edge
from relo_edge.bundle import Bundle, open_bundle, write_manifest
from relo_edge.errors import BundleError, InputError, SourceError
from relo_edge.host.files import find_cache
from relo_edge.network.demo import find_demo_checkpoint

__all__ = ["find_demo_bundle", "ship_demo_bundle"]

SHIPPED = Path(__file__).resolve().with_name("demo_bundle")

STALE = 7 * 24 * 3600
"""Seconds without use after which another version's bundle, or a killed process's leftovers, is
removed: until then, another install may use it or be writing it."""


def find_demo_bundle() -> Bundle:
    """The user's copy of the shipped bundle; made again if missing or damaged.

    Raises:
        BundleError: the shipped bundle is missing or damaged.
        SourceError: the cache cannot be written.
    """
    manifest = _describe_copy()
    cache = find_cache()
    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    path = cache / f"demo-{relo_edge.__version__}-{digest[:8]}"
    bundle = _open_sound(path, manifest) or _copy_shipped(path, manifest)
    _note_use(path)
    _remove_stale(cache, path)
    return bundle


def ship_demo_bundle() -> None:
    """Export the built-in weights into the package: after a change of them or of the exporter."""
    from relo_edge.export.publishing import export_bundle
    from relo_edge.network.checkpoint import read_checkpoint

    bundle = export_bundle(read_checkpoint(find_demo_checkpoint(), "demo"), SHIPPED, replace=True)
    checkpoint = {**bundle.manifest["checkpoint"], "path": find_demo_checkpoint().name}
    write_manifest(SHIPPED, {**bundle.manifest, "checkpoint": checkpoint})


def _describe_copy() -> dict[str, Any]:
    """The copy's manifest: the weights lie where this package is installed."""
    manifest = open_bundle(SHIPPED).manifest
    weights = {**manifest["checkpoint"], "path": str(find_demo_checkpoint().resolve())}
    return {**manifest, "checkpoint": weights}


def _open_sound(path: Path, manifest: Mapping[str, Any]) -> Bundle | None:
    """The bundle there, unless it is missing, damaged or another.

    A manifest in the cache is no proof: whoever changes a graph there can change it as well.
    """
    try:
        bundle = open_bundle(path)
    except (BundleError, InputError):
        return None
    shipped = manifest["files"].items()
    same = all(bundle.manifest["files"].get(name) == file for name, file in shipped)
    return bundle if same and not bundle.find_damage() else None


def _copy_shipped(path: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Publish a copy in one step; if two processes make one, the first is kept."""
    try:
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            made = Path(scratch) / "bundle"
            made.mkdir()
            for name in manifest["files"]:
                shutil.copyfile(SHIPPED / name, made / name)
            write_manifest(made, manifest)
            _check_shipped(open_bundle(made))
            if _open_sound(path, manifest) is None:
                _take_place(made, path)
    except OSError as error:
        raise SourceError(f"{path} cannot be written", found=error.strerror) from None
    return open_bundle(path)


def _check_shipped(made: Bundle) -> None:
    damage = made.find_damage()
    if damage:
        found = f"another {' and '.join(damage)} than was published"
        raise BundleError("the built-in bundle is damaged", found=found, fix="install it again")


def _take_place(made: Path, path: Path) -> None:
    with suppress(FileNotFoundError):
        path.rename(made.with_name("damaged"))
    try:
        made.rename(path)
    except OSError:
        if not path.is_dir():
            raise


def _note_use(path: Path) -> None:
    """Record the time of use; a read-only cache is fine."""
    with suppress(OSError):
        os.utime(path)


def _remove_stale(cache: Path, used: Path) -> None:
    for path in {*cache.glob("demo-*"), *cache.glob(".demo-*")} - {used}:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE:
                shutil.rmtree(path)
