"""Engines in the bundle: published whole with their identity, refused when they do not fit."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
from engines import add_fp16
from recording_device import open_recorded
from shortened import shorten, start_at_once
from support import GRAPHS
from verbs import run_verb

from relo_edge.benchmarks.speed import latency
from relo_edge.bundle import open_bundle
from relo_edge.contract import EngineGraph
from relo_edge.errors import BundleError, DeviceError, MissingDependency, RuntimeUnavailable
from relo_edge.host.files import hash_file
from relo_edge.host.measured import list_measurements
from relo_edge.pipeline import engine_times
from relo_edge.runtimes.tensorrt import engines, runtime
from relo_edge.runtimes.tensorrt.engines import Target, build_engines, open_target, parse_batches
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.runtimes.tensorrt.library import find_library
from relo_edge.runtimes.tensorrt.sidecar import list_sidecars, read_plan
from relo_edge.runtimes.tensorrt.trust import is_recorded

LABEL = "fp32.b1.tensorrt-rtx"
ADA = Gpu("NVIDIA RTX 4090", (8, 9), 128)


FROM_ADA = {"gpu": ADA.name, "compute_capability": ADA.capability}


@pytest.fixture
def bundle(small_bundle, tmp_path):
    shutil.copytree(small_bundle.path, tmp_path / "b")
    return open_bundle(tmp_path / "b")


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """The same answers on a machine that has one."""
    monkeypatch.setattr(engines, "find_gpu", lambda: None)


def float_graphs(bundle):
    return {name: EngineGraph(bundle.graph(name), "float32") for name in GRAPHS}


@pytest.fixture(scope="module")
def built(small_bundle, tmp_path_factory):
    """A bundle with float32 engines; not to be changed."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(small_bundle.path, folder / "b")
    bundle = open_bundle(folder / "b")
    target = Target(find_library("tensorrt-rtx"), None, parse_batches("1,2-3"))
    return bundle, build_engines(bundle, "fp32", float_graphs(bundle), target)


def list_names(bundle):
    return sorted(path.name for path in (bundle.path / "engines").iterdir())


