"""What the verbs share: the app, common options, and how results are printed."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from relo_edge import __version__
from relo_edge.errors import InputError
from relo_edge.host.terminal import escape_controls

__all__ = ["Bundle", "Checkpoint", "Clips", "Json", "Threads", "TrustEngine", "app"]
__all__ += ["move_global_options", "print_result"]

app = typer.Typer(
    help="Take a trained RELO tracker to the edge, and prove that it is still the same tracker.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Bundle = Annotated[str, typer.Argument(help="Bundle folder, or demo.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights for the pytorch runtime, in place of the bundle's own.")
]
Clips = Annotated[
    list[str] | None,
    typer.Option(
        help="Video, glob, folder of videos or of images with ground truth; repeat it. "
        "Built-in ones if absent."
    ),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores if absent.")]
TrustEngine = Annotated[
    bool,
    typer.Option("--trust-engine", help="Load TensorRT engines that this machine did not build."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class Result(Protocol):
    """A verb's result, for a program and for a reader."""

    def to_dict(self) -> dict[str, Any]: ...

    def describe(self) -> str: ...


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


GLOBAL_FLAGS = ("--quiet", "-q", "--verbose", "-v")


def move_global_options(words: Sequence[str]) -> list[str]:
    """The command line with the options that belong to no verb in front, wherever they stood."""
    end = words.index("--") if "--" in words else len(words)
    moved = [word for word in words[:end] if word in GLOBAL_FLAGS]
    return [*moved, *(word for word in words[:end] if word not in GLOBAL_FLAGS), *words[end:]]


@app.callback()
def relo_edge(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; only warnings and errors.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also what was tried and why it was not taken.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    """Results go to stdout, progress to stderr; an error is one line."""
    if quiet and verbose:
        raise InputError("--quiet and --verbose exclude each other", fix="give one of them")
    if quiet or verbose:
        logging.getLogger("relo_edge").setLevel(logging.WARNING if quiet else logging.DEBUG)


def print_result(result: Result, as_json: bool, *, aside: bool = False) -> None:
    """The result on stdout, for a program or a reader; aside, on stderr, where stdout is taken."""
    file = sys.stderr if aside else sys.stdout
    if as_json:
        print(json.dumps(_name_numbers(result.to_dict())), file=file)
    else:
        print(escape_controls(result.describe()), file=file)


def _name_numbers(plain: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(plain, dict):
        return {key: _name_numbers(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_name_numbers(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
