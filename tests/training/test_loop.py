"""The training loop's precision."""

import itertools

import pytest
import torch

from relo_edge.training import loop
from relo_edge.training.checkpointing import RunState


class Scale(torch.nn.Linear):
    """One weight."""

    def __init__(self):
        super().__init__(1, 1, bias=False)


class Stage:
    """A stage that remembers what its products were computed in."""

    name = "warmup"
    has_policy = False

    def group_parameters(self, network):
        return [{"params": list(network.parameters()), "scale": 1.0}]

    def set_mode(self, network):
        network.train()

    def learn(self, network, batch):
        product = network(batch.boxes)
        self.dtype = product.dtype
        return product.float().mean(), {}

    def finish(self, network, batch):
        pass


class Batch:
    boxes = torch.ones(1, 1)

    def to(self, device):
        return self


@pytest.mark.parametrize(
    ("half", "fast", "dtype"),
    [
        (True, True, torch.bfloat16),
        (True, False, torch.float32),
        (False, True, torch.float32),
    ],
)
def test_products_are_in_bfloat16_where_the_cpu_is_fast_in_it(
    tmp_path, monkeypatch, half, fast, dtype
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast)
    stage = Stage()
    settings = loop.LoopSettings(1, 1e-3, half=half)
    loop.run_loop(
        Scale(), stage, itertools.repeat(Batch()), settings, RunState(tmp_path, "warmup", {})
    )
    assert stage.dtype == dtype
