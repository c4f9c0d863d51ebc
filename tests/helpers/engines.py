"""The graphs that engines are built from, for every variant and precision, made cheaply."""

import re
from dataclasses import replace
from functools import lru_cache, partial
from importlib import import_module

import numpy as np
import onnx

from relo_edge.bundle import FORMAT, describe_files, open_bundle, write_manifest
from relo_edge.calibration.engine_graphs import add_engine_graphs
from relo_edge.calibration.fp8 import list_fp8_products, quantize_fp8_graph
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.contract import EngineGraph, list_graphs
from relo_edge.export.folding import Scope
from relo_edge.families.registry import find_family, list_variants
from relo_edge.network.fixed_weights import draw_tensor

VARIANTS = dict(list_variants())
# Blocks are alike: four tell how a width's blocks are fused, at a fraction of the price.
for _name in ("t256", "b256", "l256"):
    VARIANTS[f"{_name}-short"] = replace(VARIANTS[_name], name=f"{_name}-short", depth=4)


@lru_cache(maxsize=1)
def draw_repeating_weights(name):
    """Recipe weights in which blocks of one shape are equal: L256's file is then a small one."""
    variant, drawn, weights = VARIANTS[name], {}, {}
    for tensor, shape in find_family(variant.family).list_shapes(variant).items():
        kind = re.sub(r"blocks\.\d+\.", "blocks.0.", tensor), shape
        if kind not in drawn:
            is_text = tensor.startswith("text_encoder.clip.")  # only its answer is in the graph
            drawn[kind] = np.zeros(shape, np.float32) if is_text else draw_tensor(kind[0], shape)
        weights[tensor] = drawn[kind]
    return weights


def build_graph(name, graph):
    """A variant's float32 graph, whole in structure."""
    variant = VARIANTS[name]
    return find_builders(variant)[graph](variant, Scope(draw_repeating_weights(name)))


def find_builders(variant):
    """By graph, whatever the family."""
    return import_module(find_family(variant.family).builders).BUILDERS


def quantize_products(model, threshold=8.0):
    """An INT8 graph of the model (which is changed), without the price of a calibration."""
    products = list_products(model)
    ranges = dict.fromkeys(list_activations(model, products), threshold)
    return quantize_graph(model, products, ranges)


def quantize_products_fp8(model, threshold=8.0, *, attention=False):
    """The same for FP8."""
    products = list_fp8_products(model, attention=attention)
    ranges = dict.fromkeys(list_activations(model, products), threshold)
    return quantize_fp8_graph(model, products, ranges)


QUANTIZE = {
    "int8": quantize_products,
    "fp8": quantize_products_fp8,
    "fp8-attention": partial(quantize_products_fp8, attention=True),
}


def write_bundle(name, weights, folder):
    """A float32 bundle that nobody verified: quicker than an export by the reference network."""
    folder.mkdir(parents=True)
    scope = Scope({tensor: np.asarray(values) for tensor, values in weights.items()})
    builders = find_builders(VARIANTS[name])
    for graph, build in builders.items():
        onnx.save(build(VARIANTS[name], scope), folder / f"{graph}.onnx")
    graphs = {graph: f"{graph}.onnx" for graph in builders}
    manifest = {
        "format": FORMAT,
        "family": VARIANTS[name].family,
        "variant": VARIANTS[name].to_dict(),
        "checkpoint": {"path": "recipe", "sha256": "0" * 64},
        "files": describe_files(folder, *graphs.values()),
        "graphs": {"fp32": graphs},
        "state_dtype": {"fp32": "float32"},
    }
    write_manifest(folder, manifest)
    return open_bundle(folder)


def add_int8(bundle):
    """The bundle (which is changed) with an INT8 step graph that nobody calibrated."""
    return _add_quantized(bundle, "int8")


def _add_quantized(bundle, precision):
    step = QUANTIZE[precision](onnx.load(bundle.graph("step")))
    models = {"step": step, "template": onnx.load(bundle.graph("template"))}
    halves = {name: convert_fp16(model, bundle.variant, {}) for name, model in models.items()}
    known = bundle.manifest.get("engine_graphs", {})
    bundle = add_engine_graphs(
        _add_graphs(bundle, precision, {"step": step}, "float32"), precision, halves
    )
    manifest = dict(bundle.manifest)
    manifest["engine_graphs"] = {**known, **manifest["engine_graphs"]}
    write_manifest(bundle.path, manifest)
    return open_bundle(bundle.path)


def add_fp8(bundle):
    """The bundle (which is changed) with an FP8 step graph that nobody calibrated."""
    return _add_quantized(bundle, "fp8")


def add_fp16(bundle):
    """The bundle (which is changed) with FP16 graphs that nobody judged."""
    floats = {name: onnx.load(bundle.graph(name)) for name in list_graphs(bundle.variant)}
    halves = {name: convert_fp16(model, bundle.variant, {}) for name, model in floats.items()}
    models = {name: half.model for name, half in halves.items()}
    return _add_graphs(bundle, "fp16", models, halves["step"].state_dtype)


def _add_graphs(bundle, precision, models, state_dtype):
    names = {name: f"{name}.{precision}.onnx" for name in models}
    for name, model in models.items():
        onnx.save(model, bundle.path / names[name])
    manifest = dict(bundle.manifest)
    graphs = {**manifest["graphs"]["fp32"], **names}
    manifest["graphs"] = {**manifest["graphs"], precision: graphs}
    manifest["state_dtype"] = {**manifest["state_dtype"], precision: state_dtype}
    manifest["files"] = {**manifest["files"], **describe_files(bundle.path, *names.values())}
    write_manifest(bundle.path, manifest)
    return open_bundle(bundle.path)


def make_engine_graph(name, graph, precision, folder):
    """What an engine of that precision is built from, written into the folder."""
    model, dtype, path = build_graph(name, graph), "float32", folder / f"{graph}.{precision}.onnx"
    if precision in QUANTIZE and graph == "step":
        model = QUANTIZE[precision](model)
    if precision != "fp32":
        half = convert_fp16(model, VARIANTS[name], {}, bf16_attention=precision == "bf16")
        model, dtype = half.model, half.state_dtype
    onnx.save(model, path)
    return EngineGraph(path, dtype)


def draw_feeds(variant, contract, seed=0):
    """Inputs of one target, with a history."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for spec in contract.inputs:
        shape = spec.at_batch(1)
        if spec.dtype == "uint8":
            feeds[spec.name] = rng.integers(0, 256, shape, np.uint8)
        else:
            feeds[spec.name] = rng.normal(size=shape).astype(spec.dtype)
    if "has_history" in feeds:
        feeds["has_history"][:] = 1
    return feeds
