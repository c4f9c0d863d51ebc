"""Labels for unlabelled videos: the boxes on which trackers agree, forwards and backwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.clips.clip import Clip, ClipStart, find_clips
from relo_edge.errors import InputError, SourceError
from relo_edge.geometry import Box, box_iou, clip_to_picture, read_box
from relo_edge.host.files import publish_folder, share_file
from relo_edge.host.opencv import cv2
from relo_edge.host.progress import show_progress
from relo_edge.peers.peer import Frame, Peer
from relo_edge.peers.registry import open_peer
from relo_edge.tracking.target_files import TargetStart, read_starts
from relo_edge.training.moving_targets import find_moving
from relo_edge.video.sources.files import read_image

__all__ = ["PseudoLabels", "label_videos"]

AGREED = 0.7
"""Least IoU of two trackers, and of two directions, in a frame."""
SPACING, INTERVAL = 10, 3
"""Frames from one picture in which targets are looked for to the next, and over which they move."""
SHORTEST, LONGEST = 20, 90
"""Labelled frames that a sequence has at least, and frames that it has at most."""
PATIENCE = 5
"""Frames in a row on which the trackers disagree: one of them has lost the target."""
MOVED = 0.25
"""Least distance, in target sizes, between two places of a target that is worth learning from."""
KNOWN = 0.5
"""IoU with a label from which on a start shows a target that is labelled already."""
QUALITY = 95
"""Of the JPEG files."""

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class PseudoLabels:
    """What became of the starts."""

    folder: Path
    videos: int
    starts: int
    sequences: int
    frames: int
    disagreed: int
    """Starts without enough frames on which all agree."""
    still: int
    """Starts whose target does not move."""
    known: int
    """Starts in a target that has its labels already."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"folder": str(self.folder)}

    def describe(self) -> str:
        """For a reader."""
        return (
            f"{self.sequences} sequences, {self.frames} frames, from {self.starts} starts in "
            f"{self.videos} videos\n"
            f"left out: {self.disagreed} on which the trackers disagree, {self.still} that stand "
            f"still, {self.known} labelled already\n{self.folder}"
        )


def label_videos(
    videos: Sequence[str | Path],
    output: Path,
    trackers: Sequence[str],
    init_from: Path | None = None,
) -> PseudoLabels:
    """Write a folder of sequences that `--data` takes; an error leaves none."""
    if len(set(trackers)) < 2:
        found = ", ".join(trackers) or "none"
        raise InputError("--tracker", found=found, expected="two different trackers or more")
    if not videos:
        raise InputError("videos", found="none", expected="one or more")
    if output.exists():
        raise InputError(f"output {str(output)!r}", found="it exists", expected="a new folder")
    peers = [open_peer(word) for word in trackers]
    clips = _name_apart(find_clips(videos))
    if init_from and len(clips) > 1:
        what = f"--init-from {init_from}"
        raise InputError(what, found=f"{len(clips)} videos", expected="one, which its boxes are of")
    given = read_starts(init_from) if init_from else []
    with publish_folder(output) as folder:
        labellers = [_Labeller(name, clip, folder, peers) for name, clip in clips.items()]
        with show_progress("label", None, "starts") as advance:
            for one in labellers:
                one.label(given, advance)
        names = ("starts", "sequences", "frames", "disagreed", "still", "known")
        counts = {name: sum(getattr(one, name) for one in labellers) for name in names}
        if not counts["sequences"]:
            raise SourceError(
                "the trackers agree on no moving target",
                found=f"{counts['disagreed']} that they lose, {counts['still']} that stand still",
                expected=f"{SHORTEST} frames of agreement",
                fix="give other videos or trackers",
            )
    return PseudoLabels(output, len(clips), **counts)


