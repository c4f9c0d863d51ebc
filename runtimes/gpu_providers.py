"""onnxruntime's GPU providers: which precisions each computes in, and how it is told to."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.errors import BundleError, RuntimeUnavailable
from relo_edge.graphs.sessions import import_onnxruntime, make_options
from relo_edge.host.files import find_cache, hash_file

__all__ = ["PROVIDERS", "Opening", "check_precision", "list_precisions", "open_gpu_session"]

Options = dict[str, str]

PROVIDERS = {
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
PRECISIONS = {
    "onnxruntime-cuda": ("fp16", "fp32"),
    "onnxruntime-tensorrt": ("fp16", "int8", "fp32"),
}
"""The best first. CUDA's provider has no INT8 products: it would compute in float32, and longer."""

TENSORRT_PRECISIONS: Mapping[str, Options] = {
    "fp32": {},
    "fp16": {"trt_fp16_enable": "1"},
    "int8": {"trt_int8_enable": "1", "trt_fp16_enable": "1"},
}


@dataclass(frozen=True)
class Opening:
    """What a session is opened for."""

    runtime: str
    provider: str
    precision: str
    batch: int
    """Fixed: nothing is planned or built anew for another one."""
    cuda_graph: bool = False


def list_precisions(runtime: str, available: Sequence[str]) -> list[str]:
    """Those of the bundle that the provider computes in, the best first."""
    return [precision for precision in PRECISIONS[runtime] if precision in available]


def check_precision(runtime: str, precision: str) -> None:
    """Refuse what would run, but as something else."""
    if runtime == "onnxruntime-cuda" and precision == "int8":
        raise RuntimeUnavailable(
            "onnxruntime-cuda has no INT8 products and would compute them in float32",
            fix="use `--runtime onnxruntime-tensorrt`, or fp16",
        )


def open_gpu_session(graph: Path, opening: Opening) -> Any:
    """A session truly on the provider: onnxruntime would silently fall back to the CPU.

    Raises:
        RuntimeUnavailable: the provider is not in this onnxruntime, or does not start.
        BundleError: onnxruntime refuses the graph.
    """
    onnxruntime = import_onnxruntime()
    offered = onnxruntime.get_available_providers()
    if opening.provider not in offered:
        raise _refuse(opening, " | ".join(offered))
    _preload_cuda(onnxruntime)
    options = make_options(opening.batch)
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            graph, options, providers=describe_providers(graph, opening)
        )
    except Exception as error:  # onnxruntime's own errors share no public base class
        raise BundleError(f"onnxruntime cannot open {graph}", found=error) from None
    if session.get_providers()[0] != opening.provider:
        raise _refuse(opening, session.get_providers()[0])
    return session


def _preload_cuda(onnxruntime: Any) -> None:
    """CUDA libraries that pip installed are found only when asked for.

    onnxruntime prints what it does not find; stdout is for results.
    """
    if hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()


def describe_providers(graph: Path, opening: Opening) -> list[tuple[str, Options]]:
    """The provider and, for TensorRT, the one that gets what TensorRT cannot take."""
    captured = {"enable_cuda_graph": "1"} if opening.cuda_graph else {}
    # TF32 would round what is asked for in float32.
    cuda = {"use_tf32": "0", **captured}
    if opening.provider == "CUDAExecutionProvider":
        return [(opening.provider, cuda)]
    if opening.provider != "TensorrtExecutionProvider":
        return [(opening.provider, {})]
    folder = str(_place_engines(graph, opening))
    options = {
        **TENSORRT_PRECISIONS[opening.precision],
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        **({"trt_cuda_graph_enable": "1"} if opening.cuda_graph else {}),
    }
    return [(opening.provider, options), ("CUDAExecutionProvider", {"use_tf32": "0"})]


def _place_engines(graph: Path, opening: Opening) -> Path:
    """A folder for each graph, precision and batch; onnxruntime tells GPUs apart by itself."""
    name = f"{hash_file(graph)[:16]}-{opening.precision}-b{opening.batch}"
    folder = find_cache() / "onnxruntime-tensorrt" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _refuse(opening: Opening, found: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        opening.runtime,
        found=found,
        expected=opening.provider,
        fix="install 'relo-edge[gpu]' beside a working NVIDIA driver; see `relo-edge doctor`",
    )
