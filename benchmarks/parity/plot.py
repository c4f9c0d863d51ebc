"""Parity as a picture: errors, margins and the closed loop, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.benchmarks.parity.verdict import ParityResult
from relo_edge.host.files import announce_replacement, check_output, replace_file
from relo_edge.host.plotting import demand_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PLOT_SUFFIXES", "check_plot", "plot_parity"]

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
TINY = 1e-9
"""Equal to the last bit, on a logarithmic axis."""


def check_plot(path: Path) -> Path:
    """Refuse a plot that could not be written, before any work is done for it.

    Raises:
        InputError: the path cannot be written, its suffix is unknown, or there is no matplotlib.
    """
    check_output(path, PLOT_SUFFIXES)
    demand_matplotlib("--plot")
    announce_replacement(path)
    return path


def plot_parity(result: ParityResult, path: Path) -> None:
    """Write the picture whole or not at all; clips follow each other on the frame axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    verdict = "passed" if result.passed else "failed"
    figure.suptitle(f"{result.runtime} {result.precision} beside PyTorch: {verdict}")
    frames = [frame for clip in result.clips for frame in clip.frames]
    for name in result.outputs:
        top.semilogy([max(frame.errors[name], TINY) for frame in frames], label=name)
    top.set_ylabel("relative error")
    top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize="small", frameon=False)
    middle.plot([frame.margin for frame in frames], color="tab:grey")
    others = [index for index, frame in enumerate(frames) if not frame.same_cell]
    middle.plot(others, [frames[i].margin for i in others], "rx", label="another cell is chosen")
    middle.set_ylabel("policy margin")
    if others:
        middle.legend(loc="upper left", fontsize="small")
    bottom.plot([frame.iou for frame in frames], color="tab:green")
    bottom.set(ylabel="closed-loop IoU", ylim=(-0.05, 1.05), xlabel="frame")
    _mark_clips(result, [top, middle, bottom])
    with replace_file(path) as part:
        figure.savefig(part, dpi=120, format=path.suffix[1:].lower())


def _mark_clips(result: ParityResult, axes: list[Any]) -> None:
    end = 0
    for clip in result.clips:
        _name_clip(axes[-1], end, clip.name)
        end += len(clip.frames)
        for axis in axes if clip is not result.clips[-1] else []:
            axis.axvline(end - 0.5, color="black", linewidth=0.5)


def _name_clip(axis: Axes, start: int, name: str) -> None:
    axis.text(start, 0.0, name, fontsize="small", color="grey")
