"""Engines in the bundle: published whole with their identity, refused when they do not fit."""

import contextlib
import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
from engines import add_fp16
from recording_device import open_recorded
from verbs import run_verb

from relo_edge.bundle import open_bundle
from relo_edge.contract import GRAPHS, EngineGraph
from relo_edge.errors import BundleError, RuntimeUnavailable
from relo_edge.host.files import hash_file
from relo_edge.runtimes.tensorrt import engines, runtime
from relo_edge.runtimes.tensorrt.engines import Gpu, Target, build_engines, open_target
from relo_edge.runtimes.tensorrt.library import find_library
from relo_edge.runtimes.tensorrt.sidecar import check_plan, list_sidecars

LABEL = "fp32.tensorrt-rtx"
ADA = Gpu("NVIDIA RTX 4090", (8, 9))


@pytest.fixture
def bundle(demo_bundle, tmp_path):
    shutil.copytree(demo_bundle.path, tmp_path / "b")
    return open_bundle(tmp_path / "b")


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """The same answers on a machine that has one."""
    monkeypatch.setattr(engines, "find_gpu", lambda: None)


def float_graphs(bundle):
    return {name: EngineGraph(bundle.graph(name), "float32") for name in GRAPHS}


@pytest.fixture(scope="module")
def built(demo_bundle, tmp_path_factory):
    """A bundle with float32 engines; not to be changed."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(demo_bundle.path, folder / "b")
    bundle = open_bundle(folder / "b")
    target = Target(find_library("tensorrt-rtx"), None, batch=3)
    return bundle, build_engines(bundle, "fp32", float_graphs(bundle), target)


def list_names(bundle):
    return sorted(path.name for path in (bundle.path / "engines").iterdir())


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
    code, out, _ = run_verb(capsys, "inspect", bundle.path)
    assert code == 0
    assert out.count("ahead of time, ok") == 2


def test_a_reader_is_told_that_it_has_not_run(built):
    text = built[1].describe()
    assert "not yet run: there is no GPU here" in text
    assert "batch 1 to 3" in text


def test_the_sidecar_tells_where_the_plan_comes_from(built):
    bundle, _ = built
    by_graph = {sidecar.graph: sidecar for sidecar in list_sidecars(bundle, "tensorrt-rtx")}
    assert set(by_graph) == set(GRAPHS)
    step = by_graph["step"]
    assert step.graph_sha256 == bundle.manifest["files"]["step.onnx"]["sha256"]
    assert step.plan_sha256 == hash_file(bundle.path / "engines" / step.plan)
    assert (step.batch, by_graph["template"].batch) == (3, 1)
    assert step.profiles["has_history"] == [[1], [3], [3]]
    assert step.tensorrt == find_library("tensorrt-rtx").version
    assert (step.gpu, step.compute_capability) == ("ahead of time", None)
    assert list_sidecars(bundle, "tensorrt") == []


def test_another_precision_stands_beside_the_first(bundle, monkeypatch):
    target = Target(find_library("tensorrt-rtx"), None)
    (bundle.path / "engines").mkdir()
    (bundle.path / "engines" / "other.plan").write_text("kept")
    build_engines(bundle, "fp32", float_graphs(bundle), target)
    build_engines(bundle, "fp32", float_graphs(bundle), target)
    assert "other.plan" in list_names(bundle)
    assert len(list_names(bundle)) == 5


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
def gpu(monkeypatch):
    """The GPU's part is played by the recording device; all the rest is real."""

    def open_built(asked):
        chosen = runtime.choose_engines(asked, ADA.capability)["step"]
        precision = chosen.precision
        return open_recorded(asked.bundle, asked.batch, largest=chosen.batch, precision=precision)

    monkeypatch.setattr(engines, "find_gpu", lambda: ADA)
    monkeypatch.setattr(runtime, "open_runtime", open_built)


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


def test_engines_are_timed_at_the_batch_they_were_asked_for(capsys, bundle, gpu):
    half = add_fp16(bundle)
    graphs = {n: EngineGraph(half.graph(n, "fp16"), half.state_dtype("fp16")) for n in GRAPHS}
    words = ["build-engine", bundle.path, "--fp32", "--library", "tensorrt-rtx", "--json"]
    for largest, timed in ((1, ["fp32"]), (3, ["fp32", "fp16"])):
        build_engines(half, "fp16", graphs, Target(find_library("tensorrt-rtx"), None, largest))
        code, out, err = run_verb(capsys, *words, "--batch", "3")
        told = json.loads(out)
        assert code == 0
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
        (["--fp32", "--batch", "0"], 2, "batch: found 0, expected 1 or more"),
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
        open_target("tensorrt", 1, None)


def test_a_gpus_engine_bears_its_name():
    rtx = find_library("tensorrt-rtx")
    orin = Gpu("Orin", (8, 7))
    assert Target(rtx, ADA).label == "tensorrt-rtx"
    assert Target(replace(rtx, flavour="tensorrt"), orin).label == "tensorrt.sm87"
    assert Target(replace(rtx, flavour="tensorrt"), orin).place == "Orin"


def check(built, changes):
    """Whether the step's plan, its sidecar changed, may run batches of 3 on a 4090."""
    bundle, result = built
    sidecar, library = replace(result.sidecars[1], **changes), find_library("tensorrt-rtx")
    return check_plan(bundle, sidecar, library, ADA.name, ADA.capability, 3)


def test_a_plan_that_fits_is_found(built):
    assert check(built, {}).name == f"step.{LABEL}.plan"
    foreign = {"gpu": "Orin", "compute_capability": (8, 7)}
    assert check(built, {**foreign, "compatible": "hardware"}).is_file()
    assert check(built, {"tensorrt": "1.0", "compatible": "version"}).is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"graph_sha256": "0" * 64}, r"its graph has changed: found 000000000000"),
        ({"tensorrt": "1.0.0"}, r"tensorrt-rtx's version: found 1\.0\.0, expected 1\.7"),
        ({"gpu": "Orin", "compute_capability": (8, 7)}, "its GPU: found Orin, expected NVIDIA RTX"),
        ({"gpu": ADA.name, "compute_capability": (8, 6)}, r"found \(8, 6\), expected \(8, 9\)"),
        ({"plan": "gone.plan"}, "the plan: found no such file"),
        ({"plan_sha256": "f" * 64}, r"damaged: found sha256 .*expected sha256 ffffffffffff"),
        ({"precision": "int8"}, "its graph has changed: .*expected no graph"),
        ({"batch": 2}, "its largest batch: found 2, expected 3 or more"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_name(built, changes, said):
    with pytest.raises(RuntimeUnavailable, match=said) as refused:
        check(built, changes)
    assert "relo-edge build-engine" in str(refused.value)
    assert "--batch 3" in str(refused.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 9}', '{"format": 1}', "\0"])
def test_a_damaged_sidecar_is_named(bundle, text):
    (bundle.path / "engines").mkdir()
    (bundle.path / "engines" / "x.json").write_text(text)
    with pytest.raises(BundleError, match=r"x\.json cannot be read.*build-engine"):
        list_sidecars(bundle, "tensorrt")
