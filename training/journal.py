"""What a training run leaves on disk: its latest checkpoint, its log, and its curve."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from relo_edge.errors import CheckpointError
from relo_edge.network.relo import Relo

__all__ = ["Journal", "save_whole"]

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"


@dataclass
class Journal:
    """The state of one stage's run in its folder."""

    folder: Path
    stage: str
    step: int = 0
    seconds: float = 0.0
    clips: int = 0
    _optimizer: dict[str, Any] | None = None
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _window: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    @property
    def checkpoint(self) -> Path:
        """The latest weights; `relo-edge export` takes them as they are."""
        return self.folder / f"{self.stage}-{CHECKPOINT}"

    @property
    def log(self) -> Path:
        """The figures, a line every few steps."""
        return self.folder / f"{self.stage}-{LOG}"

    def restore(self, network: Relo) -> bool:
        """Take up a run that was broken off; False when there is none."""
        if not self.checkpoint.exists():
            return False
        try:
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            network.load_state_dict(saved["net"])
            self.step, self.seconds = saved["step"], saved["seconds"]
            self.clips, self._optimizer = saved["clips"], saved["optimizer"]
        except (RuntimeError, KeyError, ValueError, EOFError) as error:
            found = str(error).splitlines()[0]
            fix = "train into another folder, or delete the file to begin again"
            raise CheckpointError(
                f"{self.checkpoint} does not fit this training", found=found, fix=fix
            ) from None
        return True

    def restore_optimizer(self, optimizer: Optimizer) -> None:
        """Momentum goes on where it was."""
        if self._optimizer is not None:
            optimizer.load_state_dict(self._optimizer)
            self._optimizer = None

    def note(self, figures: Mapping[str, Tensor], clips: int, seconds: float) -> None:
        """One step is done."""
        self.step += 1
        self.clips += clips
        self.seconds += seconds
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + value.detach().float().cpu()
        self._window = [a + b for a, b in zip(self._window, (1.0, clips, seconds), strict=True)]

    def write_line(self) -> None:
        """The means since the last line, to the log and the screen."""
        steps, clips, seconds = self._window
        row = {"step": float(self.step), "hours": self.seconds / 3600, "clips": float(self.clips)}
        row |= {name: float(total) / steps for name, total in self._sums.items()}
        row["clips_per_second"] = clips / max(seconds, 1e-9)
        self._sums, self._window = {}, [0.0, 0.0, 0.0]
        fresh = not self.log.exists()
        with self.log.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if fresh:
                writer.writeheader()
            writer.writerow({name: f"{value:.5g}" for name, value in row.items()})
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)

    def save(self, network: Relo, optimizer: Optimizer) -> None:
        """Replace the checkpoint in one move."""
        content = {
            "net": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "clips": self.clips,
        }
        save_whole(content, self.checkpoint)


def save_whole(content: Any, path: Path) -> None:
    """torch.save, so that whoever kills the process leaves the old file or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        torch.save(content, name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