class _Labeller:
    """One video: its frames on disk, and the labels found so far."""

    def __init__(self, name: str, clip: Clip, folder: Path, peers: Sequence[Peer]) -> None:
        self.name, self.clip, self.folder, self.peers = name, clip, folder, peers
        self.starts = self.sequences = self.frames = 0
        self.disagreed = self.still = self.known = 0
        self._pictures: list[Path] = []
        self._labels: list[tuple[int, Boxes]] = []
        """Each sequence's first frame and boxes; a frame without agreement has its last box."""

    def label(self, given: Sequence[TargetStart], advance: Callable[[], None]) -> None:
        """Follow the given starts, or those found here; `advance` is called after each."""
        place = self.folder / ".frames"
        place.mkdir()
        self._write_frames(place)
        for start in self._check(given) or self._find_starts():
            self.starts += 1
            self._follow(start)
            advance()
        shutil.rmtree(place)  # the sequences hold what they need

    def _write_frames(self, place: Path) -> None:
        """As the sequences will show them: the trackers see what the labels are for."""
        for index, frame in enumerate(self.clip.read_frames(range(self.clip.frame_count))):
            path = place / f"{index:06d}.jpg"
            path.write_bytes(_encode(frame))
            self._pictures.append(path)

    def _check(self, given: Sequence[TargetStart]) -> list[ClipStart]:
        for start in given:
            if not 0 <= start.frame < len(self._pictures):
                what, last = f"target {start.name!r}", len(self._pictures) - 1
                raise InputError(what, found=f"frame {start.frame}", expected=f"0 to {last}")
        return [ClipStart(start.frame, start.box) for start in given]

    def _find_starts(self) -> Sequence[ClipStart]:
        """What moves; under a moving camera, whatever has texture."""
        starts = []
        for index in range(0, len(self._pictures) - INTERVAL, SPACING):
            before, after = (read_image(self._pictures[at]) for at in (index, index + INTERVAL))
            starts += [ClipStart(index, box) for box in find_moving(before, after)]
        return starts or self.clip.starts

    def _follow(self, start: ClipStart) -> None:
        """Label the target of a start, if the trackers agree on it."""
        if self._is_known(start):
            self.known += 1
            return
        pictures = self._pictures[start.frame : start.frame + LONGEST]
        boxes = agree(self.peers, pictures, start.box)
        labelled = np.flatnonzero(np.isfinite(boxes).all(axis=1))
        if len(labelled) < SHORTEST:
            self.disagreed += 1
        elif not has_moved(boxes[labelled]):
            self.still += 1
        else:
            first, last = int(labelled[0]), int(labelled[-1])
            self._write(start.frame + first, boxes[first : last + 1])

    def _is_known(self, start: ClipStart) -> bool:
        return any(
            first <= start.frame < first + len(boxes)
            and box_iou(start.box, read_box(boxes[start.frame - first])) > KNOWN
            for first, boxes in self._labels
        )

    def _write(self, first: int, boxes: Boxes) -> None:
        place = self.folder / f"{self.name}-{len(self._labels):03d}"
        (place / "frames").mkdir(parents=True)
        for index in range(len(boxes)):
            share_file(self._pictures[first + index], place / "frames" / f"{index:06d}.jpg")
        # A box of zeros is no box: `--data` and `eval` leave that frame out.
        rows = np.nan_to_num(boxes).tolist()
        lines = [",".join(f"{value:.2f}" for value in row) for row in rows]
        (place / "groundtruth.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        told = {
            "origin": 0,
            "video": self.clip.name,
            "first_frame": first,
            "labels": [dict(peer.identity) for peer in self.peers],
        }
        (place / "meta.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
        latest = np.maximum.accumulate(np.where(np.isfinite(boxes[:, 0]), np.arange(len(boxes)), 0))
        self._labels.append((first, boxes[latest]))
        self.sequences += 1
        self.frames += int(np.isfinite(boxes).all(axis=1).sum())


def agree(peers: Sequence[Peer], pictures: Sequence[Path], box: Box) -> Boxes:
    """[n,4] mean boxes from the first picture on; NaN where trackers or directions disagree."""
    forwards = _track(peers, pictures, box)
    if not len(forwards):
        return np.empty((0, 4))
    end = read_box(forwards[-1].mean(axis=0))
    backwards = _track(peers, pictures[len(forwards) :: -1], end)[::-1]
    # A given box is no answer: the first frame has backward answers alone, the last forward ones.
    answers = np.full((2, len(forwards) + 1, len(peers), 4), np.nan)
    answers[0, 1:] = forwards
    answers[1, len(forwards) - len(backwards) : len(forwards)] = backwards
    ends = answers.copy()
    ends[0, 0], ends[1, -1] = answers[1, 0], answers[0, -1]
    trackers, directions = ends.mean(axis=0), ends.mean(axis=2)
    agreed = [
        _are_alike(trackers[index]) and _are_alike(directions[:, index])
        for index in range(len(trackers))
    ]
    return np.where(np.array(agreed)[:, None], trackers.mean(axis=1), np.nan)


def _track(peers: Sequence[Peer], pictures: Sequence[Path], box: Box) -> Boxes:
    """[n,trackers,4] answers from the second picture to the last on which trackers agree."""
    frames = map(read_image, pictures)
    first = next(frames)
    box = clip_to_picture(box, (first.shape[1], first.shape[0]))
    found: list[Boxes] = []
    alike = 0
    try:
        for peer in peers:
            peer.init(first, box)
    except InputError:
        return np.empty((0, len(peers), 4))  # too small for a tracker, or outside the picture
    for frame in frames:
        found.append(np.array([peer.update(frame).box for peer in peers]))
        if _are_alike(found[-1]):
            alike = len(found)
        elif len(found) - alike == PATIENCE:
            break
    return np.array(found[:alike]).reshape(-1, len(peers), 4)


def _are_alike(boxes: Boxes) -> bool:
    """Every two of the boxes [n,4]; NaN is like nothing."""
    pairs = combinations([read_box(row) for row in boxes], 2)
    return all(box_iou(one, other) >= AGREED for one, other in pairs)


def has_moved(boxes: Boxes) -> bool:
    """Whether the target's centre leaves its first place by a share of its size."""
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    size = float(np.sqrt(boxes[:, 2:].prod(axis=1)).mean())
    return float(np.ptp(centres, axis=0).max()) > MOVED * size


def _name_apart(clips: Sequence[Clip]) -> dict[str, Clip]:
    """Two videos of one name in two folders have a number as well."""
    named: dict[str, Clip] = {}
    for clip in clips:
        stem = Path(clip.name).stem
        name, number = stem, 1
        while name in named:
            number += 1
            name = f"{stem}_{number}"
        named[name] = clip
    return named


def _encode(frame: Frame) -> bytes:
    good, content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not good:
        raise SourceError("frame", found=f"{frame.shape[1]}x{frame.shape[0]}", expected="a picture")
    return content.tobytes()
