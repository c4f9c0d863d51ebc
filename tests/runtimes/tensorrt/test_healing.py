"""An engine that fails parity on its GPU is built again, more exactly, until one passes."""

import json
import shutil
from types import SimpleNamespace

import pytest
from engines import add_fp16, draw_feeds
from verbs import run_verb

from relo_edge.bundle import open_bundle
from relo_edge.calibration import quantize
from relo_edge.contract import describe_graph
from relo_edge.errors import MissingDependency
from relo_edge.pipeline import engine_healing
from relo_edge.pipeline.engine_times import Measured
from relo_edge.runtimes.tensorrt import engines
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.runtimes.tensorrt.sidecar import list_sidecars

WORDS = ["--fp16", "--library", "tensorrt-rtx"]
PART = SimpleNamespace(to_dict=dict, describe=lambda: "told")


@pytest.fixture
def bundle(small_bundle, tmp_path, monkeypatch, shared_plans):
    shutil.copytree(small_bundle.path, tmp_path / "b")
    feeds = draw_feeds(small_bundle.variant, describe_graph(small_bundle.variant, "step"))
    recording = SimpleNamespace(step_feeds=lambda: [feeds])
    monkeypatch.setattr(engines, "find_gpu", lambda: Gpu("NVIDIA RTX 4090", (8, 9), 128))
    monkeypatch.setattr(quantize, "record_clips", lambda *_: recording)
    return add_fp16(open_bundle(tmp_path / "b"))


def pass_at(monkeypatch, attempt):
    """Let this attempt be the first that is the same tracker."""
    tried = []

    def measure(bundle, precision, target):
        built = list_sidecars(bundle, target.library.flavour)
        tried.append({sidecar.attention for sidecar in built})
        return Measured(PART, len(tried) == attempt, PART, {"fp16": 1.0}, PART)

    monkeypatch.setattr(engine_healing, "measure_engines", measure)
    return tried


OPTIONS = [{""}, {"softmax in float32"}, {"bfloat16 attention"}, {"unfused attention"}]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_it_climbs_until_one_passes_and_records_which(capsys, bundle, monkeypatch, attempt):
    tried = pass_at(monkeypatch, attempt)
    code, _, err = run_verb(capsys, "build-engine", bundle.path, *WORDS)
    assert code == 0
    assert tried == OPTIONS[:attempt]
    assert " ".join(err.split()).count("building again with") == attempt - 1
    sidecars = list_sidecars(bundle, "tensorrt-rtx")
    assert {sidecar.attention for sidecar in sidecars} == OPTIONS[attempt - 1]
    if attempt > 1:
        step = next(sidecar for sidecar in sidecars if sidecar.graph == "step")
        (option,) = OPTIONS[attempt - 1]
        assert any(option in reason for reason in step.kept_in_float32.values())


@pytest.mark.slow
def test_what_never_passes_is_not_kept(capsys, bundle, monkeypatch):
    tried = pass_at(monkeypatch, None)
    code, out, err = run_verb(capsys, "build-engine", bundle.path, *WORDS, "--explain")
    assert code == 1
    assert tried == OPTIONS
    assert list((bundle.path / "engines").iterdir()) == []
    assert "are not kept" in " ".join(err.split())
    assert out.count("not kept") == 2


@pytest.mark.slow
def test_where_nothing_can_be_made_anew_the_reason_is_told(capsys, bundle, monkeypatch):
    pass_at(monkeypatch, None)

    def lack(*_):
        raise MissingDependency("onnx is not installed", fix="`pip install 'relo-edge[export]'`")

    monkeypatch.setattr(quantize, "record_clips", lack)
    code, out, err = run_verb(capsys, "build-engine", bundle.path, *WORDS, "--json")
    assert (code, json.loads(out)["run"]) == (1, True)
    assert "more exact attention cannot be built here: onnx is not installed" in " ".join(
        err.split()
    )
    assert list((bundle.path / "engines").iterdir()) == []
