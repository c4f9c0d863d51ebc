"""The identity of a recording: a cached one is used only for what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from relo_edge.bundle import Bundle
from relo_edge.calibration.plan import Run
from relo_edge.contract import list_graphs
from relo_edge.errors import BundleError, InputError
from relo_edge.host.files import write_text

__all__ = ["IDENTITY", "claim_folder", "describe_recording"]

FORMAT = 2
IDENTITY = "recording.json"

Identity = dict[str, list[list[str]]]
"""For each aspect, the name and hash of each thing that decides a recording."""


def describe_recording(bundle: Bundle, runs: Sequence[Run]) -> Identity:
    """The graphs, clips and plan that decide a recording's content."""
    graphs = [bundle.manifest["graphs"]["fp32"][name] for name in list_graphs(bundle.variant)]
    clips = list(dict.fromkeys(run.clip for run in runs))
    plan = json.dumps([[clips.index(run.clip), run.to_dict()] for run in runs])
    title = f"{len(runs)} runs of {sum(run.length for run in runs)} frames"
    return {
        "format": [["version", str(FORMAT)]],
        "graph": [[name, bundle.manifest["files"][name]["sha256"]] for name in graphs],
        "clip": [[clip.name, clip.digest] for clip in clips],
        "plan": [[title, hashlib.sha256(plan.encode()).hexdigest()]],
    }


def claim_folder(folder: Path, identity: Identity) -> None:
    """Create the folder for this recording, or refuse one that holds another.

    Raises:
        BundleError: the folder holds another recording.
        InputError: the folder cannot be written.
    """
    file = folder / IDENTITY
    if file.exists():
        _compare_identity(folder, _read_identity(file), identity)
        return
    if any(folder.glob("*.npz")):
        raise BundleError(
            f"recording {folder}", found=f"samples without {IDENTITY}", fix=_advise(folder)
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(identity, indent=2) + "\n")
    except OSError as error:
        fix = "choose a folder that can be written"
        raise InputError(f"recording folder {folder}", found=error.strerror, fix=fix) from None


def _read_identity(file: Path) -> Identity:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {
            aspect: [[str(name), str(value)] for name, value in entries]
            for aspect, entries in stored.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        raise BundleError(
            f"{file} cannot be read",
            found="damage",
            expected="what the recording was made from",
            fix=_advise(file.parent),
        ) from None


def _compare_identity(folder: Path, stored: Identity, wanted: Identity) -> None:
    """Raise for the first difference."""
    for aspect, expected in wanted.items():
        for old, new in zip_longest(stored.get(aspect, []), expected):
            if old != new:
                raise BundleError(
                    f"recording {folder} is of another {aspect}",
                    found=_show_entry(old),
                    expected=_show_entry(new),
                    fix=_advise(folder),
                )


def _show_entry(entry: list[str] | None) -> str:
    return f"{entry[0]} {entry[1][:12]}" if entry else "none more"


def _advise(folder: Path) -> str:
    return f"delete {folder}, or record into another folder"
