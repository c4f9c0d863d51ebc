"""A teacher: a backbone whose features the encoder's tokens learn to predict.

Pictures of objects are few; the backbone has seen millions. Its features say what stays the same
while a target turns, bends and changes its light.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relo_edge.errors import InputError, ReloError
from relo_edge.graphs.sessions import open_session
from relo_edge.network.relo import Relo
from relo_edge.spec import Variant
from relo_edge.training.render import ClipBatch

__all__ = ["Teacher"]

TEMPLATE = 0.5
"""Weight of the template's features beside the search crops'."""
FARTHEST = 4.0
"""Deviations from the mean at which a feature is cut: a few outliers would lead."""
FREE = ("clips", "", "rows", "columns")


class Teacher(nn.Module):
    """The backbone, and the map from tokens to its features, which learns beside the network.

    Args:
        file: ONNX, RGB pixels from 0 to 255 [1,3,S,S] to features [1,C,F,F], as NanoTrack's.
        variant: the network's; its grid divides F.

    Raises:
        InputError: the file is no such backbone.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, file: Path, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self._session, self._side = _open_backbone(file)
        channels = self._count_channels()
        self.norm = nn.LayerNorm(variant.width)
        self.map = nn.Linear(variant.width, channels)
        nn.init.zeros_(self.map.weight)  # it begins with the mean, whatever was drawn before
        nn.init.zeros_(self.map.bias)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def look_at(self, batches: Iterable[ClipBatch]) -> None:
        """Measure the features' mean and deviation on some clips: all are to count alike."""
        seen = [self._see(batch.searches[:, 0]) for batch in batches]
        deviation, mean = torch.std_mean(torch.cat(seen).flatten(0, 1), dim=0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation + 1e-3)

    @contextmanager
    def listen(self, network: Relo) -> Iterator[list[Tensor]]:
        """The tokens of each frame that is run meanwhile, after two thirds of the blocks."""
        tokens: list[Tensor] = []
        variant = self.variant
        block = network.encoder.body.blocks[-variant.depth :][2 * variant.depth // 3 - 1]
        hook = block.register_forward_hook(lambda _block, _inputs, output: tokens.append(output))
        try:
            yield tokens
        finally:
            hook.remove()

    def measure_error(self, tokens: Sequence[Tensor], batch: ClipBatch) -> Tensor:
        """The squared error of what the tokens say of the features, in their deviations."""
        first = self.variant.search_tokens
        last = first + self.variant.tokens_per_template
        searches = [
            self._compare(frame[:, :first], batch.searches[:, number])
            for number, frame in enumerate(tokens)
        ]
        template = self._compare(tokens[0][:, first:last], batch.templates)
        return torch.stack(searches).mean() + TEMPLATE * template

    def _compare(self, tokens: Tensor, crops: Tensor) -> Tensor:
        wanted = (self._see(crops) - self.mean) / self.deviation
        told = self.map(self.norm(tokens.float())).float()
        return (told - wanted.clamp(-FARTHEST, FARTHEST)).square().mean()

    def _see(self, crops: Tensor) -> Tensor:
        """RGB crops [B,S,S,3] → the features of each token's patch [B,tokens,C]."""
        size = crops.shape[1]
        side = self._side * size // self.variant.search_size
        pixels = crops.permute(0, 3, 1, 2).float()
        pixels = nn.functional.interpolate(pixels, size=(side, side), mode="bilinear")
        # One by one: some exporters fix the batch within the graph.
        maps = torch.cat([self._run(one[None]) for one in pixels.cpu()])
        cells = maps.shape[-1] * self.variant.patch // size
        patches = nn.functional.pixel_unshuffle(maps, cells)
        return patches.flatten(2).transpose(1, 2).to(crops.device)

    def _run(self, pixels: Tensor) -> Tensor:
        (source,) = self._session.get_inputs()
        return torch.from_numpy(self._session.run(None, {source.name: pixels.numpy()})[0])

    def _count_channels(self) -> int:
        """How many numbers each token is to tell, the same for both crops."""
        found = []
        for size in (self.variant.search_size, self.variant.template_size):
            side, count = self._side * size // self.variant.search_size, size // self.variant.patch
            try:
                shape = self._run(torch.zeros(1, 3, side, side)).shape
            except Exception as error:  # onnxruntime's own errors share no public base class
                said = str(error).splitlines()[0]
                raise InputError("--teacher", found=said, expected="any size of crop") from None
            if len(shape) != 4 or shape[2] != shape[3] or shape[2] < count or shape[2] % count:
                raise InputError(
                    "--teacher",
                    found=f"features of shape {list(shape)}",
                    expected="for each token of a crop some whole cells",
                )
            found.append(shape[1] * (shape[2] // count) ** 2)
        if found[0] != found[1]:
            raise InputError("--teacher", found="other cells for templates", expected="the same")
        return int(found[0])


def _open_backbone(file: Path) -> tuple[Any, int]:
    """A session that takes crops of any size, and the size that the file was exported with."""
    import onnx

    try:
        graph = (model := onnx.load(file)).graph
    except Exception as error:  # protobuf's, onnx's and the system's
        said = str(error).splitlines()[0] if str(error) else "no ONNX"
        raise InputError(f"--teacher {str(file)!r}", found=said, expected="ONNX") from None
    expected = "a backbone: pixels [1,3,S,S] to features [1,C,F,F]"
    if len(graph.input) != 1 or len(graph.output) != 1:
        found = f"{len(graph.input)} inputs and {len(graph.output)} outputs"
        raise InputError(f"--teacher {str(file)!r}", found=found, expected=expected)
    shape = [size.dim_value for size in graph.input[0].type.tensor_type.shape.dim]
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < 1:
        raise InputError(f"--teacher {str(file)!r}", found=f"input {shape}", expected=expected)
    _free_sizes(model)
    try:
        return open_session(model, threads=torch.get_num_threads()), shape[2]
    except ReloError as error:
        raise InputError(f"--teacher {str(file)!r}", found=error, expected=expected) from None


def _free_sizes(model: Any) -> None:
    """Open batch, rows and columns."""
    for value, ending in ((model.graph.input[0], ""), (model.graph.output[0], "_out")):
        for size, name in zip(value.type.tensor_type.shape.dim, FREE, strict=False):
            if name:
                size.dim_param = name + ending
    del model.graph.value_info[:]
