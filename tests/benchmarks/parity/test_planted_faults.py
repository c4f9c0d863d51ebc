"""68 faults put into real runtimes and graphs: how many are caught, how many explained exactly.

docs/parity_faults.md is written from here: `python tests/benchmarks/parity/test_planted_faults.py`.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "parity_faults.md"
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from planted_faults import FAULTS  # noqa: E402

from relo_edge.benchmarks.parity import mistakes, rollout  # noqa: E402
from relo_edge.benchmarks.parity.compare import compare_runtimes, run_reference  # noqa: E402
from relo_edge.benchmarks.parity.layer_errors import GraphSide, walk_layers  # noqa: E402
from relo_edge.benchmarks.parity.rollout import find_segments  # noqa: E402
from relo_edge.bundle import open_bundle  # noqa: E402
from relo_edge.calibration.quantize import (  # noqa: E402
    quantize_fp16,
    quantize_int8,
    record_clips,
)
from relo_edge.errors import PrecisionError, RuntimeUnavailable  # noqa: E402
from relo_edge.runtime import open_runtime, resolve_bundle  # noqa: E402
from relo_edge.video.sources.frames import FrameSource  # noqa: E402

QUICK = ("BGR in the search crop", "one frame stale", "1.5 times too large", "corner for centre")
QUICK += ("two targets' states swapped",)
QUICK += tuple(
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("padding grey, not black", "a bias left out")
)

HEAD = """# The faults that parity is tried on

{caught} of {tried} planted faults fail `relo-edge parity`, {explained} are explained exactly: the
mistake itself or the node is named. Each is put into the demo's float32 runtime or graphs
(`tests/helpers/planted_faults.py`) and judged as `relo-edge parity demo` does. This page is written
by `python tests/benchmarks/parity/test_planted_faults.py`; a test compares a third of it with a new
run.

| | fault | caught | explained | what parity says |
|---|---|---|---|---|
"""


class SharedReplays:
    """Each mistake is replayed once for all faults: the reference and the probes are the same."""

    def __init__(self):
        self.replay, self.known = mistakes.replay, {}

    def __call__(self, contract, reference, steps, mistake):
        key = mistake.part, mistake.what, tuple((step.scene, step.label) for step in steps)
        if key not in self.known:  # whole, since the reference keeps states in between
            self.known[key] = list(self.replay(contract, reference, steps, mistake))
        return self.known[key]


class Trial:
    """The demo, its reference, and what that says to probes and a short clip."""

    def __init__(self):
        self.bundle = resolve_bundle("demo")
        self.reference = open_runtime("demo", "pytorch")
        self.alone = run_reference(self.reference, [paint(s) for s in find_segments([])])
        self.known = {}

    def judge(self, fault, folder):
        """What parity finds; asked again, the same."""
        if fault.name not in self.known:
            self.known[fault.name] = self._compare(fault, folder)
        return self.known[fault.name]

    def _compare(self, fault, folder):
        bundle, runtime = fault.plant(self.bundle, folder)

        def walk(steps):
            sides = GraphSide(self.bundle, "fp32"), GraphSide(bundle, "fp32")
            return walk_layers(bundle.variant, steps, *sides)

        return compare_runtimes(self.reference, runtime, self.alone, walk=walk)


def paint(segment):
    """The same clip, painted once for all faults."""
    frames = list(segment.clip.read_frames(segment.frames))

    def open_frames(first):
        return FrameSource("clip", (frame for frame in frames[first - segment.frames.start :]))

    clip = replace(segment.clip, open_frames=open_frames)
    return replace(segment, clip=clip)


def is_explained(fault, result):
    exact = [cause.describe() for cause in result.causes if cause.exact]
    return not result.passed and any(fault.words in text for text in exact)


def write_row(fault, result):
    said = "; ".join(f"{cause.part}: {cause.what}" for cause in result.causes)
    said = said or fault.missed
    marks = (
        "yes" if mark else "**no**" for mark in (not result.passed, is_explained(fault, result))
    )
    return f"| {fault.group} | {fault.name} | {' | '.join(marks)} | {said} |"


def write_page(rows):
    caught = sum("| yes | " in row for row in rows)
    explained = sum("| yes | yes |" in row for row in rows)
    head = HEAD.format(caught=caught, tried=len(rows), explained=explained)
    return head + "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def trial():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "SEEDS", range(1))
        patch.setattr(rollout, "FRAMES", 6)
        patch.setattr(mistakes, "replay", SharedReplays())
        yield Trial()


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_fault_fails_and_is_named(name, trial, tmp_path):
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    result = trial.judge(fault, tmp_path / "spoilt")
    assert not result.passed
    assert is_explained(fault, result), result.describe()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")],
)
def test_sound_runtimes_pass(runtime, precision, trial):
    try:
        candidate = open_runtime("demo", runtime, precision, batch=2)
    except (PrecisionError, RuntimeUnavailable) as error:
        pytest.skip(str(error))
    result = compare_runtimes(trial.reference, candidate, trial.alone)
    assert result.passed, result.describe()
    assert result.judged


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_sound_lower_precisions_pass(precision, trial, tmp_path):
    shutil.copytree(trial.bundle.path, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    recording = record_clips(bundle, [], 20)
    if precision == "int8":
        quantize_int8(bundle, recording, "percentile", smooth=False)
    else:
        quantize_fp16(bundle, recording)
    candidate = open_runtime(bundle.path, "onnxruntime", precision, batch=2)
    result = compare_runtimes(trial.reference, candidate, trial.alone)
    print(result.describe())
    assert result.passed, result.describe()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS[::3], ids=lambda fault: fault.name)
def test_the_page_says_what_parity_finds(fault, trial, tmp_path):
    row = write_row(fault, trial.judge(fault, tmp_path / "spoilt"))
    assert row in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_has_a_row_for_each_fault_and_counts_them():
    page = PAGE.read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if "yes |" in line or "no** |" in line]
    assert [row.split(" | ")[:2] for row in rows] == [[f"| {f.group}", f.name] for f in FAULTS]
    assert len(rows) == 68
    assert sum("| yes | " in row for row in rows) >= 64
    assert sum("| yes | yes |" in row for row in rows) >= 45
    assert write_page(rows) == page


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    rollout.SEEDS, rollout.FRAMES, mistakes.replay = range(1), 6, SharedReplays()
    written, known = [], Trial()
    for planted in FAULTS:
        with TemporaryDirectory() as scratch:
            found = known.judge(planted, Path(scratch) / "spoilt")
        written.append(write_row(planted, found))
        print(written[-1], flush=True)
    PAGE.write_text(write_page(written), encoding="utf-8")
