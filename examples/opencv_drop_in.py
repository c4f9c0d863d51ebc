"""OpenCV's own tracking loop with this tracker in it: `python opencv_drop_in.py [VIDEO]`.

Two lines differ from the loop that OpenCV's tutorials show; they are marked.
"""

import sys

import cv2

from relo_edge import open_runtime
from relo_edge.adapters import OpenCvTracker  # added
from relo_edge.synthetic.clip import make_clip


def write_clip(path: str) -> tuple[int, int, int, int]:
    """A video to try it with, and its target's box in the first frame."""
    clip = make_clip(3, 40, (320, 240))
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 30, clip.size)
    for frame in clip.frames():
        writer.write(frame)
    writer.release()
    x, y, width, height = (round(value) for value in clip.boxes[0].tolist())
    return x, y, width, height


def main(video: str = "") -> None:
    """Track and print what OpenCV's loop would draw."""
    box = write_clip("clip.mp4") if not video else cv2.selectROI(cv2.VideoCapture(video).read()[1])
    capture = cv2.VideoCapture(video or "clip.mp4")
    tracker = OpenCvTracker(open_runtime("demo"))  # was: cv2.TrackerCSRT_create()
    _, frame = capture.read()
    tracker.init(frame, box)
    while True:
        read, frame = capture.read()
        if not read:
            break
        ok, box = tracker.update(frame)
        print("followed" if ok else "lost", box)


if __name__ == "__main__":
    main(*sys.argv[1:])
