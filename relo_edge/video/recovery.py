"""Recordings that a killed run left unfinished: found again and given a name."""

from __future__ import annotations

import logging
from pathlib import Path

from relo_edge.errors import InputError, SourceError
from relo_edge.host.locks import lock_output
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.video.encoding import copy_to_mp4

__all__ = ["FINISHED", "keep_partial", "name_partial", "recover_folder"]

log = logging.getLogger("relo_edge")

PARTIAL = ".partial"
FINISHED = ".finished.mp4"
"""The end of the name under which a partial file is copied to its final container."""
CONTAINERS = {".mp4": ".mp4", ".mkv": ".mp4", ".webm": ".webm"}
"""A partial file's suffix, and that of the video it becomes."""


def name_partial(path: Path) -> Path:
    """Where a video is written until it is whole: a hidden sibling, whose suffix is to be set.

    Absolute, because encoders take what is before a relative name's colon for a protocol.
    """
    return path.absolute().with_name(f".{path.stem}{PARTIAL}{path.suffix}")


def recover_folder(folder: Path) -> list[Path]:
    """Recover every partial recording in a folder that no process is writing; say which."""
    recovered = []
    for suffix, final in CONTAINERS.items():
        for partial in sorted(folder.glob(f".*{PARTIAL}{suffix}")):
            stem = partial.name.removesuffix(f"{PARTIAL}{suffix}")[1:]
            try:
                with lock_output((folder / f"{stem}{final}").resolve()):
                    partial.with_suffix(FINISHED).unlink(missing_ok=True)
                    kept = keep_partial(partial)
            except (InputError, SourceError, OSError):
                continue  # it is being written, or the disk takes nothing
            if kept:
                recovered.append(kept)
                log.warning("recovered %s from a run that did not finish it", kept)
    return recovered


def keep_partial(partial: Path) -> Path | None:
    """Give a partial recording a free name beside it; one without a frame is removed."""
    if partial.is_symlink() or not partial.is_file():
        return None
    if not _has_frame(partial):
        partial.unlink()
        return None
    stem = partial.name.removesuffix(f"{PARTIAL}{partial.suffix}")[1:]
    target = _choose_name(partial.parent, f"{stem}-recovered", CONTAINERS[partial.suffix])
    if partial.suffix != ".mkv":
        return partial.rename(target)
    try:
        copy_to_mp4(partial, target)
    except SourceError:
        target.unlink(missing_ok=True)
        return partial.rename(target.with_suffix(".mkv"))
    partial.unlink()
    return target


def _has_frame(path: Path) -> bool:
    with silence_native_stderr():
        capture = cv2.VideoCapture(str(path.absolute()))
        shown = capture.isOpened() and capture.read()[0]
        capture.release()
    return shown


def _choose_name(folder: Path, stem: str, suffix: str) -> Path:
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists() or path.with_suffix(".mkv").exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path
