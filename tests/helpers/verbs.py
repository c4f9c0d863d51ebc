"""Running a verb as a user does, without the price of a new process."""

import sys

import pytest

from relo_edge import cli


def run_verb(capsys, *words):
    """Exit code, stdout and stderr of `relo-edge WORDS`."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["relo-edge", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err
