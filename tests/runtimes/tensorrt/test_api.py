"""Every attribute of TensorRT that the code touches, held against the interfaces of all versions.

tests/data/tensorrt_api.json was read off the real packages of 10.3, 10.13, 10.16 and 11.4; RTX is
the one installed here. The code names TensorRT's objects as in OBJECTS: so they are known here.
"""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import DATA

from relo_edge.runtimes.tensorrt.library import find_library

FOLDER = Path(__file__).parents[3] / "runtimes" / "tensorrt"
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "problem": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "loader": "Runtime",
    "inspector": "EngineInspector",
    "settings": "IRuntimeConfig",
    "tensor": "ITensor",
    "cache": "ITimingCache",
    "store": "IRuntimeCache",
}
RTX = "rtx"


def load_inventory():
    """Versions, and for each name the versions that have it; a member's is `Class.member`."""
    plain = json.loads((DATA / "tensorrt_api.json").read_text())
    versions = [tuple(map(int, v.split("."))) for v in plain["versions"]]
    known = {}
    for owner, masks in [("", plain["top"]), *plain["members"].items()]:
        for mask, names in masks.items():
            having = {v for v, bit in zip(versions, mask, strict=True) if bit == "1"}
            for name in names:
                known[f"{owner}.{name}" if owner else name] = having
    return versions, known


VERSIONS, KNOWN = load_inventory()


@dataclass(frozen=True)
class Touch:
    """One attribute in the source, and the versions in which that line can run."""

    place: str
    name: str
    versions: frozenset

    def find_missing(self):
        """The versions that can come here and have no such thing."""
        missing = [v for v in self.versions - {RTX} if v not in KNOWN.get(self.name, ())]
        if RTX in self.versions:
            found = find_library("tensorrt-rtx").trt
            for part in self.name.split("."):
                found = getattr(found, part, None)
            missing += [RTX] if found is None else []
        return missing


def name_touched(node):
    """`Class.member`, or a name at the top; nothing for what is Python's own or anyone else's."""
    if node.attr.startswith("__"):
        return None
    base = node.value
    owner = getattr(base, "attr", getattr(base, "id", "")).strip("_")
    if owner == "trt":
        return node.attr
    if isinstance(base, ast.Attribute) and name_touched(base) == base.attr:
        return f"{base.attr}.{node.attr}"
    return f"{OBJECTS[owner]}.{node.attr}" if owner in OBJECTS else None


def narrow(test, versions):
    """The versions that pass an `if` on is_rtx or at_least, and those that do not."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return narrow(test.operand, versions)[::-1]
    for node in ast.walk(test):
        if isinstance(node, ast.Attribute) and node.attr == "is_rtx":
            passing = versions & {RTX}
            return passing, versions - passing
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "at_least":
            least = tuple(ast.literal_eval(argument) for argument in node.args)
            passing = {v for v in versions if v == RTX or v >= least}
            return passing, versions - passing
    return versions, versions


def walk_source(place, node, versions):
    """Every touch below a node; an `if` that leaves the function narrows what follows it."""
    if isinstance(node, ast.Attribute) and (name := name_touched(node)):
        yield Touch(f"{place}:{node.lineno}", name, frozenset(versions))
    if isinstance(node, ast.If):
        passing, others = narrow(node.test, versions)
        yield from walk_source(place, node.test, versions)
        yield from walk_lines(place, node.body, passing)
        yield from walk_lines(place, node.orelse, others)
        return
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            yield from walk_lines(place, value, versions)
        elif isinstance(value, ast.AST):
            yield from walk_source(place, value, versions)
        elif isinstance(value, list):
            for inner in value:
                if isinstance(inner, ast.AST):
                    yield from walk_source(place, inner, versions)


def walk_lines(place, lines, versions):
    for line in lines:
        yield from walk_source(place, line, versions)
        if isinstance(line, ast.If) and isinstance(line.body[-1], ast.Return | ast.Raise):
            versions = narrow(line.test, versions)[1]


def list_touches(source, place="here"):
    return list(walk_source(place, ast.parse(source), {*VERSIONS, RTX}))


ALL = [t for path in sorted(FOLDER.glob("*.py")) for t in list_touches(path.read_text(), path.name)]


@pytest.mark.parametrize("touch", ALL, ids=lambda t: f"{t.place}-{t.name}")
def test_it_exists_wherever_the_line_can_run(touch):
    missing = touch.find_missing()
    assert not missing, f"{touch.place} touches {touch.name}, which {missing} do not have"


def test_the_walk_sees_what_the_code_does():
    seen = {touch.name for touch in ALL}
    assert len(ALL) > 40
    assert {"Builder", "BuilderFlag.TF32", "Builder.create_network"} <= seen
    assert {"OnnxParser.parse_from_file", "ICudaEngine.create_execution_context"} <= seen
    by_name = {touch.name: touch.versions for touch in ALL}
    assert by_name["CudaGraphStrategy.WHOLE_GRAPH_CAPTURE"] == {RTX}
    level = "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"
    assert by_name[level] == {(10, 13), (10, 16), (11, 4)}


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("builder.platform_has_fast_fp16", [(11, 4), RTX]),
        ("self._builder.create_netwrk()", [*VERSIONS, RTX]),
        ("trt.BuilderFlag.FP16", [(11, 4), RTX]),
        ("engine.device_memory_size", [(11, 4), RTX]),
        ("context.is_stream_capturable(0)", VERSIONS),
        ("if library.is_rtx:\n    context.is_stream_capturable(0)", []),
        ("if library.at_least(10, 13):\n    engine.create_runtime_config()", []),
        ("if library.at_least(10, 2):\n    engine.create_runtime_config()", [(10, 3)]),
    ],
)
def test_the_walk_finds_faults(line, missing):
    found = {v for touch in list_touches(line) for v in touch.find_missing()}
    assert found == set(missing)
