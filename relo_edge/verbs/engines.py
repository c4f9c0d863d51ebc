"""The verb that builds TensorRT engines."""

from __future__ import annotations

from typing import Annotated

import typer

from relo_edge.errors import InputError
from relo_edge.verbs.shared import Bundle, Json, app, print_result

__all__ = ["build_engine"]


@app.command("build-engine", epilog="Example: relo-edge build-engine relo-t256 --fp16 --batch 1,4")
def build_engine(
    bundle: Bundle,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision: the default.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="INT8 products, the rest in half.")] = False,
    fp8: Annotated[
        bool, typer.Option("--fp8", help="FP8 products, for capability 8.9 and newer.")
    ] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Float32, without TF32.")] = False,
    batch: Annotated[
        str, typer.Option(help="Targets that step together: 4, or 1,4,8, or 1-8 in one engine.")
    ] = "1",
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
    explain: Annotated[
        bool, typer.Option("--explain", help="List each engine's kernels; with TensorRT for RTX.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build the TensorRT engines of one precision. Graphs that are missing are made first."""
    from relo_edge.pipeline.engines import build_engines

    options = {"fp16": fp16, "int8": int8, "fp8": fp8, "fp32": fp32}.items()
    asked = [name for name, on in options if on]
    if len(asked) > 1:
        raise InputError("precision", found=" and ".join(asked), expected="one of them")
    report = build_engines(
        bundle,
        asked[0] if asked else "fp16",
        batch=batch,
        clips=clips or [],
        library=library,
        compatible=compatible,
        explain=explain,
    )
    print_result(report, as_json)
    if not report.passed:
        raise typer.Exit(1)
