"""The GPU benchmark's own code, on this CPU: what it times, tells and leaves out."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from engines import write_bundle
from recording_device import open_recorded

from relo_edge.network.fixed_weights import draw_weights
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.runtimes.tensorrt.engines import find_gpu
from relo_edge.spec import VARIANTS

SCRIPT = Path(__file__).parent / "gpu_check.py"
DEMO = VARIANTS["demo"]


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROUNDS, module.STEPS, module.WARM_UP = 2, 2, 1
    return module


def refuse():
    raise RuntimeError("no such thing here")


@pytest.fixture(scope="module")
def result(check, tmp_path_factory):
    folder, weights = tmp_path_factory.mktemp("check") / "demo", draw_weights(DEMO)
    bundle, skipped, rows = write_bundle("demo", weights, folder), {}, []
    for batch in (1, 2):
        openers = [
            ("pytorch eager", lambda n=batch: PytorchRuntime(DEMO, weights, batch=n)),
            ("onnxruntime fp32", lambda n=batch: open_runtime(bundle, "onnxruntime", batch=n)),
            ("tensorrt fp32", lambda n=batch: open_recorded(bundle, n)),
            ("absent fp32", refuse),
        ]
        rows += check.measure_batch("demo", batch, openers, skipped)
    tests = {"exit": 0, "summary": "3 passed"}
    return {"gpu": "A GPU", "tests": tests, "rows": rows, "skipped": skipped}


def test_every_contender_is_timed_against_the_eager_one(result):
    rows = {(row["batch"], row["runtime"]): row for row in result["rows"]}
    names = ["pytorch eager", "onnxruntime fp32", "tensorrt fp32"]
    assert list(rows) == [(batch, name) for batch in (1, 2) for name in names]
    for (_, name), row in rows.items():
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert (row["gpu_ms"] == 0.5) == (name == "tensorrt fp32")
        assert (row["ratio_to_eager"] == 1) == (name == "pytorch eager")


def test_parity_is_measured_once(result):
    judged = [(r["batch"], r["runtime"], r["parity"]) for r in result["rows"] if r["parity"]]
    assert [entry[:2] for entry in judged] == [(1, "onnxruntime fp32"), (1, "tensorrt fp32")]
    assert all(parity["passed"] for _, _, parity in judged)


def test_what_does_not_open_is_left_out_with_its_reason(result):
    assert result["skipped"] == {
        f"demo batch {batch} absent fp32": "RuntimeError: no such thing here" for batch in (1, 2)
    }


def test_the_result_is_published_as_json_and_table(check, result, tmp_path, capsys):
    check.publish_result(result, tmp_path)
    files = sorted(path.suffix for path in tmp_path.iterdir())
    assert files == [".json", ".txt"]
    stored = json.loads(next(tmp_path.glob("*-a-gpu.json")).read_text())
    assert len(stored["rows"]) == 6
    table = capsys.readouterr().out
    assert "A GPU; tests: 3 passed" in table
    assert "left out demo batch 2 absent fp32: RuntimeError" in table
    assert table.count("onnxruntime fp32") == 2


def test_no_time_left_is_said(check, tmp_path):
    left = check.measure_variants(tmp_path, deadline=0)
    assert left == {"rows": [], "skipped": dict.fromkeys(check.VARIANTS, "no time left")}


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU")
@pytest.mark.parametrize("options", [[], ["-S"]])
def test_without_a_gpu_it_is_one_line(options):
    """-S: packages are there, but relo-edge is not installed, as on an offline machine."""
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    words = [sys.executable, *options, SCRIPT]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd="/", timeout=120, env=environment
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gpu-check: no NVIDIA GPU here (see `relo-edge doctor`)\n"
