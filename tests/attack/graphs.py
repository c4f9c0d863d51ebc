"""ONNX files in a bundle whose manifest vouches for them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
from bundles import copy_bundle
from harness import Act, Attack
from onnx import TensorProto, helper, numpy_helper

from relo_edge.bundle import MANIFEST, describe_files
from relo_edge.export.demo import find_demo_bundle
from relo_edge.runtime import open_runtime
from relo_edge.tracker import Tracker

RUNTIMES = ("onnxruntime", "openvino")
FLIPS = 40
Change = Callable[[onnx.ModelProto], None]


def list_attacks() -> Iterator[Attack]:
    """Every one of this kind."""
    for runtime in RUNTIMES:
        for name, change in CHANGES.items():
            for graph in ("step", "template"):
                bad = name not in HARMLESS
                prepare = _change(graph, change, runtime)
                yield Attack(f"{runtime} {graph} {name}", prepare, must_fail=bad)
        for seed in range(FLIPS):
            yield Attack(f"{runtime} flipped {seed}", _flip(seed, runtime))
        for name, content in RAW.items():
            yield Attack(f"{runtime} {name}", _replace(content, runtime), must_fail=True)


def _track(path: Path, runtime: str) -> Act:
    def act() -> None:
        frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
        with open_runtime(path, runtime, "fp32", threads=1) as opened:
            tracker = Tracker(opened, color="rgb")
            tracker.init(frame, (40, 30, 30, 30))
            for _ in range(2):
                tracker.update(frame)

    return act


@lru_cache(maxsize=2)
def _read_graph(graph: str) -> bytes:
    return find_demo_bundle().graph(graph).read_bytes()


def _publish(folder: Path, graph: str, content: bytes) -> Path:
    """A bundle with another graph, which its manifest describes."""
    path = copy_bundle(folder)
    (path / f"{graph}.onnx").unlink()
    (path / f"{graph}.onnx").write_bytes(content)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"].update(describe_files(path, f"{graph}.onnx"))
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path


def _change(graph: str, change: Change, runtime: str) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        model = onnx.load_from_string(_read_graph(graph))
        change(model)
        return _track(_publish(folder, graph, model.SerializeToString()), runtime)

    return prepare


def _flip(seed: int, runtime: str) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        draw, graph = random.Random(seed), ("step", "template")[seed % 2]
        content = bytearray(_read_graph(graph))
        for _ in range(draw.randint(1, 30)):
            place = int(draw.random() ** 3 * (len(content) - 1))
            content[place if draw.random() < 0.5 else -1 - place] ^= 1 << draw.randrange(8)
        return _track(_publish(folder, graph, bytes(content)), runtime)

    return prepare


def _replace(content: bytes, runtime: str) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        return _track(_publish(folder, "step", content), runtime)

    return prepare


def _drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


def _rename_output(model: onnx.ModelProto) -> None:
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["else" if output == name else output for output in node.output]
    model.graph.output[0].name = "else"


def _rename_input(model: onnx.ModelProto) -> None:
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["else" if given == name else given for given in node.input]
    model.graph.input[0].name = "else"


def _put_before_output(operator: str, *constants: np.ndarray, **attributes: object) -> Change:
    """One more node between the first output and the world."""

    def change(model: onnx.ModelProto) -> None:
        output = model.graph.output[0]
        for node in model.graph.node:
            node.output[:] = ["inner" if o == output.name else o for o in node.output]
            node.input[:] = ["inner" if i == output.name else i for i in node.input]
        names = [f"evil{number}" for number in range(len(constants))]
        model.graph.initializer.extend(
            numpy_helper.from_array(value, name)
            for value, name in zip(constants, names, strict=True)
        )
        inputs = names if operator == "Constant" else ["inner", *names]
        node = helper.make_node(operator, inputs, [output.name], name="evil", **attributes)
        model.graph.node.append(node)
        output.type.tensor_type.ClearField("shape")

    return change


def _declare_shape(model: onnx.ModelProto) -> None:
    for size in model.graph.output[0].type.tensor_type.shape.dim:
        size.dim_value = 7


def _declare_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def _input_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def _external(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def _loop(model: onnx.ModelProto) -> None:
    """A trip count of nine quintillions in front of the first output."""
    output = model.graph.output[0]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["value"], ["value_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_on", TensorProto.FLOAT, None),
        ],
    )
    for node in model.graph.node:
        node.output[:] = ["inner" if o == output.name else o for o in node.output]
        node.input[:] = ["inner" if i == output.name else i for i in node.input]
    for name, value in {"times": np.int64((1 << 63) - 1), "start": np.bool_(True)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    loop = helper.make_node("Loop", ["times", "start", "inner"], [output.name], body=body)
    model.graph.node.append(loop)


def _custom(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "evil.example"
    model.opset_import.append(helper.make_opsetid("evil.example", 1))


def _empty_graph(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def _nan(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(array, np.nan), tensor.name))


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9999


CHANGES: dict[str, Change] = {
    "output left out": _drop_output,
    "output renamed": _rename_output,
    "input renamed": _rename_input,
    "output of another rank": _put_before_output("Unsqueeze", np.array([0], np.int64)),
    "output of fewer numbers": _put_before_output("ReduceMax", keepdims=1),
    "output of other numbers": _put_before_output("Tile", np.array([1, 2], np.int64)),
    "output reshaped at run time": _put_before_output("Reshape", np.array([7, -1], np.int64)),
    "output of integers": _put_before_output("Cast", to=TensorProto.INT64),
    "output of text": _put_before_output("Cast", to=TensorProto.STRING),
    "shape that is not so": _declare_shape,
    "type that is not so": _declare_type,
    "input of another type": _input_type,
    "loop without end": _loop,
    "operator of a stranger": _custom,
    "no nodes": _empty_graph,
    "cycle": _cycle,
    "opset of the future": _opset,
    "weights in a file above": _external("../../../../etc/passwd"),
    "weights in a file beside": _external("template.onnx"),
    "weights in a device": _external("/dev/zero"),
    "weights that are NaN": _nan,
}
# Declared, but believed by no runtime; or tracking goes on, in doubt.
HARMLESS = {"weights that are NaN", "output of integers", "shape that is not so"}
HARMLESS |= {"type that is not so", "opset of the future"}
RAW = {
    "empty": b"",
    "noise": random.Random(0).randbytes(10_000),
    "text": b"not a graph\n" * 100,
    "nested messages": b"\x3a\xff\xff\xff\x7f" * 1000,
    "zip": b"PK\x03\x04" + bytes(100),
}
