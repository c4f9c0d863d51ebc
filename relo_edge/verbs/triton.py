"""The verb that writes a model repository for Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relo_edge.verbs.shared import Bundle, Json, app, print_result

__all__ = ["triton"]


@app.command(epilog="Example: relo-edge triton relo-t256 -o model_repository --streams 100")
def triton(
    bundle: Bundle,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "model_repository"
    ),
    precision: Annotated[
        str, typer.Option(help="Which of the bundle's graphs: fp32, fp16, int8 or fp8.")
    ] = "fp32",
    backend: Annotated[
        str, typer.Option(help="onnxruntime, or tensorrt, whose plans are built beside the server.")
    ] = "onnxruntime",
    strategy: Annotated[
        str,
        typer.Option(
            help="oldest: frames as they come. direct: a row of the batch for each stream."
        ),
    ] = "oldest",
    batch: Annotated[int, typer.Option(help="Most streams stepped at once.")] = 8,
    streams: Annotated[int, typer.Option(help="Most streams open at once, with oldest.")] = 64,
    protocol: Annotated[
        str, typer.Option(help="Tracker settings, by dataset; their window goes into the model.")
    ] = "default",
    name: Annotated[
        str | None, typer.Option(help="Name of the model; FAMILY-VARIANT if absent.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing repository.")] = False,
    as_json: Json = False,
) -> None:
    """Write a Triton model repository. Triton carries each stream's state."""
    from relo_edge.pipeline.model_repository import write_model_repository

    repository = write_model_repository(
        bundle,
        output,
        precision,
        backend=backend,
        strategy=strategy,
        batch=batch,
        streams=streams,
        protocol=protocol,
        name=name,
        replace=force,
    )
    print_result(repository, as_json)
