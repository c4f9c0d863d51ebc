"""Both stages learn what they are for, end to end and in closed loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import SMALL, small_atlas, small_batch

from relo_edge.geometry import read_box
from relo_edge.measures.closed_loop import follow_target, measure_overlaps_or_nan
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.network.relo import Relo
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.synthetic.clip import make_clip
from relo_edge.training.init_weights import build_fresh
from relo_edge.training.reinforce import Reinforce
from relo_edge.training.render import Jitter
from relo_edge.training.rollout import shift_logits
from relo_edge.training.synthetic_batches import ClipSettings, stream_clips
from relo_edge.training.warmup import Warmup

pytestmark = pytest.mark.slow


def learn(network, stage, batches, steps, rate):
    optimizer = torch.optim.AdamW(stage.group_parameters(network), rate, weight_decay=0)
    stage.set_mode(network)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 20) * (1 - step / steps)
        loss, shown = stage.learn(network, next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return float(shown["iou"].detach())


def repeat(batch):
    while True:
        yield batch


def test_a_warm_up_learns_eight_clips_by_heart():
    torch.manual_seed(0)
    variant = replace(SMALL, width=64, head_channels=32)
    jitter = Jitter(centre=1.0, scale=0.2)
    batch = small_batch(clips=8, frames=1, jitter=jitter, variant=variant)
    network, stage = build_fresh(variant, 0), Warmup(encoder_rate=1.0)
    before = learn(network, stage, repeat(batch), 1, 3e-3)
    after = learn(network, stage, repeat(batch), 300, 3e-3)
    assert before < 0.6
    assert after > 0.8


@pytest.fixture(scope="module")
def warm():
    """The demo network with a policy that knows nothing."""
    checkpoint = read_checkpoint(find_demo_checkpoint())
    fresh = build_fresh(checkpoint.variant, seed=5).state_dict()
    heads = ("policy_model.", "value_model.")
    weights = {
        name: fresh[name] if name.startswith(heads) else weight
        for name, weight in checkpoint.weights.items()
    }
    network = Relo(checkpoint.variant)
    network.load_state_dict(weights)
    return network.eval()


def track_clips(network):
    """Mean IoU with the truth on clips never seen, at every fifth frame: targets move far."""
    runtime = PytorchRuntime(network.variant, network.state_dict())
    overlaps = []
    for seed in (7002, 7003):
        clip = make_clip(seed, 100)
        frames = clip.frames(range(0, 100, 5))
        boxes = follow_target(runtime, frames, read_box(clip.boxes[0]), lambda: None)
        overlaps.append(measure_overlaps_or_nan(boxes, clip.boxes[5::5]))
    return float(np.concatenate(overlaps).mean())


def test_reinforcement_finds_a_policy_that_beats_the_centre(warm):
    torch.manual_seed(0)
    blind = track_clips(warm)
    head = warm.policy_model.conv5_ctr
    kept = head.weight.detach().clone()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(1.0)  # every cell alike: the window picks the centre
    centre = track_clips(warm)
    with torch.no_grad():
        head.weight.copy_(kept)
    settings = ClipSettings(6, 2, Jitter(centre=2.5, scale=0.3))
    clips = stream_clips(small_atlas(), warm.variant, settings)
    learn(warm, Reinforce(), clips, 30, 5e-3)
    shift_logits(warm, next(clips))
    learned = track_clips(warm.eval())
    assert learned > blind + 0.05
    assert learned > centre
