"""A plan on the device: compared with the contract once, then run through its contexts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relo_edge.contract import BATCH, GraphContract, TensorSpec
from relo_edge.errors import BundleError, DeviceError, RuntimeUnavailable
from relo_edge.runtimes.tensorrt.builder import name_dtype
from relo_edge.runtimes.tensorrt.compiled import write_compiled
from relo_edge.runtimes.tensorrt.layers import LayerSummary, summarize_layers
from relo_edge.runtimes.tensorrt.library import Library
from relo_edge.runtimes.tensorrt.sidecar import Sidecar

__all__ = ["Context", "Engine", "load_engine"]

REFUSALS = (RuntimeError, TypeError, ValueError)
"""What the bindings raise where the library itself would return false or nothing."""


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

    def __init__(
        self, library: Library, engine: Any, contract: GraphContract, compiled: bytes
    ) -> None:
        self._library, self._contract, self._compiled = library, contract, compiled
        # Python lets go of them in this order; the bindings leave it to us.
        self._settings = library.create_settings(engine)
        self._store = library.create_store(self._settings, compiled)
        self._engine = engine

    @property
    def scratch_bytes(self) -> int:
        """Device memory that a context needs while it runs, and only then."""
        return int(self._engine.get_device_memory_size_for_profile_v2(0))

    def create_context(
        self, batch: int, addresses: Mapping[str, int], scratch: int, stream: int
    ) -> Context:
        """A context that will always run this batch on these addresses."""
        library = self._library
        context = library.create_context(self._engine, self._settings)
        if context is None:
            raise DeviceError(
                f"{library.flavour} cannot create an execution context",
                found=library.journal.take(),
                fix="close what else uses the GPU, or open a smaller batch",
            )
        # Named ranges cost time in every step; the engine keeps its details for the inspector.
        context.nvtx_verbosity = library.trt.ProfilingVerbosity.NONE
        try:
            # Only an engine's first context has a profile by itself.
            accepted = context.set_optimization_profile_async(0, stream)
            context.set_device_memory(scratch, self.scratch_bytes)
            for spec in self._contract.inputs:
                if BATCH in spec.shape:
                    accepted = accepted and context.set_input_shape(spec.name, spec.at_batch(batch))
            for name, address in addresses.items():
                accepted = accepted and context.set_tensor_address(name, address)
            reason = "" if accepted else library.journal.take()
        except REFUSALS as error:
            reason = str(error)
        if reason:
            raise DeviceError(f"{library.flavour} refuses batch {batch}", found=reason)
        return Context(library, context)

    def keep_compiled(self, plan: Path) -> None:
        """What was compiled since the engine was loaded, for the next opening."""
        compiled = self._library.read_compiled(self._store)
        if compiled and compiled != self._compiled:
            write_compiled(plan, compiled)

    def summarize_layers(self) -> LayerSummary:
        """TensorRT's own account of its layers."""
        inspector = self._engine.create_engine_inspector()
        form = self._library.trt.LayerInformationFormat.JSON
        return summarize_layers(inspector.get_engine_information(form))


def load_engine(
    library: Library, plan: bytes, sidecar: Sidecar, contract: GraphContract, compiled: bytes = b""
) -> Engine:
    """Deserialise a plan that was found to fit, and compare its tensors with the contract."""
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
    if sidecar.compatible == "version":
        # Such a plan brings the code of its own version along.
        loader.engine_host_code_allowed = True
    engine = loader.deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeUnavailable(
            f"{library.flavour} {library.version} cannot load {sidecar.plan}",
            found=library.journal.take(),
            fix="build it again with `relo-edge build-engine`",
        )
    _check_tensors(library, engine, sidecar, contract)
    return Engine(library, engine, contract, compiled)


def _check_tensors(
    library: Library, engine: Any, sidecar: Sidecar, contract: GraphContract
) -> None:
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
        spec.name: (mode, spec.dtype, _expect_shape(spec, sidecar))
        for mode, specs in (("in", contract.inputs), ("out", contract.outputs))
        for spec in specs
    }
    if found != expected:
        raise BundleError(
            f"engine {sidecar.plan} does not have the tensors of its contract",
            found=found,
            expected=expected,
            fix="build it again with `relo-edge build-engine`",
        )


def _expect_shape(spec: TensorSpec, sidecar: Sidecar) -> tuple[int, ...]:
    """An engine reports -1 only for a batch that its profile leaves open."""
    return spec.at_batch(sidecar.batch if sidecar.is_static else -1)
