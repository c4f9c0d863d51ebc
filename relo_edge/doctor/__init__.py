"""`relo-edge doctor`: what this machine can run, and for the rest why not and the fix."""

from __future__ import annotations

from relo_edge.doctor.diagnosis import Diagnosis, Finding
from relo_edge.doctor.evidence import Evidence, collect_evidence
from relo_edge.doctor.gpu import judge_gpu
from relo_edge.doctor.machine import judge_machine
from relo_edge.doctor.packages import judge_packages
from relo_edge.doctor.runtimes import judge_runtimes
from relo_edge.doctor.vision import judge_opencv

__all__ = ["Diagnosis", "Evidence", "Finding", "collect_evidence", "judge_evidence"]


def judge_evidence(evidence: Evidence) -> Diagnosis:
    """Turn what was seen into findings; this part needs no hardware."""
    judges = (judge_machine, judge_gpu, judge_opencv, judge_runtimes, judge_packages)
    return Diagnosis(tuple(finding for judge in judges for finding in judge(evidence)))
