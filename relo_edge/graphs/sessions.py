"""An ONNX graph opened so that tensors inside it can be looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Exposed", "open_exposed"]


class Exposed:
    """A session whose graph also gives out inner tensors."""

    def __init__(self, model: Any, session: Any) -> None:
        self.model = model
        self.run = session.run
        self.tensors = [output.name for output in model.graph.output]
        """What can be asked for: the graph's own outputs first."""


def open_exposed(graph: Path, names: Collection[str] | None = None) -> Exposed:
    """The graph with these inner tensors as outputs, or with every float one, on one CPU session.

    What is exposed is not fused away, so the numbers can differ in the last digits from those of
    the graph as it is.
    """
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    present = {output.name for output in model.graph.output}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        kind = value.type.tensor_type.elem_type
        is_float = kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        wanted = is_float if names is None else value.name in names
        if wanted and value.name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=value.name, type=value.type))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Exposed tensors must not be planned to live all at once.
    options.enable_mem_pattern = False
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    return Exposed(model, session)


def _expose_tensors(graph: Path, tensors: Sequence[str]) -> Any:
    """A session whose outputs include these tensors of the graph."""
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in tensors
        if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)
