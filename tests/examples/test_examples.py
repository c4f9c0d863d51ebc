"""Every example runs as it stands, in a process and a folder of its own; calibration is short."""

import ast
import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from shortened import write_prelude

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
ALL = [*FILES, *sorted(EXAMPLES.glob("*/*.py"))]
PUBLIC = {
    "relo_edge",
    *(f"relo_edge.{name}" for name in ("adapters", "fleet", "pipeline", "triton")),
}


def run_example(file, folder, *words, prelude=""):
    code = f"{prelude}import runpy, sys; sys.argv.pop(0); "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, file, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=580,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run(tmp_path):
    return partial(run_named, tmp_path)


def run_named(folder, name, *words, **options):
    return run_example(EXAMPLES / name, folder, *words, **options)


@pytest.mark.slow
def test_the_camera_loop_follows(run):
    lines = run("camera_loop.py").splitlines()
    assert len(lines) > 10
    assert all(line.startswith("frame ") for line in lines)
    assert not any(line.endswith("lost") for line in lines)


@pytest.mark.slow
def test_targets_come_and_go(run):
    lines = run("many_targets.py").splitlines()
    assert [line.split("[")[0].split() for line in lines] == [
        [str(frame), "target", name]
        for frame, names in ((9, "012"), (19, "012"), (29, "12"))
        for name in names
    ]


@pytest.mark.slow
def test_cameras_come_and_go(run):
    lines = run("fleet.py").splitlines()
    assert [line.split(":")[0] for line in lines] == ["cam0", "cam1", "cam2", "late"]
    assert all(" frames, last box [" in line for line in lines)


@pytest.mark.slow
def test_opencvs_loop_runs(run):
    lines = run("opencv_drop_in.py").splitlines()
    assert len(lines) == 89
    assert sum(line.startswith("followed") for line in lines) > 80


@pytest.mark.slow
def test_supervision_draws(run, tmp_path):
    pytest.importorskip("supervision")
    assert run("draw_with_supervision.py", "out.png") == "wrote out.png\n"
    assert (tmp_path / "out.png").stat().st_size > 10_000


@pytest.mark.slow
def test_labels_are_written(run, tmp_path):
    assert "wrote labels.xml" in run("labels_for_cvat.py")
    assert '<track id="0" label="ball"' in (tmp_path / "labels.xml").read_text()
    assert (tmp_path / "labels.labelstudio.json").exists()
    assert (tmp_path / "labels.coco.json").exists()


@pytest.mark.slow
def test_the_custom_runtime_finds_the_same_box(run):
    mine, theirs = run("custom_runtime.py").splitlines()
    assert mine.replace("mine ", "") == theirs.replace("onnxruntime ", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stand-in", "tritonserver"])
def test_the_triton_client_follows(run, kind, demo_bundle, tmp_path):
    from triton_server import start_server

    server = start_server(kind, demo_bundle, tmp_path)
    try:
        lines = run("triton_client.py", server.url).splitlines()
    finally:
        server.kill()
    assert len(lines) > 10
    assert all(line.startswith("frame ") for line in lines)
    assert "started again" not in "".join(lines)


@pytest.mark.slow
def test_int8_is_made_and_compared(run, tmp_path):
    short = write_prelude("quantize", "parity", "bench", starts=False)
    out = run("calibrate_and_compare.py", prelude=short)
    assert "precisions: fp32, int8" in out
    assert "same tracker: True" in out
    assert (tmp_path / "relo-demo" / "step.int8.onnx").exists()


def test_every_example_is_run_above():
    source = Path(__file__).read_text()
    for file in FILES:
        assert f'"{file.name}"' in source.split("def run_example")[1], file.name


@pytest.mark.parametrize("file", ALL, ids=lambda f: f.name)
def test_an_example_imports_what_is_public(file):
    """What a user copies is kept from version to version."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("relo_edge.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "relo_edge":
            assert node.module in PUBLIC
            names = {alias.name for alias in node.names}
            assert names <= set(importlib.import_module(node.module).__all__)


@pytest.mark.parametrize("file", ALL, ids=lambda f: f.name)
def test_an_example_is_short_and_listed(file):
    lines = file.read_text().splitlines()
    assert 20 <= len(lines) <= 80
    assert ast.get_docstring(ast.parse("\n".join(lines)))
    assert f"({file.relative_to(EXAMPLES)})" in (EXAMPLES / "README.md").read_text()
