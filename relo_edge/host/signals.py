"""Ctrl-C, or a service manager's word, as a wish to stop, not as a crash."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["STOP_SIGNALS", "catch_interrupt", "raise_on_end"]

END_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""From a service manager, and from a terminal that is closed."""

STOP_SIGNALS = (signal.SIGINT, *END_SIGNALS)


@contextlib.contextmanager
def raise_on_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what runs as Ctrl-C does, so that temporary files are removed.

    One that is ignored, as `nohup` has it, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = _listen(END_SIGNALS, interrupt)
    try:
        yield
    finally:
        _restore(previous)


@contextlib.contextmanager
def catch_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C, SIGTERM or SIGHUP sets, so files get closed; a second breaks
    off.

    Python lets only the main thread handle signals; elsewhere the event stays unset.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def note_press(*_: object) -> None:
        pressed.set()
        _restore(previous)

    previous = _listen(STOP_SIGNALS, note_press)
    try:
        yield pressed
    finally:
        _restore(previous)


def _listen(numbers: Iterable[Any], handler: Any) -> dict[Any, Any]:
    """Handle these signals, but none that is ignored or not Python's; what did so before."""
    left_alone = (signal.SIG_IGN, None)
    mine = [n for n in numbers if signal.getsignal(n) not in left_alone or n == signal.SIGINT]
    return {number: signal.signal(number, handler) for number in mine}


def _restore(handlers: Mapping[Any, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
