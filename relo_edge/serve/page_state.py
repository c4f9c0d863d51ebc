"""The state event: what a page has to know of a source beside its pictures."""

from __future__ import annotations

from typing import Any

from relo_edge.serve.named_targets import NamedTargets
from relo_edge.serve.recordings import Recordings
from relo_edge.video.live import LiveReader

__all__ = ["describe_state"]


def describe_state(
    phase: str,
    name: str | None,
    notice: str | None,
    reader: LiveReader | None,
    targets: NamedTargets,
    recordings: Recordings,
    before: dict[str, Any],
) -> dict[str, Any]:
    """Plain data; of a source that is closed, what the event before said."""
    if reader is not None and phase == "running" and reader.state != "closed":
        phase = reader.state if reader.state in ("stalled", "reconnecting") else phase
    runtime = targets.runtime
    return {
        "type": "state",
        "source": name or (reader.name if reader else before.get("source", "")),
        "live": reader.live if reader else before.get("live", True),
        "phase": phase,
        "notice": notice,
        "targets": [{"target": n, "name": named} for n, named in targets.names.items()],
        "max_targets": runtime.batch,
        "runtime": f"{runtime.name}, {runtime.precision} on {runtime.device}",
        "recording": recordings.current,
        "saving": recordings.saving,
        "files": recordings.files,
    }
