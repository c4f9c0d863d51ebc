"""What the README shows is what happens."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from clips import write_video

from relo_edge import pipeline
from relo_edge.video.opening import open_source

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_python_example_runs(small_bundle, tmp_path, monkeypatch, capsys):
    example, _ = EXAMPLES
    assert len(example.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    Path("relo-t256").symlink_to(small_bundle.path)
    write_video(Path("clip.mp4"), frames=4)
    boxes = example.replace("(120, 80, 64, 48)", "(30, 20, 24, 18)")  # the clip is small
    exec(compile(boxes, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_the_pipeline_example_calls_what_there_is():
    _, example = EXAMPLES
    calls = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)]
    assert {call.func.id for call in calls} == {"check_parity", "export_bundle", "quantize_bundle"}
    for call in calls:
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        inspect.signature(getattr(pipeline, call.func.id)).bind(*call.args, **keywords)


def test_the_sources_it_names_are_told_apart():
    for word in re.findall(r"`(synthetic:[^`]+)`", README):
        with open_source(word) as source:
            assert next(source).shape == (480, 640, 3)
