"""Whether a runtime is still the same tracker: `relo-edge parity` and its Python twin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.host.files import check_output
from relo_edge.host.progress import show_progress
from relo_edge.runtime import RuntimeRequest, open_runtime, resolve_bundle

if TYPE_CHECKING:
    from relo_edge.benchmarks.parity.layers import LayerWalk, Side
    from relo_edge.benchmarks.parity.paired_runtime import TwinRuntime
    from relo_edge.benchmarks.parity.verdict import ParityResult

__all__ = ["check_parity"]


def check_parity(
    bundle: str | Path | Bundle,
    runtime: str = "auto",
    precision: str = "auto",
    *,
    checkpoint: str | Path | None = None,
    clips: Sequence[str] = (),
    layers: bool = False,
    plot: str | Path | None = None,
) -> ParityResult:
    """Compare a runtime with the reference network on clips, frame by frame.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`.
        runtime: auto, or a runtime's name.
        precision: auto, or a precision of the runtime.
        checkpoint: the reference network's weights; those the bundle was exported from if None.
        clips: videos or sequence folders; built-in ones if empty.
        layers: whether to walk the graphs to find the node where an error begins.
        plot: a PNG or SVG of errors and track to write.

    Returns:
        Errors of each output, agreement of cells and track, and the verdict (`passed`).

    Raises:
        InputError: an unknown bundle, runtime, precision or clip.
        RuntimeUnavailable: the runtime cannot be opened here.
        CheckpointError: the reference network's weights are missing or damaged.
    """
    from relo_edge.benchmarks.parity.layers import check_side
    from relo_edge.benchmarks.parity.plot import PLOT_SUFFIXES, plot_parity
    from relo_edge.benchmarks.parity.rollout import compare_clips, count_frames, find_stretches
    from relo_edge.benchmarks.parity.verdict import find_gate, judge_parity

    picture = check_output(Path(plot), PLOT_SUFFIXES) if plot else None
    stretches = find_stretches(list(clips))
    with (
        open_runtime(bundle, "pytorch", checkpoint=checkpoint) as reference,
        open_runtime(bundle, runtime, precision) as candidate,
    ):
        find_gate(candidate.precision)
        side = check_side(resolve_bundle(bundle), candidate.precision) if layers else None
        with show_progress("parity", count_frames(stretches)) as advance:
            rollouts = compare_clips(reference, candidate, stretches, advance)
        walk = _walk_layers(rollouts[0].twin, side, checkpoint) if side else None
        result = judge_parity(rollouts, walk)
    if picture:
        plot_parity(result, picture)
    return result


def _walk_layers(twin: TwinRuntime, side: Side, checkpoint: str | Path | None) -> LayerWalk:
    """A lower precision beside the float graph; that one beside a new export of the weights."""
    from tempfile import TemporaryDirectory

    from relo_edge.benchmarks.parity.layers import Side, walk_layers
    from relo_edge.export.publishing import export_bundle
    from relo_edge.runtimes.pytorch import find_checkpoint

    if side.precision != "fp32":
        return walk_layers(twin, Side(side.bundle, "fp32"), side)
    weights = find_checkpoint(RuntimeRequest(side.bundle, "pytorch", checkpoint=checkpoint))
    with TemporaryDirectory() as scratch:
        fresh = export_bundle(weights, Path(scratch) / "reference")
        return walk_layers(twin, Side(fresh, "fp32"), side)
