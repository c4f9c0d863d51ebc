"""Smoothing moves outliers without changing the function, and int8 is better for it."""

import numpy as np
import onnx
from rollouts import compare_outputs, open_graph, roll_out

from relo_edge.calibration.norms import Constants, find_products
from relo_edge.calibration.smoothing import list_norms, smooth_norms
from relo_edge.calibration.thresholds import collect_peaks

OUTLIER, FACTOR = 5, 60.0


def add_outliers(model):
    """One channel of each norm is an outlier, its weights smaller: the same float32 function."""
    constants = Constants(model.graph)
    for norm, product, _ in list(find_products(model.graph, constants)):
        weight = constants.read(product.input[1])
        channels = len(constants.read(norm.input[1]))
        factors = np.ones(channels)
        factors[OUTLIER] = FACTOR
        rows = weight.reshape(-1, channels, weight.shape[1]) / factors[:, None]
        product.input[1] = constants.store(f"{product.name}/soft", rows.reshape(weight.shape))
        for index in (1, 2):
            outlier = constants.read(norm.input[index]) * factors
            norm.input[index] = constants.store(f"{norm.name}/outlier{index}", outlier)


def random_feeds(model, seed=0):
    rng = np.random.default_rng(seed)
    feeds = {}
    for spec in model.graph.input:
        shape = [d.dim_value or 1 for d in spec.type.tensor_type.shape.dim]
        kind = spec.type.tensor_type.elem_type
        feeds[spec.name] = (
            rng.integers(0, 256, shape, np.uint8)
            if kind == onnx.TensorProto.UINT8
            else rng.normal(size=shape).astype(np.float32)
        )
    feeds["has_history"] = np.ones(1, np.float32)
    return feeds


def test_smoothing_changes_nothing_in_float32(small_bundle, tmp_path):
    models = {name: onnx.load(small_bundle.graph(name)) for name in ("template", "step")}
    expected = roll_out(small_bundle.variant, *map(open_graph, models.values()), frames=3)
    add_outliers(models["step"])
    onnx.save(models["step"], tmp_path / "outlier.onnx")
    norms = list_norms(models["step"])
    feeds = [random_feeds(models["step"], seed) for seed in range(2)]
    peaks = collect_peaks(tmp_path / "outlier.onnx", norms, feeds)
    before = {name: peak[OUTLIER] / np.median(peak) for name, peak in peaks.items()}
    factors = smooth_norms(models["step"], peaks)
    onnx.checker.check_model(models["step"], full_check=True)
    got = roll_out(small_bundle.variant, *map(open_graph, models.values()), frames=3)
    for name, found in compare_outputs(expected, got).items():
        assert found["relative"] <= 1e-4, name
    assert set(factors) == set(norms)
    onnx.save(models["step"], tmp_path / "smooth.onnx")
    after = collect_peaks(tmp_path / "smooth.onnx", norms, feeds)
    for name, peak in after.items():
        assert peak[OUTLIER] / np.median(peak) < 0.25 * before[name], name


def test_peaks_are_the_largest_of_all_samples(small_bundle):
    model = onnx.load(small_bundle.graph("step"))
    norm = list_norms(model)[0]
    first, second = random_feeds(model, 1), random_feeds(model, 2)
    graph = small_bundle.graph("step")
    alone = [collect_peaks(graph, [norm], [one])[norm] for one in (first, second)]
    both = collect_peaks(graph, [norm], [first, second])[norm]
    assert np.array_equal(both, np.maximum(*alone))


def test_the_factors_undo_it(small_bundle):
    model = onnx.load(small_bundle.graph("step"))
    constants = Constants(model.graph)
    norm, product, _ = next(iter(find_products(model.graph, constants)))
    scale, weight = constants.read(norm.input[1]), constants.read(product.input[1])
    rng = np.random.default_rng(0)
    peaks = {name: rng.uniform(0.1, 9, self_size(model, name)) for name in list_norms(model)}
    factors = smooth_norms(model, peaks)[norm.output[0]]
    again = Constants(model.graph)
    assert np.allclose(again.read(norm.input[1]) * factors, scale, rtol=1e-6)
    assert np.allclose(again.read(product.input[1]) / factors[:, None], weight, rtol=1e-5)
    assert np.isclose(np.log(factors).mean(), 0, atol=1e-9)


def self_size(model, name):
    constants = Constants(model.graph)
    norm = next(n for n in model.graph.node if n.output[0] == name)
    return len(constants.read(norm.input[1]))
