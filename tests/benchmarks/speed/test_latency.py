"""The benchmark's bookkeeping; no test here depends on how fast this machine is."""

import json
import stat

import numpy as np
import pytest
from clips import StillRuntime, write_video
from shortened import start_at_once
from verbs import run_verb

from relo_edge.benchmarks.parity import rollout
from relo_edge.benchmarks.speed import bench, latency, load
from relo_edge.benchmarks.speed.contenders import Lap, PeerContender, RuntimeContender
from relo_edge.benchmarks.speed.environment import describe_machine
from relo_edge.benchmarks.speed.latency import make_rows, read_scene, take_turns
from relo_edge.benchmarks.speed.load import MachineLoad
from relo_edge.benchmarks.speed.power import PowerMeter
from relo_edge.benchmarks.speed.results import Proof
from relo_edge.benchmarks.speed.startup import measure_start
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.peers.registry import open_peer
from relo_edge.runtime import open_runtime

NO_POWER = PowerMeter()


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(latency, "TURNS", 2)
    monkeypatch.setattr(latency, "FRAMES", 2)
    monkeypatch.setattr(latency, "SIZE", (320, 240))
    monkeypatch.setattr(rollout, "SEEDS", range(1))
    monkeypatch.setattr(rollout, "FRAMES", 6)
    # The suite itself keeps the machine busy.
    monkeypatch.setattr(load, "LONGEST_WAIT", 0.0)


@pytest.fixture
def started(monkeypatch):
    start_at_once(monkeypatch)


def time_runtimes(scene, *runtimes, meter=NO_POWER):
    contenders = [RuntimeContender(runtime, scene.first, scene.box) for runtime in runtimes]
    calls = []
    take_turns(contenders, scene, meter, lambda: calls.append(1))
    assert len(calls) == latency.count_turns(len(runtimes))
    return contenders


@pytest.mark.slow
def test_rows_are_ratios_of_one_run(small_bundle):
    runtimes = [open_runtime(small_bundle.path, name) for name in ("pytorch", "onnxruntime")]
    scene = read_scene(None)
    contenders = time_runtimes(scene, *runtimes)
    reference, other = make_rows(contenders, scene, None, {}, {}).rows
    assert (reference.role, other.role) == ("reference", "candidate")
    assert reference.ratio_to_reference == pytest.approx(1)
    ratios = [
        np.median([lap.total for lap in one]) / np.median([lap.total for lap in two])
        for one, two in zip(*(contender.turns for contender in contenders), strict=True)
    ]
    assert other.ratio_to_reference == pytest.approx(np.median(ratios))
    assert other.ratio_quartiles == pytest.approx(tuple(np.percentile(ratios, [25, 75])))
    assert reference.ratio_quartiles == pytest.approx((1, 1))
    for row in (reference, other):
        assert 0 < row.min_ms <= row.p50_ms <= row.p90_ms <= row.p99_ms
        assert row.fps == pytest.approx(1e3 / row.p50_ms)
        assert len(row.times_ms) == 4
        assert set(row.stages_ms) == {"crop", "network", "decode_box"}
        assert 0 < row.overhead_ms < row.p50_ms
        assert all(value > 0 for value in row.stages_ms.values())
        assert row.threads >= 1
        assert row.end_to_end_fps is None


def test_turns_that_differ_are_doubted(small_bundle):
    scene = read_scene(None)
    steady, shaken = time_runtimes(scene, StillRuntime(), StillRuntime())
    for contender, seconds in ((steady, (0.1, 0.101)), (shaken, (0.1, 0.3))):
        contender.turns = [[Lap(second, {"network": 0.0})] for second in seconds]
    rows = make_rows([steady, shaken], scene, 1, {}, {}).rows
    assert rows[0].doubts == ()
    assert len(rows[1].doubts) == 1
    assert rows[1].doubts[0].startswith(f"turns of {shaken.name} (fp32) differ by ")
    busy = MachineLoad(cores=2, other_cores=1.5, steal=0.0, switches=0.0, load=5.0)
    result = make_rows([steady], scene, 1, {}, {}, busy)
    assert result.rows[0].doubts == ("other processes used 1.5 of 2 cores",)
    assert result.environment["other_cores"] == 1.5
    assert result.environment["load"] == 5.0


