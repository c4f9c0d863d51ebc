"""What a training run leaves on disk: its latest checkpoint, its log, and its curve."""

from __future__ import annotations

import csv
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from relo_edge.errors import CheckpointError, SourceError
from relo_edge.host.files import replace_file, write_text

__all__ = ["RunState", "make_run_folder"]

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"

FIX = "train into another folder, or delete the file to begin again"
BROKEN = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, EOFError, OSError)


def make_run_folder(folder: Path) -> None:
    """The folder of a run, made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"folder {str(folder)!r} cannot be made"
        raise SourceError(what, found=error.strerror) from error


@dataclass
class RunState:
    """The state of one stage's run in its folder."""

    folder: Path
    stage: str
    identity: dict[str, Any]
    """Settings that a resumed run must share."""
    step: int = 0
    seconds: float = 0.0
    clips: int = 0
    kept: dict[str, Any] = field(default_factory=dict)
    """Results computed once before the first step, such as qat's ranges."""
    _optimizer: dict[str, Any] | None = None
    _average: dict[str, Tensor] | None = None
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _window: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    @property
    def checkpoint(self) -> Path:
        """The latest weights; `relo-edge export` takes them as they are."""
        return self.folder / f"{self.stage}-{CHECKPOINT}"

    @property
    def log(self) -> Path:
        """The CSV log, one line every few steps."""
        return self.folder / f"{self.stage}-{LOG}"

    def restore(self, network: nn.Module) -> bool:
        """Resume an interrupted run; False when the folder holds none."""
        if not self.checkpoint.exists():
            self.log.unlink(missing_ok=True)  # of a run whose checkpoint was deleted
            return False
        try:
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            identity = saved["identity"]
            if identity == self.identity:
                network.load_state_dict(saved.get("learning", saved["net"]))
                self._average = saved["net"]
                self.step, self.seconds = saved["step"], saved["seconds"]
                self.clips, self._optimizer = saved["clips"], saved["optimizer"]
                self.kept = saved.get("kept", {})
        except (*BROKEN, pickle.UnpicklingError) as error:
            found = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{self.checkpoint} is no training run that can be resumed", found=found, fix=FIX
            ) from None
        self._check_identity(identity)
        self._trim_log()
        return True

    def _check_identity(self, identity: dict[str, Any]) -> None:
        for name in {**self.identity, **identity}:
            value = self.identity.get(name)
            if identity.get(name) != value:
                raise CheckpointError(
                    f"{self.checkpoint} belongs to another training run",
                    found=f"{name} {identity.get(name)}",
                    expected=f"{name} {value}",
                    fix=FIX,
                )

    def _trim_log(self) -> None:
        """After a kill, drop lines of steps that will be repeated, and incomplete lines."""
        if not self.log.exists():
            return
        head, *rows = self.log.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        whole = (r for r in rows if r.endswith("\n") and r.count(",") == head.count(","))
        kept = [row for row in whole if float(row.partition(",")[0]) <= self.step]
        write_text(self.log, "".join([head, *kept]) if kept else "")

    def restore_optimizer(self, optimizer: Optimizer) -> None:
        """Restore the optimizer's state."""
        if self._optimizer is not None:
            optimizer.load_state_dict(self._optimizer)
            self._optimizer = None

    def restore_average(self, published: nn.Module) -> None:
        """Restore the average of the weights; of a run without one, its weights."""
        if self._average is not None:
            published.load_state_dict(self._average)
            self._average = None

    def note(self, figures: Mapping[str, Tensor], clips: int, seconds: float) -> None:
        """Count a finished step."""
        self.step += 1
        self.clips += clips
        self.seconds += seconds
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().float()
        self._window = [a + b for a, b in zip(self._window, (1.0, clips, seconds), strict=True)]

    def write_line(self) -> None:
        """Write the means since the last line to the log and to stderr."""
        if not self._sums:
            return
        steps, clips, seconds = self._window
        row = {"step": float(self.step), "hours": self.seconds / 3600, "clips": float(self.clips)}
        row |= {name: float(total) / steps for name, total in self._sums.items()}
        row["clips_per_second"] = clips / max(seconds, 1e-9)
        self._sums, self._window = {}, [0.0, 0.0, 0.0]
        fresh = not self.log.exists() or not self.log.stat().st_size
        with self.log.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if fresh:
                writer.writeheader()
            writer.writerow({name: f"{value:.5g}" for name, value in row.items()})
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)

    def save(self, published: nn.Module, network: nn.Module, optimizer: Optimizer) -> None:
        """Replace the checkpoint atomically; `net` is what `export` reads."""
        content = {
            "net": published.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "clips": self.clips,
            "identity": self.identity,
            "kept": self.kept,
        }
        if published is not network:
            content["learning"] = network.state_dict()
        with replace_file(self.checkpoint) as part:
            torch.save(content, part)
