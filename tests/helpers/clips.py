"""Small clips on disk, and a runtime that needs no weights."""

import time

import numpy as np

from relo_edge.host.opencv import cv2
from relo_edge.runtime import ClosedOnExit, StepResult
from relo_edge.spec import VARIANTS

SIZE = (96, 64)


def draw_frame(index, size=SIZE):
    """A frame that tells which one it is by its brightness."""
    frame = np.full((size[1], size[0], 3), 20 + 5 * index, np.uint8)
    frame[8:16, 8:16] = (0, 0, 255)
    return frame


def write_video(path, frames=12, fps=25.0, fourcc="mp4v"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), fps, SIZE)
    assert writer.isOpened()
    for index in range(frames):
        writer.write(draw_frame(index))
    writer.release()
    return path


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), draw_frame(index))
    return folder


def cut_file(path, share, target):
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def count_frames(path):
    """How many frames really decode."""
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


class StillRuntime(ClosedOnExit):
    """Always finds the targets where they were; sure of them, or not at all."""

    name, precision, device = "still", "fp32", "cpu"
    variant = VARIANTS["demo"]

    def __init__(self, sure=True, seconds=0.0, batch=1):
        self.sure, self.seconds, self.batch, self.closed = sure, seconds, batch, False

    def encode_template(self, slot, index, template, box):
        pass

    def forget(self, slot):
        pass

    def rewind(self, slot):
        pass

    def step(self, slots, searches, window):
        time.sleep(self.seconds)
        grid = self.variant.grid
        logits = np.zeros((len(slots), grid, grid), np.float32)
        logits[:, grid // 2, grid // 2] = 20.0 if self.sure else 0.01
        share = 1 / self.variant.protocol().search_factor
        boxes = np.tile(np.float32([0.5, 0.5, share, share]), (len(slots), 1))
        return StepResult(boxes, logits.max(axis=(1, 2)), logits)

    def close(self):
        self.closed = True
