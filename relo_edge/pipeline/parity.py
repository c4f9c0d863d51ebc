"""Whether a runtime is still the same tracker: `relo-edge parity` and its Python twin."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.errors import RuntimeUnavailable
from relo_edge.host.progress import show_progress
from relo_edge.runtime import Runtime, RuntimeRequest, open_runtime, resolve_bundle

if TYPE_CHECKING:
    from relo_edge.benchmarks.parity.layer_errors import GraphSide, LayerWalk
    from relo_edge.benchmarks.parity.probes import ProbeStep
    from relo_edge.benchmarks.parity.verdict import ParityResult

__all__ = ["check_parity"]

log = logging.getLogger("relo_edge")


def check_parity(
    bundle: str | Path | Bundle,
    runtime: str = "auto",
    precision: str = "auto",
    *,
    checkpoint: str | Path | None = None,
    clips: Sequence[str] = (),
    layers: bool = False,
    plot: str | Path | None = None,
    trust_engines: bool = False,
) -> ParityResult:
    """Compare a runtime with the reference network on clips, frame by frame.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`.
        runtime: auto, or a runtime's name.
        precision: auto, or a precision of the runtime.
        checkpoint: the reference network's weights; those the bundle was exported from if None.
        clips: videos or sequence folders; built-in ones if empty.
        layers: whether to compare the graphs tensor by tensor in any case; a failure that is not
            explained otherwise does so by itself.
        plot: a PNG or SVG of errors and track to write.
        trust_engines: whether engines are loaded that this machine did not build.

    Returns:
        Errors of each output, agreement of cells and track, and the verdict (`passed`).

    Raises:
        InputError: an unknown bundle, runtime, precision or clip.
        RuntimeUnavailable: the runtime cannot be opened here.
        CheckpointError: the reference network's weights are missing or damaged.
    """
    from relo_edge.benchmarks.parity.compare import (
        compare_runtimes,
        count_compared,
        run_reference,
    )
    from relo_edge.benchmarks.parity.layer_errors import check_side
    from relo_edge.benchmarks.parity.plot import check_plot, plot_parity
    from relo_edge.benchmarks.parity.rollout import find_segments

    picture = check_plot(Path(plot)) if plot else None
    segments = find_segments(list(clips))
    with (
        open_runtime(bundle, "pytorch", checkpoint=checkpoint) as reference,
        _open_candidate(bundle, runtime, precision, trust_engines) as candidate,
    ):
        opened = resolve_bundle(bundle)
        walk = None
        if layers or candidate.precision in opened.precisions:
            side = check_side(opened, candidate.precision)
            walk = partial(_walk_layers, side, checkpoint)
        with show_progress("parity", count_compared(segments)) as advance:
            alone = run_reference(reference, segments, advance)
            result = compare_runtimes(
                reference, candidate, alone, advance, walk=walk, always_walk=layers
            )
    if picture:
        plot_parity(result, picture)
    return result


def _open_candidate(
    bundle: str | Path | Bundle, runtime: str, precision: str, trust_engines: bool
) -> Runtime:
    """For two targets where the runtime opens so, as mixed up slots only show then."""
    single = open_runtime(bundle, runtime, precision, trust_engines=trust_engines)
    try:
        double = open_runtime(
            bundle, single.name, single.precision, batch=2, trust_engines=trust_engines
        )
    except RuntimeUnavailable as error:
        log.info("one target at a time: %s", error)
        return single
    single.close()
    return double


def _walk_layers(
    side: GraphSide, checkpoint: str | Path | None, steps: Sequence[ProbeStep]
) -> LayerWalk:
    """Compare a lower precision with the float graph, that one with a new export of the weights."""
    from tempfile import TemporaryDirectory

    from relo_edge.benchmarks.parity.layer_errors import GraphSide, walk_layers
    from relo_edge.export.publishing import export_bundle
    from relo_edge.runtimes.pytorch import find_checkpoint

    variant = side.bundle.variant
    if side.precision != "fp32":
        return walk_layers(variant, steps, GraphSide(side.bundle, "fp32"), side)
    weights = find_checkpoint(RuntimeRequest(side.bundle, "pytorch", checkpoint=checkpoint))
    with TemporaryDirectory() as scratch:
        fresh = export_bundle(weights, Path(scratch) / "reference")
        return walk_layers(variant, steps, GraphSide(fresh, "fp32"), side)
