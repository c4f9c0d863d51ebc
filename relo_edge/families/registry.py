"""The families by name; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from relo_edge.errors import InputError
from relo_edge.families.family import Family
from relo_edge.spec import TrackerVariant

__all__ = ["FAMILIES", "find_family", "list_families", "list_variants", "resolve_variant"]

FAMILIES = {
    "relo": "relo_edge.families.relo",
    "sutrack": "relo_edge.families.sutrack",
    "drlt": "relo_edge.families.drlt",
}
"""Each module has the one `FAMILY`. The first is that of manifests which name none."""


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        InputError: there is none.
    """
    if name not in FAMILIES:
        raise InputError("family", found=name, expected=" | ".join(FAMILIES))
    return cast(Family, import_module(FAMILIES[name]).FAMILY)


def list_families() -> list[Family]:
    """All of them, in the order of the manifest's history."""
    return [find_family(name) for name in FAMILIES]


def list_variants() -> dict[str, TrackerVariant]:
    """Every family's variants by name."""
    return {name: v for family in list_families() for name, v in family.variants.items()}


def resolve_variant(name: str) -> TrackerVariant:
    """The variant of that name, whatever its family.

    Raises:
        InputError: there is none.
    """
    variants = list_variants()
    if name not in variants:
        raise InputError("variant", found=name, expected=" | ".join(variants))
    return variants[name]
