"""Which TensorRT: 10.x, 11.x or TensorRT for RTX, and every difference between them.

The three have one Python interface but for what stands here behind `is_rtx` or `at_least`; a test
holds each attribute that this folder touches against the interfaces of 10.3, 10.13, 10.16, 11.4
and RTX. Elsewhere, TensorRT's objects are always called `trt`, `builder`, `network`, `parser`,
`config`, `profile`, `engine`, `context`, `loader`, `inspector`, `settings` (how a context runs),
`store` (what RTX compiled), `tensor` and `problem` (the parser's): so the test knows them.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from relo_edge.errors import InputError, MissingDependency, RuntimeUnavailable

__all__ = ["COMPATIBLE", "FLAVOURS", "Library", "choose_flavour", "find_library"]

# The package's name, then what its wheels hold when they were installed without their meta package.
FLAVOURS = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
INSTALLS = {
    "tensorrt": "`pip install 'relo-edge[tensorrt]'`, with a driver of CUDA 12 "
    "'relo-edge[tensorrt-cu12]'; on a Jetson it comes with JetPack 6.1 or newer",
    "tensorrt-rtx": "`pip install 'relo-edge[rtx]'`, with a driver of CUDA 12 "
    "'relo-edge[rtx-cu12]'",
}
OLDEST = (10, 3)  # 8.x has no strongly typed networks, 10.0 no contexts in memory of our size

# Desktop cards, as NVIDIA lists them for RTX; 8.7 and 11.0 are Jetsons, the rest data centre.
RTX_CAPABILITIES = ((7, 5), (8, 6), (8, 9), (12, 0), (12, 1))

TURING = (7, 5)

COMPATIBLE = ("version", "hardware")

REMEMBERED = 32
LAYERS = "Layers:"
"""How the message begins in which RTX lists a plan's kernels."""
NOISE = re.compile(r"^\[\w+\.cpp::[^\]]*\] |\bcudaError 35\b.*")


class Journal:
    """What TensorRT logged as errors, as its calls themselves only return nothing."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=REMEMBERED)
        self._layers: deque[str] = deque(maxlen=REMEMBERED)

    def note(self, message: str) -> None:
        """Keep one message."""
        self._errors.append(message)

    def note_layers(self, message: str) -> None:
        """Keep a built plan's list of layers."""
        self._layers.append(message)

    def take_layers(self) -> list[str]:
        """The lists of layers since the last call, in the order in which the plans were built."""
        return [self._layers.popleft() for _ in range(len(self._layers))]

    def take(self) -> str:
        """The errors since the last call, in one line."""
        errors = [self._errors.popleft() for _ in range(len(self._errors))]
        return "; ".join(dict.fromkeys(errors)) or "no reason given"


