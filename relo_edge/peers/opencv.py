"""OpenCV's own trackers, as far as the installed OpenCV has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from relo_edge.errors import InputError, MissingDependency
from relo_edge.geometry import Box, check_box, check_size, clip_to_picture
from relo_edge.host.files import hash_file
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.peers.peer import Frame, Peer, PeerKind, unscored
from relo_edge.tracker import Track

__all__ = ["OPENCV_KINDS", "OpenCvPeer", "create_opencv_tracker"]

SMALLEST = 8
"""Pixels a side: on less, OpenCV's MIL never returns."""

CONTRIB = "`pip uninstall -y opencv-python && pip install opencv-contrib-python`"
NEWER = "`pip install 'opencv-python>=4.10'`"


def _create_vit(library: Any, model: str) -> Any:
    parameters = library.TrackerVit_Params()
    parameters.net = model
    return library.TrackerVit.create(parameters)


def _create_nano(library: Any, backbone: str, head: str) -> Any:
    parameters = library.TrackerNano_Params()
    parameters.backbone, parameters.neckhead = backbone, head
    return library.TrackerNano.create(parameters)


def _create_plain(name: str) -> Callable[[Any], Any]:
    """Trackers without files; OpenCV 4 keeps some of them under `legacy`."""

    def create(library: Any) -> Any:
        home = library if hasattr(library, name) else library.legacy
        return getattr(home, name).create()

    return create


_CREATORS: dict[str, tuple[int, Callable[..., Any], str]] = {
    "vit": (1, _create_vit, NEWER),
    "nano": (2, _create_nano, NEWER),
    "csrt": (0, _create_plain("TrackerCSRT"), CONTRIB),
    "kcf": (0, _create_plain("TrackerKCF"), CONTRIB),
    "mil": (0, _create_plain("TrackerMIL"), NEWER),
}
"""How many files each needs, how it is made, and what brings it where it is missing."""

_USAGES = {"vit": "vit=MODEL.onnx", "nano": "nano=BACKBONE.onnx,HEAD.onnx"}


def create_opencv_tracker(kind: str, files: str) -> Any:
    """OpenCV's tracker object; ONNX files as OpenCV's model zoo has them."""
    paths = [Path(name) for name in files.split(",")] if files else []
    count, create, fix = _CREATORS[kind]
    if len(paths) != count:
        usage = _USAGES.get(kind, kind)
        raise InputError(f"tracker {kind}", found=f"{len(paths)} files", expected=usage)
    for path in paths:
        if not path.is_file():
            raise InputError(f"tracker {kind}", found=f"no file {path}")
    try:
        with silence_native_stderr():
            return create(cv2, *map(str, paths))
    except AttributeError:
        found = f"OpenCV {cv2.__version__}"
        what = f"no {kind} tracker in OpenCV"
        raise MissingDependency(what, found=found, fix=fix) from None
    except cv2.error as error:
        found = error.err or "an error in OpenCV"
        raise InputError(f"tracker {kind}={files} does not open", found=found) from None


class OpenCvPeer:
    """One of OpenCV's trackers; where it says that it has failed, its last box is kept."""

    precision, device = "fp32", "cpu"

    def __init__(self, kind: str, files: str) -> None:
        self.name = f"opencv-{kind}"
        self._kind, self._files = kind, files
        self._tracker = create_opencv_tracker(kind, files)
        self._box: Box | None = None
        self._size = (0, 0)
        hashes = [hash_file(Path(name)) for name in files.split(",") if name]
        self.identity: Mapping[str, Any] = {
            "tracker": kind,
            "opencv": cv2.__version__,
            "files": hashes,
        }

    def init(self, frame: Frame, box: Box) -> None:
        """A new tracker for each target: OpenCV's keep something of the last."""
        size = (frame.shape[1], frame.shape[0])
        shown = clip_to_picture(check_box(box, frame), size)
        x, y, width, height = (round(side) for side in shown)
        if min(width, height) < SMALLEST:
            raise InputError(
                f"box for tracker {self._kind}",
                found=f"{width}x{height} pixels within the frame",
                expected=f"{SMALLEST} or more a side",
            )
        if self._box is not None:
            self._tracker = create_opencv_tracker(self._kind, self._files)
        try:
            with silence_native_stderr():
                self._tracker.init(frame, (x, y, width, height))
        except cv2.error as error:
            found = error.err or "an error in OpenCV"
            raise InputError(f"tracker {self._kind} does not start", found=found) from None
        self._box, self._size = box, size

    def update(self, frame: Frame) -> Track:
        """OpenCV's box, in whole pixels; where OpenCV fails, the target is not found."""
        if self._box is None:
            raise InputError("the tracker has no target", fix="call init(frame, box) first")
        check_size(frame, self._size)
        try:
            found, box = self._tracker.update(frame)
        except cv2.error:
            found, box = False, self._box
        x, y, width, height = (float(side) for side in box)
        if found and width > 0 and height > 0:
            self._box = (x, y, width, height)
        return unscored(self._box, not found, self._read_score())

    def _read_score(self) -> float:
        """Vit and Nano rate their answers; the others do not."""
        scored = hasattr(self._tracker, "getTrackingScore")
        return float(self._tracker.getTrackingScore()) if scored else math.nan


def _open_kind(kind: str) -> Callable[[str], Peer]:
    return lambda files: OpenCvPeer(kind, files)


OPENCV_KINDS = {kind: PeerKind(_USAGES.get(kind, kind), _open_kind(kind)) for kind in _CREATORS}
