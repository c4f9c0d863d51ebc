"""A device without a GPU: its memory is numpy's, its streams are done at once, its log is kept.

`Plans` is a TensorRT whose plans are ONNX files and whose contexts run them in onnxruntime on that
memory: every address, turn and graph that the runtime chooses is then really read and written.
"""

import bisect
import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnxruntime

from relo_edge.contract import GRAPHS, describe_graph
from relo_edge.errors import DeviceError
from relo_edge.host.files import hash_file
from relo_edge.runtimes.tensorrt.builder import make_profile
from relo_edge.runtimes.tensorrt.library import Library, find_library
from relo_edge.runtimes.tensorrt.runtime import TensorRtRuntime
from relo_edge.runtimes.tensorrt.sidecar import Sidecar

ALIGNMENT = 256
FIRST_ADDRESS = 1 << 40
DTYPES = {"uint8": np.uint8, "float": np.float32, "float16": np.float16}


class RecordingDevice:
    """Fails in the first call of the name `fail_in`, and once `memory` is used up."""

    package, gpu, capability = "recording", "Recorded GPU", (8, 9)

    def __init__(self, *, graphs=True, fail_in=None, memory=1 << 40):
        self.log, self.fail_in, self.memory = [], fail_in, memory
        self._blocks, self._pinned, self._streams = {}, {}, set()
        self._next, self._capturing = FIRST_ADDRESS, None
        self.active = 0
        self.graphs = RecordingGraphs(self) if graphs else None
        self.live_graphs = []

    @contextmanager
    def activate(self):
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    @property
    def leftovers(self):
        """What was not given back."""
        return len(self._blocks), len(self._pinned), len(self._streams), len(self.live_graphs)

    def note(self, name, *facts):
        assert self.active, f"{name} outside of activate"
        self.log.append((name, *facts))
        if self.fail_in is not None and self.fail_in == name:
            self.fail_in = None
            raise DeviceError(f"CUDA's {name} failed", found="cudaErrorIllegalAddress")

    def do(self, work):
        """Now, or whenever the graph being captured is launched."""
        if self._capturing is None:
            work()
        else:
            self._capturing.append(work)

    def find(self, address, size):
        """The bytes at an address; beyond what was allocated there is nothing."""
        starts = sorted(self._blocks)
        index = bisect.bisect_right(starts, address) - 1
        assert index >= 0, f"{address} was never allocated"
        block = self._blocks[starts[index]]
        offset = address - starts[index]
        assert offset + size <= len(block), "beyond the allocation"
        return block[offset : offset + size]

    def allocate(self, size):
        self.note("allocate", size)
        self.memory -= size
        if self.memory < 0:
            raise DeviceError("CUDA's cudaMalloc failed", found="cudaErrorMemoryAllocation")
        address = self._next
        self._next += -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        self._blocks[address] = np.full(size, 0xFF, np.uint8)
        return address

    def free(self, address):
        self.note("free", address)
        del self._blocks[address]

    def allocate_pinned(self, size):
        self.note("allocate_pinned", size)
        array = np.full(size, 0xFF, np.uint8)
        self._pinned[array.ctypes.data] = array
        return array

    def free_pinned(self, array):
        self.note("free_pinned")
        del self._pinned[array.ctypes.data]

    def clear(self, address, size, stream):
        self.note("clear", address, size)
        self.do(lambda: self.find(address, size).fill(0))

    def send(self, address, array, stream):
        self.note("send", array.nbytes)
        self.do(lambda: self.write(address, array))

    def fetch(self, array, address, stream):
        self.note("fetch", array.nbytes)
        self.do(
            lambda: np.copyto(array.reshape(-1).view(np.uint8), self.find(address, array.nbytes))
        )

    def move(self, target, source, size, stream):
        self.note("move", target, source, size)
        self.do(lambda: self.write(target, self.find(source, size).copy()))

    def write(self, address, array):
        self.find(address, array.nbytes)[:] = array.reshape(-1).view(np.uint8)

    def create_stream(self):
        self.note("create_stream")
        self._streams.add(7)
        return 7

    def destroy_stream(self, stream):
        self.note("destroy_stream")
        self._streams.remove(stream)

    def synchronize(self, stream):
        assert self._capturing is None, "a capture may not wait"
        self.note("synchronize")

    def time_call(self, call, stream):
        call()
        return 0.5


class RecordingGraphs:
    """A graph is the list of what was to be done."""

    def __init__(self, device):
        self._device = device

    def begin(self, stream):
        self._device.note("begin")
        self._device._capturing = []

    def end(self, stream):
        graph, self._device._capturing = self._device._capturing, None
        self._device.note("end", len(graph))
        self._device.live_graphs.append(graph)
        return graph

    def launch(self, graph, stream):
        self._device.note("launch", self._device.live_graphs.index(graph))
        for work in graph:
            work()

    def destroy(self, graph):
        self._device.note("destroy")
        self._device.live_graphs.remove(graph)