@pytest.mark.slow
def test_the_verb_builds_publishes_and_says_that_nothing_ran(capsys, bundle):
    code, out, err = run_verb(capsys, "build-engine", bundle.path, "--fp32", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["run"] is False
    assert [engine["graph"] for engine in told["engines"]] == list(GRAPHS)
    ends = ("json", "plan")
    assert list_names(bundle) == sorted(f"{g}.{LABEL}.{end}" for g in GRAPHS for end in ends)
    assert "building step in fp32" in err
    assert [path.name for path in bundle.path.parent.iterdir()] == ["b"]
    assert all(is_recorded(engine["plan_sha256"]) for engine in told["engines"])
    code, out, _ = run_verb(capsys, "inspect", bundle.path)
    assert code == 0
    assert out.count("ahead of time, ok") == 2


@pytest.mark.slow
def test_a_reader_is_told_that_it_has_not_run(built):
    text = built[1].describe()
    assert "not yet run: there is no GPU here" in text
    assert "batch 2 to 3" in text
    assert text.count("batch 1,") == 2


def test_the_sidecar_tells_where_the_plan_comes_from(built):
    bundle, _ = built
    template, one, range_of = sorted(
        list_sidecars(bundle, "tensorrt-rtx"), key=lambda s: (s.graph != "template", s.batch)
    )
    assert (template.graph, one.graph, range_of.graph) == ("template", "step", "step")
    assert one.graph_sha256 == bundle.manifest["files"]["step.onnx"]["sha256"]
    assert one.plan_sha256 == hash_file(bundle.path / "engines" / one.plan)
    assert [(s.least, s.batch) for s in (template, one, range_of)] == [(1, 1), (1, 1), (2, 3)]
    assert one.profiles["has_history"] == [[1], [1], [1]]
    assert range_of.profiles["has_history"] == [[2], [3], [3]]
    assert one.tensorrt == find_library("tensorrt-rtx").version
    assert (one.gpu, one.compute_capability) == ("ahead of time", None)
    assert list_sidecars(bundle, "tensorrt") == []


@pytest.mark.slow
def test_another_precision_stands_beside_the_first(bundle, monkeypatch):
    target = Target(find_library("tensorrt-rtx"), None)
    (bundle.path / "engines").mkdir()
    (bundle.path / "engines" / "other.plan").write_text("kept")
    build_engines(bundle, "fp32", float_graphs(bundle), target)
    build_engines(bundle, "fp32", float_graphs(bundle), target)
    assert "other.plan" in list_names(bundle)
    assert len(list_names(bundle)) == 5


@pytest.mark.slow
def test_ctrl_c_leaves_everything_as_it_was(capsys, bundle, monkeypatch):
    (bundle.path / "engines").mkdir()
    (bundle.path / "engines" / f"step.{LABEL}.plan").write_text("the old one")
    count = 0

    @contextlib.contextmanager
    def show_progress(_title, unit):
        def advance():
            nonlocal count
            count += 1
            if count == 400:
                os.kill(os.getpid(), signal.SIGINT)

        yield advance

    monkeypatch.setattr(engines, "show_progress", show_progress)
    code, out, err = run_verb(capsys, "build-engine", bundle.path, "--fp32")
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert (bundle.path / "engines" / f"step.{LABEL}.plan").read_text() == "the old one"
    assert len(list_names(bundle)) == 1
    assert [path.name for path in bundle.path.parent.iterdir()] == ["b"]
    assert sorted(p.name for p in bundle.path.iterdir() if p.name.startswith(".")) == []


@pytest.fixture
def gpu(monkeypatch, shared_plans):
    """The GPU's part is played by the recording device; all the rest is real."""

    def open_built(asked):
        chosen = runtime.choose_engines(asked, ADA)
        batches = [(s.least, s.batch) for s in chosen.steps.values()]
        precision = chosen.precision
        return open_recorded(asked.bundle, asked.batch, batches=batches, precision=precision)

    monkeypatch.setattr(engines, "find_gpu", lambda: ADA)
    monkeypatch.setattr(runtime, "open_runtime", open_built)
    for name, value in {"WARM_UP": 0.0, "ROUNDS": 1, "LAUNCHES": 2}.items():
        monkeypatch.setattr(engine_times, name, value)
    shorten(monkeypatch, "bench")
    start_at_once(monkeypatch)
    monkeypatch.setattr(latency, "TURNS", 1)


@pytest.mark.slow
def test_with_a_gpu_the_verb_measures_what_it_built(capsys, bundle, gpu):
    words = ["build-engine", bundle.path, "--fp32", "--library", "tensorrt-rtx", "--json"]
    code, out, _ = run_verb(capsys, *words)
    told = json.loads(out)
    assert code == 0
    assert told["run"] is True
    assert told["parity"]["passed"] is True
    assert told["layers"]["layers"] == 4
    assert [row["precision"] for row in told["bench"]["rows"]] == ["fp32"]
    assert told["verdict"].startswith("build --fp16 too")


MEASURE = ["--fp32", "--library", "tensorrt-rtx", "--json"]


@pytest.mark.slow
def test_the_verdict_is_kept_for_this_plan_at_this_place(
    capsys, bundle, gpu, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert run_verb(capsys, "build-engine", bundle.path, *MEASURE)[0] == 0
    (kept,) = list_measurements(bundle.key)
    assert (kept.runtime, kept.precision, kept.batch, kept.passed) == ("tensorrt", "fp32", 1, True)
    assert kept.milliseconds == 0.5  # the device's own time


@pytest.mark.slow
@pytest.mark.parametrize("error", [MissingDependency("no CUDA binding"), DeviceError("it is full")])
def test_what_cannot_be_measured_is_built_all_the_same(capsys, bundle, gpu, monkeypatch, error):
    def fail(_request):
        raise error

    monkeypatch.setattr(runtime, "open_runtime", fail)
    code, out, err = run_verb(capsys, "build-engine", bundle.path, *MEASURE)
    assert code == 0
    assert "parity" not in json.loads(out)
    assert f"the engines are built, but not measured: {error}" in " ".join(err.split())
    assert len(list_names(bundle)) == 4


@pytest.mark.slow
def test_without_a_reference_the_times_are_told(capsys, bundle, gpu, monkeypatch):
    """A Jetson may have none of onnxruntime, OpenVINO and torch."""
    monkeypatch.setattr(engine_times, "REFERENCES", ("onnxruntime-cuda",))
    code, out, err = run_verb(capsys, "build-engine", bundle.path, *MEASURE)
    told = json.loads(out)
    assert (code, told["parity"], told["gpu_ms"]) == (0, None, {"fp32": 0.5})
    assert "parity is not measured" in err


@pytest.mark.slow
def test_engines_are_timed_at_the_batch_they_were_asked_for(capsys, bundle, gpu):
    half = add_fp16(bundle)
    graphs = {n: EngineGraph(half.graph(n, "fp16"), half.state_dtype("fp16")) for n in GRAPHS}
    words = ["build-engine", bundle.path, "--fp32", "--library", "tensorrt-rtx", "--json"]
    for largest, timed in ((1, ["fp32"]), (3, ["fp32", "fp16"])):
        target = Target(find_library("tensorrt-rtx"), None, ((largest, largest),))
        build_engines(half, "fp16", graphs, target)
        code, out, err = run_verb(capsys, *words, "--batch", "3")
        assert code == 0, err
        told = json.loads(out)
        assert [row["precision"] for row in told["bench"]["rows"]] == timed
        assert {row["batch"] for row in told["bench"]["rows"]} == {3}
        left_out = "fp16 is not compared: " in err
        assert left_out == ("fp16" not in timed)
        missing = "int8" if "fp16" in timed else "fp16"
        assert told["verdict"].startswith(f"build --{missing} --batch 3 too")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--fp16", "--int8"], 2, "precision: found fp16 and int8, expected one of them"),
        (["--fp32", "--batch", "0"], 2, "batch: found 0, expected numbers from 1"),
        (["--fp32", "--batch", "4-1"], 2, "batch: found 4-1, expected numbers from 1"),
        (["--fp32", "--batch", "1,,2"], 2, "batch: found 1,,2, expected numbers from 1"),
        (["--fp32", "--compatible", "gpu"], 2, "found gpu, expected version | hardware"),
        (["--fp32", "--compatible", "version"], 2, "every RTX card"),
        (["--fp32", "--library", "trt"], 2, "expected tensorrt | tensorrt-rtx"),
    ],
)
def test_mistakes_end_in_one_line_and_no_engine(capsys, bundle, words, code, said):
    got, out, err = run_verb(capsys, "build-engine", bundle.path, *words)
    assert (got, out) == (code, "")
    assert said in err.splitlines()[-1]
    assert not (bundle.path / "engines").exists()


