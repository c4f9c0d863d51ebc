"""`quantize` from end to end: what is published, what is refused, and what is left behind."""

import json
import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import typer
from engines import quantize_products
from verbs import run_verb

from relo_edge.bundle import open_bundle
from relo_edge.calibration import plan
from relo_edge.calibration import quantize as precision
from relo_edge.calibration import verdict as gate
from relo_edge.calibration.quantize import quantize_fp16, quantize_int8, record_clips
from relo_edge.calibration.verdict import (
    StepScore,
    TrackScore,
    judge,
    mark_held,
    measure_outputs,
    score_track,
)
from relo_edge.cli import app
from relo_edge.contract import PIXELS, describe_graph
from relo_edge.errors import GateError, InputError
from relo_edge.geometry import box_iou, read_box
from relo_edge.measures.gates import ParityGate, StartSensitivity
from relo_edge.measures.tensor_errors import OutputError
from relo_edge.runtime import open_runtime
from relo_edge.spec import VARIANTS
from relo_edge.tracker import Tracker

FRAMES = 8


def copy_bundle(bundle, folder):
    shutil.copytree(bundle.path, folder / "bundle")
    return open_bundle(folder / "bundle")


@pytest.fixture
def bundle(small_bundle, tmp_path):
    return copy_bundle(small_bundle, tmp_path)


@pytest.fixture(scope="module")
def recording(small_bundle):
    return record_clips(small_bundle, [], FRAMES)


@pytest.fixture(scope="module")
def demo_recording(demo_bundle):
    return record_clips(demo_bundle, [], FRAMES)


def track_few(bundle, runtime, name):
    rng = np.random.default_rng(0)
    tracker = Tracker(open_runtime(bundle.path, runtime, name), color="bgr")
    frame = rng.integers(0, 256, (120, 160, 3), np.uint8)
    tracker.init(frame, (50, 40, 40, 30))
    return [tracker.update(frame).score for _ in range(3)]


def read_scale(path, tensor):
    graph = onnx.load(path).graph
    (pair,) = (n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == tensor)
    (scale,) = (w for w in graph.initializer if w.name == pair.input[1])
    return float(onnx.numpy_helper.to_array(scale))


@pytest.mark.slow
def test_int8_is_added_with_its_calibration_and_verdict(demo_bundle, demo_recording, tmp_path):
    bundle = copy_bundle(demo_bundle, tmp_path)
    result = quantize_int8(bundle, demo_recording, "percentile")
    after = open_bundle(bundle.path)
    assert after.precisions == ("fp32", "int8")
    assert not after.find_damage()
    notes = json.loads((bundle.path / "calibration.json").read_text())
    assert notes["method"] in ("percentile", "percentile smoothed")
    assert notes["samples"] == FRAMES
    assert {"graph", "clip", "plan"} <= set(notes["recorded_from"])
    assert after.manifest["verdicts"]["int8"]["passed"] is True
    assert result.to_dict()["share_of_float32"] <= 0.30
    assert read_scale(after.graph("step", "int8"), PIXELS) == 1, "pixels lose nothing"
    floats = track_few(bundle, "onnxruntime", "fp32")
    for runtime in ("onnxruntime", "openvino"):
        # Only the first: an untrained tracker's next crop hangs on near ties.
        assert track_few(bundle, runtime, "int8")[0] == pytest.approx(floats[0], abs=0.2)


def check_stages(err):
    """Every stage says that it is one of as many as there are."""
    stages = re.findall(r"^.* \((\d+) of (\d+)\): ", err, re.MULTILINE)
    numbers = sorted({int(number) for number, _ in stages})
    assert numbers == list(range(1, len(numbers) + 1))
    assert {int(total) for _, total in stages} == {len(numbers)}


@pytest.mark.slow
def test_auto_keeps_the_method_that_is_closest(bundle, capsys, monkeypatch):
    monkeypatch.setattr(plan, "FRAMES", FRAMES)
    code, out, err = run_verb(capsys, "quantize", bundle.path, "--int8", "--json")
    assert code == 0
    check_stages(err)
    # An untrained tracker's track says nothing: the worst output decides.
    judged = re.findall(r"(\w+(?: smoothed)?): .*closed-loop IoU.*worst cosine ([\d.]+)", err)
    scores = {method: float(cosine) for method, cosine in judged}
    plain = {"minmax", "percentile", "entropy", "mse"}
    assert plain < set(scores)
    assert len(scores) == 5  # the best of them was tried with smoothed norms as well
    assert scores[json.loads(out)["method"]] == max(scores.values())


