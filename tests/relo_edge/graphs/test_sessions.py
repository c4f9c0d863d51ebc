"""onnxruntime's INT8 on the CPU: fused kernels give what Q/DQ pairs stand for."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from relo_edge.graphs.sessions import open_session

ROWS, DEPTH, COLUMNS = 16, 192, 32
STEP, WEIGHT_STEP = 0.05, 0.01


def build_product(weights):
    """`x @ weights`, both in INT8."""
    constants = {
        "step": np.float32(STEP),
        "zero": np.int8(0),
        "weights": weights,
        "weight_steps": np.full(COLUMNS, WEIGHT_STEP, np.float32),
        "weight_zeros": np.zeros(COLUMNS, np.int8),
    }
    dequantized = ["weights", "weight_steps", "weight_zeros"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", dequantized, ["wd"], axis=1),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, DEPTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, COLUMNS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_products_of_large_numbers_do_not_overflow():
    """Without VNNI, pairs of products are summed in 16 bits, which 2 · 255 · 127 exceeds."""
    rng = np.random.default_rng(0)
    weights = rng.integers(100, 128, (DEPTH, COLUMNS)).astype(np.int8)
    levels = rng.integers(-127, 128, (ROWS, DEPTH))
    session = open_session(build_product(weights))
    (product,) = session.run(None, {"x": (levels * STEP).astype(np.float32)})
    exact = levels @ weights.astype(np.int64) * STEP * WEIGHT_STEP
    np.testing.assert_allclose(product, exact, atol=1e-2, rtol=1e-4)
