"""The report: what it shows, what it refuses, and how a real browser takes it."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from clips import StillRuntime
from verbs import run_verb

from relo_edge.benchmarks.parity import rollout
from relo_edge.benchmarks.parity.compare import compare_runtimes, run_reference
from relo_edge.benchmarks.parity.rollout import find_segments
from relo_edge.benchmarks.report.charts import (
    Series,
    draw_bars,
    draw_lines,
    draw_scatter,
    draw_strip,
)
from relo_edge.benchmarks.speed import latency
from relo_edge.benchmarks.speed.contenders import RuntimeContender
from relo_edge.benchmarks.speed.latency import make_rows, read_scene, take_turns
from relo_edge.benchmarks.speed.power import PowerMeter
from relo_edge.benchmarks.speed.results import Proof
from relo_edge.host.opencv import cv2
from relo_edge.runtime import open_runtime

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
QUIET += ["--host-resolver-rules=MAP * ~NOTFOUND"]
BROWSERS_OWN = r"[./](google|googleapis|gvt1)\.com$"
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium")


class Halved:
    """A runtime whose boxes are too small."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def step(self, *arguments):
        answer = self.inner.step(*arguments)
        answer.boxes[:, 2:] *= 0.5
        return answer


@pytest.fixture(scope="module")
def files(small_bundle, tmp_path_factory):
    """What the three verbs leave behind, made by what is behind the verbs."""
    folder = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "TURNS", 2)
        patch.setattr(rollout, "FRAMES", 6)
        scene = read_scene(None)
        contenders = [
            RuntimeContender(StillRuntime(seconds=s), scene.first, scene.box) for s in (0.02, 0.01)
        ]
        contenders[0].name = "pytorch"
        take_turns(contenders, scene, PowerMeter())
        proofs = {1: Proof(True, True, 0.987, 1.0, ())}
        bench = make_rows(contenders, scene, 1, proofs, {})
        reference, candidate = (
            open_runtime(small_bundle.path, name) for name in ("pytorch", "onnxruntime")
        )
        alone = run_reference(reference, find_segments([]))
        parity = compare_runtimes(reference, Halved(candidate), alone)
    (folder / "bench.json").write_text(json.dumps(bench.to_dict()))
    (folder / "parity.json").write_text(json.dumps(parity.to_dict()))
    (folder / "eval").mkdir()
    (folder / "eval" / "summary.json").write_text(json.dumps(make_summary()))
    return folder


def make_summary(**changes):
    """As `eval` writes it."""
    thresholds = {"overlap": np.arange(21) * 0.05, "centre": np.arange(51.0)}
    return {
        "dataset": "plain",
        "auc": 0.61,
        "precision": 0.8,
        "norm_precision": 0.7,
        "curves": {
            "thresholds": {name: values.tolist() for name, values in thresholds.items()},
            "success": np.linspace(1, 0, 21).tolist(),
            "precision": np.linspace(0, 1, 51).tolist(),
        },
        "run": {"runtime": "still", "precision": "fp32"},
        "sequences": {"<b>walk</b>": {}},
        **changes,
    }


@pytest.fixture(scope="module")
def page(files):
    path = files / "report.html"
    words = ["--bench", "bench.json", "--parity", "parity.json", "--eval", "eval"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(files)
        from typer.testing import CliRunner

        from relo_edge.cli import app

        done = CliRunner().invoke(app, ["report", *words, "-o", str(path)])
    assert done.exit_code == 0, done.output
    return path


@pytest.mark.slow
def test_the_page_holds_what_was_found(page):
    text = page.read_text()
    for words in (
        "Not the same tracker: onnxruntime fp32",
        "Fastest within its gate: still fp32",
        "same, IoU 0.987",
        "Latency distributions",
        "Where the time goes",
        "Accuracy against speed",
        "frames per second",
        "overlap threshold",
        "centre error in pixels",
        "box error",
        "the size is 0.5 times the right one",
        "data:image/jpeg;base64,",
        "Measured on",
    ):
        assert words in text
    assert text.count('class="strip"') == 2
    assert "61.0" in text


def test_the_page_asks_for_nothing(page):
    text = page.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)


