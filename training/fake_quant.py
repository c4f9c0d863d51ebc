"""Fake quantization: the network rounds as its INT8 graph will.

Every scale of a weight's output channel (LayerScale, BatchNorm, attention's own) may be folded in
before or after rounding: a symmetric scale for each channel takes it along. So only the pixels,
whose normalisation scales a weight's inputs, are folded here as `export` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from relo_edge.contract import PIXEL_CENTRE, PIXELS
from relo_edge.graphs.quantized_tensors import ATTENTION, EMBED, list_attentions, list_outputs
from relo_edge.network.relo import FrameMaps, Relo
from relo_edge.spec import PIXEL_MEAN, PIXEL_STD, Variant

__all__ = ["LEVELS", "TINY", "GraphTwin", "round_tensor", "round_weight"]

LEVELS = 127
"""Weights use -127 to 127; an activation saturates one level lower."""
TINY = torch.finfo(torch.float32).tiny

NOT_IN_GRAPH = ("value_model.", *(f"decoder.conv{level}_ctr" for level in range(1, 6)))

Visit = Callable[[str, Tensor], Tensor]
"""Called with the name and value of each quantized tensor; returns the value to use."""


def round_tensor(values: Tensor, reach: Tensor) -> Tensor:
    """Quantize and dequantize an activation, with `reach` mapped to 127.

    A gradient passes as if nothing were rounded, and not at all where values are cut off.
    """
    zero = torch.zeros((), dtype=torch.int32, device=values.device)
    return torch.fake_quantize_per_tensor_affine(values, reach / LEVELS, zero, -LEVELS - 1, LEVELS)


def round_weight(weight: Tensor) -> Tensor:
    """Quantize and dequantize a weight, each output channel's largest magnitude mapped to 127."""
    largest = weight.detach().flatten(1).abs().amax(dim=1)
    scale = (largest / LEVELS).clamp(min=TINY)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LEVELS, LEVELS)


@dataclass(eq=False)
class GraphTwin:
    """A network that computes as its step graph, shown to `visit` wherever Q/DQ pairs will be.

    Templates are encoded as they are: their graph stays float32.
    """

    network: Relo
    visit: Visit
    attention: bool = False
    rounds_weights: bool = True

    @property
    def variant(self) -> Variant:
        """The network's."""
        return self.network.variant

    def encode_template(self, templates: Tensor, boxes: Tensor) -> Tensor:
        """As the network does."""
        return self.network.encode_template(templates, boxes)

    def __call__(
        self, search: Tensor, template_tokens: Tensor, state: Tensor, has_history: Tensor
    ) -> tuple[FrameMaps, Tensor]:
        """One frame, as the network's own call."""
        weights = self._fold_weights()
        with self._show_tensors():
            frame = (search, template_tokens, state, has_history)
            answer: tuple[FrameMaps, Tensor] = functional_call(self.network, weights, frame)
        return answer

    def _fold_weights(self) -> dict[str, Tensor]:
        """The weights that replace the network's own during a call."""
        weights = _fold_pixels(self.network)
        if self.rounds_weights:
            for name, module in self.network.named_modules():
                product = isinstance(module, nn.Linear | nn.Conv2d)
                if product and not name.startswith(NOT_IN_GRAPH):
                    weight = f"{name}.weight"
                    weights[weight] = round_weight(weights.get(weight, module.weight))
        return weights

    @contextmanager
    def _show_tensors(self) -> Iterator[None]:
        find, variant = self.network.get_submodule, self.variant
        with ExitStack() as hooks:

            def enter(handle: Any) -> None:
                hooks.callback(handle.remove)

            enter(find(EMBED).register_forward_pre_hook(self._show_pixels))
            for tensor, module in list_outputs(variant):
                show = partial(self._show_output, tensor)
                enter(find(module).register_forward_hook(show))
            for name, module in list_attentions(variant):
                attention = find(module)
                show = partial(self._show_input, f"{name}/merge")
                enter(attention.get_submodule("proj").register_forward_pre_hook(show))
                if self.attention:
                    mix = partial(self._mix_shown, name)
                    enter(attention.get_submodule("mix").register_forward_hook(mix))
            yield

    def _show_pixels(self, _: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """Back from the normalised to whole numbers, less 128, for which the weights are folded."""
        (normalised,) = inputs
        mean, std = (normalised.new_tensor(values) for values in (PIXEL_MEAN, PIXEL_STD))
        return self.visit(PIXELS, ((normalised * std + mean) * 255).round() - PIXEL_CENTRE)

    def _show_output(self, tensor: str, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        return self.visit(tensor, output)

    def _show_input(self, tensor: str, _: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return self.visit(tensor, inputs[0])

    def _mix_shown(self, name: str, _: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        """Attention's two products, with both inputs of each visited."""
        query, key, value = inputs
        names = [f"{name}/{part}" for part in ATTENTION]
        query = self.visit(names[0], query * query.shape[-1] ** -0.5)
        logits = query @ self.visit(names[1], key).transpose(2, 3)
        share = self.visit(names[2], logits.softmax(dim=-1))
        return share @ self.visit(names[3], value)


def _fold_pixels(network: Relo) -> dict[str, Tensor]:
    """The patch embed for pixels less 128, as `export` folds it."""
    weight, bias = (network.get_parameter(f"{EMBED}.{part}") for part in ("weight", "bias"))
    mean, std = (weight.new_tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    folded = weight / (std * 255)
    shift = (folded * (PIXEL_CENTRE - 255 * mean)).sum(dim=(1, 2, 3))
    return {f"{EMBED}.weight": folded, f"{EMBED}.bias": bias + shift}
