"""A package's names come from their modules on first use; others are refused as Python does."""

import sys

import pytest

from relo_edge.host.lazy_imports import import_on_use


def test_a_name_is_imported_when_it_is_asked_for(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    find = import_on_use("package", {"Error": "wave"})
    assert "wave" not in sys.modules
    assert find("Error") is sys.modules["wave"].Error


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'package' has no attribute 'gone'"):
        import_on_use("package", {})("gone")
