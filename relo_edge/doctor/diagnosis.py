"""What doctor says: findings, each with a mark, and whether tracking is possible at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Diagnosis", "Finding", "Mark"]

Mark = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: a subject, what was found about it, and the fix."""

    section: str
    subject: str
    mark: Mark
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings; a runtime marked `missing` cannot be opened here, any other can."""

    findings: tuple[Finding, ...]

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes that open here."""
        return tuple(f.subject for f in self.in_section("runtimes") if f.mark != "missing")

    @property
    def can_track(self) -> bool:
        """Whether anything can: crops are cut by OpenCV, whichever runtime follows."""
        return bool(self.runtimes) and all(f.subject != "opencv" for f in self.lacking("opencv"))

    def in_section(self, section: str) -> tuple[Finding, ...]:
        """The findings of one section, in order."""
        return tuple(f for f in self.findings if f.section == section)

    def lacking(self, section: str) -> tuple[Finding, ...]:
        """The findings of one section that are marked `missing`."""
        return tuple(f for f in self.in_section(section) if f.mark == "missing")
