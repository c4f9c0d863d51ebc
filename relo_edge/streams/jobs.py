"""What `track` does with each of several sources: its targets, its files, all checked first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relo_edge.errors import InputError
from relo_edge.streams.named_sources import NamedSource, assign_starts, insert_name
from relo_edge.synthetic.demo_clip import find_demo_box, is_demo
from relo_edge.tracking.outputs import Sinks, check_outputs
from relo_edge.tracking.target_files import read_starts
from relo_edge.tracking.targets import TargetStart, check_starts

__all__ = ["SourceJob", "plan_jobs"]


@dataclass(frozen=True)
class SourceJob:
    """A source, its targets and where its results go."""

    name: str
    source: str
    starts: Sequence[TargetStart]
    sinks: Sinks


def plan_jobs(
    sources: Sequence[NamedSource],
    init: Sequence[str],
    init_from: Path | None,
    first: int,
    sinks: Sinks,
) -> list[SourceJob]:
    """A job for each source; a file named for all stands for one of each source's own.

    Raises:
        InputError: a source without a target, or a file that cannot be.
    """
    given = assign_starts(init, sources, first)
    jobs = []
    for one in sources:
        file = insert_name(init_from, one.name) if init_from else None
        starts = given[one.name] + (read_starts(file, first) if file else [])
        if not starts and is_demo(one.source):
            starts = [TargetStart(find_demo_box(first), frame=first)]
        own = replace(
            sinks,
            video=insert_name(sinks.video, one.name) if sinks.video else None,
            boxes=[insert_name(path, one.name) for path in sinks.boxes],
            source=one.name,
        )
        others = [Path(other.source) for other in sources if other is not one]
        check_outputs(one.source, own, [*others, *([file] if file else [])])
        jobs.append(SourceJob(one.name, one.source, _check_source_starts(starts, first, one), own))
    return jobs


def _check_source_starts(
    starts: Sequence[TargetStart], first: int, source: NamedSource
) -> list[TargetStart]:
    if not starts:
        raise InputError(
            f"source {source.name!r} has no target to track",
            fix=f"give --init {source.name}:X,Y,W,H, or --init-from FILE",
        )
    return check_starts(starts, first)
