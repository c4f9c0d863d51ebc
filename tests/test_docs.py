"""README and docs show what there is: commands run, links resolve, the CLI page is the CLI."""

import json
import re
import shutil
import subprocess
import sys

import cv2
import pytest
import typer
from commands import PAGES, ROOT, find_commands, list_blocks
from layouts import write_lasot, write_plain
from shortened import shorten, start_at_once
from verbs import run_verb

from relo_edge import pipeline
from relo_edge.cli import app
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.synthetic.clip import make_clip
from relo_edge.verbs.shared import GLOBAL_FLAGS

COMMANDS = find_commands("relo-edge")

# What is not run here, and why: the first words that a command begins with, or a word in it.
NOT_RUN = {
    "fetch": "network",
    "build-engine": "TensorRT",
    "--runtime tensorrt": "GPU",
    "export": "weights, or training that comes before it",
    "train": "minutes to hours",
    "compare eval_out/relo eval_out/r1track": "a model's server",
    "quantize B": "training that comes before it",
    "--say": "a vocabulary, and weights that take words",
    "rtsp://": "a camera",
    "track door=": "cameras",
    "csi:": "a camera",
    "--finder": "a model's server",
    "--tracker r1track": "a model's server",
    "pseudo-label": "model files; tests/training/test_pseudo_labels.py runs it",
    "serve": "runs until it is stopped; tests/relo_edge/serve runs it",
    "--install-completion": "writes into the user's shell",
}
SLOW = {"bench", "eval", "compare", "parity", "quantize"}


def say(words):
    return " ".join(words)


def find_reason(words):
    """Why a command is not run, or nothing."""
    line = say(words)
    hits = (why for key, why in NOT_RUN.items() if line.startswith(key) or f" {key}" in line)
    return next(hits, None)


VERBS = typer.main.get_group(app).commands
SHOWN = {say(words): words for _, words in COMMANDS}
EXECUTED = [words for words in SHOWN.values() if not find_reason(words)]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: str(value)[:70])
def test_a_command_that_is_shown_exists_with_its_options(page, words):
    verb, *rest = words
    VERBS[verb].make_context(verb, [word for word in rest if word not in ("…", *GLOBAL_FLAGS)])


@pytest.fixture(scope="module")
def workplace(small_bundle, tmp_path_factory):
    """A folder with what the commands name: small clips, a bundle, results, a data set."""
    folder = tmp_path_factory.mktemp("docs")
    clip = make_clip(5, 12, (640, 360))
    for name in ("clip.mp4", "street.mp4"):
        path = str(folder / name)
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 30, clip.size)
        for frame in clip.frames():
            writer.write(frame)
        writer.release()
    for bundle in ("relo-t256", "sutrack-t224"):  # what is shown is how it is called
        shutil.copytree(small_bundle.path, folder / bundle)
    write_lasot(folder / "LaSOT", "airplane-1")
    write_plain(folder / "GOT-10k" / "val")
    results = ROOT / "benchmarks" / "results"
    shutil.copy(next(results.glob("*demo.json")), folder / "bench.json")
    return folder


def shorten_verbs(monkeypatch):
    shorten(monkeypatch, "bench", "parity", "quantize")
    start_at_once(monkeypatch)