@pytest.mark.slow
def test_fp16_is_close_and_says_what_stays_float32(bundle, recording):
    result = quantize_fp16(bundle, recording)
    after = open_bundle(bundle.path)
    assert not after.find_damage()
    assert after.state_dtype("fp16") == "float16"
    assert result.verdict.outputs["policy_logits"].relative <= 5e-3
    assert result.to_dict()["share_of_float32"] <= 0.52
    kept = json.loads((bundle.path / "fp16.json").read_text())["kept_in_float32"]
    assert kept["step"]
    assert all(kept["step"].values())
    floats = track_few(bundle, "onnxruntime", "fp32")
    assert track_few(bundle, "onnxruntime", "fp16")[0] == pytest.approx(floats[0], abs=2e-2)


@pytest.mark.slow
def test_both_precisions_live_side_by_side(bundle, recording):
    quantize_int8(bundle, recording, "minmax")
    quantize_fp16(open_bundle(bundle.path), recording)
    assert open_bundle(bundle.path).precisions == ("fp32", "int8", "fp16")
    assert not open_bundle(bundle.path).find_damage()


@pytest.mark.slow
def test_below_the_gate_nothing_is_kept(bundle, recording, monkeypatch):
    before = sorted(p.name for p in bundle.path.iterdir())
    strict = ParityGate(
        relative=1e-6,
        cosine=0.999999,
        box=1e-6,
        argmax_agreement=1.0,
        closed_loop_iou=1.0,
        choice=1.0,
    )
    monkeypatch.setitem(gate.GATES, "int8", strict)
    with pytest.raises(GateError, match=r"int8 of .* is not kept: found .*offsets cosine 0\.\d+"):
        quantize_int8(bundle, recording, "minmax")
    assert sorted(p.name for p in bundle.path.iterdir()) == before
    assert open_bundle(bundle.path).precisions == ("fp32",)


