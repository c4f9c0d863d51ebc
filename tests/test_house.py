"""The house rules, read off the source: who may import whom, and what stays light."""

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import relo_edge
from relo_edge import pipeline

ROOT = Path(__file__).parents[1]
WORKSHOPS = ("benchmarks", "calibration", "export", "runtimes", "training")
HEAVY = {
    "cuda",
    "got10k",
    "huggingface_hub",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "prometheus_client",
    "pycuda",
    "ray",
    "safetensors",
    "starlette",
    "supervision",
    "tensorrt",
    "tensorrt_rtx",
    "tensorrt_rtx_bindings",
    "torch",
    "trax",
    "tritonclient",
    "transformers",
    "uvicorn",
    "vot",
    "websockets",
}
# The reference network is made of torch modules; whoever imports it has asked for torch. So has
# whoever trains.
MADE_OF_TORCH = {
    "clip_text.py",
    "drlt.py",
    "encoder.py",
    "heads.py",
    "layers.py",
    "relo.py",
    "sutrack.py",
}
# The doors from the core into the workshops.
DOORS = {ROOT / "relo_edge" / "runtime.py", *(ROOT / "relo_edge" / "pipeline").glob("*.py")}
# What may stand at the core's top level; everything else has a room.
CORE = {
    "__init__",
    "__main__",
    "box_files",
    "bundle",
    "cli",
    "contract",
    "errors",
    "geometry",
    "last_step",
    "lost",
    "ranking",
    "runtime",
    "spec",
    "tracker",
}
FILES = sorted(
    path for folder in ("relo_edge", *WORKSHOPS) for path in (ROOT / folder).rglob("*.py")
)


def find_source(room):
    """Its code and what its pages are made of; results that were measured name bundles."""
    kinds = (".py", ".js", ".html", ".css", ".cu", ".pyi")
    return sorted(path for path in (ROOT / room).rglob("*") if path.suffix in kinds)


# File names that occur twice: the folder says which part of the same thing each is.
PLAIN = {
    "builder.py": ["export", "runtimes/tensorrt"],
    "client.py": ["relo_edge/fleet", "relo_edge/triton"],
    "clip.py": ["relo_edge/clips", "relo_edge/synthetic"],
    "closed_loop.py": ["relo_edge/measures", "training"],
    "coco.py": ["relo_edge/datasets", "relo_edge/labels"],
    "demo.py": ["export", "relo_edge/network", "relo_edge/tracking"],
    "drlt.py": ["export", "relo_edge/families", "relo_edge/network"],
    "engines.py": ["relo_edge/pipeline", "relo_edge/verbs", "runtimes/tensorrt"],
    "files.py": ["relo_edge/host", "relo_edge/video/sources"],
    "gpu.py": ["relo_edge/doctor", "runtimes/tensorrt"],
    "heads.py": ["export", "relo_edge/network"],
    "layers.py": ["relo_edge/network", "runtimes/tensorrt"],
    "loop.py": ["benchmarks/soak", "relo_edge/tracking", "training"],
    "opencv.py": ["relo_edge/adapters", "relo_edge/host", "relo_edge/peers"],
    "packages.py": ["relo_edge/adapters", "relo_edge/doctor"],
    "quantize.py": ["calibration", "relo_edge/pipeline"],
    "recorder.py": ["relo_edge/labels", "relo_edge/video"],
    "registry.py": ["relo_edge/families", "relo_edge/peers"],
    "relo.py": ["relo_edge/families", "relo_edge/network"],
    "results.py": ["benchmarks/accuracy", "benchmarks/speed"],
    "rollout.py": ["benchmarks/parity", "training"],
    "run.py": ["benchmarks/soak", "training"],
    "runtime.py": ["relo_edge", "runtimes/tensorrt"],
    "sequences.py": ["relo_edge/datasets", "training"],
    "sutrack.py": ["export", "relo_edge/families", "relo_edge/network"],
    "targets.py": ["relo_edge/peers", "relo_edge/tracking"],
    "verdict.py": ["benchmarks/parity", "calibration"],
    "words.py": ["export", "relo_edge/families"],
}
VERBS = [
    "bench",
    "build-engine",
    "compare",
    "demo",
    "doctor",
    "eval",
    "export",
    "fetch",
    "inspect",
    "parity",
    "pseudo-label",
    "quantize",
    "report",
    "serve",
    "track",
    "train",
    "triton",
]


def list_imports(path):
    """Every module named in an import, and whether it runs when the file is imported."""
    tree = ast.parse(path.read_text())
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        yield from ((name, id(node) not in inside) for name in names)


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def workshop_of(module):
    parts = module.split(".")
    return (
        parts[1] if len(parts) > 1 and parts[0] == "relo_edge" and parts[1] in WORKSHOPS else None
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_keeps_to_the_house(path):
    home = path.relative_to(ROOT).parts[0]
    for module, at_import in list_imports(path):
        workshop = workshop_of(module)
        if home == "relo_edge" and workshop:
            assert path in DOORS, f"the core imports {module}"
            assert not at_import, f"{module} is imported before it is asked for"
        elif workshop:
            assert workshop == home, f"{home} imports its neighbour {module}"
        made_of_torch = path.parent.name == "network" and path.name in MADE_OF_TORCH
        if at_import and not made_of_torch and home != "training":
            assert module.split(".")[0] not in HEAVY, f"{module} is imported by everybody"
    assert len(path.read_text().splitlines()) <= 400


# Which tracker it is, these leave to the families.
NAMELESS = [
    ROOT / "relo_edge" / "tracker.py",
    *(path for room in ("runtimes", "calibration", "benchmarks") for path in find_source(room)),
    *find_source("relo_edge/serve"),
]
FAMILY_NAME = re.compile(r"(?<![\w.])(relo|sutrack|drlt)(?![\w]|-edge)", re.IGNORECASE)


@pytest.mark.parametrize("path", NAMELESS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_family_is_named_where_all_are_served(path):
    """But in an example of a command, where a bundle's folder must be called something."""
    named = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if FAMILY_NAME.search(line) and "relo-edge " not in line
    ]
    assert not named


def test_the_search_for_family_names_finds_them():
    assert FAMILY_NAME.search('if family == "sutrack":')
    assert FAMILY_NAME.search("RELO's largest")
    assert not FAMILY_NAME.search("from relo_edge.relocation import Relocated  # relo-edge")


def test_the_core_keeps_its_top_level_small():
    assert {path.stem for path in (ROOT / "relo_edge").glob("*.py")} == CORE


@pytest.mark.slow
def test_no_class_name_occurs_twice():
    places = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: files for name, files in places.items() if len(files) > 1}
    assert not twice


