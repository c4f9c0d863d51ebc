"""Ctrl-C, or a service manager's word, as a wish to stop, not as a crash."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["WISHES", "catch_interrupt"]

WISHES = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def catch_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets, so files get closed; a second breaks off.

    Python lets only the main thread handle signals; elsewhere the event stays unset.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def note_press(*_: object) -> None:
        pressed.set()
        restore()

    def restore() -> None:
        for wish, before in previous.items():
            signal.signal(wish, before)

    previous = {wish: signal.signal(wish, note_press) for wish in WISHES}
    try:
        yield pressed
    finally:
        restore()