def test_names_are_text_not_markup(files, tmp_path, capsys):
    (tmp_path / "eval").mkdir()
    evil = make_summary(dataset="<script>alert(1)</script>")
    (tmp_path / "eval" / "summary.json").write_text(json.dumps(evil))
    out = tmp_path / "report.html"
    assert run_verb(capsys, "report", "--eval", tmp_path / "eval", "-o", out)[0] == 0
    assert "<script" not in out.read_text()
    assert "&lt;script&gt;" in out.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("doubts", [[], ["other processes used 1.7 of 2 cores"]])
def test_a_ratio_of_a_busy_machine_is_held_back(files, tmp_path, capsys, doubts):
    told = json.loads((files / "bench.json").read_text())
    told["rows"] = [{**row, "doubts": doubts} for row in told["rows"]]
    (tmp_path / "bench.json").write_text(json.dumps(told))
    out = tmp_path / "report.html"
    assert run_verb(capsys, "report", "--bench", tmp_path / "bench.json", "-o", out)[0] == 0
    text = out.read_text()
    assert ("× PyTorch in the same run" in text) != bool(doubts)
    assert ("so no ratio is given" in text) == bool(doubts)
    assert ("other processes used 1.7 of 2 cores" in text) == bool(doubts)


def test_each_kind_alone_makes_a_report(files, tmp_path, capsys):
    for option, name, words in (
        ("--bench", "bench.json", "1 of 1 within their gates"),
        ("--parity", "parity.json", "Not the same tracker"),
        ("--eval", "eval", "without a proof"),
    ):
        out = tmp_path / f"{option}.html"
        code, printed, _ = run_verb(capsys, "report", option, files / name, "-o", out)
        assert (code, printed.strip()) == (0, str(out))
        assert words in out.read_text()


def test_a_page_that_is_replaced_is_named(files, tmp_path, capsys):
    words = ["report", "--bench", files / "bench.json", "-o", tmp_path / "page.html"]
    told = [run_verb(capsys, *words)[2].count("page.html is there already") for _ in range(2)]
    assert told == [0, 1]


def test_a_withheld_truth_has_no_curves(tmp_path, capsys):
    plain = make_summary(auc=None, precision=None, norm_precision=None, curves=None)
    (tmp_path / "summary.json").write_text(json.dumps(plain))
    out = tmp_path / "report.html"
    assert run_verb(capsys, "report", "--eval", tmp_path, "-o", out)[0] == 0
    assert "overlap threshold" not in out.read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no JSON"),
        ("[]", "a list of 0 entries in the place of an object"),
        ('{"environment": {}, "rows": []}', "rows: a list of 0 entries"),
        ('{"environment": {}, "rows": [{"runtime": "x"}]}', "rows.0.precision: nothing"),
        ('{"environment": {}, "rows": 3}', "rows: 3 in the place of a list"),
    ],
)
def test_what_is_no_result_is_refused(content, words, tmp_path, capsys):
    (tmp_path / "b.json").write_text(content)
    out = tmp_path / "report.html"
    code, _, err = run_verb(capsys, "report", "--bench", tmp_path / "b.json", "-o", out)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert words in err
    assert "relo-edge bench --json" in err
    assert not out.exists()