def test_a_file_name_occurs_twice_only_where_the_folder_makes_the_difference_plain():
    places = {}
    for path in FILES:
        places.setdefault(path.name, []).append(str(path.parent.relative_to(ROOT)))
    twice = {name: sorted(folders) for name, folders in places.items() if len(folders) > 1}
    del twice["__init__.py"]
    assert twice == PLAIN


def test_the_house_is_read_at_all():
    assert len(FILES) > 40
    found = list(list_imports(ROOT / "relo_edge" / "runtime.py"))
    assert ("relo_edge.export.demo", False) in found
    assert ("logging", True) in found


PUBLIC = [
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "DeviceError",
    "FinderError",
    "Fleet",
    "GateError",
    "InputError",
    "LiveFrame",
    "LiveReader",
    "LostRule",
    "MissingDependency",
    "MultiTracker",
    "NoSpaceError",
    "PrecisionError",
    "ReconnectPolicy",
    "Recovery",
    "ReloError",
    "Runtime",
    "RuntimeUnavailable",
    "SourceError",
    "StepResult",
    "StreamFrame",
    "Track",
    "Tracker",
    "TrackerProtocol",
    "TrackerVariant",
    "Variant",
    "draw_track",
    "open_bundle",
    "open_runtime",
    "read_live",
]


def test_the_public_names_are_deliberate():
    assert relo_edge.__all__ == PUBLIC
    for name in relo_edge.__all__:
        assert getattr(relo_edge, name).__name__ == name
        assert getattr(relo_edge, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'tracker_'"):
        relo_edge.tracker_  # noqa: B018


def test_every_verb_has_a_python_twin():
    twins = {
        "bench": "run_bench",
        "build-engine": "build_engines",
        "compare": "compare",
        "demo": "run_demo",
        "eval": "evaluate",
        "export": "export_bundle",
        "fetch": "fetch_checkpoint",
        "inspect": "inspect_bundle",
        "parity": "check_parity",
        "pseudo-label": "pseudo_label",
        "quantize": "quantize_bundle",
        "report": "write_report",
        "serve": "serve",
        "track": "track",
        "train": "train",
        "triton": "write_model_repository",
    }
    assert set(twins) == set(VERBS) - {"doctor"}
    assert sorted([*twins.values(), "evaluate_several"]) == pipeline.__all__
    for name in pipeline.__all__:
        described = inspect.getdoc(getattr(pipeline, name))
        assert "Args:" in described, name
        assert "Returns:" in described, name
        assert "Raises:" in described, name


def run_fresh(code, *arguments):
    """Run code in a fresh interpreter, away from the repository; its last line is returned."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


REPORT = "print(sorted({'torch', 'onnx', 'onnxruntime', 'cv2', 'numpy'} & set(sys.modules)))"


def test_importing_the_package_loads_nothing():
    assert run_fresh(f"import sys, relo_edge; {REPORT}") == "[]"


@pytest.fixture(scope="module")
def helps():
    """What each verb's --help prints and has loaded by its end, all in one fresh interpreter."""
    code = f"""
import contextlib, io, json, sys
from relo_edge.cli import main
helps = {{}}
for verb in {["", *VERBS]!r}:
    sys.argv = ["relo-edge", *verb.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            main()
        except SystemExit as stopped:
            assert not stopped.code
        {REPORT}
    helps[verb] = printed.getvalue().splitlines()
print(json.dumps(helps))
"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        return json.loads(run_fresh(code))


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_light_and_ends_in_an_example(helps, verb):
    *text, loaded = helps[verb]
    assert loaded == "[]"
    if verb:
        # On one line, so that it can be copied into a shell.
        assert text[-1].strip().startswith(f"Example: relo-edge {verb} ")
    else:
        _, listed = "\n".join(text).split("Commands:")
        assert "..." not in listed


def test_every_verb_is_tested_above():
    from relo_edge.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names == set(VERBS)


def test_the_demo_bundle_needs_neither_torch_nor_onnx():
    code = "import sys; from relo_edge.export.demo import find_demo_bundle; find_demo_bundle()"
    assert run_fresh(f"{code}; {REPORT}") == "['cv2', 'numpy']"


TRACK = """
import sys, numpy as np
from relo_edge.runtime import open_runtime
from relo_edge.tracker import Tracker
tracker = Tracker(open_runtime(sys.argv[1], sys.argv[2]), color="rgb")
frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
tracker.init(frame, (40, 30, 30, 30))
tracker.update(frame)
print(sorted({'torch', 'onnx', 'huggingface_hub'} & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "auto"])
def test_tracking_without_torch_or_onnx(small_bundle, runtime):
    assert run_fresh(TRACK, small_bundle.path, runtime) == "[]"
