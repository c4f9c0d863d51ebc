"""Results on disk: one file for a sequence, trusted only where it is whole and of this very run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relo_edge import __version__
from relo_edge.benchmarks.accuracy.workers import TrackedSequence
from relo_edge.bundle import Bundle
from relo_edge.datasets.sequences import ImageSequence
from relo_edge.errors import InputError, SourceError
from relo_edge.host.files import hash_file, write_text
from relo_edge.peers.peer import Peer
from relo_edge.runtime import Runtime
from relo_edge.spec import TrackerProtocol

__all__ = ["SUMMARY", "ResultsFolder", "describe_peer", "describe_run"]

log = logging.getLogger("relo_edge")

FORMAT = 1
SUMMARY = "summary.json"

Run = Mapping[str, Any]


def describe_run(
    bundle: Bundle, runtime: Runtime, settings: TrackerProtocol, checkpoint: Path | None
) -> dict[str, Any]:
    """All that decides where a tracker looks, but for the sequence."""
    manifest = bundle.manifest
    if runtime.name == "pytorch":
        weights = {"checkpoint": _hash_weights(checkpoint, manifest["checkpoint"]["sha256"])}
    else:
        graphs = manifest["graphs"].get(runtime.precision, manifest["graphs"]["fp32"])
        weights = {name: manifest["files"][file]["sha256"] for name, file in graphs.items()}
    return {
        "relo_edge": __version__,
        "variant": runtime.variant.name,
        "weights": weights,
        "runtime": runtime.name,
        "precision": runtime.precision,
        "device": runtime.device,
        "settings": asdict(settings),
    }


def describe_peer(peer: Peer) -> dict[str, Any]:
    """The same of a tracker that is no bundle."""
    return {"relo_edge": __version__, **peer.identity}


class ResultsFolder:
    """Boxes of finished sequences, so that an interrupted run goes on where it stopped."""

    def __init__(self, path: Path, run: Run) -> None:
        self.path, self._run = path, run
        self._folder = path / "sequences"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found = "a file" if path.is_file() else error.strerror
            fix = "choose another folder with --output"
            raise SourceError(f"results folder {str(path)!r}", found=found, fix=fix) from None

    def check_owner(self, sequences: Sequence[ImageSequence]) -> None:
        """Refuse a folder that holds nothing of this dataset but results of another.

        They would be replaced where a name is in both, and lie beside these where it is not.
        """
        for sequence in sequences:
            stored = self._read_identity(self._locate(sequence))
            if stored is not None and stored == _identify(sequence):
                return
        files = sorted(self._folder.glob("*.json"))
        others = [file.stem for file in files if self._read_identity(file) is not None]
        if others:
            shown = ", ".join([*others[:3], *(["…"] if others[3:] else [])])
            raise InputError(
                f"results {str(self.path)!r}",
                found=f"those of another dataset, or of other first boxes ({shown})",
                expected="this dataset's",
                fix="name another folder with --output",
            )

    def load(self, sequence: ImageSequence) -> TrackedSequence | None:
        """The sequence's boxes if this run has made them; what is damaged is made again."""
        file = self._locate(sequence)
        if not file.exists():
            return None
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            tracked, reason = _unpack(stored), self._find_difference(stored, sequence)
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            tracked, reason = None, "damaged"
        if reason or tracked is None:
            log.info("%s: tracked again, its result is %s", sequence.name, reason)
            return None
        return tracked

    def save(self, sequence: ImageSequence, tracked: TrackedSequence) -> None:
        """Keep a finished sequence, whole or not at all."""
        content = {
            "format": FORMAT,
            "run": self._run,
            "sequence": _identify(sequence),
            "boxes": tracked.boxes.tolist(),
            "seconds": tracked.seconds.tolist(),
        }
        text = json.dumps({**content, "sha256": _hash_content(content)})
        self._write(self._locate(sequence), text)

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """The figures of all sequences together."""
        self._write(self.path / SUMMARY, json.dumps({**summary, "run": self._run}, indent=1))

    def _locate(self, sequence: ImageSequence) -> Path:
        return self._folder / f"{sequence.name}.json"

    def _read_identity(self, file: Path) -> Any:
        """Of which sequence a file is; None where there is none, or a damaged one."""
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            return None if _is_damaged(stored) else stored["sequence"]
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return None

    def _find_difference(self, stored: Mapping[str, Any], sequence: ImageSequence) -> str | None:
        if _is_damaged(stored):
            return "damaged"
        for part, expected in (("run", self._run), ("sequence", _identify(sequence))):
            for key, value in expected.items():
                if stored[part].get(key) != value:
                    return f"of another {key}"
        return None

    def _write(self, file: Path, text: str) -> None:
        try:
            write_text(file, f"{text}\n")
        except OSError as error:
            raise SourceError(f"{file} cannot be written", found=error.strerror) from None


def _hash_weights(checkpoint: Path | None, published: str) -> str:
    return hash_file(checkpoint) if checkpoint else published


def _identify(sequence: ImageSequence) -> dict[str, Any]:
    """What is tracked: the images and the first box. Truth that changes later changes no track.

    Images are known by name and size, and the first by its content: reading every image of a
    large dataset twice would cost as much as tracking it.
    """
    digest = hashlib.sha256(sequence.boxes[0].tobytes())
    try:
        digest.update(sequence.images[0].read_bytes())
        for image in sequence.images:
            digest.update(f"\0{image.name}\0{image.stat().st_size}".encode())
    except OSError as error:
        raise SourceError(f"image of {sequence.name}", found=error) from None
    return {"name": sequence.name, "frames": len(sequence.images), "images": digest.hexdigest()}


def _is_damaged(stored: Mapping[str, Any]) -> bool:
    content = {key: value for key, value in stored.items() if key != "sha256"}
    return bool(_hash_content(content) != stored["sha256"] or stored["format"] != FORMAT)


def _hash_content(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _unpack(stored: Mapping[str, Any]) -> TrackedSequence:
    boxes, seconds = np.array(stored["boxes"], np.float64), np.array(stored["seconds"], np.float64)
    frames = stored["sequence"]["frames"]
    if boxes.shape != (frames, 4) or seconds.shape != (frames,):
        raise ValueError("a box and a time for each frame")
    return TrackedSequence(boxes, seconds)
