"""The GPU benchmark's own code, on this CPU: its order, what a kill leaves, and its cells."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import SimpleNamespace

import gpu_cells
import numpy as np
import pytest
import torch
from engines import add_int8, write_bundle
from recording_device import open_recorded

from relo_edge.errors import MissingDependency
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.runtimes.tensorrt.engines import find_gpu
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.spec import VARIANTS

SCRIPT = Path(__file__).parent / "gpu_check.py"
DEMO = VARIANTS["demo"]
GPU = Gpu("A GPU", (9, 0), 132)
ORIN = Gpu("Orin", (8, 7), 16, "NVIDIA Jetson Orin Nano")
PROBE = {"kind": "probe", "bundle": None}
BUILD = {"kind": "build", "bundle": "b", "library": "t", "precision": "fp16", "batch": 1}


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quick(monkeypatch):
    for name, value in {"WARM_UP": 0.0, "ROUNDS": 1, "STEPS": 2}.items():
        monkeypatch.setattr(gpu_cells, name, value)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "demo"
    return add_int8(write_bundle("demo", draw_weights(DEMO), folder))


def describe_order(check, given):
    return [
        (cell["kind"], Path(cell.get("bundle", "")).name, cell.get("precision"), cell.get("batch"))
        for cell in check.list_cells(given, Path("work"), "tensorrt")
    ]


def test_what_is_most_wanted_comes_first_and_the_tests_last(check):
    order = describe_order(check, [])
    assert order[:3] == [
        ("prepare", "t256", None, None),
        ("build", "t256", "fp16", 1),
        ("measure", "t256", "fp16", 1),
    ]
    assert [cell[2] for cell in order[3 : 3 + len(check.PEERS)]] == [p for _, p in check.PEERS]
    assert order[-1][0] == "tests"
    names = [name for kind, name, *_ in order if kind == "measure"]
    assert names == sorted(names, key=["t256", "b256", "l256"].index)
    cells = list(map(json.dumps, check.list_cells([], Path("work"), "tensorrt")))
    assert len(cells) == len(set(cells))


def test_a_bundle_that_is_given_is_not_made(check):
    order = describe_order(check, ["/some/relo-x"])
    assert "prepare" not in {kind for kind, *_ in order}
    assert {name for kind, name, *_ in order if kind == "measure"} == {"relo-x"}


def run(check, monkeypatch, tmp_path, answer, *words, gpu=GPU):
    """A whole run whose cells are answered here; the cells that really ran."""
    ran = []

    def process(cell):
        ran.append(cell["kind"])
        return answer(cell)

    monkeypatch.setattr(check, "run_process", process)
    monkeypatch.setattr(check, "list_cells", lambda *_: iter((BUILD, {"kind": "tests"})))
    options = SimpleNamespace(output=tmp_path, bundle=[], minutes=5.0, again="--again" in words)
    return check.run_cells(gpu, options), ran


def succeed(cell):
    results = {"probe": {"library": "tensorrt"}, "build": {"plans": []}, "tests": {"summary": "3"}}
    return {"status": "ok", "seconds": 1, "result": results[cell["kind"]]}


def test_a_second_run_skips_what_is_done(check, monkeypatch, tmp_path, capsys):
    code, ran = run(check, monkeypatch, tmp_path, succeed)
    assert (code, ran) == (0, ["probe", "build", "tests"])
    assert run(check, monkeypatch, tmp_path, succeed) == (0, [])
    assert "probe: library tensorrt" in capsys.readouterr().out


def test_an_engine_that_is_gone_is_built_again(check, monkeypatch, tmp_path):
    def answer(cell):
        line = succeed(cell)
        if cell["kind"] == "build":
            line["result"] = {"plans": ["gone.plan"]}
        return line

    run(check, monkeypatch, tmp_path, answer)
    assert run(check, monkeypatch, tmp_path, answer)[1] == ["build"]


def test_a_failure_is_written_down_and_tried_again_when_asked(check, monkeypatch, tmp_path, capsys):
    def answer(cell):
        if cell["kind"] == "build":
            return {"status": "timeout", "seconds": 9, "reason": "no result after 9 s"}
        return succeed(cell)

    assert run(check, monkeypatch, tmp_path, answer)[0] == 1
    assert "timeout: build b t fp16 batch 1: no result after 9 s" in capsys.readouterr().out
    assert run(check, monkeypatch, tmp_path, succeed) == (1, [])
    assert run(check, monkeypatch, tmp_path, succeed, "--again") == (0, ["build"])


def test_a_torn_line_is_no_result_and_hides_none(check, tmp_path):
    log = tmp_path / "x.jsonl"
    check.append_line(log, {"cell": PROBE, "status": "ok"})
    whole = log.read_bytes()
    for end in range(len(whole)):
        log.write_bytes(whole + whole[:end])
        assert [line["cell"] for line in check.read_lines(log)] == [PROBE]
        check.append_line(log, {"cell": BUILD, "status": "ok"})
        assert [line["cell"] for line in check.read_lines(log)] == [PROBE, BUILD]


FAKE = """
import sys, time
sys.path.insert(0, {folder!r})
import importlib.util
spec = importlib.util.spec_from_file_location("gpu_check", {script!r})
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)
check.make_importable(__import__("pathlib").Path({scratch!r}))
from relo_edge.runtimes.tensorrt.gpu import Gpu
from types import SimpleNamespace
from pathlib import Path
def process(cell):
    time.sleep(0.05)
    return {{"status": "ok", "seconds": 0, "result": {{"library": "t", "plans": []}}}}
