"""Targets of noise, and steps of a TensorRT runtime on the device that records."""

import numpy as np

from relo_edge.geometry import hann_window, read_box
from relo_edge.spec import VARIANTS
from relo_edge.tracker import Tracker

DEMO = VARIANTS["demo"]
WINDOW = hann_window(DEMO.grid, 2.0)
BOX = np.array([0.25, 0.2, 0.5, 0.6], np.float32)
RNG = np.random.default_rng(5)
SEARCHES = RNG.integers(0, 256, (3, DEMO.search_size, DEMO.search_size, 3), np.uint8)
TEMPLATES = RNG.integers(0, 256, (3, DEMO.template_size, DEMO.template_size, 3), np.uint8)


def start(runtime, slots):
    for slot in slots:
        runtime.encode_template(slot, 0, TEMPLATES[slot], BOX)
        runtime.forget(slot)


def step(runtime, *slots):
    return runtime.step(slots, SEARCHES[list(slots)], WINDOW)


def record_step(runtime, device, *slots):
    """What the device was asked for during one step."""
    device.log.clear()
    step(runtime, *slots)
    return list(device.log)


def track(runtime, clip):
    tracker, frames = Tracker(runtime, color="bgr"), clip.frames()
    tracker.init(next(frames), read_box(clip.boxes[0]))
    return np.array([tracker.update(frame).box for frame in frames])
