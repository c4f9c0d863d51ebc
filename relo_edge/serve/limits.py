"""Limits on what one page, and all of them together, may ask of the device."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "IDLE_SECONDS",
    "MAX_CONNECTIONS",
    "MAX_QUEUED_EVENTS",
    "MAX_VIEWERS",
    "MESSAGE_BYTES",
    "SEND_SECONDS",
    "SNAPSHOTS_IN_FLIGHT",
    "RateLimiter",
]

MAX_VIEWERS = 8
MAX_CONNECTIONS = 48
"""Open at once: viewers, downloads and strangers together."""
IDLE_SECONDS = 5.0
"""Time for a connection to complete a request, counted anew after each response."""
SEND_SECONDS = 15.0
"""A client that takes nothing for so long has gone, and its place is free."""
MESSAGE_BYTES = 2048
"""The longest message of a page; a command needs 200."""
SNAPSHOTS_IN_FLIGHT = 2
"""Sent to a page and not yet shown by it; beyond that it waits for the newest."""
MAX_QUEUED_EVENTS = 64
"""Events waiting for a page; one that lets more pile up has gone."""


@dataclass
class RateLimiter:
    """A token bucket for one page's commands: a burst passes, a flood does not."""

    rate: float = 20.0
    """Commands per second in the long run."""
    burst: float = 40.0
    max_refusals: int = 200
    """Refusals in a row after which the page is disconnected."""
    refusals: int = 0
    _tokens: float = field(init=False, default=0.0)
    _updated: float | None = field(init=False, default=None)

    def allow(self, now: float) -> bool:
        """Whether one more command is allowed at this time, in seconds."""
        elapsed = 0.0 if self._updated is None else now - self._updated
        self._tokens = self.burst if self._updated is None else self._tokens
        self._tokens = min(self.burst, self._tokens + elapsed * self.rate)
        self._updated = now
        if self._tokens < 1:
            self.refusals += 1
            return False
        self._tokens -= 1
        self.refusals = 0
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the page went on for too long after being refused."""
        return self.refusals > self.max_refusals
