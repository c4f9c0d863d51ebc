"""Parity finds what is wrong and passes what is right."""

import json

import numpy as np
import pytest
from verbs import run_verb

from relo_edge.benchmarks import parity
from relo_edge.benchmarks.parity import measure_parity
from relo_edge.errors import InputError
from relo_edge.runtime import open_runtime


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(parity, "CLIPS", 1)
    monkeypatch.setattr(parity, "FRAMES", 8)


@pytest.fixture
def pair(demo_bundle):
    reference = open_runtime(demo_bundle.path, "pytorch")
    return reference, open_runtime(demo_bundle.path, "onnxruntime")


class Spoilt:
    """A runtime with one fault."""

    def __init__(self, inner, fault):
        self.inner, self.fault = inner, fault

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def step(self, slots, searches, window):
        if self.fault == "no history":
            for slot in slots:
                self.inner.forget(slot)
        if self.fault == "bgr":
            searches = np.ascontiguousarray(searches[..., ::-1])
        answer = self.inner.step(slots, searches, window)
        if self.fault == "nan":
            answer.policy_logits[:] = np.nan
        if self.fault == "box":
            answer.boxes[:, 2:] *= 0.5
        return answer


def test_equal_runtimes_pass(pair):
    calls = []
    result = measure_parity(*pair, advance=lambda: calls.append(1))
    assert result.passed
    assert len(calls) == parity.count_frames()
    assert result.frames == 7
    assert result.argmax_agreement == 1
    assert result.closed_loop_iou == pytest.approx(1, abs=1e-4)
    assert result.first_divergence is None
    assert set(result.outputs) == {"box", "score", "policy_logits", "temporal_tokens"}
    assert all(e.max_abs < 1e-4 and e.cosine > 0.99999 for e in result.outputs.values())
    assert "PASSED" in result.describe()


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("no history", "policy_logits error"),
        ("bgr", "policy_logits error"),
        ("nan", "policy_logits error nan"),
        ("box", "box error"),
    ],
)
def test_a_fault_fails(pair, fault, word):
    reference, candidate = pair
    result = measure_parity(reference, Spoilt(candidate, fault))
    assert not result.passed
    assert word in result.describe().splitlines()[-1]


def test_the_track_is_judged_where_the_reference_tracks(pair, monkeypatch):
    monkeypatch.setattr(parity, "TRACKS", 0.0)
    result = measure_parity(pair[0], Spoilt(pair[1], "box"))
    assert "closed-loop IoU" in result.describe().splitlines()[-1]


def test_a_lost_state_shows_in_the_first_divergence_and_its_margin(pair):
    reference, candidate = pair
    result = measure_parity(reference, Spoilt(candidate, "bgr"))
    assert result.first_divergence is not None
    assert result.first_divergence.frame >= 1
    assert result.first_divergence.margin >= 0
    assert result.argmax_agreement < 1


def test_a_precision_without_gate_is_refused(pair):
    reference, candidate = pair
    spoilt = Spoilt(candidate, "none")
    spoilt.precision = "fp7"
    with pytest.raises(InputError, match="parity gate: found fp7"):
        measure_parity(reference, spoilt)


def test_the_verb_prints_the_promised_json(demo_bundle, capsys):
    words = ["parity", demo_bundle.path, "--runtime", "onnxruntime", "--json"]
    code, out, err = run_verb(capsys, *words)
    result = json.loads(out)
    assert code == 0
    assert result["passed"] is True
    assert set(result["outputs"]["policy_logits"]) == {"max_abs", "relative", "cosine"}
    assert {"argmax_agreement", "closed_loop_iou", "first_divergence"} <= set(result)
    assert "parity: " in err


def test_the_verb_fails_on_other_weights(demo_bundle, tmp_path, capsys):
    from safetensors.torch import save_file

    from relo_edge.network.recipe import draw_weights
    from relo_edge.spec import VARIANTS

    save_file(dict(draw_weights(VARIANTS["demo"], salt=5)), tmp_path / "other.safetensors")
    words = ["parity", demo_bundle.path, "--runtime", "onnxruntime"]
    code, out, _ = run_verb(capsys, *words, "--checkpoint", tmp_path / "other.safetensors")
    assert code == 1
    assert "FAILED" in out
