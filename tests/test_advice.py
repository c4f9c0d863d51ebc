"""Each command line that a message or a docstring advises exists, with its options."""

import ast
import re
from pathlib import Path

import pytest
import typer

from relo_edge.cli import app

ROOT = Path(__file__).parents[1]
ROOMS = ("relo_edge", "export", "calibration", "runtimes", "benchmarks", "training")
ADVISED = re.compile(r"(?:`|Example: )relo-edge (?P<verb>[a-z][a-z-]*)(?P<rest>[^`\n;]*)")
VALUE = "INT8"
"""Stands for what a message fills in: a path, or the precision of `--{precision}`."""

VERBS = typer.main.get_group(app).commands


def list_texts(tree):
    """The string literals, those in pieces put together."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (
                part.value if isinstance(part, ast.Constant) else VALUE for part in node.values
            )
            yield "`" + "".join(parts)  # a command is often built first and quoted later
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def find_advice(code):
    """(verb, options) of each command in a file's strings."""
    for text in list_texts(ast.parse(code)) if "relo-edge " in code else ():
        for match in ADVISED.finditer(text):
            yield (
                match["verb"],
                tuple(re.findall(r"(?<!\S)-[-\w]+", match["rest"].replace(f"--{VALUE}", "--int8"))),
            )


def find_unknown(verb, options):
    """What of a command line does not exist."""
    if verb not in VERBS:
        return [verb]
    known = {name for param in VERBS[verb].params for name in param.opts + param.secondary_opts}
    return sorted(set(options) - known - {"--help"})


ADVICE = sorted(
    {
        (str(path.relative_to(ROOT)), *advice)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for advice in find_advice(path.read_text("utf-8"))
    }
)


@pytest.mark.parametrize(("file", "verb", "options"), ADVICE)
def test_a_command_that_is_advised_exists(file, verb, options):
    assert find_unknown(verb, options) == []


def test_a_wrong_option_is_found():
    wrong = 'fix = f"`relo-edge bench {path} --" f"precision {x}`"; "see `relo-edge dokter`"'
    found = [find_unknown(*advice) for advice in find_advice(wrong)]
    assert [unknown for unknown in found if unknown] == [["--precision"], ["dokter"]]
    right = 'f"make it with `relo-edge quantize {path} --{precision}`"'
    assert ("quantize", ("--int8",)) in set(find_advice(right))
