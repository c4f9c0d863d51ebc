"""What the verbs do, callable from Python: one function a verb, none of them prints a result.

Nothing is imported before it is used, so that `import relo_edge.pipeline` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relo_edge.host.lazy_imports import import_on_use

if TYPE_CHECKING:
    from relo_edge.pipeline.benchmarking import (
        compare,
        evaluate,
        evaluate_several,
        run_bench,
        write_report,
    )
    from relo_edge.pipeline.engines import build_engines
    from relo_edge.pipeline.export import export_bundle
    from relo_edge.pipeline.hub import fetch_checkpoint
    from relo_edge.pipeline.inspection import inspect_bundle
    from relo_edge.pipeline.model_repository import write_model_repository
    from relo_edge.pipeline.parity import check_parity
    from relo_edge.pipeline.quantize import quantize_bundle
    from relo_edge.pipeline.tracking import serve, track
    from relo_edge.pipeline.training import pseudo_label, train
    from relo_edge.tracking.demo import run_demo

__all__ = [
    "build_engines",
    "check_parity",
    "compare",
    "evaluate",
    "evaluate_several",
    "export_bundle",
    "fetch_checkpoint",
    "inspect_bundle",
    "pseudo_label",
    "quantize_bundle",
    "run_bench",
    "run_demo",
    "serve",
    "track",
    "train",
    "write_model_repository",
    "write_report",
]

_HOME = {
    "build_engines": "relo_edge.pipeline.engines",
    "check_parity": "relo_edge.pipeline.parity",
    "compare": "relo_edge.pipeline.benchmarking",
    "evaluate": "relo_edge.pipeline.benchmarking",
    "evaluate_several": "relo_edge.pipeline.benchmarking",
    "export_bundle": "relo_edge.pipeline.export",
    "fetch_checkpoint": "relo_edge.pipeline.hub",
    "inspect_bundle": "relo_edge.pipeline.inspection",
    "pseudo_label": "relo_edge.pipeline.training",
    "quantize_bundle": "relo_edge.pipeline.quantize",
    "run_bench": "relo_edge.pipeline.benchmarking",
    "run_demo": "relo_edge.tracking.demo",
    "serve": "relo_edge.pipeline.tracking",
    "track": "relo_edge.pipeline.tracking",
    "train": "relo_edge.pipeline.training",
    "write_model_repository": "relo_edge.pipeline.model_repository",
    "write_report": "relo_edge.pipeline.benchmarking",
}


__getattr__ = import_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
