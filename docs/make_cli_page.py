"""Write docs/cli.md from the command line itself: `python docs/make_cli_page.py`.

With `-`, print it: a test compares the page with that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from relo_edge.cli import app

PAGE = Path(__file__).with_name("cli.md")

INTRODUCTION = """\
# Command line

`relo-edge VERB …`: results go to stdout (`--json` for programs), progress to stderr. An error is
one line. Exit codes: 0 done, 1 failed or a gate not met, 2 wrong usage, 130 Ctrl-C. Wherever a
BUNDLE is asked for, the word `demo` means the built-in weights.

`--quiet` (`-q`) and `--verbose` (`-v`) may stand anywhere; `relo-edge --install-completion` teaches
your shell the verbs and options; `NO_COLOR` is obeyed.

A file named as an output is replaced, and a line says so before the work starts; never one that the
run reads, and no `groundtruth*`. A bundle or model repository is replaced with `--force` alone, a
folder of anything else never.

This page is made by `docs/make_cli_page.py`.
"""


def build_page() -> str:
    """The page's text."""
    group: Any = typer.main.get_command(app)
    return "\n".join([INTRODUCTION, *(_describe(n, c) for n, c in group.commands.items())])


def _describe(name: str, command: Any) -> str:
    context = typer.Context(command)
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    usage = " ".join(["relo-edge", name, *(_show_argument(param) for param in arguments)])
    rows = [*_list_arguments(arguments), *(_list_option(param, context) for param in options)]
    example = command.epilog.removeprefix("Example: ")
    return (
        f"## {name}\n\n{command.help}\n\n```text\n{usage} [OPTIONS]\n```\n\n"
        f"| | |\n|---|---|\n{chr(10).join(rows)}\n\nExample: `{example}`\n"
    )


def _show_argument(param: Any) -> str:
    word = param.metavar or param.name.upper()
    return word if param.required else f"[{word}]"


def _list_arguments(arguments: list[Any]) -> Iterator[str]:
    for param in arguments:
        yield f"| `{_show_argument(param)}` | {_escape(param.help)} |"


def _list_option(param: Any, context: Any) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(param.opts, key=len, reverse=True))
    kind = "" if param.is_flag else f" {param.metavar or _name_type(param, context)}"
    shown = param.default not in (None, False, []) and not callable(param.default)
    default = f" Default: `{param.default}`." if shown else ""
    needed = " Needed." if param.required else ""
    return f"| {names}{kind.replace('|', '/')} | {_escape(param.help)}{default}{needed} |"


# By Typer's release, a number is an INTEGER, an INTEGER RANGE or an <int> in help texts.
TYPES = {"int": "INTEGER", "str": "TEXT", "float": "FLOAT", "path": "PATH"}


def _name_type(param: Any, context: Any) -> str:
    word = param.get_help_record(context)[0].rpartition(" ")[2].strip("<>")
    word = word.removeprefix("list[").removesuffix("]")
    return TYPES.get(word, "INTEGER" if word == "RANGE" else word)


def _escape(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        print(build_page(), end="")
    else:
        PAGE.write_text(build_page(), encoding="utf-8")
