"""The `Runtime` protocol, and opening one by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle, open_bundle
from relo_edge.contract import GraphContract
from relo_edge.errors import (
    BundleError,
    InputError,
    PrecisionError,
    ReloError,
    RuntimeUnavailable,
)
from relo_edge.host.memory import share_one_heap
from relo_edge.host.suggestions import check_word, explain_no_runtime
from relo_edge.ranking import RankedRuntime, rank_runtimes
from relo_edge.spec import TrackerVariant

__all__ = [
    "RUNTIMES",
    "ClosedOnExit",
    "Runtime",
    "RuntimeRequest",
    "StepResult",
    "check_slots",
    "demand_open",
    "open_runtime",
    "open_runtimes",
    "resolve_bundle",
]

log = logging.getLogger("relo_edge")

Opened = TypeVar("Opened")

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
QUANTIZED = ("int8", "fp8", "fp16")

MOST_THREADS = 1024
"""More than any CPU has; runtimes would start any number, and never get to work."""

# Each module has `open_runtime(request)`. In the order in which `auto` tries them: fastest first.
RUNTIMES = {
    "tensorrt": "relo_edge.runtimes.tensorrt.runtime",
    "tensorrt-rtx": "relo_edge.runtimes.tensorrt.runtime",
    "onnxruntime-cuda": "relo_edge.runtimes.onnxruntime_gpu",
    "openvino": "relo_edge.runtimes.openvino",
    "onnxruntime": "relo_edge.runtimes.onnxruntime",
    "onnxruntime-tensorrt": "relo_edge.runtimes.onnxruntime_gpu",
    "pytorch": "relo_edge.runtimes.pytorch",
}

SLOW_TO_OPEN = ("onnxruntime-tensorrt",)
"""What builds engines for minutes when it opens: only for those who ask for it by name."""


@dataclass(frozen=True)
class StepResult:
    """One step's answer for n targets; the arrays are the caller's and are never overwritten."""

    boxes: NDArray[np.float32]
    """[n,4] cx, cy, w, h relative to the search crop."""
    scores: NDArray[np.float32]
    """[n] windowed value of the chosen cell; NaN where the family gives no score."""
    maps: NDArray[np.float32] | None = None
    """[n,grid,grid] before the window, such as RELO's policy logits; None where there is none."""

    @classmethod
    def from_outputs(
        cls, contract: GraphContract, outputs: Mapping[str, NDArray[np.float32]]
    ) -> StepResult:
        """By role, from a step graph's outputs."""
        boxes = outputs[contract.list_outputs("box")[0].name]
        score, cells = contract.find_output("score"), contract.find_output("map")
        scores = outputs[score.name] if score else np.full(len(boxes), np.nan, np.float32)
        return cls(boxes, scores, outputs[cells.name] if cells else None)


class Runtime(Protocol):
    """One opened bundle: up to `batch` targets, each in a slot that keeps its templates and state.

    A slot's target tensors and state stay on the runtime's own device between calls.
    """

    name: str
    precision: str
    device: str
    variant: TrackerVariant
    batch: int

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        """Keep an RGB crop, its box (x, y, w, h) normalised, as the slot's template `index`."""

    def set_target(self, slot: int, name: str, values: NDArray[np.float32]) -> None:
        """Set a target tensor that no template makes, without its batch."""

    def forget(self, slot: int) -> None:
        """Drop the slot's history: its next step is a first frame."""

    def rewind(self, slot: int) -> None:
        """Take the runtime's last step back for this slot: its history is what it was before.

        Once, and only while no other step has followed; the other slots' part in it stands.
        """

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: NDArray[np.float32] | None
    ) -> StepResult:
        """Localize the target of each slot named, and carry those slots' state on.

        `pixels` are RGB, one picture for each slot; `shared` is the window, None for a family
        whose step takes none.
        """

    def read_state(self, slot: int) -> dict[str, NDArray[np.float32]]:
        """A copy of what the slot carries, by the inputs' names; slow, for parity."""

    def close(self) -> None:
        """Give back what the runtime holds; closing twice is fine, using it afterwards an error."""

    def __enter__(self: Opened) -> Opened:
        """A runtime is a context manager: `with open_runtime(...) as runtime`."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the runtime, whatever ended the block."""


