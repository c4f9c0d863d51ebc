"""The two graphs: their contract, their arithmetic against the release, their tidiness."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from support import draw_recipe, load_vectors

from relo_edge.contract import describe_graph
from relo_edge.export.folding import Scope
from relo_edge.export.graphs import build_step_graph, build_template_graph
from relo_edge.geometry import hann_window
from relo_edge.graphs.saving import save_graph
from relo_edge.graphs.sessions import open_session
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.network.relo import build_network
from relo_edge.spec import VARIANTS, Variant

BUILDERS = {"template": build_template_graph, "step": build_step_graph}
DEMO = VARIANTS["demo"]
OUTPUTS = ["box", "score", "policy_logits", "temporal_tokens_out"]


def build_graphs(variant, weights=None):
    weights = weights or draw_weights(variant)
    scope = Scope({name: tensor.numpy() for name, tensor in weights.items()})
    return {name: build(variant, scope) for name, build in BUILDERS.items()}


def open_graph(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


@pytest.fixture(scope="module")
def demo_graphs():
    return build_graphs(DEMO)


@pytest.fixture(scope="module")
def demo_step(demo_graphs):
    return open_graph(demo_graphs["step"])


def random_feeds(variant, batch, seed=0):
    rng = np.random.default_rng(seed)
    feeds = {
        spec.name: rng.normal(size=spec.at_batch(batch)).astype(spec.dtype)
        for spec in describe_graph(variant, "step").inputs
    }
    shape = feeds["search"].shape
    feeds["search"] = rng.integers(0, 256, shape, np.uint8)
    feeds["has_history"] = np.ones(batch, np.float32)
    feeds["window"] = hann_window(variant.grid, 2.0)
    return feeds


def take_rows(feeds, rows):
    return {name: v if name == "window" else v[rows] for name, v in feeds.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames"),
    [("t256", 4), ("b256", 4), ("l256", 2)],  # the largest only as far as a state that is carried
)
def test_frames_equal_the_release(tmp_path, name, frames):
    """Plain onnxruntime, first frame without history and with a state full of garbage."""
    variant, vectors = VARIANTS[name], load_vectors(f"step_{name}")
    for graph, model in build_graphs(variant, draw_recipe(name)).items():
        save_graph(model, tmp_path / f"{graph}.onnx")
    template, step = (open_session(tmp_path / f"{graph}.onnx") for graph in BUILDERS)
    feeds = {"template": vectors["templates"], "box": vectors["template_boxes_xywh"]}
    tokens = template.run(["template_tokens"], feeds)[0].reshape(1, -1, variant.width)
    state = np.full((1, *variant.state_shape), -1e6, np.float32)
    window = hann_window(variant.grid, 2.0)
    for frame in range(frames):
        feeds = {
            "search": vectors["searches"][frame : frame + 1],
            "template_tokens": tokens,
            "temporal_tokens": state,
            "has_history": np.array([frame > 0], np.float32),
            "window": window,
        }
        box, score, logits, state = step.run(OUTPUTS, feeds)
        expected = vectors[f"policy_logits_{frame}"]
        np.testing.assert_allclose(logits[0], expected, rtol=0, atol=1e-4)
        expected_box, expected_score = decode_maps(vectors, frame, window)
        np.testing.assert_allclose(box[0], expected_box, rtol=0, atol=1e-5)
        assert score[0] == pytest.approx(expected_score, abs=1e-4)
        first_tokens = vectors[f"temporal_first_token_{frame}"]
        largest = np.abs(first_tokens).max()
        np.testing.assert_allclose(state[0, :, 0], first_tokens, rtol=0, atol=1e-5 * largest)


def decode_maps(vectors, frame, window):
    windowed = vectors[f"policy_logits_{frame}"] * window
    row, column = np.unravel_index(np.argmax(windowed), windowed.shape)
    x, y = vectors[f"offset_map_{frame}"][:, row, column]
    size = vectors[f"size_map_{frame}"][:, row, column]
    return [(column + x) / 16, (row + y) / 16, *size], windowed.max()


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_batch_equals_one_at_a_time(demo_step, batch):
    feeds = random_feeds(DEMO, batch)
    feeds["has_history"][::2] = 0
    together = demo_step.run(OUTPUTS, feeds)
    for row in range(batch):
        alone = demo_step.run(OUTPUTS, take_rows(feeds, slice(row, row + 1)))
        for got, expected in zip(together, alone, strict=True):
            largest = max(1, np.abs(expected).max())
            np.testing.assert_allclose(got[row], expected[0], rtol=0, atol=1e-5 * largest)


def test_one_targets_restart_leaves_the_others(demo_step):
    feeds = random_feeds(DEMO, 3)
    before = demo_step.run(OUTPUTS, feeds)
    feeds["has_history"][1] = 0
    after = demo_step.run(OUTPUTS, feeds)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one[[0, 2]], other[[0, 2]])
    assert np.abs(before[2][1] - after[2][1]).max() > 1e-3


@pytest.mark.parametrize("garbage", [np.inf, np.nan, 1e30])
def test_a_first_frame_ignores_the_state(demo_step, garbage):
    feeds = random_feeds(DEMO, 1)
    feeds["has_history"][:] = 0
    clean = demo_step.run(OUTPUTS, feeds)
    feeds["temporal_tokens"][:] = garbage
    for one, other in zip(clean, demo_step.run(OUTPUTS, feeds), strict=True):
        assert np.array_equal(one, other)


def test_every_entry_of_the_state_counts(demo_step):
    feeds = random_feeds(DEMO, 1)
    logits = demo_step.run(OUTPUTS, feeds)[2]
    for layer in range(DEMO.depth):
        changed = {**feeds, "temporal_tokens": feeds["temporal_tokens"].copy()}
        changed["temporal_tokens"][:, layer] *= -1
        assert np.abs(demo_step.run(OUTPUTS, changed)[2] - logits).max() > 1e-4, layer


@pytest.mark.slow
def test_odd_sizes_build_and_agree_with_the_network():
    variant = replace(
        DEMO, name="odd", width=96, depth=2, templates=3, search_size=160, template_size=96
    )
    network, graphs = build_network(variant, draw_weights(variant)), build_graphs(variant)
    feeds = random_feeds(variant, 2)
    logits = open_graph(graphs["step"]).run(OUTPUTS, feeds)[2]
    import torch

    names = ("search", "template_tokens", "temporal_tokens", "has_history")
    maps, _ = network(*(torch.from_numpy(feeds[name]) for name in names))
    np.testing.assert_allclose(logits, maps.policy_logits.numpy(), rtol=0, atol=1e-4)
    size = variant.template_size
    rng = np.random.default_rng(1)
    templates = rng.integers(0, 256, (3, size, size, 3), np.uint8)
    boxes = rng.uniform(0, 0.6, (3, 4)).astype(np.float32)
    got = open_graph(graphs["template"]).run(None, {"template": templates, "box": boxes})[0]
    expected = network.encode_template(torch.from_numpy(templates), torch.from_numpy(boxes))
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BUILDERS)
def test_graphs_are_valid_and_known_in_every_dimension(demo_graphs, name):
    model = demo_graphs[name]
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {v.name for v in [*inferred.value_info, *inferred.output]}
    assert {out for node in inferred.node for out in node.output} <= known
    for value in inferred.value_info:
        for size in value.type.tensor_type.shape.dim[1:]:
            assert size.HasField("dim_value"), value.name
        first = value.type.tensor_type.shape.dim[:1]
        assert all(d.HasField("dim_value") or "batch" in d.dim_param for d in first), value.name


@pytest.mark.parametrize("name", BUILDERS)
def test_names_types_and_shapes_are_the_contract(demo_graphs, name):
    contract, graph = describe_graph(DEMO, name), demo_graphs[name].graph
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


@pytest.mark.parametrize("name", BUILDERS)
def test_the_file_alone_tells_its_contract(demo_graphs, name):
    told = {entry.key: entry.value for entry in demo_graphs[name].metadata_props}
    assert told["relo_edge.graph"] == name
    assert Variant.from_dict(json.loads(told["relo_edge.spec"])) == DEMO


@pytest.mark.parametrize("name", BUILDERS)
def test_no_weight_is_stored_twice_and_none_is_unused(demo_graphs, name):
    graph = demo_graphs[name].graph
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in graph.initializer]
    assert len(contents) == len(set(contents))
    used = {tensor for node in graph.node for tensor in node.input}
    assert {t.name for t in graph.initializer} <= used


def test_the_step_graph_has_no_stray_nodes(demo_graphs):
    """One cast, one transpose of pixels, three a block, and two for the heads."""
    ops = [node.op_type for node in demo_graphs["step"].graph.node]
    assert ops.count("Cast") == 1
    assert ops.count("Transpose") == 1 + 3 * DEMO.depth + 2
    assert ops.count("Softmax") == DEMO.depth
    assert ops.count("LayerNormalization") == 2 * 2 + 2 + 3 * DEMO.depth + 1
    assert "Identity" not in ops


def test_names_of_nodes_are_unique(demo_graphs):
    for model in demo_graphs.values():
        names = [node.name for node in model.graph.node]
        assert len(names) == len(set(names))
