"""The package as users get it: the wheel, in an environment that has little else."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
HASHED = ROOT / "constraints-hashed.txt"
WORKSHOPS = ("benchmarks", "calibration", "export", "runtimes", "training")


def run(*command, **options):
    # A new environment's pip may be too old for the hashed pins that `make` names.
    options.setdefault("env", {**os.environ, "PIP_CONSTRAINT": ""})
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=600, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    return next(folder.glob("*.whl"))


def run_pip(binaries, *words):
    """This environment's pip on another one, whose own would take ten seconds to put there."""
    return run(sys.executable, "-m", "pip", "--python", binaries / "python", *words)


def install(binaries, package):
    run_pip(binaries, "install", "--quiet", "--no-compile", "-c", CONSTRAINTS, package)


@pytest.fixture(scope="module")
def base(tmp_path_factory, wheel):
    """A virtual environment with the wheel and no extra."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False)
    install(folder / "bin", wheel)
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_drops_nothing_but_relo_edge(wheel):
    listing = run(sys.executable, "-m", "zipfile", "-l", wheel)
    tops = {line.split("/")[0] for line in listing.splitlines()[1:]}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"relo_edge"}
    assert "relo_edge/py.typed" in listing
    assert "relo_edge/export/graphs.py" in listing
    assert "relo_edge/serve/page/index.html" in listing
    assert "relo_edge/export/demo_bundle/step.onnx" in listing


@pytest.mark.slow
def test_the_wheel_holds_every_module_of_the_tree_and_no_other(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    core = {f"relo_edge/{path}" for path in list_modules(ROOT / "relo_edge")}
    for workshop in WORKSHOPS:
        core |= {f"relo_edge/{workshop}/{path}" for path in list_modules(ROOT / workshop)}
    assert packed == core


def list_modules(folder):
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.py")]


@pytest.mark.slow
def test_the_base_install_helps_and_says_what_is_missing(base, tmp_path):
    packages = run_pip(base, "list", "--format=freeze")
    assert "torch" not in packages
    assert "onnx" not in packages
    assert "Usage: relo-edge" in run(base / "relo-edge", "--help")
    doctor = subprocess.run(
        [base / "relo-edge", "doctor"], capture_output=True, text=True, cwd=tmp_path
    )
    assert doctor.returncode == 1
    assert "relo-edge[cpu]" in doctor.stdout
    words = ["track", "x.mp4", "--bundle", "demo", "--init", "1,2,3,4"]
    track = subprocess.run([base / "relo-edge", *words], capture_output=True, text=True)
    assert track.returncode == 2
    assert len(track.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_wheel_tracks_with_onnxruntime_and_no_torch(base, small_bundle, tmp_path):
    install(base, "onnxruntime")
    code = "from relo_edge.synthetic.clip import make_clip; import cv2, sys\n"
    code += "for i, f in enumerate(make_clip(1, 5).frames()): cv2.imwrite(f'{i}.png', f)"
    run(base / "python", "-c", code, cwd=tmp_path)
    words = ["--bundle", small_bundle.path, "--init", "200,100,60,60", "--boxes", "boxes.csv"]
    out = run(base / "relo-edge", "track", tmp_path, *words, cwd=tmp_path)
    assert "5 frames" in out
    assert len((tmp_path / "boxes.csv").read_text().splitlines()) == 6


NEEDS = {
    "quantize bundle --int8": "export",
    "train warmup": "train",
    "parity bundle": "export",
    "parity bundle --plot p.png": "bench",
    "export --checkpoint x.pth": "export",
    "fetch t256": "export",
    "serve synthetic: --bundle bundle": "serve",
    "build-engine bundle --fp16": "rtx",
    "triton bundle": "triton",
}


@pytest.mark.slow
def test_a_verb_that_needs_more_names_the_extra(base, small_bundle, tmp_path):
    install(base, "onnxruntime")
    (tmp_path / "bundle").symlink_to(small_bundle.path)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for command, extra in NEEDS.items():
        words = [base / "relo-edge", *command.split()]
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
        )
        assert done.returncode in (1, 2), command
        assert "Traceback" not in done.stderr, command
        assert f"relo-edge[{extra}]" in done.stderr.splitlines()[-1], command


def test_each_pin_has_its_hashes():
    """As `make pins` writes them; torch's CPU builds have hashes of their own."""
    entries = HASHED.read_text().replace("\\\n", " ").splitlines()[1:]
    pins = [line for line in CONSTRAINTS.read_text().splitlines() if line and line[0] != "#"]
    assert [entry.partition("--hash")[0].strip() for entry in entries] == pins
    unhashed = {entry for entry in entries if "--hash=sha256:" not in entry}
    assert all(entry.startswith("torch==") for entry in unhashed)
