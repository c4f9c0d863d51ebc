"""A world with red squares in it, and a runtime that knows what they look like."""

import numpy as np

from relo_edge.runtime import StepResult
from relo_edge.spec import VARIANTS

DARK, RED = 40, 200


def show_squares(size, *boxes):
    """An RGB frame (width, height) with a red square for each box."""
    frame = np.full((size[1], size[0], 3), DARK, np.uint8)
    for x, y, width, height in boxes:
        rows, columns = slice(max(y, 0), max(y + height, 0)), slice(max(x, 0), max(x + width, 0))
        frame[rows, columns] = (RED, 0, 0)
    return frame


class RedRuntime:
    """Finds the red nearest to the crop's centre; where there is none it drifts off, unsure."""

    name, precision, device = "red", "fp32", "cpu"
    variant = VARIANTS["demo"]

    def __init__(self, batch=1):
        self.batch = batch
        self.forgotten, self.rewound = [], []
        self.crops = []

    def encode_template(self, slot, index, template, box):
        pass

    def forget(self, slot):
        self.forgotten.append(slot)

    def rewind(self, slot):
        self.rewound.append((len(self.crops), slot))

    def step(self, slots, searches, window):
        grid = self.variant.grid
        logits = np.zeros((len(slots), grid, grid), np.float32)
        boxes = np.tile(np.float32([0.4, 0.4, 0.2, 0.2]), (len(slots), 1))
        for row, search in enumerate(searches):
            box = find_red(search)
            if box is not None:
                boxes[row] = box
                cell = (boxes[row, 1::-1] * grid).astype(int).clip(0, grid - 1)
                logits[row, cell[0], cell[1]] = 30.0
        self.crops.append(searches.copy())
        return StepResult(boxes, (logits * window).max(axis=(1, 2)), logits)


def find_red(search):
    """cx, cy, w, h of the red square nearest to the centre, from 0 to 1; None without one."""
    red = (search[..., 0] > 120) & (search[..., 1] < 80) & (search[..., 2] < 80)
    rows, columns = np.nonzero(red)
    if not len(rows):
        return None
    side = len(search)
    nearest = np.argmin(np.hypot(rows - side / 2, columns - side / 2))
    row, column = rows[nearest], columns[nearest]
    up, down = grow(red[:, column], row)
    left, right = grow(red[row], column)
    return np.float32([left + right, up + down, 2 * (right - left), 2 * (down - up)]) / (2 * side)


def grow(line, place):
    """The span of True around a place."""
    low, high = place, place + 1
    while low and line[low - 1]:
        low -= 1
    while high < len(line) and line[high]:
        high += 1
    return low, high
