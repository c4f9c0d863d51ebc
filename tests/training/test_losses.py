"""Box losses against values worked out by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.geometry import box_iou
from relo_edge.network.relo import FrameMaps
from relo_edge.training.losses import (
    box_loss,
    find_cells,
    gather_boxes,
    generalized_iou,
    pair_iou,
)


def box(*values):
    return torch.tensor([values], dtype=torch.float32)


def test_generalized_iou_by_hand():
    # Two unit squares, one apart: no overlap, union 2, the box around both 3.
    apart = generalized_iou(box(0.5, 0.5, 1, 1), box(2.5, 0.5, 1, 1))
    assert float(apart) == pytest.approx(0 - (3 - 2) / 3)
    # Half over: overlap .5, union 1.5, and the box around both is that union.
    half = generalized_iou(box(0.5, 0.5, 1, 1), box(1.0, 0.5, 1, 1))
    assert float(half) == pytest.approx(0.5 / 1.5)


def test_box_loss_by_hand():
    loss = box_loss(box(0.5, 0.5, 1, 1), box(1.0, 0.5, 1, 1))
    assert float(loss) == pytest.approx(2 * (1 - 0.5 / 1.5) + 5 * (0.5 / 4))
    assert float(box_loss(box(0.3, 0.4, 0.2, 0.1), box(0.3, 0.4, 0.2, 0.1))) == pytest.approx(
        0, abs=1e-6
    )


sides = st.floats(0.05, 1)
places = st.floats(0, 1)


@given(places, places, sides, sides, places, places, sides, sides)
def test_iou_is_the_cores(x, y, w, h, other_x, other_y, other_w, other_h):
    first, second = (x, y, w, h), (other_x, other_y, other_w, other_h)
    corners = [(a - c / 2, b - d / 2, c, d) for a, b, c, d in (first, second)]
    assert float(pair_iou(box(*first), box(*second))) == pytest.approx(box_iou(*corners), abs=1e-4)


def test_the_cell_of_a_box_and_the_box_of_a_cell():
    boxes = torch.tensor([[0.3, 0.6, 0.2, 0.1], [1.2, -0.1, 0.5, 0.5]])
    cells = find_cells(boxes, 4)
    assert cells.tolist() == [2 * 4 + 1, 3]
    sizes, offsets = torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4)
    sizes[0, :, 2, 1] = torch.tensor([0.2, 0.1])
    offsets[0, :, 2, 1] = torch.tensor([0.3 * 4 - 1, 0.6 * 4 - 2])
    maps = FrameMaps(torch.zeros(2, 4, 4), sizes, offsets, torch.zeros(2, 1, 4, 4))
    found = gather_boxes(maps, torch.stack([cells, cells], dim=1))
    assert found[0, 0].tolist() == pytest.approx(boxes[0].tolist())
    assert torch.equal(found[:, 0], found[:, 1])
