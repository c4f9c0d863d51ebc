"""No verb sends anything anywhere, and none leaves a library's device id in the home folder."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import write_images
from network_log import build_shim, read_log
from shortened import write_prelude

from relo_edge.cli import app
from relo_edge.export.demo import find_demo_bundle
from relo_edge.host.telemetry import SWITCH, import_silenced
from relo_edge.network.demo import find_demo_checkpoint

ROOT = Path(__file__).parents[3]
REPORTING = {"onnxruntime", "openvino", "huggingface_hub", "ray"}
"""The libraries that report usage unless they are told not to."""

LONG = pytest.mark.slow
CLIP = ("--clips", "dataset/one")
CAMERA = "synthetic:frames=8,size=160x120,fps=60"
VERBS = [
    ("doctor",),
    ("demo", "-o", "demo_out"),
    ("inspect", "demo"),
    ("track", CAMERA, "--init", "40,30,30,30", "--bundle", "demo", "--runtime", "onnxruntime"),
    ("track", CAMERA, "--init", "40,30,30,30", "--bundle", "demo", "--runtime", "openvino"),
    ("eval", "bundle", "dataset", "-o", "eval_out", "--runtime", "openvino"),
    ("compare", "eval_out", "eval_out"),
    ("report", "--eval", "eval_out", "-o", "report.html"),
    ("triton", "demo", "-o", "model_repository"),
    ("build-engine", "demo", "--library", "tensorrt"),
    ("export", "--checkpoint", str(find_demo_checkpoint()), "-o", "exported"),
    pytest.param(("parity", "bundle", "--runtime", "openvino", *CLIP), marks=LONG),
    pytest.param(("quantize", "bundle", "--int8", "--quick", *CLIP), marks=LONG),
    pytest.param(("bench", "bundle", "--runtime", "onnxruntime"), marks=LONG),
    pytest.param(
        ("train", "warmup", "-o", "run", "--steps", "1", "--batch-clips", "1", "--no-trial"),
        marks=LONG,
    ),
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    built = build_shim(tmp_path_factory.mktemp("shim"))
    return built or pytest.skip("no C compiler for the shim that logs network calls")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the verbs run, one after the other: a bundle, a sequence, and a home of their own."""
    folder = tmp_path_factory.mktemp("silent")
    shutil.copytree(find_demo_bundle().path, folder / "bundle")
    # Other tests' browsers leave traces in the session's cache.
    shutil.copytree(Path(os.environ["XDG_CACHE_HOME"], "relo-edge"), folder / "cache" / "relo-edge")
    sequence = write_images(folder / "dataset" / "one", [f"{n:04}.png" for n in range(6)])
    (sequence / "groundtruth.txt").write_text("8,8,8,8\n" * 6)
    return folder


def start_child(command, folder, shim, **extra):
    home = folder / "home"
    home.mkdir(exist_ok=True)
    cache = folder / "cache"
    log = folder / "network.log"
    log.unlink(missing_ok=True)
    own = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(cache),
        "LD_PRELOAD": str(shim),
        "NETWORK_LOG": str(log),
        **extra,
    }
    cleared = {"ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "MPLCONFIGDIR", SWITCH}
    kept = {name: value for name, value in os.environ.items() if name not in cleared}
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


OWN_CACHES = {"relo-edge", "matplotlib", "gstreamer-1.0", "fontconfig"}
OWN_CACHES |= {"mesa_shader_cache", "mesa_shader_cache_db"}


def list_left(folder):
    """What a child left in its home folder and cache, but for caches that tell nobody anything."""
    roots = (folder / "home", folder / "cache")
    found = (path for root in roots for path in root.rglob("*") if path.is_file())
    return [path for path in found if not OWN_CACHES & set(path.parts)]


@pytest.mark.slow
@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_verb_sends_nothing(place, shim, words):
    code = f"{write_prelude(words[0])}from relo_edge.cli import main; main()"
    child = start_child([sys.executable, "-c", code, *words], place, shim)
    out, _ = child.communicate(timeout=300)
    assert read_log(place / "network.log") == [], out
    assert list_left(place) == [], out
    # Whatever it ended in, it got as far as its work: no wrong usage, no crash.
    assert child.returncode in (0, 1), out
    assert "Traceback" not in out


@pytest.mark.slow
def test_the_page_sends_nothing(place, shim):
    command = ("serve", "synthetic:", "--bundle", "demo", "--port", "0", "--init", "40,30,30,30")
    child = start_child([sys.executable, "-m", "relo_edge", *command], place, shim)
    try:
        for line in child.stdout:
            if "runtime:" in line:
                break
        time.sleep(1)  # a few frames
    finally:
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
    assert read_log(place / "network.log") == [], out
    assert list_left(place) == []


@pytest.mark.slow
def test_fetch_asks_for_the_hub_and_for_nobody_else(place, shim):
    clear = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "")
    clear |= {name.lower(): "" for name in clear}
    words = ("fetch", "t256", "-o", "weights")
    child = start_child([sys.executable, "-m", "relo_edge", *words], place, shim, **clear)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 1, out
    assert read_log(place / "network.log") == ["getaddrinfo huggingface.co"], out


def test_every_verb_is_tried():
    words = [getattr(entry, "values", [entry])[0] for entry in VERBS]
    tried = {"serve", "fetch", "pseudo-label", *(entry[0] for entry in words)}  # needs model files
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert tried == names


OPEN = "from relo_edge.doctor.probe import PROBES; PROBES['onnxruntime'](); PROBES['openvino']()"


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["", "0", "1"])
def test_one_variable_leaves_the_libraries_as_they_are(tmp_path, shim, switch):
    code = f"{OPEN}; import os, sys; print([os.environ.get('ORT_DISABLE_TELEMETRY'), "
    code += "sys.modules.get('openvino_telemetry', 'untouched') is None])"
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    child = start_child([sys.executable, "-c", code], tmp_path, shim, **{SWITCH: switch}, **cache)
    out, _ = child.communicate(timeout=60)
    assert out.splitlines()[-1] == ("[None, False]" if switch == "1" else "['1', True]")
    left = [path for path in tmp_path.rglob("*") if path.name in ("deviceid", "openvino_ga_cid")]
    assert not left or switch == "1"


def test_what_was_loaded_already_stays_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino_telemetry", ast)
    import_silenced("json")
    assert sys.modules["openvino_telemetry"] is ast


def list_plain_imports(path):
    """The imports of a file that do not go through `import_silenced`."""
    tree = ast.parse(path.read_text())
    checked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from (name.partition(".")[0] for name in names if id(node) not in checked)


@pytest.mark.parametrize(
    "folder", ["relo_edge", "benchmarks", "calibration", "export", "runtimes", "training"]
)
def test_such_libraries_are_imported_in_one_way_only(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not REPORTING & set(list_plain_imports(path)), path