class ClosedOnExit:
    """Makes what has a `close` a context manager."""

    def close(self) -> None:
        """Give back what is held."""

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def demand_open(name: str, held: Sized) -> None:
    """Refuse a runtime that was closed: `held` is empty then."""
    if not held:
        raise RuntimeUnavailable(f"this {name} runtime is closed", fix="open another")


def check_slots(slots: Sequence[int], batch: int) -> None:
    """Refuse a slot that the runtime does not have."""
    for slot in slots:
        if not 0 <= slot < batch:
            raise InputError("slot", found=slot, expected=f"0 to {batch - 1}")


@dataclass(frozen=True)
class RuntimeRequest:
    """What the caller asked for: a runtime opens exactly that, or says why it cannot."""

    source: str | Path | Bundle | None
    name: str
    precision: str = "auto"
    checkpoint: str | Path | None = None
    batch: int = 1
    threads: int | None = None
    trust_engines: bool = False
    lanes: int = 1

    def __post_init__(self) -> None:
        check_word("precision", self.precision, ("auto", *PRECISIONS))
        for name, count in (("batch", self.batch), ("lanes", self.lanes)):
            if count < 1:
                raise InputError(name, found=count, expected="1 or more")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise InputError("threads", found=self.threads, expected=f"1 to {MOST_THREADS}")

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle on disk; the word `demo` stands for the built-in one."""
        if self.source is None:
            raise InputError(
                f"{self.name} needs a bundle",
                found="a checkpoint alone",
                fix="make one with `relo-edge export`, or use `--runtime pytorch`",
            )
        return resolve_bundle(self.source)

    def choose_precision(self, *offered: str) -> str:
        """The precision asked for, or the first offered, which is the runtime's best."""
        if self.precision == "auto":
            return offered[0]
        if self.precision not in offered:
            makeable = self.precision in QUANTIZED and self.name != "pytorch"
            raise PrecisionError(
                f"precision of {self.name}",
                found=self.precision,
                expected=" | ".join(offered),
                fix=self.advise_quantize() if makeable else None,
            )
        return self.precision

    def advise_quantize(self) -> str:
        """The command that adds the precision asked for to the bundle."""
        return f"make it with `relo-edge quantize {quote(self.source_name)} --{self.precision}`"

    @property
    def source_name(self) -> str:
        """The bundle as the caller named it."""
        return str(self.source.path if isinstance(self.source, Bundle) else self.source)


def resolve_bundle(source: str | Path | Bundle) -> Bundle:
    """The bundle that a caller names: a folder, an open bundle, or the word `demo`.

    Raises:
        InputError: there is no such folder.
        BundleError: the folder is no bundle, or a damaged one.
    """
    if isinstance(source, Bundle):
        return source
    if str(source) == "demo":
        from relo_edge.export.demo import find_demo_bundle

        return find_demo_bundle()
    return open_bundle(source)


def open_runtime(
    bundle: str | Path | Bundle | None,
    name: str = "auto",
    precision: str = "auto",
    *,
    checkpoint: str | Path | None = None,
    batch: int = 1,
    threads: int | None = None,
    trust_engines: bool = False,
    lanes: int = 1,
) -> Runtime:
    """Open a bundle in one runtime and precision; use it in a `with`, or close it.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`; None with a checkpoint alone.
        name: a runtime's name; `auto` takes what was measured fastest here, else the first of
            `RUNTIMES` that opens, and logs which and why.
        precision: a precision of the runtime; `auto` takes its best, or what was measured so.
        checkpoint: weights for the pytorch runtime; those the bundle was exported from if None.
        batch: the most targets that step together.
        threads: CPU threads; all cores if None.
        trust_engines: whether TensorRT engines are loaded that this machine did not build.
        lanes: for `Fleet` on a CPU: how many sources are computed side by side, each on its own
            thread; best as many as there are sources. A GPU takes a batch as one in any case.
            With several, threads started later share one heap of the C library.

    Returns:
        The runtime, ready to encode templates.

    Raises:
        InputError: an unknown bundle, runtime or precision, or options that exclude each other.
        BundleError: the bundle is damaged.
        MissingDependency: the runtime's package is not installed.
        RuntimeUnavailable: the runtime cannot be opened as asked on this machine.
    """
    given = (bundle, name, precision, checkpoint, batch, threads, trust_engines, lanes)
    request = RuntimeRequest(*given)
    if bundle is None and checkpoint is None:
        fix = "name one; `--bundle demo` is the built-in one"
        raise InputError("a bundle or a checkpoint is needed", fix=fix)
    check_word("runtime", name, ("auto", *RUNTIMES))
    if checkpoint is not None and name not in ("auto", "pytorch"):
        fix = "leave it out, or use `--runtime pytorch`"
        raise InputError(f"{name} takes no checkpoint", fix=fix)
    if lanes > 1:
        share_one_heap()  # before the runtime starts threads
    return _open_best(request) if name == "auto" else _open_named(request)