@pytest.mark.parametrize("damage", [{"peak_memory_mb": "a"}, {"doubts": 5}])
def test_a_figure_that_is_none_is_refused(files, damage, tmp_path, capsys):
    bench = json.loads((files / "bench.json").read_text())
    bench["rows"][0] |= damage
    (tmp_path / "b.json").write_text(json.dumps(bench))
    words = ["report", "--bench", tmp_path / "b.json", "-o", tmp_path / "r.html"]
    code, _, err = run_verb(capsys, *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert f"rows.0.{next(iter(damage))}" in err


def test_rows_of_one_name_are_all_drawn(files, tmp_path, capsys):
    bench = json.loads((files / "bench.json").read_text())
    bench["rows"].append(bench["rows"][1])
    (tmp_path / "b.json").write_text(json.dumps(bench))
    out = tmp_path / "r.html"
    code, _, err = run_verb(capsys, "report", "--bench", tmp_path / "b.json", "-o", out)
    assert code == 0, err
    assert out.read_text().count("fp32 (2)") == 2  # its distribution, and where its time goes


def test_nothing_to_show_and_nowhere_to_write(files, tmp_path, capsys):
    code, _, err = run_verb(capsys, "report", "-o", tmp_path / "r.html")
    assert (code, "nothing to show" in err) == (2, True)
    code, _, err = run_verb(capsys, "report", "--bench", files / "bench.json", "-o", "r.pdf")
    assert (code, "expected .html" in err) == (2, True)
    code, _, err = run_verb(capsys, "report", "--eval", tmp_path, "-o", tmp_path / "r.html")
    assert (code, "no such file" in err) == (2, True)
    code, _, err = run_verb(capsys, "report", "--bench", tmp_path, "-o", tmp_path / "r.html")
    assert (code, "found a folder, expected what `relo-edge bench" in err) == (2, True)


def test_charts_stay_in_their_frame():
    series = [Series("a", [(0, 0.0), (50, 1.0)]), Series("b", [(10, 0.5)])]
    for chart in (draw_lines(series, "x", "y"), draw_scatter(series, "x", "y")):
        places = [float(value) for value in re.findall(r'(?:cx|cy|x1|y1)="([\d.]+)"', chart)]
        places += [
            float(v)
            for pair in re.findall(r'points="([^"]+)"', chart)
            for v in re.split("[ ,]", pair)
        ]
        assert all(0 <= value <= 420 for value in places)
    widths = re.findall(
        r"width:([\d.]+)%", draw_bars({"a": {"x": 3.0, "y": 1.0}, "b": {"x": 2.0}}, "")
    )
    assert [float(width) for width in widths] == [75, 25, 50]
    strip = draw_strip([1.0, 0.0, 0.5], [False, True, False], [41, 42, 43])
    assert "<title>frame 42: 0.000</title>" in strip
    assert strip.count('class="cell"') == 3
    assert strip.count('class="mark"') == 1


def browse(page, *flags):
    done = subprocess.run(
        [CHROMIUM, *QUIET, "--enable-logging=stderr", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_without_a_word_or_a_request(page, width, tmp_path):
    shot, log = tmp_path / "shot.png", tmp_path / "net.json"
    done = browse(
        page, f"--window-size={width},2400", f"--screenshot={shot}", f"--log-net-log={log}"
    )
    assert "CONSOLE" not in done.stderr
    picture = cv2.imread(str(shot))
    assert picture.shape[:2] == (2400, width)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200
    asked = re.findall(r'"url":"(https?://[^/"]+)', log.read_text())
    assert not [host for host in asked if not re.search(BROWSERS_OWN, host)]


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(page, width, tmp_path):
    """A copy that may run one line, in a frame so wide, tells how wide it has become.

    A window has a least width of its own.
    """
    text = re.sub(r"<meta http-equiv[^>]+>", "", page.read_text())
    sizes = "[innerWidth, document.documentElement.scrollWidth]"
    line = f"<script>parent.postMessage({sizes}.join(), '*')</script>"
    (tmp_path / "copy.html").write_text(text.replace("</body>", f"{line}</body>"))
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<script>onmessage = event => document.title = event.data</script>"
        f'<iframe src="copy.html" style="width:{width}px; height:900px; border:0"></iframe>'
    )
    dumped = browse(frame, "--virtual-time-budget=3000", "--dump-dom").stdout
    inner, scroll = map(int, re.search(r"<title>(\d+),(\d+)</title>", dumped).groups())
    assert scroll <= inner == width
