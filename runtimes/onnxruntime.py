"""onnxruntime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.contract import GRAPHS, check_graph
from relo_edge.graphs.sessions import open_session
from relo_edge.runtime import RuntimeRequest
from relo_edge.runtimes.one_by_one import Answer, Array, Slot, SlotwiseRuntime

__all__ = ["OUTPUTS", "OnnxRuntime", "open_runtime"]

OUTPUTS = ["box", "score", "policy_logits", "temporal_tokens_out"]


def open_runtime(request: RuntimeRequest) -> OnnxRuntime:
    """Open as asked; every precision that the bundle has graphs for."""
    precision = request.choose_precision(*request.bundle.precisions)
    return OnnxRuntime(request.bundle, precision, batch=request.batch, threads=request.threads)


class OnnxRuntime(SlotwiseRuntime):
    """Plain onnxruntime sessions; one run's output state is the next one's input, uncopied."""

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, precision: str, *, batch: int = 1, threads: int | None = None
    ) -> None:
        super().__init__(bundle.variant, batch, bundle.state_dtype(precision))
        self.precision = precision
        self._template, self._step = (
            _open_checked(bundle, name, precision, threads) for name in GRAPHS
        )

    def _run_template(self, template: NDArray[np.uint8], box: Array) -> Array:
        tokens: Array = self._template.run(None, {"template": template, "box": box})[0]
        return tokens

    def _run_step(self, slot: Slot, search: NDArray[np.uint8], window: Array) -> Answer:
        feeds = {
            "search": search,
            "template_tokens": slot.templates,
            "temporal_tokens": slot.states[slot.turn],
            "has_history": slot.has_history,
            "window": window,
        }
        box, score, logits, state = self._step.run(OUTPUTS, feeds)
        slot.states[1 - slot.turn] = state
        return box, score, logits


def _open_checked(bundle: Bundle, name: str, precision: str, threads: int | None) -> Any:
    path = bundle.graph(name, precision)
    session = open_session(path, batch=1, threads=threads, fuse_qdq=precision != "fp8")
    ends = session.get_inputs(), session.get_outputs()
    inputs, outputs = ({value.name: value.shape for value in values} for values in ends)
    check_graph(path, bundle.variant, name, inputs, outputs)
    return session