check.run_process = process
check.list_cells = lambda *_: ({{"kind": "build", "bundle": str(i)}} for i in range(10_000))
options = SimpleNamespace(output=Path({output!r}), bundle=[], minutes=5.0, again=False)
check.run_cells(Gpu("A GPU", (9, 0)), options)
"""


def test_a_run_that_is_killed_leaves_what_it_had(check, tmp_path):
    (tmp_path / "scratch").mkdir()
    source = FAKE.format(
        folder=str(SCRIPT.parent),
        script=str(SCRIPT),
        scratch=str(tmp_path / "scratch"),
        output=str(tmp_path / "out"),
    )
    child = subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.DEVNULL)
    log = tmp_path / "out" / "gpu-check-a-gpu.jsonl"
    deadline = time.monotonic() + 120
    while len(check.read_lines(log)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    lines = check.read_lines(log)
    assert len(lines) >= 3
    assert all(line["status"] == "ok" for line in lines)
    assert log.with_suffix(".txt").read_text().startswith("probe: library t")


def play_script(check, monkeypatch, tmp_path, source):
    script = tmp_path / "cell.py"
    script.write_text(source)
    monkeypatch.setattr(check, "__file__", str(script))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "status", "reason"),
    [
        ("print('result: {}')", "ok", None),
        ("import sys; sys.exit('no engine')", "failed", "no engine"),
        ("import os; os.abort()", "failed", "exit code -6"),
        ("print('nothing')", "failed", "exit code 0"),
        ("import time; time.sleep(600)", "timeout", "no result after"),
    ],
)
def test_a_cell_ends_in_one_line_however_it_ends(
    check, monkeypatch, tmp_path, source, status, reason
):
    play_script(check, monkeypatch, tmp_path, source)
    monkeypatch.setitem(check.TIMEOUTS, "probe", 3.0 if status == "timeout" else 60.0)
    line = check.run_process(PROBE)
    assert line["status"] == status
    assert line.get("reason", "").startswith(reason or "")


@pytest.mark.slow
def test_a_contender_is_timed_and_judged(quick, bundle, monkeypatch):
    opened = {
        "tensorrt": lambda batch: open_recorded(bundle, batch),
        "onnxruntime": lambda batch: open_runtime(bundle, "onnxruntime", batch=batch),
    }
    monkeypatch.setattr(
        gpu_cells, "open_contender", lambda _bundle, name, _precision, batch: opened[name](batch)
    )
    path = str(bundle.path)
    one = gpu_cells.measure(path, "tensorrt", "fp32", 1)
    assert one["p99_ms"] >= one["p50_ms"] > 0
    assert (one["gpu_ms"], one["parity"]) == (0.5, True)
    two = gpu_cells.measure(path, "onnxruntime", "fp32", 2)
    assert (two["gpu_ms"], two["parity"]) == (None, None)
    assert gpu_cells.measure(path, "tensorrt", "int8", 1)["parity"] is None  # not calibrated


@pytest.mark.slow
@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_a_compiled_peer_is_the_same_network(monkeypatch, half, tolerance):
    """As far as a CPU can tell: without the compiler's last step, which needs a GPU."""
    monkeypatch.setattr(gpu_cells, "COMPILING", {"backend": "eager"})
    torch.compiler.reset()
    plain, compiled = (PytorchRuntime(DEMO, draw_weights(DEMO)) for _ in range(2))
    calls = []
    compiled._network.module.register_forward_hook(
        lambda *_: calls.append(torch.is_autocast_enabled("cpu"))
    )
    gpu_cells.compile_network(compiled, half=half)
    crops = np.random.default_rng(0).integers(0, 256, (3, 1, 128, 128, 3), np.uint8)
    window = np.ones((DEMO.grid, DEMO.grid), np.float32)
    for runtime in (plain, compiled):
        gpu_cells.start_targets(runtime)
    for crop in crops:
        want, got = (runtime.step([0], crop, window) for runtime in (plain, compiled))
        np.testing.assert_allclose(got.maps, want.maps, atol=tolerance * np.abs(want.maps).max())
    assert set(calls) == {half}


