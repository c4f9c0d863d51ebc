"""The one progress bar, on stderr, so that stdout stays the result's."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["count_stages", "show_progress"]

LINE_SECONDS = 15.0

_stages: ContextVar[Iterator[str]] = ContextVar("stages")
"""What is added to the title of each stage, one after the other."""


@contextlib.contextmanager
def count_stages(total: int | None) -> Iterator[None]:
    """Number all progress that is shown within, of so many; None where nobody knows how many."""
    numbers = (f" ({n} of {total})" if total else f" (stage {n})" for n in count(1))
    token = _stages.set(numbers)
    try:
        yield
    finally:
        _stages.reset(token)


@contextlib.contextmanager
def show_progress(
    title: str, total: int | None = None, unit: str = "frames", *, kept: bool = False
) -> Iterator[Callable[[], None]]:
    """Yield what to call after each step; a log gets a line now and then in place of a bar.

    What is `kept` from one call to the next may be all there: then that is said, and no rate.
    Nothing is shown under `--quiet`, which logs warnings alone.
    """
    title += next(_stages.get(iter(())), "")
    if logging.getLogger("relo_edge").level > logging.INFO:
        yield lambda: None
        return
    if kept and total == 0:
        yield lambda: None
        print(f"{title}: already there", file=sys.stderr)
        return
    shown = _show_bar if sys.stderr.isatty() else _show_line
    with shown(title, total, unit) as advance:
        yield advance


def _name_rate(unit: str) -> str:
    return "FPS" if unit == "frames" else f"{unit}/s"


@contextlib.contextmanager
def _show_line(title: str, total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    """A line every `LINE_SECONDS`, with the time left if the total is known; one at the end."""
    done, start = 0, time.perf_counter()
    told = start

    def measure_rate() -> float:
        return done / max(time.perf_counter() - start, 1e-9)

    def advance() -> None:
        nonlocal done, told
        done += 1
        now = time.perf_counter()
        if now - told >= LINE_SECONDS and done != total:
            told, rate = now, measure_rate()
            count = f"{done} of {total} {unit}" if total else f"{done} {unit}"
            left = f", about {(total - done) / rate:.0f} s left" if total else ""
            print(f"{title}: {count}, {rate:.1f} {_name_rate(unit)}{left}", file=sys.stderr)

    yield advance
    print(f"{title}: {done} {unit}, {measure_rate():.1f} {_name_rate(unit)}", file=sys.stderr)


@contextlib.contextmanager
def _show_bar(title: str, total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    with _build_bar(unit) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance() -> None:
            speed = bar.tasks[task].speed
            bar.update(task, advance=1, rate=f"{speed:.1f} {_name_rate(unit)}" if speed else "")

        yield advance


def _build_bar(unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  {{task.fields[rate]}}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
