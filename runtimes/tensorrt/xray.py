"""What TensorRT for RTX makes of a graph, read off its builder's log and the plan: no GPU needed.

The builder logs each kernel with the types it reads and the ONNX nodes in it. The plan holds the
source of fused attention kernels, and with it the type that their two products accumulate in. What
ordinary products accumulate in is decided where the plan runs: the log has the type of their scale.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

__all__ = ["Kernel", "PlanXray", "read_plan"]

LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[.*\], TacticName: .*?Metadata: (?P<nodes>.*)"
)
NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
DTYPE = re.compile(r"Datatype: (\w+)")
DTYPES = {"Half": "fp16", "Float": "fp32", "BFloat16": "bf16", "Int8": "int8", "FP8": "fp8"}
OPERATIONS = re.compile(r"__myl_(\w+?)_myl\d+_\d+")
OPERATION = re.compile(r"[A-Z][a-z]+")
TRAITS = re.compile(rb"fmha::\w+?mma_(\w+?)_traits")

SYNCHRONISATION = ("signal", "wait")
LAYOUT = frozenset({"Resh", "Tran", "Slic", "Move", "Conc"})
SCALE_AND_BIAS = frozenset({"Add", "Mul", "Cast"})

ATTENTION, CONVOLUTION, REFORMAT, OTHER = "fused attention", "convolution", "reformat", "other"
PRODUCT, BIAS, RESIDUAL = "product", "product + bias", "product + bias + residual"
EPILOGUES = {"FcAdd": BIAS, "FcAddAdd": RESIDUAL}
KINDS = (ATTENTION, RESIDUAL, BIAS, PRODUCT, CONVOLUTION, REFORMAT, OTHER)


@dataclass(frozen=True)
class Kernel:
    """One kernel of a plan."""

    name: str
    kind: str
    """One of `KINDS`."""
    reads: str
    """The type of what it reads first."""
    accumulates: str
    """For products: the type they accumulate in, as far as log and plan tell."""
    nodes: tuple[str, ...]
    """The ONNX nodes in it."""


@dataclass(frozen=True)
class PlanXray:
    """The kernels of one plan."""

    plan: str
    kernels: tuple[Kernel, ...]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many kernels there are of each kind."""
        found = Counter(kernel.kind for kernel in self.kernels)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    @property
    def fused_attentions(self) -> int:
        """How many attentions run as one kernel."""
        return self.counts.get(ATTENTION, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        kernels = [asdict(kernel) for kernel in self.kernels]
        return {"plan": self.plan, "counts": dict(self.counts), "kernels": kernels}

    def describe(self) -> str:
        """A table: one row for each kind of kernel, type read and type accumulated in."""
        rows = Counter((k.kind, k.reads, k.accumulates) for k in self.kernels)
        lines = [f"{self.plan}: {len(self.kernels)} kernels"]
        lines.append(f"  {'kernel':<27}{'count':>5}  {'reads':<6}  accumulates in")
        for row in sorted(rows, key=lambda row: (KINDS.index(row[0]), *row)):
            kind, reads, accumulates = row
            lines.append(f"  {kind:<27}{rows[row]:>5}  {reads:<6}  {accumulates}".rstrip())
        return "\n".join(lines)


def read_plan(name: str, message: str, plan: bytes | memoryview) -> PlanXray:
    """The kernels of a plan.

    Args:
        name: the plan's name in the table.
        message: what the builder logged, one line for each kernel.
        plan: the plan itself, searched for the source of fused attention.
    """
    matches = [match for line in message.splitlines() if (match := LINE.match(line))]
    working = [match for match in matches if match["kind"] not in SYNCHRONISATION]
    attentions = sum(_name_kind(match) == ATTENTION for match in working)
    accumulators = iter(_read_accumulators(plan, attentions))
    kernels = []
    for match in working:
        kind, reads = _name_kind(match), _find_dtype(match["inputs"])
        told = next(accumulators) if kind == ATTENTION else _tell_accumulator(match, kind, reads)
        kernels.append(
            Kernel(match["name"], kind, reads, told, tuple(NODE.findall(match["nodes"])))
        )
    return PlanXray(name, tuple(kernels))


def _name_kind(match: re.Match[str]) -> str:
    operations = OPERATIONS.match(match["name"])
    if match["kind"] == "gemm":
        return PRODUCT
    if match["kind"] == "correlation":
        return CONVOLUTION
    if match["kind"] == "runtime_fusion" and operations:
        return EPILOGUES.get(operations[1], PRODUCT)
    if "_mha_" in match["name"]:
        return ATTENTION
    found = set(OPERATION.findall(operations[1])) if operations else set()
    moves = found & LAYOUT or found == {"Cast"}
    return REFORMAT if moves and found <= LAYOUT | SCALE_AND_BIAS else OTHER


def _find_dtype(tensors: str) -> str:
    found = DTYPE.search(tensors)
    return DTYPES.get(found[1], found[1].lower()) if found else "-"


def _tell_accumulator(match: re.Match[str], kind: str, reads: str) -> str:
    """Of a product: int32 for INT8; else the scale's type, where the kernel has one."""
    if kind in (REFORMAT, OTHER):
        return ""
    if reads == "int8":
        return "int32"
    scales = [
        DTYPES[dtype]
        for tensor in match["constants"].split("{")
        if "Dimensions: [1]," in tensor and (dtype := DTYPE.findall(tensor)[0]) in DTYPES
    ]
    return f"not told; scale in {scales[0]}" if scales else "not told"


def _read_accumulators(plan: bytes | memoryview, attentions: int) -> Sequence[str]:
    """Of each fused attention: what its logits and its values accumulate in."""
    traits = [found.decode().split("_")[-1] for found in TRAITS.findall(plan)]
    if len(traits) != 2 * attentions:
        return ["not told"] * attentions
    pairs = zip(traits[::2], traits[1::2], strict=True)
    # A bfloat16 product of a tensor core accumulates in float32 alone.
    named = [[{"bf16": "fp32"}.get(one, one) for one in pair] for pair in pairs]
    return [f"logits {logits}, values {values}" for logits, values in named]
