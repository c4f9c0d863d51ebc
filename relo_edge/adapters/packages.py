"""Importing a package of the `adapters` extra, or saying in one line that it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from relo_edge.errors import MissingDependency

__all__ = ["import_package"]


def import_package(module: str, distribution: str) -> Any:
    """The module, which the distribution of that name brings.

    Raises:
        MissingDependency: it is not installed, or does not import.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise MissingDependency(
            f"{distribution} is not installed", fix="`pip install 'relo-edge[adapters]'`"
        ) from None
    except Exception as error:
        raise MissingDependency(
            f"{distribution} does not import",
            found=f"{type(error).__name__}: {error}",
            fix=f"install the {distribution} that constraints.txt names",
        ) from error
