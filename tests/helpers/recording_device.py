"""A device without a GPU: its memory is numpy's, its streams are done at once, its log is kept.

`Plans` is a TensorRT whose plans are ONNX files with a profile, and whose contexts run them in
onnxruntime on that memory: every address, turn and graph that the runtime chooses is then really
read and written. It behaves as TensorRT does where that is not obvious: a batch that the profile
does not leave open is reported as a number, a failed capture makes the next call fail too, and
contexts whose scratch memory is the user's run only once they have been given it.
"""

import bisect
import hashlib
import json
import tempfile
import weakref
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from relo_edge.bundle import Bundle
from relo_edge.contract import describe_graph, list_graphs
from relo_edge.errors import DeviceError
from relo_edge.graphs.sessions import make_options
from relo_edge.runtimes.tensorrt.builder import make_profile
from relo_edge.runtimes.tensorrt.choice import ChosenEngines, cover_batches
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.runtimes.tensorrt.library import Library, find_library
from relo_edge.runtimes.tensorrt.runtime import Site, TensorRtRuntime
from relo_edge.runtimes.tensorrt.sidecar import FOLDER, Sidecar

ALIGNMENT = 256
FIRST_ADDRESS = 1 << 40
DTYPES = {"uint8": np.uint8, "float": np.float32, "float16": np.float16}
GPU = Gpu("Recorded GPU", (8, 9), 58)
VERSION = "10.9.0"
SCRATCH = 4096


class RecordingDevice:
    """Fails in the first call of the name `fail_in`, and once `memory` is used up."""

    package = "recording"

    def __init__(self, *, graphs=True, fail_in=None, memory=1 << 40):
        self.log, self.fail_in, self.memory = [], fail_in, memory
        self._blocks, self._pinned, self._streams = {}, {}, set()
        self._next, self._capturing = FIRST_ADDRESS, None
        self.active = 0
        self.graphs = RecordingGraphs(self) if graphs else None
        self.live_graphs = []
        self.last_error = False

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
            self.last_error = name in ("begin", "end") or self._capturing is not None
            raise DeviceError(f"CUDA's {name} failed", found="CUDA_ERROR_ILLEGAL_ADDRESS")

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
            raise DeviceError("CUDA's cudaMalloc failed", found="CUDA_ERROR_OUT_OF_MEMORY")
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
        assert graph is not None, "nothing is being captured"
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

    def __init__(self, trt, device, version=VERSION):
        self._trt, self._device, self.__version__ = trt, device, version

    def __getattr__(self, name):
        return getattr(self._trt, name)

    def Runtime(self, _logger):
        return Loader(self._trt, self._device)


class Loader:
    def __init__(self, trt, device):
        self._trt, self._device = trt, device

    def deserialize_cuda_engine(self, plan):
        profile, _, graph = plan.partition(b"\n")
        options = make_options()
        options.log_severity_level = 3
        try:
            least, most = json.loads(profile)
            session = onnxruntime.InferenceSession(graph, options)
        except Exception:
            return None
        return OnnxEngine(self._trt, self._device, session, range(least, most + 1))


class OnnxEngine:
    """An engine's account of its tensors, read from the graph and the profile."""

    def __init__(self, trt, device, session, batches):
        self._trt, self._device, self.session, self.batches = trt, device, session, batches
        self.inputs = {value.name: value for value in session.get_inputs()}
        self.outputs = {value.name: value for value in session.get_outputs()}
        self._all = {**self.inputs, **self.outputs}
        weakref.finalize(self, device.log.append, ("destroy_engine",))

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
        free = self.batches[0] if len(self.batches) == 1 else -1
        return [size if isinstance(size, int) else free for size in self._all[name].shape]

    def get_device_memory_size_for_profile_v2(self, profile):
        assert profile == 0
        return SCRATCH

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, form):
        assert form == self._trt.LayerInformationFormat.JSON
        layers = [{"Name": node, "LayerType": "onnx"} for node in self.outputs]
        return json.dumps({"Layers": layers})

    def create_execution_context(self, strategy):
        assert strategy == self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._device.note("create_context")
        return OnnxContext(self, self._device)


class OnnxContext:
    """Runs the graph on whatever lies at the addresses it was given."""

    nvtx_verbosity = None

    def __init__(self, engine, device):
        self._engine, self._device = engine, device
        self._shapes, self._addresses, self._scratch = {}, {}, None
        weakref.finalize(self, device.log.append, ("destroy_context",))

    def set_device_memory(self, address, size):
        self._device.find(address, size)
        self._scratch = size

    def set_optimization_profile_async(self, index, stream):
        return index == 0

    def set_input_shape(self, name, shape):
        self._shapes[name] = tuple(shape)
        return shape[0] in self._engine.batches

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return address % ALIGNMENT == 0

    def execute_async_v3(self, stream):
        assert self._scratch is not None, "no scratch memory"
        if self._device.last_error and self._device._capturing is None:
            self._device.last_error = False
            return False
        batch = next(iter(self._shapes.values()), (1,))[0]
        self._device.note("enqueue", dict(self._addresses), batch)
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


def write_plans(bundle, precision, batches, folder):
    """Plans in a folder, made of the bundle's ONNX files, and their sidecars."""
    sidecars = []
    *once, step = list_graphs(bundle.variant)
    wanted = [*((name, 1, 1) for name in once), *((step, *batch) for batch in batches)]
    for name, least, most in wanted:
        graph, dtype = bundle.graph(name, precision).read_bytes(), bundle.state_dtype(precision)
        plan = json.dumps([least, most]).encode() + b"\n" + graph
        path = folder / f"{name}.{precision}.{least}-{most}.plan"
        path.write_bytes(plan)
        contract = describe_graph(bundle.variant, name, dtype)
        sidecars.append(
            Sidecar(
                graph=name,
                precision=precision,
                graph_sha256=hashlib.sha256(graph).hexdigest(),
                plan=path.name,
                plan_sha256=hashlib.sha256(plan).hexdigest(),
                flavour="tensorrt",
                tensorrt=VERSION,
                gpu=GPU.name,
                compute_capability=GPU.capability,
                sm_count=GPU.sm_count,
                batch=most,
                least=least,
                profiles=make_profile(contract, most, least),
                state_dtype=dtype,
            )
        )
    return sidecars


def open_recorded(
    bundle,
    batch=1,
    *,
    batches=None,
    device=None,
    precision="fp32",
    flavour="tensorrt",
    trusted=True,
    **changes,
):
    """The runtime on a recording device; `changes` are made to all sidecars.

    The step engines are built for `batches`: one for 1 to `batch` if not said.
    """
    device, rtx = device or RecordingDevice(), find_library("tensorrt-rtx")
    library = Library(flavour, Plans(rtx.trt, device), rtx.logger, rtx.journal)
    scratch = tempfile.TemporaryDirectory()
    folder = Path(scratch.name) / FOLDER
    folder.mkdir()
    plans = [
        replace(sidecar, **changes)
        for sidecar in write_plans(bundle, precision, batches or [(1, batch)], folder)
    ]
    template = next((sidecar for sidecar in plans if sidecar.graph == "template"), None)
    steps = [sidecar for sidecar in plans if sidecar.graph == "step"]
    chosen = ChosenEngines(template, cover_batches(steps, batch))
    shadow = Bundle(folder.parent, bundle.variant, bundle.manifest)
    runtime = TensorRtRuntime(shadow, chosen, Site(library, GPU, device, trusted), batch=batch)
    weakref.finalize(runtime, scratch.cleanup)
    return runtime