@pytest.mark.slow
def test_without_the_reference_there_is_no_ratio(small_bundle):
    scene = read_scene(None)
    contenders = time_runtimes(scene, open_runtime(small_bundle.path, "onnxruntime"))
    row = make_rows(contenders, scene, 1, {}, {}).rows[0]
    assert row.ratio_to_reference is row.ratio_quartiles is None
    assert row.threads == 1
    assert row.describe_parity() == "not proven"


def test_a_ratio_is_per_target(small_bundle):
    scene = read_scene(None)
    one, two = time_runtimes(scene, StillRuntime(), StillRuntime())
    for contender, seconds in ((one, 0.2), (two, 0.1)):
        contender.turns = [[Lap(seconds, {"network": 0.0})]]
    one.name, two.batch = "pytorch", 2
    row = make_rows([one, two], scene, 1, {}, {}).rows[1]
    assert row.ratio_to_reference == pytest.approx(2 * 0.2 / 0.1)


def test_a_runtime_that_knows_its_parts_is_split(small_bundle):
    runtime = StillRuntime(seconds=0.01)
    runtime.step_stages_ms = {"copy_in": 2.0, "copy_out": 1.0, "device": 4.0}
    scene = read_scene(None)
    stages = time_runtimes(scene, runtime)[0].laps[0].stages
    assert stages["copy_in"] == 0.002
    assert stages["device"] == 0.004
    assert stages["network"] >= 0.01 - 0.003
    laps = time_runtimes(scene, StillRuntime(seconds=0.01))[0].laps
    assert "copy_in" not in laps[0].stages


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_several_targets_are_stepped_at_once(small_bundle, capsys):
    words = ["--runtime", "onnxruntime", "--batch", 1, "--batch", 2, "--json"]
    code, out, _ = run_verb(capsys, "bench", small_bundle.path, *words)
    rows = json.loads(out)["rows"]
    assert code == 0
    assert [row["batch"] for row in rows] == [1, 2]


def test_a_clip_is_timed_end_to_end(small_bundle, tmp_path):
    scene = read_scene(str(write_video(tmp_path / "walk.mp4", frames=9)))
    contenders = time_runtimes(scene, StillRuntime())
    row = make_rows(contenders, scene, 1, {}, {}).rows[0]
    assert row.end_to_end_fps > 0
    assert row.stages_ms["decode"] > 0
    assert list(row.stages_ms) == ["decode", "crop", "network", "decode_box"]


def test_a_clip_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"found 2 frames after .* expected more than 2"):
        read_scene(str(write_video(tmp_path / "walk.mp4", frames=3)))


@pytest.mark.slow
def test_a_start_is_measured_in_a_process_of_its_own(small_bundle):
    opening = {"bundle": str(small_bundle.path), "name": "onnxruntime", "precision": "fp32"}
    start = measure_start(opening)
    assert start.start_up_ms > 0
    assert start.first_frame_ms > 0
    # An interpreter with numpy and OpenCV takes more than 30 MB, this test's own far more than 400.
    assert 30 < start.peak_memory_mb < 400


def test_a_start_that_fails_is_one_line(small_bundle):
    with pytest.raises(RuntimeUnavailable, match="onnxruntime in a process of its own: found"):
        measure_start({"bundle": "/nowhere", "name": "onnxruntime"})


TEGRASTATS = (
    "11-21-2026 10:00:01 RAM 3012/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) "
    "CPU [12%@1510,8%@1510,off,off] EMC_FREQ 0% GR3D_FREQ 63% cpu@48.2C gpu@47.9C "
    "VDD_IN 7320mW/7105mW VDD_CPU_GPU_CV 2480mW/2390mW VDD_SOC 1520mW/1500mW"
)


