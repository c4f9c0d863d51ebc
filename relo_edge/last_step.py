"""What a runtime remembers of its last step, so that a slot's part in it can be taken back."""

from __future__ import annotations

from relo_edge.errors import InputError

__all__ = ["LastStep"]


class LastStep:
    """Which slots a runtime's last step advanced, and whether they had a history: for `rewind`."""

    def __init__(self) -> None:
        self._had_history: dict[int, float] = {}

    def __len__(self) -> int:
        """How many slots the step still stands for."""
        return len(self._had_history)

    def clear(self) -> None:
        """Another step begins: the one before stands for good."""
        self._had_history.clear()

    def note(self, slot: int, had_history: float) -> None:
        """The step has moved this slot."""
        self._had_history[slot] = float(had_history)

    def drop(self, slot: int) -> None:
        """The slot has forgotten its history, and the step with it."""
        self._had_history.pop(slot, None)

    def take_back(self, slot: int) -> float:
        """Whether the slot had a history before; a step is taken back once."""
        if slot not in self._had_history:
            raise InputError(
                f"slot {slot} cannot be rewound",
                found="no part of it in the last step, or one that was taken back already",
                expected="a step of this slot just before",
            )
        return self._had_history.pop(slot)
