"""Parity finds what is wrong and passes what is right."""

import base64
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from clips import write_images, write_video
from verbs import run_verb

from relo_edge.benchmarks.parity import rollout
from relo_edge.benchmarks.parity import verdict as parity
from relo_edge.benchmarks.parity.compare import compare_runtimes, count_compared, run_reference
from relo_edge.benchmarks.parity.paired_runtime import FramePair, PairedRuntime
from relo_edge.benchmarks.parity.probes import run_probes
from relo_edge.benchmarks.parity.rollout import compare_clips, find_segments
from relo_edge.benchmarks.parity.verdict import judge_parity
from relo_edge.errors import InputError, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.runtime import open_runtime
from relo_edge.synthetic.clip import make_clip


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(rollout, "SEEDS", range(1))
    monkeypatch.setattr(rollout, "FRAMES", 8)


@pytest.fixture
def pair(small_bundle):
    reference = open_runtime(small_bundle.path, "pytorch")
    return reference, open_runtime(small_bundle.path, "onnxruntime")


@pytest.fixture(scope="module")
def kept():
    """What was found of each fault: nothing in it can be changed."""
    return {}


@pytest.fixture
def measure(small_bundle, kept):
    """The judgement of a fault, made once."""

    def find(fault):
        if fault not in kept:
            reference = open_runtime(small_bundle.path, "pytorch")
            candidate = Spoilt(open_runtime(small_bundle.path, "onnxruntime"), fault)
            kept[fault] = compare(reference, candidate, find_segments([]))
        return kept[fault]

    return find


def compare(reference, candidate, segments, advance=lambda: None):
    alone = run_reference(reference, segments, advance)
    return compare_runtimes(reference, candidate, alone, advance)


def roll_out(reference, candidate):
    """The parts of a comparison."""
    alone = run_reference(reference, find_segments([]))
    run = run_probes(alone.probes, candidate)
    rollouts = compare_clips(reference, candidate, alone.segments, lambda: None, alone.perturbed)
    return rollouts, run


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
            answer.maps[:] = np.nan
        if self.fault == "box":
            answer.boxes[:, 2:] *= 0.5
        return answer


@pytest.mark.slow
def test_equal_runtimes_pass(pair):
    calls = []
    result = compare(*pair, find_segments([]), lambda: calls.append(1))
    assert result.passed
    assert len(calls) == count_compared(find_segments([])) == 28 + 2 * 22
    assert result.frames == 7
    assert result.argmax_agreement == 1
    assert result.closed_loop_iou == pytest.approx(1, abs=1e-4)
    assert 0 < result.start_sensitivity.closed_loop_iou < 1
    assert result.first_divergence is None
    assert set(result.outputs) == {"box", "score", "policy_logits", "temporal_tokens"}
    assert all(e.max_abs < 1e-4 and e.cosine > 0.99999 for e in result.outputs.values())
    assert "PASSED" in result.describe()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("no history", "policy_logits error"),
        ("bgr", "policy_logits error"),
        ("nan", "policy_logits error nan"),
        ("box", "box error"),
    ],
)
def test_a_fault_fails(measure, fault, word):
    result = measure(fault)
    assert not result.passed
    assert word in result.describe()


@pytest.mark.slow
def test_the_track_is_judged_where_the_reference_tracks(pair, monkeypatch):
    monkeypatch.setattr(parity, "ENOUGH_ON_TARGET", 0.0)
    result = compare(pair[0], Spoilt(pair[1], "box"), find_segments([]))
    assert "closed-loop IoU" in result.describe()


@pytest.mark.slow
def test_frames_in_which_the_reference_is_lost_do_not_count(pair):
    (followed,), run = roll_out(*pair)
    strayed = followed.expected.copy()
    strayed[4:] += 500
    truth = np.full((8, 4), np.nan)
    truth[1:] = followed.expected
    truth[5:] += 1000
    clip = replace(followed.segment.clip, truth=truth)
    known = replace(followed, boxes=strayed, segment=replace(followed.segment, clip=clip))
    result = judge_parity([known], run)
    assert result.judged
    assert (result.judged_frames, result.closed_loop_iou) == (4, 1)
    assert result.passed
    clip = replace(clip, truth=None)
    unknown = replace(followed, boxes=strayed, segment=replace(followed.segment, clip=clip))
    assert "closed-loop IoU 0.571" in "".join(judge_parity([unknown], run).failures)


@pytest.mark.slow
def test_a_track_that_was_not_judged_is_no_plain_pass(pair):
    (followed,), run = roll_out(*pair)
    truth = np.full((8, 4), np.nan)
    truth[1:] = followed.expected
    truth[3:] += 1000
    clip = replace(followed.segment.clip, truth=truth)
    lost = replace(followed, segment=replace(followed.segment, clip=clip))
    result = judge_parity([lost], run)
    assert result.passed
    assert not result.judged
    text = result.describe()
    assert "\nPASSED\n" not in f"{text}\n"
    assert "the track was NOT judged" in text
    assert "limits: error 2e-04, cosine 0.9999, box 1e-03, same cell 99%" in text


