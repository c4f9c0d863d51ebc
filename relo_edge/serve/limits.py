"""What one page, and all of them together, may ask of the device."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "CONNECTIONS",
    "MESSAGE_BYTES",
    "PATIENCE",
    "PICTURES_UNDERWAY",
    "UNREAD_NOTES",
    "VIEWERS",
    "Allowance",
]

VIEWERS = 8
CONNECTIONS = 48
"""Open at once, of viewers, downloads and strangers together."""
PATIENCE = 5.0
"""Seconds for a connection to say what it wants, and for a quiet one to be kept."""
MESSAGE_BYTES = 2048
"""The longest message of a page; a command needs 200."""
PICTURES_UNDERWAY = 2
"""Sent to a page and not yet shown by it; beyond that it waits for the newest."""
UNREAD_NOTES = 64
"""Texts waiting for a page; one that lets more pile up has gone away."""


@dataclass
class Allowance:
    """A page's commands: a burst is fine, a flood is not."""

    rate: float = 20.0
    """Commands per second in the long run."""
    burst: float = 40.0
    patience: int = 200
    """Refusals in a row after which the page is cut off."""
    refused: int = 0
    _left: float = field(init=False, default=0.0)
    _then: float | None = field(init=False, default=None)

    def take(self, now: float) -> bool:
        """Whether one more command is allowed at this time, in seconds."""
        passed = 0.0 if self._then is None else now - self._then
        self._left = self.burst if self._then is None else self._left
        self._left = min(self.burst, self._left + passed * self.rate)
        self._then = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        self.refused = 0
        return True

    @property
    def exhausted(self) -> bool:
        """True once the page has gone on for too long after being told."""
        return self.refused > self.patience