def test_a_library_that_builds_on_its_gpu_alone_says_so(monkeypatch):
    rtx = find_library("tensorrt-rtx")
    monkeypatch.setattr(engines, "find_library", lambda _: replace(rtx, flavour="tensorrt"))
    with pytest.raises(RuntimeUnavailable, match=r"there is none.*--library tensorrt-rtx"):
        open_target("tensorrt", "1", None)


def test_an_engines_name_tells_the_gpu_that_alone_runs_it():
    rtx = find_library("tensorrt-rtx")
    full = replace(rtx, flavour="tensorrt")
    agx, nano = (
        Gpu("Orin", (8, 7), count, f"NVIDIA Jetson {board} Developer Kit")
        for board, count in (("AGX Orin", 16), ("Orin Nano", 8))
    )
    turing = Gpu("NVIDIA T4", (7, 5), 40)
    assert Target(rtx, None).label == Target(rtx, ADA).label == "tensorrt-rtx"
    assert Target(full, ADA).label == "tensorrt.nvidia-rtx-4090-128sm"
    assert Target(full, agx).label == "tensorrt.nvidia-jetson-agx-orin-developer-kit-16sm"
    assert Target(full, nano).label == "tensorrt.nvidia-jetson-orin-nano-developer-kit-8sm"
    assert Target(rtx, turing).label == "tensorrt-rtx.nvidia-t4-40sm"


@pytest.mark.parametrize(
    ("text", "batches"),
    [("1", [(1, 1)]), ("1, 4,8", [(1, 1), (4, 4), (8, 8)]), ("1-8", [(1, 8)]), ("2,2", [(2, 2)])],
)
def test_batches_are_numbers_and_ranges(text, batches):
    assert list(parse_batches(text)) == batches


def check(built, changes):
    """Whether the plan for one target, its sidecar changed, may run on a 4090."""
    bundle, result = built
    sidecar, library = replace(result.sidecars[1], **changes), find_library("tensorrt-rtx")
    return read_plan(bundle, sidecar, library, ADA, trusted=True)


def test_a_plan_that_fits_is_read(built):
    assert hashlib.sha256(check(built, {})).hexdigest() == built[1].sidecars[1].plan_sha256
    foreign = {"gpu": "Orin", "compute_capability": (8, 7)}
    assert check(built, {**foreign, "compatible": "hardware"})
    assert check(built, {"tensorrt": "1.0", "compatible": "version"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"graph_sha256": "0" * 64}, r"its graph has changed: found 000000000000"),
        ({"tensorrt": "1.0.0"}, r"tensorrt-rtx's version: found 1\.0\.0, expected 1\.7"),
        ({"gpu": "Orin", "compute_capability": (8, 7)}, "its GPU: found Orin, expected NVIDIA RTX"),
        ({"gpu": ADA.name, "compute_capability": (8, 6)}, r"found \(8, 6\), expected \(8, 9\)"),
        ({**FROM_ADA, "sm_count": 114}, "its number of SMs: found 114, expected 128"),
        ({**FROM_ADA, "board": "a Jetson"}, "its board: found a Jetson, expected none"),
        ({"plan": "gone.plan"}, "gone.plan cannot be read: found .*No such file"),
        ({"plan_sha256": "f" * 64}, r"damaged: found sha256 .*expected sha256 ffffffffffff"),
        ({"precision": "int8"}, "its graph has changed: .*expected no graph"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_name(built, changes, said):
    with pytest.raises(RuntimeUnavailable, match=said) as refused:
        check(built, changes)
    assert "relo-edge build-engine" in str(refused.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 9}', '{"format": 1}', "\0"])
def test_a_damaged_sidecar_is_named(bundle, text):
    (bundle.path / "engines").mkdir()
    (bundle.path / "engines" / "x.json").write_text(text)
    with pytest.raises(BundleError, match=r"x\.json cannot be read.*build-engine"):
        list_sidecars(bundle, "tensorrt")