@pytest.mark.slow
def test_a_second_time_replaces_whole_or_not_at_all(bundle, recording, monkeypatch):
    first = quantize_int8(bundle, recording, "minmax").bundle

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("relo_edge.bundle.write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            quantize_int8(first, recording, "percentile")
    assert not open_bundle(bundle.path).find_damage()
    quantize_int8(first, recording, "percentile")
    assert not open_bundle(bundle.path).find_damage()
    assert (
        json.loads((bundle.path / "calibration.json").read_text())["method"].split()[0]
        == "percentile"
    )


@pytest.mark.slow
def test_a_search_keeps_its_table_and_meets_a_gate_that_all_of_int8_does_not(
    bundle, recording, monkeypatch
):
    whole = quantize_int8(bundle, recording, "minmax").verdict.worst_output[1].cosine
    strict = replace(gate.GATES["int8"], cosine=(1 + whole) / 2)
    monkeypatch.setitem(gate.GATES, "int8", strict)
    result = quantize_int8(open_bundle(bundle.path), recording, "minmax", search=True)
    table = json.loads((bundle.path / "sensitivity.json").read_text())
    assert table["kept_in_float32"]
    assert result.verdict.worst_output[1].cosine >= strict.cosine
    assert (bundle.path / "sensitivity.png").stat().st_size > 1000
    assert not open_bundle(bundle.path).find_damage()


def test_an_unknown_method_is_refused(bundle, recording):
    with pytest.raises(InputError, match="found guess, expected auto | minmax"):
        quantize_int8(bundle, recording, "guess")


def test_an_unknown_method_is_refused_before_the_recording(bundle, capsys):
    words = ["quantize", bundle.path, "--int8", "--method", "guess"]
    code, _, err = run_verb(capsys, *words)
    assert code == 2
    assert err.startswith("relo-edge: method: found guess")


STEADY = StartSensitivity(1.0)


def good_outputs(**changes):
    judged = gate.list_judged(describe_graph(VARIANTS["demo"], "step"))
    errors = dict.fromkeys(judged, OutputError(1e-2, 1e-3, 0.9999)) | changes
    return StepScore(errors, 1.0, 10, 10)


def test_one_lost_output_fails_whatever_the_others_say():
    verdict = judge(
        "int8", good_outputs(offsets=OutputError(2.0, 2.0, -0.42)), TrackScore(1.0, STEADY)
    )
    assert verdict.failures[0] == "offsets cosine -0.4200 < 0.99"
    assert judge("int8", good_outputs(), TrackScore(1.0, STEADY)).passed


def test_nan_fails():
    nan = float("nan")
    assert not judge(
        "int8", good_outputs(sizes=OutputError(nan, nan, nan)), TrackScore(1.0, STEADY)
    ).passed
    assert not judge("fp16", good_outputs(), TrackScore(nan, STEADY)).passed


def test_the_closed_loop_is_judged_only_where_float32_tracks():
    assert not judge("fp16", good_outputs(), TrackScore(0.5, STEADY, 0.9)).passed
    assert not judge("fp16", good_outputs(), TrackScore(0.5, STEADY)).passed
    unjudged = judge("fp16", good_outputs(), TrackScore(0.5, STEADY, 0.1))
    assert unjudged.passed
    assert "cells and track not judged" in unjudged.describe()


@pytest.mark.slow
def test_cells_count_where_float32_holds_its_target(demo_bundle, demo_recording, tmp_path):
    step, contract = demo_bundle.graph("step"), describe_graph(demo_bundle.variant, "step")
    rough = tmp_path / "rough.onnx"
    feeds = list(demo_recording.step_feeds())[:8]

    def measure(held, feeds=feeds):
        return measure_outputs(step, rough, contract, feeds, held)

    for threshold in (40.0, 30.0, 20.0, 10.0):  # onnxruntime's releases round differently
        onnx.save(quantize_products(onnx.load(step), threshold=threshold), rough)
        same = np.array([measure([True], [one]).argmax_agreement for one in feeds]) == 1
        if 0 < same.sum() < len(feeds):
            break
    assert 0 < same.sum() < len(feeds)
    for held, agreement in ((same, 1), (~same, 0), (same | True, same.mean())):
        steps = measure(held)
        assert (steps.argmax_agreement, steps.judged_cells) == (agreement, held.sum())
        assert steps.samples == len(feeds)
        verdict = judge("int8", steps, TrackScore(1.0, STEADY, 0.9))
        failed = any("argmax agreement" in failure for failure in verdict.failures)
        assert failed == (agreement < 0.8)
        words = f"{agreement:.1%} of the {held.sum()} samples in which float32 is on its target"
        assert f"same cell chosen in {words}" in verdict.describe()
    assert measure(same & False).judged_cells == len(feeds), "reported where none is held"


def test_float32_holds_where_it_overlaps_the_truth_or_none_is_known(demo_recording, demo_bundle):
    held = list(mark_held(demo_recording, demo_bundle.variant))
    assert len(held) == len(list(demo_recording.step_feeds()))
    truth = np.concatenate([run.truth for run in demo_recording.runs])
    pairs = zip(np.concatenate(list(demo_recording.boxes())), truth, strict=True)
    assert held == [box_iou(read_box(a), read_box(b)) >= 0.5 for a, b in pairs]
    assert 0 < sum(held) < len(held)
    unknown = [replace(run, clip=replace(run.clip, truth=None)) for run in demo_recording.runs]
    assert all(mark_held(replace(demo_recording, runs=tuple(unknown)), demo_bundle.variant))


def test_frames_that_the_float_tracker_lost_say_nothing():
    nan = np.nan
    theirs = np.array([0.9, 0.2, 0.6, nan])
    followed = np.array([[0.9, 0.1, 0.8, 0.7], [1.0, 0.0, 0.9, 0.8], [1.0, 0.0, 0.7, 0.7]])
    overlaps = np.array([[0.8, 0.0, 0.7, nan], [0.9, 0.2, 0.5, nan], [0.9, 0.3, 0.6, nan], theirs])
    score = score_track(followed, overlaps)
    assert score.closed_loop_iou == pytest.approx((0.9 + 0.8 + 0.7) / 3)
    assert score.start_sensitivity.closed_loop_iou == pytest.approx((1.0 + 0.7 + 0.7) / 3)
    assert score.float_iou == pytest.approx((0.9 + 0.2 + 0.6) / 3)
    shares = [sum(x > t / 20 for t in range(21)) for x in (0.9, 0.2, 0.6, 0.8, 0.0, 0.7, 0.5)]
    assert score.auc_loss == pytest.approx((sum(shares[:3]) - sum(shares[3:6])) / 63)
    assert score.start_sensitivity.auc_loss == pytest.approx((shares[2] - shares[6]) / 63)
    alone = score_track(followed, np.full((4, 4), nan))
    assert alone.closed_loop_iou == pytest.approx(followed[0].mean())
    assert alone.start_sensitivity == StartSensitivity(pytest.approx(followed[2].mean()))
    lost = np.vstack([overlaps[:3], np.zeros(4)])
    assert score_track(followed, lost).closed_loop_iou == pytest.approx(followed[0].mean())
    assert score_track(followed, lost).start_sensitivity.auc_loss == 0


def test_less_is_asked_where_float32_hardly_follows_itself():
    assert judge("fp16", good_outputs(), TrackScore(0.9, StartSensitivity(0.91))).passed
    verdict = judge("fp16", good_outputs(), TrackScore(0.9, StartSensitivity(0.95)))
    assert verdict.failures == ("closed-loop IoU 0.900 < 0.930",)


def test_a_lost_auc_fails_where_float32_tracks():
    assert judge("int8", good_outputs(), TrackScore(0.95, STEADY, 0.8, 0.01)).passed
    verdict = judge("int8", good_outputs(), TrackScore(0.95, STEADY, 0.8, 0.05))
    assert verdict.failures == ("AUC 0.050 below float32's > 0.030",)
    assert judge("int8", good_outputs(), TrackScore(0.95, STEADY, 0.2, 0.05)).passed


def test_a_verdict_says_on_which_side_the_auc_is_and_doubts_what_does_not_track():
    lost = judge("int8", good_outputs(), TrackScore(0.95, STEADY, 0.8, 0.01)).describe()
    assert "AUC 0.010 below float32's" in lost
    won = judge("int8", good_outputs(), TrackScore(0.95, STEADY, 0.4, -0.01)).describe()
    assert "AUC 0.010 above float32's" in won
    assert "untrained" not in lost + won
    astray = judge("int8", good_outputs(), TrackScore(0.09, STEADY, 0.05, 0.0)).describe()
    assert "overlaps the truth by only 0.05 (untrained weights?)" in astray


@pytest.mark.slow
def test_the_verb(bundle, capsys, monkeypatch):
    monkeypatch.setattr(plan, "FRAMES", FRAMES)
    code, out, err = run_verb(capsys, "quantize", bundle.path, "--fp16", "--json")
    assert code == 0
    assert json.loads(out)["passed"] is True
    assert json.loads(out)["samples"] == FRAMES
    assert "recording (1 of 4):" in err
    code, out, _ = run_verb(capsys, "inspect", bundle.path)
    assert code == 0
    assert "step.fp16.onnx" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["--fp16"], ["--fp8"], ["--int8", "--method", "minmax"], ["--int8", "--quick"]],
    ids=" ".join,
)
def test_every_stage_is_one_of_as_many_as_were_told(bundle, capsys, monkeypatch, words):
    monkeypatch.setattr(plan, "FRAMES", FRAMES)
    monkeypatch.setattr(precision, "QUICK_FRAMES", FRAMES)
    monkeypatch.setattr(gate.Verdict, "passed", property(lambda _: True))
    _, _, err = run_verb(capsys, "quantize", bundle.path, *words)
    check_stages(err)