LOGITS = np.float32([[4.0, 1.0], [3.0, -2.0]])


def make_pair(score, box=(0.2, 0.2, 0.1, 0.1), window=((1.0, 1.0), (0.5, 1.0)), logits=LOGITS):
    def collect(value, where):
        return {
            "box": np.float32(where),
            "score": np.float32([value]),
            "policy_logits": logits,
            "temporal_tokens": np.zeros((1, 1, 1), np.float32),
        }

    reference = collect(4.0, (0.2, 0.2, 0.1, 0.1))
    candidate, name = collect(score, box), "policy_logits"
    return FramePair(reference, candidate, np.float32(window), True, 1e-5, name)


@pytest.mark.parametrize(("score", "cell"), [(4.0, 0), (1.0, 1), (1.5, 2), (-2.0, 3), (1.6, 2)])
def test_the_cell_is_the_one_of_the_score(score, cell):
    assert make_pair(score).candidate_cell == cell
    assert make_pair(score).same_cell is (cell == 0)


def test_a_tie_is_settled_by_the_box():
    tied = np.float32([[4.0, 4.0], [3.0, -2.0]])
    assert make_pair(4.0, logits=tied).candidate_cell == 0
    there = make_pair(4.0, (0.7, 0.2, 0.1, 0.1), logits=tied[:, ::-1].copy())
    assert there.reference_cell == 0
    assert there.choice_error == 0


def test_a_score_is_the_largest_windowed_logit():
    assert make_pair(4.0).choice_error == make_pair(4.0).score_error == 0
    assert make_pair(6.0).choice_error == pytest.approx(0.5)
    assert make_pair(6.0).score_error == pytest.approx(0.5)
    assert make_pair(np.nan).candidate_cell == 0
    assert np.isnan(make_pair(np.nan).choice_error)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(pair, monkeypatch):
    """A large variant's states of a long clip would fill it."""
    monkeypatch.setattr(rollout, "FRAMES", 15)
    paired = roll_out(*pair)[0][0].paired
    assert len(paired.records) == 14
    assert len(paired.pairs) == 6


def test_a_step_is_taken_back_on_both_sides(pair):
    paired, variant = PairedRuntime(*pair), pair[0].variant
    rng = np.random.default_rng(1)
    template = rng.integers(0, 256, (variant.template_size, variant.template_size, 3), np.uint8)
    crops = rng.integers(0, 256, (2, variant.search_size, variant.search_size, 3), np.uint8)
    paired.encode_template(0, 0, template, np.float32([0.25, 0.25, 0.5, 0.5]))
    paired.forget(0)
    window = np.ones((variant.grid, variant.grid), np.float32)
    for crop, back in ((0, True), (0, False), (1, True), (1, False)):
        paired.step([0], crops[crop : crop + 1], window)
        if back:
            paired.rewind(0)
    assert [one.fresh for one in paired.pairs] == [True, True, False, False]
    for first, again in ((0, 1), (2, 3)):
        for side in ("reference", "candidate"):
            one, other = (getattr(paired.pairs[index], side) for index in (first, again))
            assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_state_that_is_never_kept_is_named(measure):
    result = measure("no history")
    assert [cause.part for cause in result.causes] == ["temporal state"]
    assert "the history does not arrive" in result.describe()
    assert result.clips[0].frames[0].errors["policy_logits"] < 1e-4
    assert result.clips[0].frames[1].errors["policy_logits"] > 1e-2


@pytest.mark.slow
def test_an_overflow_is_named(measure):
    result = measure("nan")
    assert [cause.part for cause in result.causes] == ["numbers"]


@pytest.mark.slow
def test_frames_apart_come_with_a_picture(measure):
    result = measure("box")
    picture = result.pictures[0]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(picture.jpeg), np.uint8), 1)
    assert image.shape == (270, 480, 3)
    worst = min(result.clips[0].frames, key=lambda frame: frame.iou)
    assert (picture.frame, picture.iou) == (worst.frame, worst.iou)
    assert measure("none").pictures == []


@pytest.mark.slow
def test_users_clips_start_where_their_target_is(pair, tmp_path):
    clip = make_clip(3, 6)
    folder = tmp_path / "walk"
    folder.mkdir()
    for index, frame in enumerate(clip.frames()):
        cv2.imwrite(str(folder / f"{index:03}.png"), frame)
    rows = ["nan,nan,nan,nan", *(",".join(map(str, box)) for box in clip.boxes[1:])]
    (folder / "groundtruth.txt").write_text("\n".join(rows))
    segments = find_segments([str(folder)])
    assert [list(segment.frames) for segment in segments] == [[1, 2, 3, 4, 5]]
    result = compare(*pair, segments)
    assert result.passed
    assert result.clips[0].name == "walk"
    assert [frame.frame for frame in result.clips[0].frames] == [2, 3, 4, 5]
    assert result.reference_iou is not None


