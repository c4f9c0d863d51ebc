"""onnxruntime on the CPU."""

from __future__ import annotations

from typing import Any

from relo_edge.bundle import Bundle
from relo_edge.contract import STEP, TEMPLATE, check_graph, list_graphs
from relo_edge.graphs.sessions import open_session
from relo_edge.runtime import RuntimeRequest
from relo_edge.runtimes.lanes import count_threads
from relo_edge.runtimes.one_by_one import Answer, Feeds, Slot, SlotwiseRuntime

__all__ = ["OnnxRuntime", "open_runtime"]


def open_runtime(request: RuntimeRequest) -> OnnxRuntime:
    """Open as asked; every precision that the bundle has graphs for."""
    precision = request.choose_precision(*request.bundle.precisions)
    batch, threads, lanes = request.batch, request.threads, request.lanes
    return OnnxRuntime(request.bundle, precision, batch=batch, threads=threads, lanes=lanes)


class OnnxRuntime(SlotwiseRuntime):
    """Plain onnxruntime sessions; one run's output state is the next one's input, uncopied."""

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Bundle,
        precision: str,
        *,
        batch: int = 1,
        threads: int | None = None,
        lanes: int = 1,
    ) -> None:
        super().__init__(bundle.variant, batch, bundle.state_dtype(precision), lanes)
        self.precision = precision
        # One session serves every lane: a run keeps nothing in it.
        self._graphs = {
            name: _open_checked(bundle, name, precision, count_threads(threads, lanes))
            for name in list_graphs(bundle.variant)
        }
        self._outputs = [spec.name for spec in self.contract.outputs]

    def _run_template(self, feeds: Feeds) -> Answer:
        graph = self._graphs[TEMPLATE]
        names = [value.name for value in graph.get_outputs()]
        return dict(zip(names, graph.run(names, feeds), strict=True))

    def _run_step(self, slot: Slot, feeds: Feeds) -> Answer:
        answer = dict(zip(self._outputs, self._graphs[STEP].run(self._outputs, feeds), strict=True))
        for state in self.contract.states:
            slot.next_state[state.before.name] = answer[state.after.name]
        return answer


def _open_checked(bundle: Bundle, name: str, precision: str, threads: int | None) -> Any:
    path = bundle.graph(name, precision)
    session = open_session(path, batch=1, threads=threads, fuse_qdq=precision != "fp8")
    ends = session.get_inputs(), session.get_outputs()
    inputs, outputs = ({value.name: value.shape for value in values} for values in ends)
    check_graph(path, bundle.variant, name, inputs, outputs)
    return session