@pytest.mark.slow
def test_quick_records_less_and_tries_one_method(bundle, capsys, monkeypatch):
    monkeypatch.setattr(precision, "QUICK_FRAMES", FRAMES)
    code, out, _ = run_verb(capsys, "quantize", bundle.path, "--int8", "--quick")
    assert code == 0
    assert "of float32, percentile\n" in out
    assert f"int8 against float32, {FRAMES} samples" in out
    (command,) = re.findall("to use it: --precision int8; or `relo-edge (bench .*)`, and", out)
    verb, *rest = shlex.split(command)
    typer.main.get_group(app).commands[verb].make_context(verb, rest)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_what_is_not_installed_is_named_before_the_recording(bundle, capsys, monkeypatch, package):
    monkeypatch.setattr(precision, "find_spec", lambda name: None if name == package else name)
    for words in (["quantize", bundle.path, "--int8"], ["build-engine", bundle.path, "--int8"]):
        code, _, err = run_verb(capsys, *words)
        assert code == 1
        assert err.startswith(f"relo-edge: {package} is not installed; `pip install")


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ([], "found none, expected --int8, --fp8 or --fp16"),
        (["--int8", "--fp16"], "found --int8 and --fp16"),
        (["--fp8", "--search"], "--search and --ranges are for INT8: found them with --fp8"),
        (["--fp16", "--attention"], "--attention is for INT8 and FP8"),
        (["--int8", "--bf16-attention"], "--bf16-attention is for FP16: found it with --int8"),
        (["--int8", "--clips", "nowhere.mp4"], "nowhere.mp4"),
    ],
)
def test_wrong_use_is_one_line(bundle, capsys, words, word):
    code, out, err = run_verb(capsys, "quantize", bundle.path, *words)
    assert code in (1, 2)
    assert not out
    assert len(err.splitlines()) == 1
    assert word in err
