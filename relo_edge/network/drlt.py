"""DRLT: an observation network and one LSTM, the last entries of whose state are the box."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relo_edge.network.drlt_sizes import BOX, DrltVariant

__all__ = ["Drlt", "LstmState", "build_drlt", "build_fresh_drlt", "drlt_shapes"]

LEAK = 0.1
"""The slope of YOLO's activation below zero."""
MIDDLE = 128.0
"""Pixels are taken less 128 and divided by it: a power of two, which folds without a loss."""

START_GATES = (
    (2.0, 2.0, 2.0, 2.0),
    (-2.0, -2.0, -2.0, -2.0),
    (0.95, 0.95, 0.16, 0.27),
    (2.0, 2.0, 2.0, 2.0),
)
"""Biases of the box's units for input, forgetting, cell and output: 0.5, 0.5, 0.12 and 0.2."""
START_WEIGHTS = 0.1


class LstmState(NamedTuple):
    """What is carried from frame to frame, [B,H] each."""

    hidden: Tensor
    cell: Tensor


class Observation(nn.Module):
    """A whole frame and a location vector → what the LSTM sees of them."""

    def __init__(self, variant: DrltVariant) -> None:
        super().__init__()
        self.layers = variant.convolutions
        self.convolutions = nn.ModuleList()
        channels = 3
        for layer in self.layers:
            self.convolutions.append(
                nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.kernel // 2)
            )
            channels = layer.channels
        self.features = nn.Linear(variant.flat_features, variant.features)
        self.joined = nn.Linear(variant.features + BOX, variant.observation)

    def detect(self, frames: Tensor) -> Tensor:
        """RGB uint8 frames [B,S,S,3] → the detector's last map [B,C,G,G]."""
        values = (frames.to(self.features.weight.dtype) - MIDDLE) / MIDDLE
        values = values.permute(0, 3, 1, 2)
        for layer, convolution in zip(self.layers, self.convolutions, strict=True):
            values = F.leaky_relu(convolution(values), LEAK)
            if layer.pool > 1:
                values = F.max_pool2d(values, layer.pool)
        return values

    def see(self, maps: Tensor) -> Tensor:
        """The detector's last map → features of its first fully connected layer."""
        return F.leaky_relu(self.features(maps.flatten(1)), LEAK)

    def join(self, features: Tensor, locations: Tensor) -> Tensor:
        """Features and location vectors, joined → observations."""
        return F.leaky_relu(self.joined(torch.cat([features, locations], dim=-1)), LEAK)


class Drlt(nn.Module):
    """DRLT; the caller carries the state."""

    def __init__(self, variant: DrltVariant) -> None:
        super().__init__()
        self.variant = variant
        self.observation = Observation(variant)
        self.recurrent = nn.LSTM(variant.observation, variant.hidden, batch_first=True)

    def forward(
        self, frame: Tensor, location: Tensor, state: LstmState, has_history: Tensor
    ) -> tuple[Tensor, LstmState]:
        """One frame of B targets: RGB uint8 [B,S,S,3] → centre and size [B,4], and the new state.

        The location [B,4] is the true one of a target's first frame; it is seen there alone, and
        so is a state of zeros.
        """
        known = (has_history > 0)[:, None]
        location = torch.where(known, torch.zeros_like(location), location)
        past = LstmState(*(torch.where(known, s, torch.zeros_like(s)) for s in state))
        observed = self.observation.join(
            self.observation.see(self.observation.detect(frame)), location
        )
        _, (hidden, cell) = self.recurrent(observed[:, None], tuple(s[None] for s in past))
        return hidden[0, :, -BOX:], LstmState(hidden[0], cell[0])

    def follow(self, frames: Tensor, locations: Tensor) -> Tensor:
        """Whole clips [B,T,S,S,3] from their first frames' locations [B,4] → boxes [B,T,4]."""
        maps = self.observation.detect(frames.flatten(0, 1))
        return self.follow_maps(maps.unflatten(0, frames.shape[:2]), locations)

    def follow_maps(self, maps: Tensor, locations: Tensor) -> Tensor:
        """The same from the detector's maps [B,T,C,G,G]."""
        clips, count = maps.shape[:2]
        features = self.observation.see(maps.flatten(0, 1)).unflatten(0, (clips, count))
        unknown = locations.new_zeros(clips, count - 1, BOX)
        observed = self.observation.join(
            features, torch.cat([locations[:, None], unknown], dim=1).to(features.dtype)
        )
        # In bfloat16 a box would be rounded to 1/256 of the frame.
        with torch.autocast(maps.device.type, enabled=False):
            hidden, _ = self.recurrent(observed.float())
        return hidden[..., -BOX:]


@cache
def drlt_shapes(variant: DrltVariant) -> Mapping[str, tuple[int, ...]]:
    """Every tensor's name and shape in a checkpoint of this variant; allocates nothing."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in Drlt(variant).state_dict().items()}


def build_drlt(variant: DrltVariant, weights: Mapping[str, Tensor]) -> Drlt:
    """The network in evaluation mode, holding exactly these weights (no copy is made)."""
    with torch.device("meta"):
        network = Drlt(variant)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def build_fresh_drlt(variant: DrltVariant, seed: int) -> Drlt:
    """An untrained network; the seed decides every weight."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Drlt(variant)
        for module in network.observation.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, LEAK, nonlinearity="leaky_relu")
                nn.init.zeros_(module.get_parameter("bias"))
        _start_box(network.recurrent)
    return network


@torch.no_grad()
def _start_box(lstm: nn.LSTM) -> None:
    """The first boxes are in the middle and of a usual size, and no gate of theirs is shut."""
    biases = torch.zeros(4, lstm.hidden_size)
    biases[:, -BOX:] = torch.tensor(START_GATES)
    for kind, start in (("ih", biases), ("hh", torch.zeros_like(biases))):
        rows = lstm.get_parameter(f"weight_{kind}_l0").unflatten(0, (4, -1))
        rows[:, -BOX:] *= START_WEIGHTS
        lstm.get_parameter(f"bias_{kind}_l0").copy_(start.flatten())
