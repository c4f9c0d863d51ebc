"""Names that a package imports when asked for them, so that importing it costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["import_on_use"]


def import_on_use(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The package's `__getattr__`: each name is taken from the module where it is at home."""

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    return find
