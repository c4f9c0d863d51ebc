"""The same dataset at lower frame rates, as slow hardware sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from relo_edge.benchmarks.accuracy.evaluation import EvalRequest, evaluate_dataset
from relo_edge.benchmarks.accuracy.results import FIGURES, EvalResult
from relo_edge.datasets.layouts import Dataset
from relo_edge.datasets.sequences import ImageSequence
from relo_edge.errors import InputError
from relo_edge.host.files import replace_file
from relo_edge.host.plotting import demand_matplotlib

__all__ = ["evaluate_frame_rates", "thin_dataset"]

PLOT = "frame-rates.png"
PLOTTED = ("auc", "sr50", "sr75")


def evaluate_frame_rates(
    request: EvalRequest, dataset: Dataset, every: Sequence[int]
) -> EvalResult:
    """Every frame first, then every so many; each rate's results lie in a folder of its own."""
    demand_matplotlib("--every")
    for step in every:
        if step < 2:
            raise InputError("--every", found=step, expected="2 or more")
    if dataset.withheld:
        expected = "a dataset with its ground truth"
        raise InputError("--every", found="first boxes only", expected=expected)
    thinned = {step: thin_dataset(dataset, step) for step in dict.fromkeys(every)}
    result = evaluate_dataset(request, dataset)
    lower = {
        step: evaluate_dataset(replace(request, output=result.folder / f"every-{step}"), one)
        for step, one in thinned.items()
    }
    _plot_rates({1: result, **lower}, result.folder / PLOT)
    return replace(result, lower_rates=lower)


def thin_dataset(dataset: Dataset, step: int) -> Dataset:
    """Each sequence's first frame and every so many after it."""
    return replace(dataset, sequences=tuple(_thin(one, step) for one in dataset.sequences))


def _thin(sequence: ImageSequence, step: int) -> ImageSequence:
    if len(sequence.images) <= step:
        raise InputError(
            f"--every {step}: sequence {sequence.name}",
            found=f"{len(sequence.images)} frames",
            expected=f"more than {step}",
        )
    return replace(
        sequence,
        images=sequence.images[::step],
        boxes=sequence.boxes[::step],
        absent=sequence.absent[::step],
        hidden=None if sequence.hidden is None else sequence.hidden[::step],
        away=None if sequence.away is None else sequence.away[::step],
    )


def _plot_rates(results: dict[int, EvalResult], picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(5, 3.5))
    steps = sorted(results)
    for name in PLOTTED:
        panel.plot(steps, [results[s].to_dict()[name] for s in steps], "o-", label=FIGURES[name])
    panel.set(xlabel="every so many frames", ylim=(0, 1), xticks=steps)
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    with replace_file(picture) as part:
        figure.savefig(part, dpi=90, format="png")
    pyplot.close(figure)
