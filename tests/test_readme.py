"""What the README shows is what happens."""

import re
from pathlib import Path

from clips import write_video

from relo_edge.video.opening import open_source

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(demo_bundle, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    Path("relo-t256").symlink_to(demo_bundle.path)
    write_video(Path("clip.mp4"), frames=4)
    boxes = example.replace("(120, 80, 64, 48)", "(30, 20, 24, 18)")  # the clip is small
    exec(compile(boxes, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_the_sources_it_names_are_told_apart():
    for word in re.findall(r"`(synthetic:[^`]+)`", README):
        with open_source(word) as source:
            assert next(source).shape == (480, 640, 3)
