"""A bundle for Triton Inference Server: `relo-edge triton` and its Python twin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.runtime import resolve_bundle

if TYPE_CHECKING:
    from relo_edge.triton.repository import ModelRepository

__all__ = ["write_model_repository"]


def write_model_repository(
    bundle: str | Path | Bundle,
    output: str | Path = "model_repository",
    precision: str = "fp32",
    *,
    backend: str = "onnxruntime",
    strategy: str = "oldest",
    batch: int = 8,
    streams: int = 64,
    protocol: str = "default",
    name: str | None = None,
    replace: bool = False,
) -> ModelRepository:
    """Write the model repository from which Triton serves a bundle to many streams.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`.
        output: the folder to write; a failure leaves nothing there.
        precision: which of the bundle's graphs is served.
        backend: onnxruntime or tensorrt; for the latter, the plans are built beside the server.
        strategy: `oldest` takes frames as they come; `direct` gives each stream a row of the batch.
        batch: the most streams that are stepped at once.
        streams: the most streams that are open at once with `oldest`.
        protocol: the tracker settings; their window becomes part of the model.
        name: the model's name; family and variant if None, as in `relo-t256`.
        replace: whether a repository that is already there may be replaced.

    Returns:
        What was written: two models, one that follows and one that encodes templates.

    Raises:
        InputError: an unknown bundle or option, or an output that holds something else.
        BundleError: the bundle has no such graph, or is damaged.
        PrecisionError: the backend has no such precision.
        MissingDependency: onnx or tritonclient is not installed.
    """
    from relo_edge.triton.configuration import ServingOptions
    from relo_edge.triton.repository import write_repository

    options = ServingOptions(backend, strategy, batch, streams, protocol)
    opened = resolve_bundle(bundle)
    return write_repository(
        opened,
        Path(output),
        precision,
        options,
        name=opened.variant.bundle_name if name is None else name,
        replace=replace,
    )
