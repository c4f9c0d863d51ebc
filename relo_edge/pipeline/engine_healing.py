"""An engine that is not the same tracker on its GPU is built again with more exact attention."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.contract import list_graphs
from relo_edge.errors import ReloError
from relo_edge.pipeline.engine_times import Measured, measure_engines

if TYPE_CHECKING:
    from relo_edge.calibration.recording import Recording
    from relo_edge.runtimes.tensorrt.engines import BuiltEngines, Target

__all__ = ["build_and_measure"]

log = logging.getLogger("relo_edge")


def build_and_measure(
    bundle: Bundle, precision: str, target: Target, record: Callable[[Bundle], Recording]
) -> tuple[BuiltEngines, Measured | None]:
    """Build until parity passes; engines that never pass are not kept.

    Args:
        bundle: its graphs of that precision are tried first, as they are the fastest.
        precision: of the engines.
        target: the library and the GPU.
        record: records clips, or takes what was recorded before; called only when needed.

    Returns:
        The engines built last, and what was measured of them; None where nothing could be.
    """
    from relo_edge.runtimes.tensorrt.engines import build_engines, remove_engines

    graphs = {name: bundle.engine_graph(name, precision) for name in list_graphs(bundle.variant)}
    built = build_engines(bundle, precision, graphs, target)
    measured = _try_to_measure(bundle, precision, target)
    if measured is None or measured.passed:
        return built, measured
    if precision != "fp32":
        built, measured = _heal(bundle, precision, target, record, (built, measured))
    if measured is not None and not measured.passed:
        remove_engines(built)
        log.warning("the engines in %s are not kept: they are not the same tracker", precision)
    return built, measured


def _heal(
    bundle: Bundle,
    precision: str,
    target: Target,
    record: Callable[[Bundle], Recording],
    last: tuple[BuiltEngines, Measured | None],
) -> tuple[BuiltEngines, Measured | None]:
    """Option after option, until one passes; the last one that was tried."""
    from relo_edge.calibration.attention_options import write_attention_options
    from relo_edge.runtimes.tensorrt.engines import build_engines

    with TemporaryDirectory() as scratch:
        try:
            for option, graphs in write_attention_options(
                bundle, precision, record(bundle), Path(scratch)
            ):
                log.warning("parity failed on this GPU: building again with %s", option)
                target.library.journal.take_layers()
                built = build_engines(bundle, precision, graphs, target, attention=option)
                last = built, _try_to_measure(bundle, precision, target)
                if last[1] is None or last[1].passed:
                    break
        except ReloError as error:
            log.warning("more exact attention cannot be built here: %s", error)
    return last


def _try_to_measure(bundle: Bundle, precision: str, target: Target) -> Measured | None:
    """What the engines are worth here; that it cannot be told is no reason to lose them."""
    try:
        return measure_engines(bundle, precision, target)
    except ReloError as error:
        log.warning("the engines are built, but not measured: %s", error)
        return None
