"""The demo: a synthetic clip tracked with the built-in weights, compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relo_edge.errors import SourceError
from relo_edge.geometry import Box, box_iou
from relo_edge.host.opencv import cv2
from relo_edge.runtime import open_runtime
from relo_edge.synthetic.demo_clip import DEMO, make_demo_clip
from relo_edge.tracker import MultiTracker, Track
from relo_edge.tracking.loop import TrackSummary, track_feed
from relo_edge.tracking.outputs import Sinks
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.feed import Feed
from relo_edge.video.live import read_live
from relo_edge.video.opening import open_demo, open_source

__all__ = ["DemoResult", "draw_sheet", "run_demo"]

ROWS, COLUMNS, TILE = 2, 3, (320, 180)


@dataclass(frozen=True)
class DemoResult:
    """The demo's result; the mean IoU leaves out the start frame, whose box is the true one."""

    track: TrackSummary
    mean_iou: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**self.track.to_dict(), "mean_iou": self.mean_iou}

    def describe(self) -> str:
        """The same for a reader."""
        track = self.track
        lines = [track.describe(), f"run by {track.runtime} in {track.precision} on {track.device}"]
        if self.mean_iou is not None:
            lines.append(f"mean IoU with the truth {self.mean_iou:.3f}")
        return "\n".join(lines)


def draw_sheet(video: Path, picture: Path) -> None:
    """Six frames of a video in one small picture."""
    with open_source(str(video)) as source:
        frames = list(source)
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, ROWS * COLUMNS).astype(int)]
    small = [cv2.resize(frame, TILE, interpolation=cv2.INTER_AREA) for frame in chosen]
    rows = [np.hstack(small[at : at + COLUMNS]) for at in range(0, len(small), COLUMNS)]
    cv2.imwrite(str(picture), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 80])


def run_demo(folder: Path) -> DemoResult:
    """Track a synthetic clip with the built-in weights.

    Args:
        folder: where the video, a picture of it and the boxes are written.

    Returns:
        What ran, how well the boxes overlap the truth, and the files written.

    Raises:
        SourceError: the folder cannot be made or written.
        RuntimeUnavailable: no runtime opens on this machine.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"demo folder {str(folder)!r} cannot be made"
        raise SourceError(what, found=error.strerror) from error
    clip = make_demo_clip()
    truth: list[Box] = [tuple(row) for row in clip.boxes.tolist()]
    tracks: list[Track] = []
    with (
        read_live(open_demo) as reader,
        open_runtime(DEMO) as runtime,
    ):
        summary = track_feed(
            Feed(reader),
            MultiTracker(runtime, color="bgr"),
            [TargetStart(truth[0])],
            Sinks(folder / "demo.mp4", [folder / "demo.csv"]),
            on_tracks=lambda _, found: tracks.extend(found.values()),
        )
    picture = folder / "demo.jpg"
    draw_sheet(folder / "demo.mp4", picture)
    # An interrupted run has fewer tracks than the truth has boxes.
    overlaps = [box_iou(track.box, box) for track, box in zip(tracks[1:], truth[1:], strict=False)]
    mean = sum(overlaps) / len(overlaps) if overlaps else None
    outputs = (*summary.outputs, picture)
    return DemoResult(replace(summary, outputs=outputs, bundle=DEMO), mean)
