"""The loop both stages share: schedule, gradients, log, checkpoints that survive any kill."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relo_edge.errors import CheckpointError
from relo_edge.host.signals import catch_interrupt
from relo_edge.network.relo import Relo
from relo_edge.training.checkpointing import Journal
from relo_edge.training.render import ClipBatch

__all__ = ["LoopSettings", "Stage", "run_loop"]


class Stage(Protocol):
    """One way of learning."""

    name: str

    @property
    def has_policy(self) -> bool:
        """Whether what comes out can track."""

    def group_parameters(self, network: Relo) -> list[dict[str, object]]:
        """Optimiser groups, each with the `scale` of its learning rate; freezes the rest."""

    def set_mode(self, network: Relo) -> None:
        """Training mode for what learns, evaluation mode for what is frozen."""

    def learn(self, network: Relo, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and figures to show."""

    def finish(self, network: Relo, batch: ClipBatch) -> None:
        """Make what was learned fit for tracking."""


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast."""

    steps: int
    rate: float
    weight_decay: float = 1e-4
    warm_steps: int = 200
    clip_norm: float = 1.0
    log_every: int = 25
    save_every: int = 250
    half: bool = True
    """Products in bfloat16; the weights stay in float32."""


def run_loop(
    network: Relo,
    stage: Stage,
    clips: Iterator[ClipBatch],
    settings: LoopSettings,
    journal: Journal,
) -> bool:
    """Train from the journal's step to the last; False when Ctrl-C ended it, all saved."""
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(stage.group_parameters(network), settings.rate)
    for group in optimizer.param_groups:
        group["weight_decay"] = settings.weight_decay
    journal.restore_optimizer(optimizer)
    stage.set_mode(network)
    half = torch.autocast(device.type, torch.bfloat16) if settings.half else nullcontext()
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    norm, began = torch.zeros(()), time.perf_counter()
    with catch_interrupt() as pressed:
        while journal.step < settings.steps and not pressed.is_set():
            batch = next(clips).to(device)
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * group["scale"] * anneal(journal.step, settings)
            with half:
                loss, shown = stage.learn(network, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(learning, settings.clip_norm)
            optimizer.step()
            figures = {"loss": loss.detach(), **shown, "gradient": norm}
            now = time.perf_counter()
            journal.note(figures, batch.searches.shape[0], now - began)
            began = now
            logs = journal.step % settings.log_every == 0
            saves = journal.step % settings.save_every == 0
            if logs or saves:
                _demand_finite(norm, journal.step)
            if logs:
                journal.write_line()
            if saves:
                journal.save(network, optimizer)
    _demand_finite(norm, journal.step)
    journal.write_line()
    finished = journal.step >= settings.steps
    if finished:
        stage.finish(network, next(clips).to(device))
    journal.save(network, optimizer)
    return finished


def _demand_finite(norm: Tensor, step: int) -> None:
    """Asked before anything is written alone: a GPU that is asked every step waits every step."""
    if not torch.isfinite(norm):
        raise CheckpointError(
            f"training at step {step}",
            found="a gradient that is no number",
            fix="the last checkpoint is kept: go on from it with a lower --rate",
        )


def anneal(step: int, settings: LoopSettings) -> float:
    """A short rise, then half a cosine down to a hundredth."""
    rise = min(1.0, (step + 1) / max(1, settings.warm_steps))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return rise * max(0.01, fall)
