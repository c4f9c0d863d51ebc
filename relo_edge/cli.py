"""The entry of the command line: registers the verbs; an error ends in one line."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import Any

import typer

from relo_edge.errors import INTERRUPTED, ReloError
from relo_edge.host.signals import raise_on_end
from relo_edge.host.terminal import ChatterHandler, print_error
from relo_edge.verbs import engines, follow, judge, make, triton
from relo_edge.verbs.renamed import replace_renamed
from relo_edge.verbs.shared import app, move_global_options

__all__ = ["app", "engines", "follow", "judge", "main", "make", "triton"]

# Typer carries its own copy of click in new releases and uses the package in older ones;
# the base of all its usage errors is reached through the class that both export.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


_VERBS = ["demo", "doctor", "track", "serve", "fetch", "export", "inspect", "quantize", "parity"]
_VERBS += ["bench", "eval", "compare", "report", "build-engine", "triton", "train", "pseudo-label"]
"""As a user meets them, in `--help` and docs/cli.md."""

app.registered_commands.sort(
    key=lambda one: _VERBS.index(str(one.name or getattr(one.callback, "__name__", "")))
)


def main() -> None:
    """Run a verb; an error ends in one line and the right exit code."""
    _replace_closed_streams()
    log, chatter = logging.getLogger("relo_edge"), ChatterHandler()
    log.setLevel(logging.INFO)
    log.addHandler(chatter)
    try:
        with raise_on_end():
            words = replace_renamed(move_global_options(sys.argv[1:]))
            code = app(args=words, prog_name="relo-edge", standalone_mode=False)
            sys.stdout.flush()
    except ReloError as error:
        code = _complain(str(error), error.exit_code)
    except _UsageProblem as problem:
        code = _report_usage(problem)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        _end_output()
        code = 1  # whoever read it has seen enough
    except OSError as error:
        _end_output()
        code = _complain(str(error), 1)
    finally:
        log.removeHandler(chatter)
    if code == INTERRUPTED:
        _complain("interrupted", code)
    sys.exit(code)


def _replace_closed_streams() -> None:
    """Python has None for a stream that was closed, and its number would go to a file of ours."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  open to the end


def _end_output() -> None:
    """What stdout does not take is not tried again, with a traceback, when the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123  a device, not a path
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _report_usage(problem: Any) -> int:
    """Typer's own complaints in our one-line form; a bare call is answered with the help."""
    if type(problem).__name__ == "NoArgsIsHelpError":
        print(problem, file=sys.stderr)
        return 2
    message = " ".join(problem.format_message().split()).rstrip(".")
    unknown = re.match(r"No such command '(version|help)'", message)
    if unknown:  # typer suggests verbs alone, such as triton
        message = f"{unknown[0]}. Did you mean --{unknown[1]}?"
    command = problem.ctx.command_path if problem.ctx else "relo-edge"
    return _complain(f"{message}; see `{command} --help`", 2)


def _complain(message: str, code: int) -> int:
    print_error(message)
    return code


if __name__ == "__main__":
    main()
