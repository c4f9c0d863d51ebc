"""What the inspector's JSON says, in the forms that versions give it."""

import json

import pytest

from relo_edge.runtimes.tensorrt.layers import summarize_layers


def layer(kind, *formats, key="Format/Datatype"):
    return {"Name": "x", "LayerType": kind, "Inputs": [{"Name": "i", key: f} for f in formats]}


def test_layers_are_counted_by_what_they_read():
    layers = [
        layer("CaskGemmMatrixMultiply", "Row major Int8 format", "Int8"),
        layer("gemm", "Half", "Int8"),
        layer("kgen", "Half", "Float"),
        layer("kgen", "FP32", key="Format"),
        layer("Reformat", "Int8"),
        layer("NoOp", "Half"),
        layer("Constant"),
    ]
    summary = summarize_layers(json.dumps({"Layers": layers, "Bindings": []}))
    assert summary.to_dict() == {
        "layers": 7,
        "by_type": {"int8": 2, "fp16": 1, "fp32": 1},
        "reformats": 1,
    }
    assert summary.describe() == "7 layers: 1 in fp16, 1 in fp32, 2 in int8; 1 reformats"


@pytest.mark.parametrize("plain", [{}, {"Layers": []}, {"Layers": ["gemm", "kgen"]}])
def test_without_details_nothing_is_made_up(plain):
    summary = summarize_layers(json.dumps(plain))
    assert summary.layers == len(plain.get("Layers", []))
    assert "types not told" in summary.describe()
