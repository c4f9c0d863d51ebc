"""The training loop of every stage: schedule, gradients, log and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from relo_edge.errors import CheckpointError
from relo_edge.host.signals import catch_interrupt
from relo_edge.training.checkpointing import RunState
from relo_edge.training.processes import Processes
from relo_edge.training.weight_average import copy_for_average, update_average

__all__ = ["LoopSettings", "Stage", "run_loop"]


Network = TypeVar("Network", bound=nn.Module)
Taught = TypeVar("Taught", bound=nn.Module, contravariant=True)


class Stage(Protocol[Taught]):
    """A stage: which parameters learn, and from what loss."""

    name: str

    @property
    def has_policy(self) -> bool:
        """Whether the trained weights can track."""

    def group_parameters(self, network: Taught) -> list[dict[str, object]]:
        """Optimiser groups, each with the `scale` of its learning rate; freezes the rest."""

    def set_mode(self, network: Taught) -> None:
        """Training mode for what learns, evaluation mode for what is frozen."""

    def learn(self, network: Taught, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and figures to show."""

    def finish(self, network: Taught, batch: Any) -> None:
        """Prepare the trained weights for tracking."""


@dataclass(frozen=True)
class LoopSettings:
    """Length, learning rate and precision of a run."""

    steps: int
    rate: float
    weight_decay: float = 1e-4
    warm_steps: int = 200
    clip_norm: float = 1.0
    log_every: int = 25
    save_every: int = 250
    half: bool = True
    """Products in bfloat16 where the device has them; the weights stay in float32."""
    accumulate: int = 1
    """Batches to a step, one after the other."""
    seed: int = 0
    """Seed of what a stage samples."""
    decay: float = 0.0
    """The share of the rate that is left at the end of an exponential decay; 0 for a cosine."""
    average: float = 0.0
    """The share of the latest steps whose averaged weights are published; 0 for the last step's."""


def run_loop(
    network: Network,
    stage: Stage[Network],
    clips: Iterator[Any],
    settings: LoopSettings,
    run_state: RunState,
    processes: Processes | None = None,
) -> bool:
    """Train from the run's step to the last; False when Ctrl-C ended it, all saved.

    The network ends as the checkpoint has it: with the average, where the settings ask for one.
    """
    device = next(network.parameters()).device
    together = processes or Processes(device=device)
    optimizer = torch.optim.AdamW(stage.group_parameters(network), settings.rate)
    for group in optimizer.param_groups:
        group["weight_decay"] = settings.weight_decay
    run_state.restore_optimizer(optimizer)
    published = copy_for_average(network) if settings.average else network
    run_state.restore_average(published)
    stage.set_mode(network)
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    norm, began = torch.zeros(()), time.perf_counter()
    with catch_interrupt() as pressed:
        while run_state.step < settings.steps and not together.any(pressed.is_set()):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * group["scale"] * anneal(run_state.step, settings)
            optimizer.zero_grad(set_to_none=True)
            figures, seen = _gather_gradients(network, stage, clips, settings, run_state, together)
            together.average_gradients(learning)
            norm = torch.nn.utils.clip_grad_norm_(learning, settings.clip_norm)
            optimizer.step()
            now = time.perf_counter()
            run_state.note({**figures, "gradient": norm}, seen, now - began)
            began = now
            if settings.average:
                update_average(published, network, run_state.step, settings.average)
            logs = run_state.step % settings.log_every == 0
            saves = run_state.step % settings.save_every == 0
            if logs or saves:
                _demand_finite(norm, run_state.step)
            if logs and together.leads:
                run_state.write_line()
            if saves:
                _save(published, network, optimizer, run_state, together)
    _demand_finite(norm, run_state.step)
    finished = run_state.step >= settings.steps
    if finished:
        stage.finish(published, next(clips).to(device))
    if together.leads:
        run_state.write_line()
    _save(published, network, optimizer, run_state, together)
    network.load_state_dict(published.state_dict())
    return finished


def _gather_gradients(
    network: Network,
    stage: Stage[Network],
    clips: Iterator[Any],
    settings: LoopSettings,
    run_state: RunState,
    together: Processes,
) -> tuple[dict[str, Tensor], int]:
    """Accumulate this process's gradients; figures and clip counts are of all processes."""
    device, parts = next(network.parameters()).device, settings.accumulate * together.world
    half = settings.half and _has_bfloat16(device)
    precision = torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
    sums: dict[str, Tensor] = {}
    seen = 0
    for turn in range(settings.accumulate):
        batch = next(clips).to(device)
        # What a stage draws is a function of seed, step and part: a resumed run draws the same.
        part = run_state.step * parts + turn * together.world + together.rank
        torch.manual_seed((settings.seed << 32) + part)
        with precision:
            loss, shown = stage.learn(network, batch)
        (loss / settings.accumulate).backward()
        for name, value in {"loss": loss.detach(), **shown}.items():
            sums[name] = sums.get(name, 0.0) + value.detach().float() / settings.accumulate
        seen += len(batch.boxes) * together.world
    return together.average_figures(sums), seen


def _has_bfloat16(device: torch.device) -> bool:
    """A CPU without its instructions takes five times as long in bfloat16 as in float32."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _save(
    published: nn.Module,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    run_state: RunState,
    together: Processes,
) -> None:
    """The first process writes the checkpoint."""
    for each in (network,) if published is network else (network, published):
        together.average_statistics(each)
    if together.leads:
        run_state.save(published, network, optimizer)


def _demand_finite(norm: Tensor, step: int) -> None:
    """Checked only before writing: checking every step would synchronise a GPU every step."""
    if not torch.isfinite(norm):
        raise CheckpointError(
            f"training at step {step}",
            found="a gradient that is not finite",
            fix="the last checkpoint is kept: go on from it with a lower --rate",
        )


def anneal(step: int, settings: LoopSettings) -> float:
    """Linear warm-up, then a cosine down to a hundredth, or the exponential decay asked for."""
    rise = min(1.0, (step + 1) / max(1, settings.warm_steps))
    if settings.decay:
        return float(rise * settings.decay ** min(1.0, step / settings.steps))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return rise * max(0.01, fall)