def open_runtimes(
    bundle: str | Path,
    names: Sequence[str] | None,
    *,
    checkpoint: str | Path | None = None,
    batch: int = 1,
    threads: int | None = None,
    trust_engines: bool = False,
    every_precision: bool = False,
) -> list[Runtime]:
    """Each of the runtimes named, as NAME or NAME:PRECISION; without names, all that open here.

    Those come in their best precision, with `every_precision` in all that the bundle holds, too.
    """
    source = resolve_bundle(bundle)
    opened: list[Runtime] = []
    for word in names or _list_words(source, every_precision):
        name, _, precision = word.partition(":")
        weights = checkpoint if name == "pytorch" else None
        try:
            runtime = open_runtime(
                source,
                name,
                precision or "auto",
                checkpoint=weights,
                batch=batch,
                threads=threads,
                trust_engines=trust_engines,
            )
        except ReloError as error:
            if names:
                raise
            log.info("left out %s: %s", word, str(error).removeprefix(f"{name} "))
            continue
        if not names and _is_among(runtime, opened):
            runtime.close()
            continue
        opened.append(runtime)
    if not opened:
        raise RuntimeUnavailable("no runtime opens here", fix="see `relo-edge doctor`")
    return opened


def _list_words(bundle: Bundle, every_precision: bool) -> list[str]:
    names = [name for name in RUNTIMES if name not in SLOW_TO_OPEN]
    held = bundle.precisions if every_precision else ()
    return [":".join(filter(None, (name, held_one))) for name in names for held_one in ("", *held)]


def _is_among(runtime: Runtime, opened: Sequence[Runtime]) -> bool:
    """Whether a runtime's best precision is one that the bundle holds: it was opened twice."""
    return any((one.name, one.precision) == (runtime.name, runtime.precision) for one in opened)


def _open_named(request: RuntimeRequest) -> Runtime:
    return cast(Runtime, import_module(RUNTIMES[request.name]).open_runtime(request))


def _open_best(asked: RuntimeRequest) -> Runtime:
    """The first that opens; one that fails is passed over, a damaged bundle is not."""
    request = asked if asked.source is None else replace(asked, source=asked.bundle)
    reasons: dict[str, Exception] = {}
    for ranked in _rank(request):
        name, precision = ranked.runtime, ranked.precision
        try:
            runtime = _open_named(replace(request, name=name, precision=precision))
        except Exception as error:  # libraries raise what they like
            if isinstance(error, BundleError) and request.source and request.bundle.find_damage():
                raise
            known = isinstance(error, ReloError)
            reasons[name] = error if known else RuntimeUnavailable(f"{name} failed", found=error)
            log.debug("passed over %s", reasons[name])
            continue
        why = ", measured fastest on this machine" if ranked.measured else ""
        log.info("runtime: %s in %s on %s%s", runtime.name, runtime.precision, runtime.device, why)
        return runtime
    raise _explain_none(asked, reasons)


def _rank(request: RuntimeRequest) -> list[RankedRuntime]:
    if request.checkpoint:
        return [RankedRuntime("pytorch", request.precision)]
    return rank_runtimes(request.bundle, request.precision, request.batch, list(RUNTIMES))


def _explain_none(asked: RuntimeRequest, reasons: Mapping[str, Exception]) -> Exception:
    """Why nothing opens, in one line with the likeliest fix; `--verbose` tells every reason."""
    from relo_edge.runtimes.tensorrt.gpu import find_gpu

    if asked.checkpoint:
        return reasons["pytorch"]
    if asked.precision in QUANTIZED and asked.precision not in asked.bundle.precisions:
        return PrecisionError(
            f"{asked.source_name} holds no {asked.precision}", fix=asked.advise_quantize()
        )
    return explain_no_runtime(reasons, has_gpu=find_gpu() is not None)