class Plans:
    """A TensorRT module: RTX's own names, but for what needs a GPU."""

    def __init__(self, trt, device, version="10.9.0"):
        self._trt, self._device, self.__version__ = trt, device, version

    def __getattr__(self, name):
        return getattr(self._trt, name)

    def Runtime(self, _logger):
        return Loader(self._trt, self._device)


class Loader:
    def __init__(self, trt, device):
        self._trt, self._device = trt, device

    def deserialize_cuda_engine(self, plan):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(plan, options)
        except Exception:
            return None
        return OnnxEngine(self._trt, self._device, session)


class OnnxEngine:
    """An engine's account of its tensors, read from the graph."""

    def __init__(self, trt, device, session):
        self._trt, self._device, self.session = trt, device, session
        self.inputs = {value.name: value for value in session.get_inputs()}
        self.outputs = {value.name: value for value in session.get_outputs()}
        self._all = {**self.inputs, **self.outputs}

    @property
    def num_io_tensors(self):
        return len(self._all)

    def get_tensor_name(self, index):
        return list(self._all)[index]

    def get_tensor_mode(self, name):
        modes = self._trt.TensorIOMode
        return modes.INPUT if name in self.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name):
        kinds = self._trt.DataType
        names = {"uint8": kinds.UINT8, "float": kinds.FLOAT, "float16": kinds.HALF}
        return names[self._all[name].type[7:-1]]

    def get_tensor_shape(self, name):
        return [size if isinstance(size, int) else -1 for size in self._all[name].shape]

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, form):
        assert form == self._trt.LayerInformationFormat.JSON
        layers = [{"Name": node, "LayerType": "onnx"} for node in self.outputs]
        return json.dumps({"Layers": layers})

    def create_execution_context(self):
        self._device.note("create_context")
        return OnnxContext(self, self._device)


class OnnxContext:
    """Runs the graph on whatever lies at the addresses it was given."""

    def __init__(self, engine, device):
        self._engine, self._device = engine, device
        self._shapes, self._addresses = {}, {}

    def set_optimization_profile_async(self, index, stream):
        return index == 0

    def set_input_shape(self, name, shape):
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return address % ALIGNMENT == 0

    def execute_async_v3(self, stream):
        self._device.note("enqueue", dict(self._addresses), self._shapes.get("search", (1,))[0])
        self._device.do(self._run)
        return True

    def _run(self):
        feeds = {}
        for name, value in self._engine.inputs.items():
            dtype = np.dtype(DTYPES[value.type[7:-1]])
            shape = self._shapes.get(name, tuple(value.shape))
            size = int(np.prod(shape)) * dtype.itemsize
            feeds[name] = self._device.find(self._addresses[name], size).view(dtype).reshape(shape)
        outputs = self._engine.session.run(list(self._engine.outputs), feeds)
        for name, array in zip(self._engine.outputs, outputs, strict=True):
            self._device.write(self._addresses[name], np.ascontiguousarray(array))


def describe_plans(bundle, precision, batch):
    """Sidecars whose plans are the bundle's own ONNX files."""
    sidecars = {}
    for name in GRAPHS:
        path = bundle.graph(name, precision)
        dtype = bundle.state_dtype(precision)
        contract, digest = describe_graph(bundle.variant, name, dtype), hash_file(path)
        sidecars[name] = Sidecar(
            graph=name,
            precision=precision,
            graph_sha256=digest,
            plan=str(path),
            plan_sha256=digest,
            flavour="tensorrt",
            tensorrt="10.9.0",
            gpu=RecordingDevice.gpu,
            compute_capability=RecordingDevice.capability,
            batch=batch,
            profiles=make_profile(contract, batch),
            state_dtype=dtype,
        )
    return sidecars


def open_recorded(
    bundle, batch=1, *, largest=None, device=None, precision="fp32", flavour="tensorrt", **changes
):
    """The runtime on a recording device; `changes` are made to both sidecars.

    The engines are built for `largest`, which is `batch` if not said.
    """
    device, rtx = device or RecordingDevice(), find_library("tensorrt-rtx")
    library = Library(flavour, Plans(rtx.trt, device), rtx.logger, rtx.journal)
    sidecars = describe_plans(bundle, precision, largest or batch)
    sidecars = {name: replace(sidecar, **changes) for name, sidecar in sidecars.items()}
    return TensorRtRuntime(bundle, sidecars, library, device, batch=batch)
