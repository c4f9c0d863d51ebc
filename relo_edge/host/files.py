"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relo_edge.errors import InputError, SourceError

__all__ = [
    "check_output",
    "explain_failure",
    "find_cache",
    "hash_file",
    "publish_folder",
    "replace_file",
    "share_file",
    "write_bytes",
    "write_text",
]

CHUNK = 1 << 20


def find_cache() -> Path:
    """The user's folder for what can be made again at any time."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "relo-edge"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "set XDG_CACHE_HOME to a folder that can be written"
        raise InputError(f"cache folder {folder}", found=error.strerror, fix=fix) from None
    return folder


def hash_file(path: Path) -> str:
    """The file's SHA-256, streamed so that size does not matter."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one move, so that no reader ever sees half of it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """The same for any content."""
    with replace_file(path) as part:
        part.write_bytes(content)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """An empty sibling to fill; it becomes `path` once the block succeeds, else it is gone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def share_file(source: str | Path, target: str | Path) -> None:
    """The same content under another name: a hard link, or a copy where the disk knows none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling to fill; it becomes `path`, replacing it, once the block succeeds."""
    path = path.resolve()
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield part
        part.chmod(0o755)
        _swap_folder(part, path)
    except OSError as error:
        raise SourceError(f"{path} cannot be written", found=error.strerror or error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _swap_folder(new: Path, path: Path) -> None:
    """Move `new` to `path`; the old content is gone only once the new is in place."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        path.rename(old / path.name)
        try:
            new.rename(path)
        except BaseException:
            (old / path.name).rename(path)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


LONGEST_NAME = 200
"""Bytes: what disks take, less what a temporary sibling's name adds."""


def check_output(path: Path, suffixes: tuple[str, ...]) -> Path:
    """Say before the work starts that its result could not be written."""
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"output {str(path)!r}",
            found=path.suffix or "no extension",
            expected=" or ".join(suffixes),
        )
    folder = path.parent
    if "\0" in str(path) or len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError("output", found=ascii(str(path)), expected="a name that a disk can hold")
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise InputError(f"output folder {str(folder)!r}", found=found, fix=f"mkdir -p {folder}")
    if path.is_dir():
        raise InputError(f"output {str(path)!r}", found="a folder", expected="a file's name")
    if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
        raise InputError(
            f"output {str(path)!r}", found="no right to write", fix="choose another folder"
        )
    return path


@contextmanager
def explain_failure(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line about the output."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"output {str(path)!r} cannot be written", found=reason) from error
