"""A saved graph is byte for byte what `onnx.save` writes."""

import numpy as np
import onnx
import pytest
from engines import build_graph, quantize_products, quantize_products_fp8
from onnx import TensorProto, helper, numpy_helper

from relo_edge.errors import InputError
from relo_edge.graphs import saving
from relo_edge.graphs.saving import save_graph


def save_twice(model, folder):
    save_graph(model, folder / "ours.onnx")
    onnx.save(model, folder / "theirs.onnx")
    return (folder / "ours.onnx").read_bytes(), (folder / "theirs.onnx").read_bytes()


@pytest.mark.parametrize(
    "quantize", [lambda model: model, quantize_products, quantize_products_fp8]
)
def test_a_graph_is_written_as_onnx_writes_it(tmp_path, quantize):
    ours, theirs = save_twice(quantize(build_graph("demo", "step")), tmp_path)
    assert ours == theirs


def make_model(*initializers, **fields):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "one", [value], [output], initializers, **fields)
    return helper.make_model(graph)


def document(tensor):
    tensor.doc_string = "behind the numbers"
    return tensor


@pytest.mark.parametrize(
    "initializers",
    [
        [],
        [helper.make_tensor("listed", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
        [helper.make_tensor("words", TensorProto.STRING, [2], ["a", "b"])],
        [numpy_helper.from_array(np.zeros((0, 4), np.float32), "empty")],
        [numpy_helper.from_array(np.arange(300, dtype=np.float16), "long")],
        [document(numpy_helper.from_array(np.array(1.0), "scalar"))],
    ],
    ids=lambda tensors: tensors[0].name if tensors else "none",
)
def test_weights_of_every_form_are_kept(tmp_path, initializers):
    model = make_model(*initializers, doc_string="a graph")
    helper.set_model_props(model, {"key": "value"})
    ours, theirs = save_twice(model, tmp_path)
    assert ours == theirs


def test_more_than_protobuf_reads_back_is_refused_and_not_begun(tmp_path, monkeypatch):
    model = make_model(numpy_helper.from_array(np.zeros(100, np.float32), "w"))
    size = len(model.SerializeToString())
    monkeypatch.setattr(saving, "LARGEST_FILE", size)
    save_graph(model, tmp_path / "fits.onnx")
    monkeypatch.setattr(saving, "LARGEST_FILE", size - 1)
    with pytest.raises(InputError, match=r"graph step\.onnx: found .* expected less than 2 GiB"):
        save_graph(model, tmp_path / "step.onnx")
    assert not (tmp_path / "step.onnx").exists()
