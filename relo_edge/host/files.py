"""Files and folders that are there whole or not at all, whatever ends the process or the power."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import BinaryIO

from relo_edge.errors import InputError, SourceError
from relo_edge.host.exchange import exchange
from relo_edge.host.locks import hold, is_abandoned, lock_output

__all__ = [
    "announce_replacement",
    "check_output",
    "describe_kind",
    "explain_failure",
    "find_cache",
    "find_state",
    "hash_file",
    "open_regular",
    "publish_folder",
    "recover_folder",
    "replace_file",
    "share_file",
    "write_bytes",
    "write_text",
]

log = logging.getLogger("relo_edge")

CHUNK = 1 << 20
PART, OLD = ".part", ".old"
"""How temporary siblings' names end: what is being made, and what is being replaced."""
FRESH = 60.0
"""Seconds in which a temporary file may not be marked as in use yet."""


def find_cache() -> Path:
    """The user's folder for what can be made again at any time."""
    folder = _find_home("XDG_CACHE_HOME", ".cache") / "relo-edge"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "set XDG_CACHE_HOME to a folder that can be written"
        raise InputError(f"cache folder {folder}", found=error.strerror, fix=fix) from None
    return folder


def find_state() -> Path:
    """The user's folder for what this machine has measured and made; not to be deleted lightly."""
    folder = _find_home("XDG_STATE_HOME", ".local/state") / "relo-edge"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        fix = "set XDG_STATE_HOME to a folder that can be written"
        raise InputError(f"state folder {folder}", found=error.strerror, fix=fix) from None
    return folder


def _find_home(variable: str, default: str) -> Path:
    """Where the user keeps such things; a container's user may have no home at all."""
    named = os.environ.get(variable)
    if named:
        return Path(named)
    try:
        return Path.home() / default
    except RuntimeError:
        raise InputError(
            "this user has no home folder", fix=f"set HOME, or {variable} to a writable folder"
        ) from None


def describe_kind(mode: int) -> str:
    """What a path leads to, in words."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read; a FIFO would wait for ever and a device never end.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is something else; the message says what.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(describe_kind(mode))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


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
    _sweep(path)
    part = _name_sibling(path, PART)
    # Opened like this, the user's umask decides who may read it.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with hold(part):
            yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def share_file(source: str | Path, target: str | Path) -> None:
    """The same content under another name: a hard link, or a copy where the disk knows none."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)


@contextmanager
def publish_folder(path: Path, *, within: Path | None = None, wait: bool = False) -> Iterator[Path]:
    """A temporary sibling to fill; it becomes `path`, replacing it, once the block succeeds.

    Args:
        path: the folder to publish; a link in its place is refused.
        within: the folder that is locked meanwhile; `path` itself if absent.
        wait: whether to wait for another writer; otherwise it is an error.

    Raises:
        SourceError: the disk refuses.
        InputError: another process writes there.
    """
    path = _resolve_parent(path)
    if path.is_symlink():
        fix = f"name the folder that it leads to, {path.resolve()}"
        raise InputError(f"output {str(path)!r}", found="a link", expected="a folder", fix=fix)
    with _explain_refusal(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_output((within or path).resolve(), wait=wait):
            _recover(path)
            part = _name_sibling(path, PART)
            part.mkdir()
            try:
                with hold(part):
                    yield part
                    _sync_tree(part)
                _swap_folder(part, path)
            finally:
                shutil.rmtree(part, ignore_errors=True)


def _resolve_parent(path: Path) -> Path:
    """The path with every link resolved but the last name's own."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


@contextmanager
def _explain_refusal(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path} cannot be written", found=error.strerror or error) from error


def recover_folder(path: Path) -> None:
    """Bring back a folder that a killed process had moved aside, on a disk that cannot exchange."""
    path = _resolve_parent(path)
    if not path.exists() and any(_list_siblings(path, OLD)):
        with suppress(OSError), lock_output(path, wait=True):
            _recover(path)


def _recover(path: Path) -> None:
    """Restore or remove what an earlier writer left; the lock is ours, so it lives no more."""
    for old in _list_siblings(path, OLD):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)
    for part in _list_siblings(path, PART):
        if is_abandoned(part):
            shutil.rmtree(part, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove the temporary files that no living process holds; not one that is just being made."""
    for part in _list_siblings(path, PART):
        with suppress(OSError):
            if time.time() - part.lstat().st_mtime > FRESH and is_abandoned(part):
                part.unlink()


def _name_sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{ending}")


def _list_siblings(path: Path, ending: str) -> list[Path]:
    """Temporary siblings of that kind; a folder that cannot be listed has none for us."""
    start, size = f".{path.name}.", len(f".{path.name}.") + 8 + len(ending)
    try:
        names = sorted(file.name for file in path.parent.iterdir())
    except OSError:
        return []
    mine = (n for n in names if n.startswith(start) and n.endswith(ending) and len(n) == size)
    return [path.parent / name for name in mine]


def _swap_folder(new: Path, path: Path) -> None:
    """Move `new` to `path`; the old content is gone only once the new is in place."""
    if not path.exists():
        new.rename(path)
    elif not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "there is a file of that name", str(path))
    elif not exchange(new, path):
        old = _name_sibling(path, OLD)
        path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            old.rename(path)
            raise
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    _sync(path.parent)


def _sync_tree(folder: Path) -> None:
    """Have the disk hold all of it, so that a power cut after the move leaves it whole."""
    for root, _, files in os.walk(folder):
        for name in files:
            if not (file := Path(root) / name).is_symlink():
                _sync(file)
        _sync(Path(root))


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except PermissionError:
        if path.is_dir():  # Windows opens no folder, and one may be closed to readers elsewhere
            return
        raise
    try:
        with suppress(OSError):  # some disks cannot, for folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        _refuse_folder(folder)
    if path.is_dir():
        raise InputError(f"output {str(path)!r}", found="a folder", expected="a file's name")
    if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
        raise InputError(
            f"output {str(path)!r}", found="no right to write", fix="choose another folder"
        )
    return path


def _refuse_folder(folder: Path) -> None:
    """Advise to make it, unless a file stands where it or a folder above it would be."""
    standing = next(place for place in (folder, *folder.parents) if place.exists())
    found, fix = "no such folder", f"mkdir -p {quote(str(folder))}"
    if not standing.is_dir():
        found = "a file" if standing == folder else f"{str(standing)!r}, a file, above it"
        fix = "choose another folder"
    raise InputError(f"output folder {str(folder)!r}", found=found, fix=fix)


def announce_replacement(path: Path) -> None:
    """Say before the work starts which file an output takes the place of: it may not be ours.

    Raises:
        InputError: another process writes it.
    """
    if path.exists():
        with lock_output(path.resolve()):
            log.info("%s is there already: it will be replaced", path)


@contextmanager
def explain_failure(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line about the output."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"output {str(path)!r} cannot be written", found=reason) from error