@dataclass(frozen=True, eq=False)
class Library:
    """One imported TensorRT; its logger is the process's only one, as TensorRT demands."""

    flavour: str
    trt: Any
    logger: Any
    journal: Journal

    @property
    def version(self) -> str:
        """As the package gives it."""
        return str(self.trt.__version__)

    @property
    def is_rtx(self) -> bool:
        """TensorRT for RTX counts its versions from 1 and compiles kernels where it runs."""
        return self.flavour == "tensorrt-rtx"

    def at_least(self, *version: int) -> bool:
        """Whether this is TensorRT of that version or newer; RTX has the interface of 11."""
        return self.is_rtx or read_version(self.version) >= version

    @property
    def is_supported(self) -> bool:
        """Whether it is new enough at all."""
        return self.is_rtx or read_version(self.version) >= OLDEST

    @property
    def needs_gpu_to_build(self) -> bool:
        """TensorRT times kernels on the GPU that it builds for; RTX builds ahead of time."""
        return not self.is_rtx

    @property
    def captures_itself(self) -> bool:
        """RTX captures CUDA graphs on its own; TensorRT leaves that to whoever runs it."""
        return self.is_rtx

    @property
    def keeps_timings(self) -> bool:
        """RTX times nothing while building, so its timing cache does nothing."""
        return not self.is_rtx

    def set_compatible(self, config: Any, wanted: str) -> None:
        """Ask for an engine that other versions or GPUs can run too; it is a slower one."""
        trt = self.trt
        if self.is_rtx:
            raise InputError(
                "compatibility",
                found=f"{wanted} with TensorRT for RTX",
                expected="none: its engines run on every RTX card, with its own version alone",
            )
        if wanted == "version":
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        elif self.at_least(10, 13):
            # 10.13 brought a level that keeps the speed within one compute capability.
            level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
            config.hardware_compatibility_level = level
        else:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS

    def bind_to(self, config: Any, capability: tuple[int, int] | None) -> None:
        """RTX builds for 8.0 and newer if it is not told; a Turing card needs its own engine."""
        if self.is_rtx and capability == TURING:
            config.num_compute_capabilities = 1
            config.set_compute_capability(self.trt.ComputeCapability.SM75, 0)

    def create_settings(self, engine: Any) -> Any:
        """How an engine's contexts run, where the library asks for it; theirs share one."""
        if not self.is_rtx:
            return None
        trt = self.trt
        settings = engine.create_runtime_config()
        settings.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # Lazily, kernels would be exchanged in the middle of a track.
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        settings.dynamic_shapes_kernel_specialization_strategy = eager
        by_us = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        settings.set_execution_context_allocation_strategy(by_us)
        return settings

    def create_store(self, settings: Any, compiled: bytes) -> Any:
        """What RTX compiles kernels into, as it does where the engine runs; nothing with TensorRT.

        `compiled` is what `read_compiled` gave before: with it, opening does not compile again.
        The settings do not keep the store alive: whoever keeps them keeps it as well.
        """
        if not self.is_rtx:
            return None
        store = settings.create_runtime_cache()
        if compiled:
            store.deserialize(compiled)
        settings.set_runtime_cache(store)
        return store

    def read_compiled(self, store: Any) -> bytes:
        """The kernels that RTX has compiled by now; nothing with TensorRT."""
        if not self.is_rtx:
            return b""
        return bytes(store.serialize())

    def create_context(self, engine: Any, settings: Any) -> Any:
        """An execution context whose scratch memory is ours: one block serves all of them."""
        if self.is_rtx:
            return engine.create_execution_context(settings)
        by_us = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return engine.create_execution_context(by_us)


def find_library(flavour: str) -> Library:
    """The library of that name, new enough; or what is missing."""
    if flavour not in FLAVOURS:
        raise InputError("TensorRT", found=flavour, expected=" | ".join(FLAVOURS))
    trt = _import_library(flavour)
    library = Library(flavour, trt, *_create_logger(trt))
    if not library.is_supported:
        raise RuntimeUnavailable(
            flavour,
            found=library.version,
            expected=f"{OLDEST[0]}.{OLDEST[1]} or newer",
            fix=INSTALLS[flavour],
        )
    return library


def choose_flavour(capability: tuple[int, int] | None) -> str:
    """RTX for desktop cards and where there is no GPU, TensorRT for Jetsons and data centres.

    Where only the other one is installed, that one.
    """
    best = "tensorrt-rtx" if capability is None or capability in RTX_CAPABILITIES else "tensorrt"
    if capability is None:
        return best
    other = next(name for name in FLAVOURS if name != best)
    for flavour in (best, other):
        try:
            find_library(flavour)
        except (MissingDependency, RuntimeUnavailable):
            continue
        return flavour
    return best


def read_version(text: str) -> tuple[int, ...]:
    """The numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _import_library(flavour: str) -> Any:
    reasons = []
    for name in FLAVOURS[flavour]:
        try:
            module = import_module(name)
        except (ImportError, OSError) as error:
            reasons.append(str(error))
            continue
        # What an uninstall leaves behind, or a package without its libraries, imports too.
        if hasattr(module, "Builder"):
            return module
        reasons.append(f"{name} without its libraries")
    raise MissingDependency(f"{flavour} does not import", found=reasons[0], fix=INSTALLS[flavour])


@lru_cache
def _create_logger(trt: Any) -> tuple[Any, Journal]:
    """TensorRT keeps the first logger that it is given for the life of the process."""
    journal = Journal()

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.Logger.ERROR, trt.Logger.INTERNAL_ERROR):
                journal.note(_clean_message(message))
            elif message.startswith(LAYERS):
                journal.note_layers(message)

    return Logger(), journal


def _clean_message(message: str) -> str:
    """Without the places in TensorRT's source, and without its complaint that there is no GPU."""
    lines = [NOISE.sub("", line).strip() for line in message.splitlines()]
    return " ".join(line for line in lines if line)
