"""Adapters are imported when asked for, and say which package is missing."""

import pytest

from relo_edge import adapters
from relo_edge.adapters.packages import import_package
from relo_edge.errors import MissingDependency


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(MissingDependency, match=r"nowhere is not installed; `pip install .*adapte"):
        import_package("no_such_module_anywhere", "nowhere")


def test_a_package_that_breaks_on_import_is_told_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise TypeError('not on this Python')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match="TypeError: not on this Python"):
        import_package("broken_package", "broken")


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'Kcf'"):
        adapters.Kcf  # noqa: B018
    assert dir(adapters) == adapters.__all__
