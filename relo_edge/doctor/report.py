"""Print a diagnosis: for eyes, one finding a line and its fix below it; for machines, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby

from rich.console import Console
from rich.text import Text

from relo_edge.doctor.diagnosis import Diagnosis, Finding

__all__ = ["advise_user", "print_json", "print_report"]

_COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}


def print_report(diagnosis: Diagnosis) -> None:
    """The table; lines are never broken, so that a fix can be copied whole."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.subject) for finding in diagnosis.findings)
    for section, findings in groupby(diagnosis.findings, key=lambda finding: finding.section):
        console.print(Text(section, style="bold"))
        for finding in findings:
            console.print(format_finding(finding, width))
    console.print()
    console.print(Text(advise_user(diagnosis), style="bold"))


def format_finding(finding: Finding, width: int) -> Text:
    """One finding's line, and its fix under the detail."""
    line = Text("  ")
    line.append(f"{finding.mark:<7}", style=_COLOURS[finding.mark])
    line.append(f"  {finding.subject:<{width}}  {finding.detail}")
    if finding.fix:
        line.append(f"\n{'':<{width + 13}}fix: {finding.fix}", style="cyan")
    return line


def print_json(diagnosis: Diagnosis) -> None:
    """The same for machines."""
    plain = {
        "can_track": diagnosis.can_track,
        "runtimes": diagnosis.runtimes,
        "advice": advise_user(diagnosis),
        "findings": [asdict(finding) for finding in diagnosis.findings],
    }
    print(json.dumps(plain, indent=2))


def advise_user(diagnosis: Diagnosis) -> str:
    """The last line: what tracks here, or what to do so that anything does."""
    if diagnosis.can_track:
        return f"This machine can track with {', '.join(diagnosis.runtimes)}."
    broken = [f.fix for f in diagnosis.lacking("opencv") if f.subject == "opencv"]
    steps = broken if diagnosis.runtimes else [*broken, "`pip install 'relo-edge[cpu]'`"]
    return f"Nothing can track here yet. Do this: {'; then '.join(steps)}"
