"""The word `demo` as a bundle: the built-in weights, exported once into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import relo_edge
from relo_edge.bundle import Bundle, open_bundle
from relo_edge.errors import BundleError, InputError, MissingDependency, SourceError
from relo_edge.export.publishing import export_bundle
from relo_edge.host.files import find_cache, find_state, write_text
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint

__all__ = ["find_demo_bundle"]

RECORDS = "demo-bundles"
STALE = 7 * 24 * 3600
"""Seconds without use after which another exporter's bundle, or a killed process's leftovers, is
removed: until then, another install may use it or be writing it."""


def find_demo_bundle() -> Bundle:
    """The cached bundle of these weights and this exporter; made again if missing or damaged."""
    cache = find_cache()
    path = cache / f"demo-{relo_edge.__version__}-{_hash_makers()[:8]}"
    bundle = _open_sound(path)
    if bundle is None:
        with TemporaryDirectory(dir=cache, prefix=f".{path.name}.") as scratch:
            with _explain_need():
                checkpoint = read_checkpoint(find_demo_checkpoint(), "demo")
                made = export_bundle(checkpoint, Path(scratch) / "bundle")
            bundle = _publish(made, path)
            _keep_record(bundle, path.name)
    _note_use(path)
    _remove_stale(cache, path)
    return bundle


@contextmanager
def _explain_need() -> Iterator[None]:
    """The wheel has the weights; the graphs, twice as large, are made from them on first use."""
    try:
        yield
    except (MissingDependency, ModuleNotFoundError):
        raise MissingDependency(
            "the bundle called demo is exported on first use, and torch or onnx is not installed",
            fix="`pip install 'relo-edge[export]'`, or name a bundle made on another machine",
        ) from None


def _hash_makers() -> str:
    """A hash of all that decides a graph, so that a changed exporter gets a new cache entry."""
    digest = hashlib.sha256()
    for file in _list_makers():
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _list_makers() -> Iterator[Path]:
    core = Path(relo_edge.__file__).parent
    yield from (core / name for name in ("bundle.py", "contract.py", "spec.py"))
    yield core / "validation" / "manifest.py"
    yield from sorted(Path(__file__).parent.glob("*.py"))
    yield from sorted((core / "network").glob("*.py"))
    yield find_demo_checkpoint()


def _open_sound(path: Path) -> Bundle | None:
    """The bundle there, unless it is missing or damaged."""
    try:
        bundle = open_bundle(path)
    except (BundleError, InputError):
        return None
    return bundle if not bundle.find_damage() and _is_ours(bundle, path.name) else None


def _is_ours(bundle: Bundle, name: str) -> bool:
    """Whether its float32 graphs are those that this user first had under that name.

    The manifest in the cache is no proof: whoever changes a graph there can change it as well.
    """
    with suppress(InputError, OSError, UnicodeError):  # none where nothing can be kept
        record = find_state() / RECORDS / name
        if record.exists():
            return record.read_text(encoding="ascii").split() == _list_digests(bundle)
    _keep_record(bundle, name)
    return True


def _keep_record(bundle: Bundle, name: str) -> None:
    with suppress(InputError, OSError):
        record = find_state() / RECORDS / name
        record.parent.mkdir(exist_ok=True)
        write_text(record, "\n".join(_list_digests(bundle)))


def _list_digests(bundle: Bundle) -> list[str]:
    graphs = bundle.manifest["graphs"]["fp32"]
    return [bundle.manifest["files"][file]["sha256"] for _, file in sorted(graphs.items())]


def _publish(made: Bundle, path: Path) -> Bundle:
    """Move it into place in one step; if two processes made one, the first is kept."""
    if _open_sound(path) is None:
        with suppress(FileNotFoundError):
            path.rename(made.path.with_name("damaged"))
        try:
            made.path.rename(path)
        except OSError as error:
            if not path.is_dir():
                raise SourceError(f"{path} cannot be written", found=error.strerror) from None
    return open_bundle(path)


def _note_use(path: Path) -> None:
    """Record the time of use; a read-only cache is fine."""
    with suppress(OSError):
        os.utime(path)


def _remove_stale(cache: Path, used: Path) -> None:
    for path in {*cache.glob("demo-*"), *cache.glob(".demo-*")} - {used}:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE:
                shutil.rmtree(path)
