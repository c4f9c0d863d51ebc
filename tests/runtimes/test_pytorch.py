"""The reference network as a runtime: float32 is float32, whatever the process has allowed."""

import numpy as np
import pytest
import torch

from relo_edge.runtime import open_runtime

SWITCHES = (torch.backends.cudnn, torch.backends.cuda.matmul)


@pytest.fixture
def switches():
    before = [switch.allow_tf32 for switch in SWITCHES]
    yield
    for switch, allowed in zip(SWITCHES, before, strict=True):
        switch.allow_tf32 = allowed


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_off_inside_and_as_it_was_outside(small_bundle, allowed):
    runtime = open_runtime(small_bundle, "pytorch")
    variant, seen = runtime.variant, []
    for switch in SWITCHES:
        switch.allow_tf32 = allowed
    runtime._network.module.register_forward_pre_hook(
        lambda *_: seen.append([switch.allow_tf32 for switch in SWITCHES])
    )
    crop = np.zeros((1, variant.search_size, variant.search_size, 3), np.uint8)
    runtime.step([0], crop, np.ones((variant.grid, variant.grid), np.float32))
    assert seen == [[False, False]]
    assert [switch.allow_tf32 for switch in SWITCHES] == [allowed, allowed]
