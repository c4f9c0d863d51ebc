"""OpenCV's own tracking loop with this tracker in it: `python opencv_drop_in.py [VIDEO]`.

Two lines differ from the loop that OpenCV's tutorials show; they are marked.
"""

import sys

import cv2

from relo_edge import open_runtime, read_live
from relo_edge.adapters import OpenCvTracker  # added

SIZE, BOX = (640, 360), (179, 94, 73, 55)
"""Of the clip to try it with, and of its target in the first frame."""


def write_clip(path: str) -> None:
    """A video to try it with."""
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 30, SIZE)
    with read_live("demo") as frames:
        for frame in frames:
            writer.write(frame.image)
    writer.release()


def main(video: str = "") -> None:
    """Track and print what OpenCV's loop would draw."""
    if not video:
        write_clip("clip.mp4")
    capture = cv2.VideoCapture(video or "clip.mp4")
    tracker = OpenCvTracker(open_runtime("demo"))  # was: cv2.TrackerCSRT_create()
    _, frame = capture.read()
    tracker.init(frame, cv2.selectROI(frame) if video else BOX)
    while True:
        read, frame = capture.read()
        if not read:
            break
        ok, box = tracker.update(frame)
        print("followed" if ok else "lost", box)


if __name__ == "__main__":
    main(*sys.argv[1:])