def test_what_is_not_here_is_skipped_and_no_failure(check, monkeypatch, tmp_path, capsys):
    def lack(**_):
        raise gpu_cells.NotHere("b has no fp8 graphs")

    def miss(**_):
        raise MissingDependency("torch is not installed")

    for kind, answer in (("build", lack), ("measure", miss)):
        monkeypatch.setitem(gpu_cells.KINDS, kind, answer)
    peer = check.measure("b", "pytorch", "eager", 1)
    assert gpu_cells.run_cell(peer) == {"skipped": "torch is not installed"}
    with pytest.raises(MissingDependency):
        gpu_cells.run_cell(check.measure("b", "tensorrt", "fp16", 1))
    told = json.dumps(gpu_cells.run_cell(BUILD))
    play_script(check, monkeypatch, tmp_path, f"print({check.MARK + told!r})")
    line = check.run_process(PROBE)
    assert (line["status"], line["reason"]) == ("skipped", "b has no fp8 graphs")

    def answer(cell):
        return line if cell["kind"] == "build" else succeed(cell)

    assert run(check, monkeypatch, tmp_path, answer)[0] == 0
    assert "skipped: build b t fp16 batch 1: b has no fp8 graphs" in capsys.readouterr().out


def test_a_precision_that_cannot_be_is_told_before_any_work(bundle, monkeypatch):
    with pytest.raises(gpu_cells.NotHere, match="demo has no fp8 graphs"):
        gpu_cells.check_possible(str(bundle.path), "fp8")
    monkeypatch.setattr("relo_edge.runtimes.tensorrt.gpu.find_gpu", lambda: ORIN)
    gpu_cells.check_possible(str(bundle.path), "fp32")
    monkeypatch.setattr("relo_edge.bundle.Bundle.precisions", ("fp32", "fp8"))
    with pytest.raises(gpu_cells.NotHere, match=r"fp8 on Orin: found compute capability 8\.7"):
        gpu_cells.check_possible(str(bundle.path), "fp8")


def test_a_jetson_gets_longer(check, monkeypatch, tmp_path):
    monkeypatch.setattr(check, "TIMEOUTS", dict(check.TIMEOUTS))
    before = check.TIMEOUTS["probe"]
    run(check, monkeypatch, tmp_path, succeed, gpu=ORIN)
    assert check.TIMEOUTS["probe"] == 4 * before


@pytest.mark.slow
def test_a_made_bundle_has_every_precision_that_is_built(check, tmp_path):
    made = gpu_cells.prepare(str(tmp_path / "demo"))
    assert {"fp16", *check.OTHERS} <= set(made["precisions"])


def test_the_table_compares_with_the_eager_network(check):
    def line(runtime, precision, p50, parity):
        result = {"p50_ms": p50, "p99_ms": p50 + 1, "gpu_ms": None, "parity": parity}
        cell = check.measure("t256", runtime, precision, 1)
        return {"cell": cell, "status": "ok", "result": result}

    table = check.describe_results(
        [line("tensorrt", "fp16", 0.5, False), line("pytorch", "eager", 6.0, True)]
    ).splitlines()
    assert [row.split()[-2:] for row in table[1:]] == [["12.00", "FAILED"], ["1.00", "passed"]]


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


def test_it_needs_no_torch_to_begin():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gpu_cells; "
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    helpers = str(SCRIPT.parent / "helpers")
    assert subprocess.run([sys.executable, "-c", code, helpers]).returncode == 0