def test_power_is_drawn_from_tegrastats(tmp_path, monkeypatch):
    script = tmp_path / "tegrastats"
    script.write_text(f"#!/bin/sh\nwhile true; do echo '{TEGRASTATS}'; sleep 0.01; done\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    scene = read_scene(None)
    with PowerMeter() as meter:
        contender = time_runtimes(scene, StillRuntime(seconds=0.05), meter=meter)[0]
    row = make_rows([contender], scene, 1, {}, {}).rows[0]
    frame = np.mean([lap.total for lap in contender.laps])
    assert row.joules_per_frame == pytest.approx(7.32 * frame, rel=0.3)


def test_without_tegrastats_there_is_no_power(small_bundle):
    with PowerMeter() as meter:
        assert meter.measure_watts(0, 1e12) is None


def test_another_tracker_has_a_time_and_no_parity():
    scene = read_scene(None)
    peer = PeerContender(open_peer("mil"), scene.first, scene.box)
    take_turns([peer], scene, NO_POWER)
    row = make_rows([peer], scene, None, {}, {}).rows[0]
    assert (row.role, row.stages_ms, row.parity) == ("peer", {}, None)
    assert row.p50_ms > 0
    assert row.describe_parity() == "another tracker"
    assert row.passed


@pytest.mark.slow
def test_the_verb_prints_the_promised_json(small_bundle, capsys):
    words = ["--runtime", "pytorch", "--runtime", "openvino:fp32", "--threads", 1, "--json"]
    code, out, err = run_verb(capsys, "bench", small_bundle.path, *words)
    result = json.loads(out)
    assert code == 0
    assert result["environment"]["cores"] >= 1
    assert [row["runtime"] for row in result["rows"]] == ["pytorch", "openvino"]
    reference, other = result["rows"]
    promised = {"runtime", "precision", "batch", "p50_ms", "p90_ms", "p99_ms", "fps", "stages_ms"}
    assert promised | {"ratio_to_reference"} <= set(other)
    assert other["parity"]["passed"] is True
    assert other["parity"]["argmax_agreement"] == 1
    assert reference["parity"] is None
    assert other["threads"] == 1
    assert other["peak_memory_mb"] > 30
    assert all(word in err for word in ("timing: 4 turns", "parity: ", "start-up: 2 processes"))


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_all_that_open_are_timed_and_the_rest_is_named(small_bundle, capsys):
    code, out, err = run_verb(capsys, "bench", small_bundle.path)
    assert code == 0
    assert all(name in out for name in ("pytorch", "onnxruntime", "openvino"))
    assert "left out tensorrt-rtx: " in err
    assert "tensorrt-rtx: tensorrt-rtx" not in err


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_a_row_that_is_another_tracker_fails_the_run(small_bundle, tmp_path, capsys):
    from safetensors.torch import save_file

    from relo_edge.network.fixed_weights import draw_weights

    other = tmp_path / "other.safetensors"
    save_file(dict(draw_weights(small_bundle.variant, salt=5)), other)
    words = ["--runtime", "onnxruntime", "--checkpoint", other]
    code, out, _ = run_verb(capsys, "bench", small_bundle.path, *words)
    assert code == 1
    assert "OTHER OUTPUTS" in out
    assert "FAILED: policy_logits" in out


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_without_a_reference_nothing_is_called_proven(small_bundle, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise InputError("checkpoint", found="nothing")

    monkeypatch.setattr("relo_edge.benchmarks.speed.bench._open_reference", refuse)
    code, out, err = run_verb(capsys, "bench", small_bundle.path, "--runtime", "onnxruntime")
    assert code == 0
    assert "not proven" in out
    assert "nothing here proves" in err


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        (Proof(True, True, 0.998, 1.0, ()), "same tracker (IoU 0.998)"),
        (Proof(False, True, 0.4, 0.5, ("x",)), "NOT THE SAME TRACKER (IoU 0.400)"),
        (Proof(True, False, 0.4, 0.5, ()), "same outputs (track not judged)"),
    ],
)
def test_a_row_says_what_is_proven(proof, words):
    scene = read_scene(None)
    contenders = time_runtimes(scene, StillRuntime())
    result = make_rows(contenders, scene, 1, {0: proof}, {})
    assert words in result.describe()
    assert result.passed is proof.passed


def test_the_gpu_is_what_nvidia_smi_says(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.95.05, 1980, 3201, [N/A]'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = describe_machine()
    assert (found["gpu"], found["driver"], found["gpu_clock_mhz"]) == (
        "NVIDIA H200",
        "580.95.05",
        "1980",
    )
    assert "gpu_power_limit_w" not in found
    assert found["cores"] >= 1
    assert "" not in found.values()


@pytest.mark.slow
def test_ctrl_c_after_the_timing_loses_no_time_measured(small_bundle, capsys, monkeypatch):
    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_prove", press_ctrl_c)
    words = ["bench", small_bundle.path, "--runtime", "onnxruntime", "--threads", "1"]
    code, out, _ = run_verb(capsys, *words, "--json")
    told = json.loads(out)
    assert (code, told["interrupted"]) == (130, True)
    assert [(row["runtime"], row["parity"]) for row in told["rows"]] == [("onnxruntime", None)]
    assert len(told["rows"][0]["times_ms"]) == 4
    code, out, _ = run_verb(capsys, *words)
    assert code == 130
    assert "interrupted after the timing" in out
    assert "not proven" in out
