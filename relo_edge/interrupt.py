"""Ctrl-C as a wish to stop, not as a crash."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["catch_interrupt"]


@contextlib.contextmanager
def catch_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that files are closed; a second one breaks off.

    Python lets only the main thread handle signals; elsewhere the event stays unset.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def note_press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, note_press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
