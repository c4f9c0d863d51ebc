"""Half-precision graphs: the same tracker, the contract kept, few casts, and reasons that hold."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from rollouts import compare_outputs, open_graph, open_rounding, roll_out
from support import GRAPHS

from relo_edge.calibration import fp16 as half
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import measure_ranges
from relo_edge.contract import describe_graph
from relo_edge.spec import VARIANTS

DEMO = VARIANTS["demo"]
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LOGITS, BOX, COSINE = 5e-3, 5e-3, 0.9995


class Fp16Rollout:
    """A bundle's float graphs, rolled out and measured, beside their half-precision twins."""

    def __init__(self, bundle, frames=8):
        self.variant = bundle.variant
        self.clip = {"frames": frames, "restart": frames // 2}
        self.paths = {name: bundle.graph(name) for name in GRAPHS}
        self.floats = {name: open_graph(path) for name, path in self.paths.items()}
        self.expected = roll_out(self.variant, *self.floats.values(), **self.clip)
        self.ranges = measure_ranges(self.paths["step"], (row[0] for row in self.expected))
        self.halves = {
            name: convert_fp16(onnx.load(path), self.variant, self.ranges)
            for name, path in self.paths.items()
        }
        self.got = self.roll_out_half(self.halves["step"].model)

    def roll_out_half(self, step):
        template = self.halves["template"].model
        return roll_out(self.variant, open_rounding(template), open_rounding(step), **self.clip)


@pytest.fixture(scope="module")
def demo(demo_bundle):
    return Fp16Rollout(demo_bundle)


def check_outputs(expected, got):
    found = compare_outputs(expected, got)
    assert found["policy_logits"]["relative"] <= LOGITS
    assert found["box"]["error"] <= BOX
    assert min(values["cosine"] for values in found.values()) >= COSINE
    return found


@pytest.mark.slow
def test_a_rollout_with_a_restart_stays_close(demo):
    check_outputs(demo.expected, demo.got)


@pytest.mark.slow
def test_plain_onnxruntime_runs_both_graphs(demo):
    sessions = [open_graph(demo.halves[name].model) for name in GRAPHS]
    check_outputs(demo.expected, roll_out(DEMO, *sessions))


@pytest.mark.slow
def test_a_rollout_of_t256_stays_close(t256_bundle):
    case = Fp16Rollout(t256_bundle, frames=4)
    assert list(case.halves["step"].kept) == list(convert_step(case).kept)
    check_outputs(case.expected, case.got)


def convert_step(case, change=None, ranges=None):
    model = onnx.load(case.paths["step"])
    if change:
        change(model)
    return convert_fp16(model, case.variant, ranges or {})


def test_template_tokens_stay_close(demo):
    found = [row[0][0]["template_tokens"] for row in (demo.expected, demo.got)]
    assert np.abs(found[0] - found[1]).max() <= 2e-3 * np.abs(found[0]).max()


def test_targets_of_a_batch_do_not_meet(demo):
    feeds = [row[0] for row in demo.got[2:5]]
    step = open_graph(demo.halves["step"].model)
    batch = {name: np.concatenate([f[name] for f in feeds]) for name in feeds[0]}
    batch["window"] = feeds[0]["window"]
    together = step.run(["policy_logits"], batch)[0]
    for row, alone in enumerate(feeds):
        expected = step.run(["policy_logits"], alone)[0][0]
        assert np.abs(together[row] - expected).max() <= 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", GRAPHS)
def test_the_contract_is_kept(demo, name):
    contract, graph = describe_graph(DEMO, name, "float16"), demo.halves[name].model.graph
    assert demo.halves[name].state_dtype == "float16"
    for specs, values in ((contract.inputs, graph.input), (contract.outputs, graph.output)):
        got = [
            (
                value.name,
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                tuple(d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim),
            )
            for value in values
        ]
        assert got == [(s.name, s.dtype, s.shape) for s in specs]


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_is_half_or_has_a_reason(demo, name):
    model, kept = demo.halves[name].model, demo.halves[name].kept
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for node in inferred.node:
        touched = {types[t] for t in (*node.input, *node.output)} & {FLOAT, HALF}
        if node.op_type != "Cast" or node.name in kept:
            assert touched <= {FLOAT if node.name in kept else HALF}, node.name
    assert set(kept) <= {node.name for node in inferred.node}


def test_casts_stand_at_real_borders_alone(demo):
    """Pixels in; then what leaves float32, and what comes back to it for the answer."""
    casts = {
        name: [n.name for n in demo.halves[name].model.graph.node if n.op_type == "Cast"]
        for name in GRAPHS
    }
    assert casts["step"] == [
        "pixels/float",
        "template_tokens/half",
        "size/raw/float",
        "policy/logits/float",
        "offset/map/float",
    ]
    ends = ["role/columns/count", "role/rows/count", "merge2/float"]
    assert casts["template"] == ["pixels/float", *ends]


@pytest.mark.parametrize("name", GRAPHS)
def test_no_cast_undoes_another_and_none_is_on_a_constant(demo, name):
    graph = demo.halves[name].model.graph
    casts = [node for node in graph.node if node.op_type == "Cast"]
    made_by_casts = {node.output[0] for node in casts}
    constants = {tensor.name for tensor in graph.initializer}
    assert not {node.input[0] for node in casts} & (made_by_casts | constants)


@pytest.mark.parametrize("name", GRAPHS)
def test_weights_are_stored_once_in_half_the_space(demo, name):
    model, source = demo.halves[name].model, onnx.load(demo.paths[name])
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in model.graph.initializer]
    assert max(Counter(contents).values()) == 1
    used = {tensor for node in model.graph.node for tensor in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert model.ByteSize() < 0.52 * source.ByteSize()


@pytest.mark.parametrize("name", GRAPHS)
def test_the_file_alone_tells_its_precision(demo, name):
    told = {entry.key: entry.value for entry in demo.halves[name].model.metadata_props}
    source = {entry.key: entry.value for entry in onnx.load(demo.paths[name]).metadata_props}
    assert {key: told[key] for key in source} == source
    assert (told["relo_edge.precision"], told["relo_edge.state_dtype"]) == ("fp16", "float16")
    assert json.loads(told["relo_edge.kept_in_float32"]) == demo.halves[name].kept


def test_the_source_is_left_alone(demo):
    model = onnx.load(demo.paths["step"])
    before = model.SerializeToString(deterministic=True)
    convert_fp16(model, DEMO, {})
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.slow
def test_without_the_known_hazards_the_box_is_worse(demo, monkeypatch):
    monkeypatch.setattr(half, "find_float32_nodes", lambda *_: {})
    blind = demo.roll_out_half(convert_step(demo).model)
    found = [compare_outputs(demo.expected, rows)["box"]["error"] for rows in (demo.got, blind)]
    assert found[1] > 1.5 * found[0]


def scale_hidden(factor):
    """Make one block's hidden vector larger; the norm behind it takes the factor out again."""

    def change(model):
        for tensor in model.graph.initializer:
            if tensor.name in ("block2/mlp/w12/weight", "block2/mlp/w12/bias"):
                values = numpy_helper.to_array(tensor).copy()
                values[..., 3 * DEMO.width :] *= factor
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change


def measure_changed(case, change, folder):
    model = onnx.load(case.paths["step"])
    change(model)
    onnx.save(model, folder / "step.onnx")
    expected = roll_out(DEMO, case.floats["template"], open_graph(folder / "step.onnx"))
    return expected, measure_ranges(folder / "step.onnx", (row[0] for row in expected))


@pytest.mark.slow
def test_what_half_cannot_hold_stays_in_float32(demo, tmp_path):
    change = scale_hidden(1e4)
    expected, ranges = measure_changed(demo, change, tmp_path)
    converted = convert_step(demo, change, ranges)
    reason = converted.kept["block2/mlp/ffn_ln"]
    assert f"{ranges['block2/mlp/gated'].largest:.3g}" in reason
    assert "65504" in reason
    assert {"block2/mlp/split", "block2/mlp/gated", "block2/mlp/w12"} <= set(converted.kept)
    assert "block1/mlp/gated" not in converted.kept
    check_outputs(expected, demo.roll_out_half(converted.model))
    unmeasured = demo.roll_out_half(convert_step(demo, change).model)
    assert not np.isfinite(unmeasured[0][1]["policy_logits"]).all()


@pytest.mark.slow
def test_a_norm_whose_squares_half_cannot_hold_stays_alone_in_float32(demo, tmp_path):
    change = scale_hidden(150)
    expected, ranges = measure_changed(demo, change, tmp_path)
    converted = convert_step(demo, change, ranges)
    assert set(converted.kept) - set(demo.halves["step"].kept) == {"block2/mlp/ffn_ln"}
    assert "mean of squares" in converted.kept["block2/mlp/ffn_ln"]
    check_outputs(expected, demo.roll_out_half(converted.model))


@pytest.mark.slow
def test_a_state_that_half_cannot_hold_is_float32(demo, tmp_path):
    def change(model):
        for tensor in model.graph.initializer:
            if tensor.name == "temporal/fresh":
                values = 1e5 * numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    expected, ranges = measure_changed(demo, change, tmp_path)
    converted = convert_step(demo, change, ranges)
    assert converted.state_dtype == "float32"
    got = demo.roll_out_half(converted.model)
    assert got[0][1]["temporal_tokens_out"].dtype == np.float32
    check_outputs(expected, got)
