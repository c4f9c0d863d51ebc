"""The rounded network is the INT8 graph: the same tensors, the same numbers, in every frame."""

import math

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollouts import OUTPUTS, compare_outputs, open_graph, roll_out
from small_training import small_batch, small_network

from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.contract import PIXELS
from relo_edge.errors import CheckpointError
from relo_edge.export.publishing import export_bundle
from relo_edge.graphs.quantized_tensors import list_rounded
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.network.relo import build_network
from relo_edge.training.fake_quant import GraphTwin, round_tensor, round_weight
from relo_edge.training.range_search import find_ranges

FRAMES, RESTART = 5, 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The demo weights, moved a little as training moves them: half-precision weights tie often."""
    demo, generator = read_checkpoint(find_demo_checkpoint()), torch.Generator().manual_seed(0)
    moved = {
        name: w * (1 + 1e-3 * torch.randn(w.shape, generator=generator))
        if w.is_floating_point()
        else w
        for name, w in demo.weights.items()
    }
    path = tmp_path_factory.mktemp("moved") / "moved.pt"
    torch.save(moved, path)
    return read_checkpoint(path)


@pytest.fixture(scope="module")
def network(checkpoint):
    return build_network(checkpoint.variant, checkpoint.weights)


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    return export_bundle(checkpoint, tmp_path_factory.mktemp("moved") / "bundle")


@pytest.fixture(scope="module", params=[False, True], ids=["products", "attention"])
def attention(request):
    return request.param


@pytest.fixture(scope="module")
def ranges(network, attention):
    batch = small_batch(clips=4, frames=2, variant=network.variant)
    return find_ranges(network, [batch], attention=attention)


@pytest.fixture(scope="module")
def graph(bundle, ranges, attention):
    """The Q/DQ graph, every tensor before and after its pair exposed."""
    model = onnx.load(bundle.graph("step"))
    model = quantize_graph(model, list_products(model, attention=attention), ranges)
    for name in ranges:
        for exposed in (name, f"{name}_DequantizeLinear_Output"):
            value = onnx.helper.make_tensor_value_info(exposed, onnx.TensorProto.FLOAT, None)
            model.graph.output.append(value)
    return open_graph(model)


@pytest.fixture(scope="module")
def track(network, bundle, graph):
    """What the graph is fed and answers over a rollout with restarts."""
    template = open_graph(bundle.graph("template"))
    return roll_out(network.variant, template, graph, frames=FRAMES, restart=RESTART)


def order_tensor(name, values, variant):
    """The network's tensor in the graph's order: its patches lie as the merges want them."""
    cells = variant.grid
    if name == PIXELS:
        split = values.view(-1, cells, 2, 2, 4, cells, 2, 2, 4, 3)
        return split.permute(0, 1, 5, 2, 6, 3, 7, 4, 8, 9)
    if name.startswith(("stage1", "merge1")):
        return values.view(-1, cells, 2, 2, cells, 2, 2, values.shape[-1]).permute(
            0, 1, 4, 2, 5, 3, 6, 7
        )
    if name.startswith(("stage2", "merge2")):
        return values.view(-1, cells, 2, cells, 2, values.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    if name == "heads/maps":
        return values.transpose(1, 2)
    return values.transpose(2, 3) if name.endswith("key/heads") else values


class Comparison:
    """Stands at every Q/DQ pair: compares, and goes on with the graph's own numbers.

    One entry that rounds the other way is enough to change a tenth of all others six blocks later,
    in two runs of onnxruntime as here; so each part is fed what the graph's own was fed.
    """

    def __init__(self, variant, ranges, want, widened=1):
        self.variant, self.ranges, self.want, self.widened = variant, ranges, want, widened
        self.errors, self.turned, self.steps = {}, {}, {}

    def visit(self, name, values):
        order = order_tensor(name, torch.arange(values.numel()).view(values.shape), self.variant)
        before, after = (
            torch.from_numpy(self.want[exposed]).flatten()
            for exposed in (name, f"{name}_DequantizeLinear_Output")
        )
        got = values.flatten()[order.flatten()]
        step = self.ranges[name] / 127
        reach = torch.tensor(self.widened * self.ranges[name])
        apart = (round_tensor(got, reach) - after).abs() / step
        self.errors[name] = float((got - before).abs().max() / before.abs().max())
        self.turned[name] = float((apart > 0.5).float().mean())
        self.steps[name] = float(apart.max())
        result = torch.empty_like(got)
        result[order.flatten()] = after
        return result.view(values.shape)


def compare_frames(network, ranges, attention, track, graph):
    names = [output.name for output in graph.get_outputs()]
    for feeds, _ in track:
        want = dict(zip(names, graph.run(names, feeds), strict=True))
        compared = Comparison(network.variant, ranges, want)
        _, _, logits, state = TwinSession(network, compared.visit, attention).run(OUTPUTS, feeds)
        errors = dict(compared.errors)
        for name, got in (("policy_logits", logits), ("temporal_tokens_out", state)):
            errors[name] = np.abs(got - want[name]).max() / np.abs(want[name]).max()
        yield compared, errors


class TwinSession:
    """The rounded network in the place of a graph's session."""

    def __init__(self, network, visit, attention):
        self.twin = GraphTwin(network, visit, attention)

    def get_inputs(self):
        return [type("Input", (), {"name": "temporal_tokens", "type": "tensor(float)"})]

    @torch.no_grad()
    def run(self, _, feeds):
        names = ("search", "template_tokens", "temporal_tokens", "has_history")
        maps, state = self.twin(*(torch.from_numpy(feeds[name]) for name in names))
        grid = self.twin.variant.grid
        score, cell = (maps.policy_logits * torch.from_numpy(feeds["window"])).flatten(1).max(dim=1)
        corner = torch.stack([cell % grid, cell // grid], dim=1)
        centre = (maps.offsets.flatten(2)[0, :, cell].T + corner) / grid
        box = torch.cat([centre, maps.sizes.flatten(2)[0, :, cell].T], dim=1)
        return [part.numpy() for part in (box, score, maps.policy_logits, state)]


@pytest.mark.slow
def test_the_tensors_are_those_that_quantize_would_quantize(bundle, network, attention):
    model = onnx.load(bundle.graph("step"))
    wanted = list_activations(model, list_products(model, attention=attention))
    assert sorted(list_rounded(network.variant, attention=attention)) == sorted(wanted)


@pytest.mark.slow
def test_it_computes_what_the_graph_computes(network, ranges, attention, track, graph):
    for compared, errors in compare_frames(network, ranges, attention, track, graph):
        assert compared.steps.keys() == ranges.keys()
        # Ties: what is half a step to the last bit may turn either way, a few weights among them.
        assert max(errors.values()) < 2e-3, max(errors, key=errors.get)
        assert np.median(list(errors.values())) < 5e-5
        assert max(compared.turned.values()) < 1e-2
        assert max(compared.steps.values()) < 1.01


@pytest.mark.slow
def test_one_wrong_range_is_seen(network, ranges, attention, track, graph):
    """Each range in turn, twice as wide as the graph's."""
    feeds, _ = track[1]
    names = [output.name for output in graph.get_outputs()]
    want = dict(zip(names, graph.run(names, feeds), strict=True))
    compared = Comparison(network.variant, ranges, want, widened=2)
    TwinSession(network, compared.visit, attention).run(OUTPUTS, feeds)
    assert min(compared.turned.values()) > 0.05, min(compared.turned, key=compared.turned.get)


@pytest.mark.slow
def test_on_its_own_it_stays_with_the_graph(network, bundle, ranges, attention, track):
    """No further than rounding noise, which in two runs of the graph itself is as large."""
    reaches = {name: torch.tensor(reach) for name, reach in ranges.items()}
    twin = TwinSession(network, lambda n, x: round_tensor(x, reaches[n]), attention)
    template = open_graph(bundle.graph("template"))
    got = roll_out(network.variant, template, twin, frames=FRAMES, restart=RESTART)
    found = compare_outputs(track, got)
    assert min(found[name]["cosine"] for name in ("policy_logits", "temporal_tokens_out")) > 0.9995


@pytest.mark.slow
@given(
    reach=st.floats(1e-3, 1e3),
    values=st.lists(st.floats(-2e3, 2e3, width=32), min_size=1, max_size=20),
)
def test_a_gradient_passes_inside_the_range_and_not_outside(reach, values):
    step = reach / 127
    entries = torch.tensor(values, requires_grad=True)
    rounded = round_tensor(entries, torch.tensor(reach))
    rounded.sum().backward()
    levels = entries.detach() / step
    inside, outside = (levels > -128.4) & (levels < 127.4), (levels < -128.6) | (levels > 127.6)
    assert (entries.grad[inside] == 1).all()
    assert (entries.grad[outside] == 0).all()
    assert ((rounded - entries).abs()[inside] <= 0.51 * step).all()


def test_a_weight_is_rounded_by_output_channel_and_never_cut_off():
    weight = torch.randn(5, 3, 2, 2) * torch.tensor([1e-3, 1, 10, 0, 5]).view(-1, 1, 1, 1)
    weight.requires_grad_()
    rounded = round_weight(weight)
    rounded.sum().backward()
    assert (weight.grad == 1).all()
    largest = weight.detach().flatten(1).abs().amax(dim=1)
    error = (rounded - weight).detach().flatten(1).abs().amax(dim=1)
    assert (error <= 0.51 * largest / 127).all()
    assert not rounded[3].any()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e3])
def test_ranges_are_positive_and_finite_whatever_the_weights(scale):
    network, batch = small_network().eval(), small_batch(clips=1, frames=1)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(("norm1.weight", "norm2.weight", "fc_norm.weight")):
                weight.mul_(scale)
    found = find_ranges(network, [batch], attention=True)
    assert sorted(found) == sorted(list_rounded(network.variant, attention=True))
    assert all(0 < reach < math.inf for reach in found.values())


def test_weights_that_overflow_are_told():
    network = small_network().eval()
    with torch.no_grad():
        network.encoder.body.blocks[0].norm2.weight.fill_(1e38)
    with pytest.raises(CheckpointError, match="stage1.0/.*: found NaN or infinity"):
        find_ranges(network, [small_batch(clips=1, frames=1)], attention=False)
