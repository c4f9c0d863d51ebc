"""The INT8 and FP8 graphs: Q/DQ pairs around matrix products and convolutions, placed for TensorRT.

Built on onnxruntime.quantization, whose Q/DQ nodes are plain ONNX that onnxruntime and OpenVINO
fuse, and which needs neither torch nor CUDA. nvidia-modelopt would add cupy, and its calibration
does not carry a temporal state from sample to sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from relo_edge.calibration.qdq_rules import find_violations
from relo_edge.errors import CalibrationError, GateError
from relo_edge.host.telemetry import import_silenced

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["QUANTIZED_OPS", "check_rules", "list_activations", "list_products", "quantize_graph"]

QUANTIZED_OPS = ("MatMul", "Conv")


def list_products(model: ModelProto, *, attention: bool = False) -> list[str]:
    """The matrix products and convolutions to quantize; attention's own two only when asked for."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in QUANTIZED_OPS and (attention or node.input[1] in constants)
    ]


def list_activations(model: ModelProto, products: Iterable[str]) -> list[str]:
    """The tensors whose range the products' Q/DQ pairs need."""
    chosen = set(products)
    constants = {tensor.name for tensor in model.graph.initializer}
    tensors = [
        tensor
        for node in model.graph.node
        if node.name in chosen
        for tensor in node.input[:2]
        if tensor not in constants
    ]
    return list(dict.fromkeys(tensors))


def quantize_graph(
    model: ModelProto, products: Iterable[str], thresholds: Mapping[str, float]
) -> ModelProto:
    """The same graph with explicit symmetric int8 around the products; everything else float32."""
    quantization = import_silenced("onnxruntime.quantization")
    calibrate = import_silenced("onnxruntime.quantization.calibrate")
    qdq = import_silenced("onnxruntime.quantization.qdq_quantizer")

    products = list(products)
    missing = [name for name in list_activations(model, products) if name not in thresholds]
    if missing:
        raise CalibrationError("calibration", found=f"no range of {missing[0]}")
    import numpy as np

    ranges = {n: (np.float32(-t), np.float32(t)) for n, t in thresholds.items()}
    quantizer = qdq.QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QInt8,
        tensors_range=calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=products,
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTIZED_OPS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            # A product's output goes to a bias, a ReLU or a residual in float: its consumer's own
            # pair quantizes it, and none stands between a convolution and its ReLU.
            "OpTypesToExcludeOutputQuantization": list(QUANTIZED_OPS),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: ModelProto = quantizer.model.model
    _keep_biases_apart(quantized, products)
    check_rules(quantized)
    return quantized


def check_rules(model: ModelProto) -> None:
    """Refuse a Q/DQ graph that TensorRT would reject or not fuse.

    Raises:
        GateError: a rule of `qdq_rules` is broken; a fault of this program.
    """
    violations = find_violations(model)
    if violations:
        raise GateError(f"{model.graph.name} graph breaks a Q/DQ rule: {violations[0]}")


def _keep_biases_apart(model: ModelProto, products: Iterable[str]) -> None:
    """Give the products' biases the shape [1,1,n].

    onnxruntime would fuse a product and a vector bias into a float Gemm before it looks for Q/DQ
    pairs, and compute in float what was quantized: 86 ms a frame in place of 32 for T256.
    """
    from onnx import numpy_helper

    chosen = {node.output[0] for node in model.graph.node if node.name in set(products)}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Add" or node.input[0] not in chosen:
            continue
        bias = numpy_helper.to_array(constants[node.input[1]])
        if bias.ndim == 1:
            node.input[1] += "/row"
            row = numpy_helper.from_array(bias[None, None], node.input[1])
            model.graph.initializer.append(row)
    _drop_unused_constants(model)


def _drop_unused_constants(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
