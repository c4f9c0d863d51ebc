"""What turns a bundle's graphs into TensorRT engines, and says whether they are worth it here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.verbs.shared import Bundle, Json, app, print_result

if TYPE_CHECKING:
    from relo_edge.pipeline.engines import Measured
    from relo_edge.runtime import Runtime
    from relo_edge.runtimes.tensorrt.engines import Target

__all__ = ["build_engine"]


log = logging.getLogger("relo_edge")


@app.command("build-engine", epilog="Example: relo-edge build-engine relo-t256 --fp16 --batch 4")
def build_engine(
    bundle: Bundle,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision: the default.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="INT8 products, the rest in half.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Float32, without TF32.")] = False,
    batch: Annotated[int, typer.Option(help="The most targets that step together.")] = 1,
    clips: Annotated[
        list[str] | None,
        typer.Option(help="What to calibrate with, if the graph is missing; as for quantize."),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(help="tensorrt or tensorrt-rtx; the one that fits the GPU if absent."),
    ] = None,
    compatible: Annotated[
        str | None,
        typer.Option(help="version or hardware: an engine that others can run, and a slower one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the TensorRT engines of one precision. Graphs that are missing are made first."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from relo_edge.calibration.engine_graphs import add_precision, prepare_graphs
    from relo_edge.calibration.quantize import record_clips
    from relo_edge.pipeline.engines import EngineReport
    from relo_edge.runtime import resolve_bundle
    from relo_edge.runtimes.tensorrt.engines import build_engines, open_target

    asked = [n for n, on in {"fp16": fp16, "int8": int8, "fp32": fp32}.items() if on]
    if len(asked) > 1:
        raise InputError("precision", found=" and ".join(asked), expected="one of them")
    precision = asked[0] if asked else "fp16"
    target = open_target(library, batch, compatible)

    def record(of: Any) -> Any:
        return record_clips(of, clips or [])

    opened = add_precision(resolve_bundle(bundle), precision, record)
    with TemporaryDirectory() as scratch:
        graphs = prepare_graphs(opened, precision, record, Path(scratch))
        built = build_engines(opened, precision, graphs, target)
    measured = _measure_engines(opened, precision, target) if target.gpu else None
    print_result(EngineReport(built, measured), as_json)
    if measured and not measured.passed:
        raise typer.Exit(1)


def _measure_engines(bundle: Any, precision: str, target: Target) -> Measured:
    """Parity with float32 on the CPU, then every precision built here in turns, on this GPU.

    All at the batch that was asked for: an engine is built for its largest, and ratios hold between
    equals.
    """
    from contextlib import ExitStack, closing

    from relo_edge.benchmarks.parity.rollout import compare_clips, count_frames, find_stretches
    from relo_edge.benchmarks.parity.verdict import judge_parity
    from relo_edge.benchmarks.speed.latency import count_turns, time_runtimes
    from relo_edge.host.progress import show_progress
    from relo_edge.pipeline.engines import Measured
    from relo_edge.runtime import open_runtime
    from relo_edge.runtimes.tensorrt.sidecar import list_sidecars

    stretches, runtime = find_stretches([]), target.library.flavour
    with ExitStack() as stack:

        def open_engines(kind: str) -> Runtime:
            return stack.enter_context(
                closing(open_runtime(bundle, runtime, kind, batch=target.batch))
            )

        reference = stack.enter_context(closing(open_runtime(bundle, "onnxruntime", "fp32")))
        opened = [open_engines(precision)]
        for other in sorted({s.precision for s in list_sidecars(bundle, runtime)} - {precision}):
            try:
                opened.append(open_engines(other))
            except RuntimeUnavailable as error:
                log.info("%s is not compared: %s", other, error)
        with show_progress("parity", count_frames(stretches)) as advance:
            parity = judge_parity(compare_clips(reference, opened[0], stretches, advance))
        with show_progress("bench", count_turns(len(opened)), "turns") as advance:
            speed = time_runtimes(opened, advance)
        milliseconds = {row.precision: row.stages_ms["network"] for row in speed.rows}
        layers = opened[0].summarize_layers()  # type: ignore[attr-defined]
        return Measured(parity, parity.passed, speed, milliseconds, layers, target.batch)
