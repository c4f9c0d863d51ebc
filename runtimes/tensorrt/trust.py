"""Which plans this machine built itself: a plan is code, and deserialising it runs it."""

from __future__ import annotations

from relo_edge.host.files import find_state

__all__ = ["is_recorded", "record_plan"]

FOLDER = "built-plans"


def record_plan(digest: str) -> None:
    """Note that this machine built the plan of that hash."""
    folder = find_state() / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / digest).touch()


def is_recorded(digest: str) -> bool:
    """Whether this machine built the plan of that hash."""
    return (find_state() / FOLDER / digest).is_file()
