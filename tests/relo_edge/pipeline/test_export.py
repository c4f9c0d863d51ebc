"""`export_bundle`: which weights a word or a path means."""

import pytest

from relo_edge.errors import InputError
from relo_edge.export import publishing
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.pipeline import export_bundle


def test_demo_means_the_built_in_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(publishing, "export_bundle", lambda checkpoint, *_, **__: checkpoint)
    assert export_bundle("demo", tmp_path / "bundle").path == find_demo_checkpoint()


def test_any_other_word_is_a_file(tmp_path):
    with pytest.raises(InputError, match="demo2 cannot be opened: found no such file"):
        export_bundle("demo2", tmp_path / "bundle")
