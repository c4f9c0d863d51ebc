"""The command line: one thin function per verb; the work is done elsewhere."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relo_edge.errors import ReloError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Take a trained RELO tracker to the edge, and prove that it is still the same tracker.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Typer carries its own copy of click in new releases and uses the package in older ones;
# the base of all its usage errors is reached through the class that both export.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def relo_edge() -> None:
    """Verbs share these rules: results on stdout, progress on stderr, one line per error."""


def main() -> None:
    """Run a verb; whatever goes wrong ends in one line and the right exit code."""
    try:
        code = app(standalone_mode=False)
    except ReloError as error:
        code = _complain(str(error), error.exit_code)
    except _UsageProblem as problem:
        code = _report_usage(problem)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code)


def _report_usage(problem: Exception) -> int:
    """Typer's own complaints in our one-line form; a bare call is answered with the help."""
    message = " ".join(str(getattr(problem, "message", problem)).split())
    if type(problem).__name__ == "NoArgsIsHelpError":
        print(problem, file=sys.stderr)
        return 2
    command = getattr(getattr(problem, "ctx", None), "command_path", "relo-edge")
    return _complain(f"{message}; see `{command} --help`", 2)


def _complain(message: str, code: int) -> int:
    print(f"relo-edge: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
