"""A plan on the device: held against the contract once, then run through its contexts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relo_edge.contract import BATCH, GraphContract
from relo_edge.errors import BundleError, DeviceError, RuntimeUnavailable
from relo_edge.runtimes.tensorrt.builder import name_dtype
from relo_edge.runtimes.tensorrt.layers import LayerSummary, summarize_layers
from relo_edge.runtimes.tensorrt.library import Library

__all__ = ["Context", "Engine", "load_engine"]


class Context:
    """One execution context at fixed shapes and addresses: a captured graph depends on both."""

    def __init__(self, library: Library, context: Any) -> None:
        self._library, self._context = library, context

    def enqueue(self, stream: int) -> None:
        """Put one run into the stream."""
        if not self._context.execute_async_v3(stream):
            raise DeviceError(
                f"{self._library.flavour} cannot run", found=self._library.journal.take()
            )


class Engine:
    """A deserialised plan whose tensors are those of the contract."""

    def __init__(self, library: Library, engine: Any, contract: GraphContract) -> None:
        self._library, self._engine, self._contract = library, engine, contract

    def create_context(self, batch: int, addresses: Mapping[str, int], stream: int) -> Context:
        """A context that will always run this batch on these addresses."""
        library = self._library
        context = library.create_context(self._engine)
        if context is None:
            raise DeviceError(
                f"{library.flavour} cannot create an execution context",
                found=library.journal.take(),
                fix="close what else uses the GPU, or open a smaller batch",
            )
        # Only an engine's first context has a profile by itself.
        accepted = context.set_optimization_profile_async(0, stream)
        for spec in self._contract.inputs:
            if BATCH in spec.shape:
                accepted = accepted and context.set_input_shape(spec.name, spec.at_batch(batch))
        for name, address in addresses.items():
            accepted = accepted and context.set_tensor_address(name, address)
        if not accepted:
            raise DeviceError(
                f"{library.flavour} refuses batch {batch}", found=library.journal.take()
            )
        return Context(library, context)

    def summarize_layers(self) -> LayerSummary:
        """TensorRT's own account of its layers."""
        inspector = self._engine.create_engine_inspector()
        form = self._library.trt.LayerInformationFormat.JSON
        return summarize_layers(inspector.get_engine_information(form))


def load_engine(
    library: Library, plan: Path, contract: GraphContract, *, version_compatible: bool = False
) -> Engine:
    """Deserialise a plan that was found to fit, and hold its tensors against the contract."""
    trt = library.trt
    library.journal.take()
    try:
        loader = trt.Runtime(library.logger)
    except TypeError:  # the binding's way to say that the library gave no object
        raise RuntimeUnavailable(
            f"{library.flavour} does not start",
            found=library.journal.take(),
            fix="see `relo-edge doctor`",
        ) from None
    if version_compatible:
        # Such a plan brings the code of its own version along.
        loader.engine_host_code_allowed = True
    engine = loader.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise RuntimeUnavailable(
            f"{library.flavour} {library.version} cannot load {plan}",
            found=library.journal.take(),
            fix="build it again with `relo-edge build-engine`",
        )
    _check_tensors(library, engine, plan, contract)
    return Engine(library, engine, contract)


def _check_tensors(library: Library, engine: Any, plan: Path, contract: GraphContract) -> None:
    """Names, directions, types and shapes: nothing is ever bound by position."""
    trt = library.trt
    modes = {trt.TensorIOMode.INPUT: "in", trt.TensorIOMode.OUTPUT: "out"}
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = name_dtype(library, engine.get_tensor_dtype(name))
        shape = tuple(engine.get_tensor_shape(name))
        found[name] = modes[engine.get_tensor_mode(name)], dtype, shape
    expected = {
        spec.name: (mode, spec.dtype, tuple(-1 if s == BATCH else s for s in spec.shape))
        for mode, specs in (("in", contract.inputs), ("out", contract.outputs))
        for spec in specs
    }
    if found != expected:
        raise BundleError(
            f"{plan} is not of the contract",
            found=found,
            expected=expected,
            fix="build it again with `relo-edge build-engine`",
        )
