"""CPU sessions of ONNX graphs, with inner tensors as outputs where wanted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.contract import BATCH
from relo_edge.errors import BundleError, MissingDependency
from relo_edge.host.telemetry import import_silenced

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Exposed", "import_onnxruntime", "make_options", "open_exposed", "open_session"]

CPU = "CPUExecutionProvider"
FLOAT8E4M3FN = 17  # TensorProto.FLOAT8E4M3FN, without importing onnx for it


class Exposed:
    """A session whose graph has inner tensors as outputs too."""

    def __init__(self, model: ModelProto, session: Any) -> None:
        self.model = model
        self.run = session.run
        self.tensors = [output.name for output in model.graph.output]
        """The outputs: the graph's own first."""


def import_onnxruntime() -> Any:
    """The package.

    Raises:
        MissingDependency: it is not installed, or does not import.
    """
    try:
        return import_silenced("onnxruntime")
    except ImportError as error:
        raise MissingDependency(
            "onnxruntime does not import", found=error, fix="`pip install 'relo-edge[cpu]'`"
        ) from None


def make_options(batch: int | None = None) -> Any:
    """What every session is opened with; a `batch` that is fixed lets onnxruntime fold shapes.

    Raises:
        MissingDependency: onnxruntime is not installed, or does not import.
    """
    options = import_onnxruntime().SessionOptions()
    # Without VNNI, onnxruntime's products of INT8 overflow 16 bits unless it is told not to.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if batch:
        options.add_free_dimension_override_by_name(BATCH, batch)
    return options


def open_session(
    graph: Path | ModelProto,
    *,
    batch: int | None = None,
    threads: int | None = None,
    plan_memory: bool = True,
    fuse_qdq: bool = True,
) -> Any:
    """A session on the CPU.

    A memory plan holds every tensor at once: leave it out where all of them are outputs. Q/DQ pairs
    of FP8 must not be fused: onnxruntime 1.31 puts them into INT8 kernels, which it then refuses,
    and takes a zero point of 0 for the least value, so that a ReLU before it seems superfluous.
    Nor may those of weights that something else reads too: without VNNI it fails on them.
    """
    options = make_options(batch)
    options.log_severity_level = 4  # what fails is raised, and said once
    options.enable_mem_pattern = plan_memory
    # Between frames the threads would go on spinning: no faster, and a fifth of the CPU lost.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads:
        options.intra_op_num_threads = threads
    unfused = set()
    if not fuse_qdq or (not isinstance(graph, Path) and _has_fp8(graph)):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        unfused.add("ReluQuantRewrite")
    source = graph if isinstance(graph, Path) else graph.SerializeToString()
    try:
        return import_onnxruntime().InferenceSession(
            source, options, providers=[CPU], disabled_optimizers=unfused
        )
    except Exception as error:  # onnxruntime's own errors share no public base class
        name = str(graph) if isinstance(graph, Path) else "a graph in memory"
        raise BundleError(f"onnxruntime cannot open {name}", found=error) from None


def open_exposed(graph: Path, names: Collection[str] | None = None) -> Exposed:
    """The graph with these inner tensors as outputs, or with every float one, on one CPU session.

    What is exposed is not fused away, so the numbers can differ in the last digits from those of
    the graph as it is.
    """
    import onnx

    model = onnx.load(graph)
    present = {output.name for output in model.graph.output}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        kind = value.type.tensor_type.elem_type
        is_float = kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        wanted = is_float if names is None else value.name in names
        if wanted and value.name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=value.name, type=value.type))
    return Exposed(model, open_session(model, plan_memory=False, fuse_qdq=names is not None))


def _has_fp8(model: ModelProto) -> bool:
    return any(tensor.data_type == FLOAT8E4M3FN for tensor in model.graph.initializer)