def test_a_clip_whose_target_comes_in_its_last_frame_is_refused(tmp_path):
    folder = tmp_path / "late"
    write_images(folder, ["0.png", "1.png", "2.png"])
    (folder / "groundtruth.txt").write_text("0,0,0,0\n0,0,0,0\n8,8,20,20\n")
    with pytest.raises(SourceError, match="clip late: found a target in its last frame only"):
        find_segments([str(folder)])


@pytest.mark.slow
def test_without_a_truth_the_track_is_judged(pair, tmp_path, monkeypatch):
    video = write_video(tmp_path / "walk.mp4", frames=6)
    segments = find_segments([str(video)])
    result = compare(pair[0], Spoilt(pair[1], "box"), segments)
    assert result.reference_iou is None
    assert "closed-loop IoU" in "".join(result.failures)


@pytest.mark.slow
def test_a_lost_state_shows_in_the_first_divergence_and_its_margin(measure):
    result = measure("bgr")
    assert result.first_divergence is not None
    assert result.first_divergence.frame >= 1
    assert result.first_divergence.margin >= 0
    assert result.argmax_agreement < 1


@pytest.mark.slow
def test_a_precision_without_gate_is_refused(pair):
    reference, candidate = pair
    spoilt = Spoilt(candidate, "none")
    spoilt.precision = "fp7"
    with pytest.raises(InputError, match="parity gate: found fp7"):
        compare(reference, spoilt, find_segments([]))


@pytest.mark.slow
def test_the_verb_prints_the_promised_json(small_bundle, capsys):
    words = ["parity", small_bundle.path, "--runtime", "onnxruntime", "--json"]
    code, out, err = run_verb(capsys, *words)
    result = json.loads(out)
    assert code == 0
    assert result["passed"] is True
    assert set(result["outputs"]["policy_logits"]) == {"max_abs", "relative", "cosine"}
    assert {"argmax_agreement", "closed_loop_iou", "first_divergence"} <= set(result)
    assert result["probe"]["slots"] == 2
    assert result["gate"]["relative"] == 2e-4
    assert "parity: " in err


@pytest.mark.slow
def test_the_verb_fails_on_other_weights(small_bundle, tmp_path, capsys):
    from safetensors.torch import save_file

    from relo_edge.network.fixed_weights import draw_weights

    save_file(dict(draw_weights(small_bundle.variant, salt=5)), tmp_path / "other.safetensors")
    words = ["parity", small_bundle.path, "--runtime", "onnxruntime"]
    code, out, _ = run_verb(capsys, *words, "--checkpoint", tmp_path / "other.safetensors")
    assert code == 1
    assert "FAILED" in out


@pytest.mark.slow
def test_the_verb_plots_and_walks_the_layers(small_bundle, tmp_path, capsys):
    plot = tmp_path / "parity.png"
    words = ["parity", small_bundle.path, "--runtime", "onnxruntime", "--layers", "--plot", plot]
    code, out, _ = run_verb(capsys, *words)
    assert code == 0
    assert "no error begins in these graphs" in out
    assert cv2.imread(str(plot)).shape[1] > 800
    assert [path.name for path in tmp_path.iterdir()] == ["parity.png"]


@pytest.mark.slow
def test_layers_of_what_has_no_graph_are_refused(small_bundle, capsys):
    words = ["--runtime", "openvino", "--precision", "bf16", "--layers"]
    code, _, err = run_verb(capsys, "parity", small_bundle.path, *words)
    assert code in (1, 2)
    assert "layers: found bf16, which has no graph" in err or "without bfloat16" in err


def test_a_plot_without_matplotlib_is_refused_before_the_work(small_bundle, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr("relo_edge.pipeline.parity.open_runtime", pytest.fail)
    code, out, err = run_verb(capsys, "parity", small_bundle.path, "--plot", "parity.png")
    assert (code, out) == (2, "")
    assert err.startswith("relo-edge: --plot needs matplotlib")
    assert "pip install 'relo-edge[bench]'" in err
    assert len(err.splitlines()) == 1


def test_a_plot_that_cannot_be_written_is_said_before_the_work(small_bundle, capsys):
    code, _, err = run_verb(capsys, "parity", small_bundle.path, "--plot", "parity.gif")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "expected .png or .svg" in err


@pytest.mark.slow
def test_json_has_no_nan(measure, capsys):
    from relo_edge.verbs.shared import print_result

    print_result(measure("nan"), as_json=True)
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["outputs"]["policy_logits"]["relative"] is None
    assert found["passed"] is False