@pytest.fixture(scope="module")
def results(workplace):
    """Results and an INT8 graph, for the commands that read them."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_verbs(patch)
        pipeline.quantize_bundle(workplace / "relo-t256", "int8", method="minmax", quick=True)
        parity = pipeline.check_parity(workplace / "relo-t256", "openvino")
    (workplace / "parity.json").write_text(json.dumps(parity.to_dict()))
    for name, precision in (("RUN", "fp32"), ("-fp32", "fp32"), ("-int8", "int8")):
        output = "RUN" if name == "RUN" else f"LaSOT-relo-t256-openvino{name}"
        pipeline.evaluate(
            workplace / "relo-t256",
            workplace / "LaSOT",
            runtime="openvino",
            precision=precision,
            output=workplace / "eval_out" / output,
        )
    return workplace


@pytest.mark.slow
@pytest.mark.parametrize("words", [w for w in EXECUTED if w[0] not in SLOW | {"report"}], ids=say)
def test_a_command_runs_as_shown(words, workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    code, out, err = run_verb(capsys, *words)
    assert code == 0, err
    assert out


@pytest.fixture
def short(monkeypatch):
    shorten_verbs(monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("words", [w for w in EXECUTED if w[0] in SLOW | {"report"}], ids=say)
def test_a_slow_command_runs_as_shown(words, results, monkeypatch, capsys):
    monkeypatch.chdir(results)
    if words[0] == "quantize":
        words = [*words, "--quick"]
    code, out, err = run_verb(capsys, *words)
    # Twelve frames are no proof for a gate; what counts is that the verb got there.
    assert code in ((0, 1) if words[0] in ("parity", "bench", "quantize") else (0,)), err
    assert out or "relo-edge: " in err


def test_what_is_not_run_is_still_shown():
    lines = [say(words) for _, words in COMMANDS]
    for key in set(NOT_RUN) - {"--install-completion"}:
        assert any(line.startswith(key) or f" {key}" in line for line in lines), key
    assert len(EXECUTED) > 10


@pytest.mark.parametrize("target", sorted({words[0] for _, words in find_commands("make")}))
def test_a_make_target_that_is_shown_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not re.match(r"https?:|#|mailto:", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_the_cli_page_is_made_from_the_command_line():
    command = [sys.executable, str(ROOT / "docs" / "make_cli_page.py"), "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert done.stdout == page, "run `make docs`"


def test_the_python_page_names_all_that_is_public():
    import relo_edge
    from relo_edge import adapters, fleet, triton

    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    named = set(re.findall(r"\.\. auto\w+:: (\S+)", page))
    expected = {f"relo_edge.{name}" for name in relo_edge.__all__}
    expected |= {f"relo_edge.pipeline.{name}" for name in pipeline.__all__}
    expected |= {f"relo_edge.adapters.{name}" for name in adapters.__all__}
    expected |= {f"relo_edge.triton.{name}" for name in triton.__all__}
    own = set(fleet.__all__) - set(triton.__all__)  # RemoteTrack is of both
    expected |= {f"relo_edge.fleet.{name}" for name in own}
    assert named == expected


@pytest.mark.slow
def test_the_quick_starts_program_runs(workplace, monkeypatch, capsys):
    (program,) = list_blocks(ROOT / "docs" / "quickstart.md", "python")
    monkeypatch.chdir(workplace)
    exec(compile(program, "quickstart.md", "exec"), {})
    assert capsys.readouterr().out.count("\n") == 11


def test_the_untrained_weights_are_a_checkpoint(tmp_path, monkeypatch):
    (program,) = list_blocks(ROOT / "docs" / "relo.md", "python")
    assert 'VARIANTS["t256"]' in program
    monkeypatch.chdir(tmp_path)
    exec(compile(program.replace("t256", "demo"), "relo.md", "exec"), {})
    assert read_checkpoint("untrained.safetensors").variant.name == "demo"


ECOSYSTEM = list_blocks(ROOT / "docs" / "ecosystem.md", "python")


@pytest.mark.slow
@pytest.mark.parametrize("block", ECOSYSTEM, ids=lambda block: block.split()[1])
def test_the_adapters_examples_run(block):
    pytest.importorskip("supervision")
    code = compile(block, "ecosystem.md", "exec")
    if "ExperimentOTB" not in block:  # the data set; test_got10k_toolkit.py runs it on a small one
        exec(code, {})


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    words = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api.html").read_text("utf-8")
    assert "relo_edge.open_runtime" in page
    assert (tmp_path / "search.html").exists()
