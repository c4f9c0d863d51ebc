"""A run's log as a plot."""

from __future__ import annotations

import csv
from pathlib import Path

from relo_edge.host.files import replace_file

__all__ = ["draw_curve"]

COUNTED = ("step", "hours", "clips")


def draw_curve(log: Path, picture: Path) -> None:
    """One panel for each column of the log; nothing is drawn for an empty log."""
    if not log.exists():
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with log.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(word) for name, word in row.items()} for row in csv.DictReader(file)]
    names = [name for name in rows[0] if name not in COUNTED] if rows else []
    if not names:
        return
    figure, panels = pyplot.subplots(
        len(names), 1, sharex=True, figsize=(7, 1.6 * len(names)), squeeze=False
    )
    steps = [row["step"] for row in rows]
    for name, panel in zip(names, panels[:, 0], strict=True):
        panel.plot(steps, [row[name] for row in rows], linewidth=1)
        panel.set_ylabel(name.replace("_", " "), fontsize=8)
        panel.grid(alpha=0.3)
    panels[-1, 0].set_xlabel("step")
    figure.tight_layout()
    with replace_file(picture) as part:
        figure.savefig(part, dpi=90, format="png")
    pyplot.close(figure)
