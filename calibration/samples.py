"""The file of one recorded run: the graphs' feeds, written and read sample by sample."""

from __future__ import annotations

import contextlib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import BundleError, SourceError
from relo_edge.host.files import replace_file

__all__ = ["Feeds", "SampleWriter", "create_samples", "read_array", "read_samples"]

Feeds = dict[str, NDArray[Any]]
"""What a graph is fed, by input name; every array has its batch of 1."""


class SampleWriter:
    """Writes arrays into one uncompressed npz as they are recorded."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._counts: Counter[str] = Counter()

    def write_sample(self, graph: str, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Add the feeds of one call of a graph."""
        for name, array in feeds.items():
            self.write_array(f"{graph}/{self._counts[graph]}/{name}", array)
        self._counts[graph] += 1

    def write_array(self, name: str, array: NDArray[Any]) -> None:
        """Add an array of the whole run."""
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.save(member, array, allow_pickle=False)


@contextlib.contextmanager
def create_samples(path: Path) -> Iterator[SampleWriter]:
    """A file that gets its name only when it is whole; whatever else happens leaves none."""
    try:
        with replace_file(path) as part, zipfile.ZipFile(part, "w") as archive:
            yield SampleWriter(archive)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"recording {path} cannot be written", found=reason) from error


def read_samples(path: Path, graph: str) -> Iterator[Feeds]:
    """What the graph was fed, in order, one sample in memory at a time."""
    with _open_samples(path) as stored:
        names = [name for name in stored.files if name.startswith(f"{graph}/")]
        for _, members in groupby(names, key=lambda name: name.rpartition("/")[0]):
            yield {name.rpartition("/")[2]: stored[name] for name in members}


def read_array(path: Path, name: str) -> NDArray[Any]:
    """An array of the whole run."""
    with _open_samples(path) as stored:
        array: NDArray[Any] = stored[name]
        return array


@contextlib.contextmanager
def _open_samples(path: Path) -> Iterator[Any]:
    try:
        with np.load(path) as stored:
            yield stored
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"recording {path} is damaged", found=error, fix="delete that file and record again"
        ) from None
