"""Distributed training: rank and world size, and averages over all processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from relo_edge.errors import InputError

__all__ = ["Processes", "join_processes"]


@dataclass(frozen=True)
class Processes:
    """The rank of this process among those that `torchrun` started."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""
        if self.world > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            self._average(gradients)

    def average_statistics(self, network: nn.Module) -> None:
        """Replace BatchNorm's running statistics by their mean over all processes."""
        if self.world > 1:
            self._average([one for one in network.buffers() if one.is_floating_point()])

    def average_figures(self, figures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A step's figures as means over all processes."""
        copies = {name: value.detach().float().clone() for name, value in figures.items()}
        if self.world > 1:
            self._average(list(copies.values()))
        return copies

    def any(self, wish: bool) -> bool:
        """Whether the flag is set in any process, so that all stop at the same step."""
        if self.world == 1:
            return wish
        flag = torch.tensor(float(wish), device=self.device)
        dist.all_reduce(flag)
        return bool(flag > 0)

    def _average(self, tensors: list[Tensor]) -> None:
        """All-reduce as one flat tensor."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / self.world).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the group that `torchrun` describes: NCCL between GPUs, gloo between CPUs."""
    on_gpu = torch.cuda.is_available()
    world = _read_number("WORLD_SIZE", 1)
    if world == 1:
        yield Processes(device=torch.device("cuda" if on_gpu else "cpu"))
        return
    device = torch.device("cuda", _read_number("LOCAL_RANK", 0)) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def _read_number(name: str, absent: int) -> int:
    value = os.environ.get(name, str(absent))
    if not value.isdecimal():
        raise InputError(f"environment variable {name}", found=value, expected="a whole number")
    return int(value)
