"""Judge the runtimes: which open here, and for each that does not, why and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relo_edge.doctor.diagnosis import Finding
from relo_edge.doctor.evidence import Evidence
from relo_edge.doctor.machine import NEWER_JETPACK
from relo_edge.doctor.subprocesses import Answer
from relo_edge.host.libcuda import name_cuda_wheel

__all__ = ["judge_runtimes"]

_OLDEST_TENSORRT = (10, 3)  # 8.x has no strongly typed networks

_EXTRAS = {"pytorch": "export", "onnxruntime": "cpu", "openvino": "cpu"}
_PACKAGES = {"pytorch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
_TENSORRT_EXTRAS = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
_JETPACK = "`apt-get install nvidia-jetpack`, then a venv made with `--system-site-packages`"

_NO_GPU = "needs an NVIDIA GPU, and there is none here"


def judge_runtimes(evidence: Evidence) -> Iterator[Finding]:
    """Every runtime, the ones for any CPU first."""
    yield judge_onnxruntime(evidence)
    yield judge_openvino(evidence)
    yield judge_pytorch(evidence)
    yield judge_provider(evidence, "onnxruntime-cuda")
    yield judge_provider(evidence, "onnxruntime-tensorrt")
    yield judge_tensorrt(evidence, "tensorrt")
    yield judge_tensorrt(evidence, "tensorrt-rtx")


def judge_onnxruntime(evidence: Evidence) -> Finding:
    """onnxruntime on the CPU."""
    answer = evidence.answers["onnxruntime"]
    if answer.failure:
        return explain_failure(evidence, "onnxruntime")
    return accept("onnxruntime", f"{answer.facts['version']}, on the CPU")


def judge_openvino(evidence: Evidence) -> Finding:
    """OpenVINO, which is of use here with its CPU plugin only."""
    answer = evidence.answers["openvino"]
    if answer.failure:
        return explain_failure(evidence, "openvino")
    if "CPU" not in answer.facts["devices"]:
        detail = f"{answer.facts['version']} finds no CPU plugin"
        return refuse("openvino", detail, advise_install(evidence, "openvino"))
    return accept("openvino", f"{answer.facts['version']}, on {', '.join(answer.facts['devices'])}")


def judge_pytorch(evidence: Evidence) -> Finding:
    """PyTorch, which always has its CPU; a GPU that this build cannot use is worth a word."""
    answer = evidence.answers["pytorch"]
    if answer.failure:
        return explain_failure(evidence, "pytorch")
    version = answer.facts["version"]
    if answer.facts["cuda"]:
        return accept("pytorch", f"{version}, on CUDA and the CPU")
    if evidence.has_gpu:
        detail = f"{version}, on the CPU only: this build does not reach the GPU"
        return Finding("runtimes", "pytorch", "warning", detail, "install PyTorch's CUDA build")
    return accept("pytorch", f"{version}, on the CPU")


def judge_provider(evidence: Evidence, subject: str) -> Finding:
    """A GPU provider of onnxruntime: it may be listed and still leave the work to the CPU."""
    answer = evidence.answers[subject]
    if answer.failure and not answer.absent:
        return refuse(subject, answer.failure)
    if answer.facts.get("opened"):
        return accept(subject, answer.facts["version"])
    if answer.facts.get("listed"):
        return explain_fallback(evidence, subject, answer)
    if not evidence.has_gpu:
        return refuse(subject, _NO_GPU)
    if evidence.is_jetson:
        detail = "not in the installed onnxruntime"
        return refuse(subject, detail, "NVIDIA's onnxruntime-gpu wheel for this JetPack")
    if answer.absent:
        return refuse(subject, "not installed", "`pip install 'relo-edge[gpu]'`")
    fix = "`pip uninstall -y onnxruntime && pip install 'relo-edge[gpu]'`"
    return refuse(subject, f"onnxruntime {answer.facts['version']} is a CPU build", fix)


def explain_fallback(evidence: Evidence, subject: str, answer: Answer) -> Finding:
    """The case that looks fine from outside: the provider is listed, and the CPU does the work."""
    start = f"{answer.facts['version']} lists it, but would quietly run on the CPU"
    if not evidence.has_gpu:
        return refuse(subject, f"{start}: no NVIDIA GPU here")
    library = find_missing_library(answer.chatter)
    if "nvinfer" in library or "nvonnxparser" in library:
        major = library.rpartition(".")[2]
        fix = f"install TensorRT {major}, its libraries on LD_LIBRARY_PATH"
    else:
        fix = "`pip install 'onnxruntime-gpu[cuda,cudnn]'`"
    reason = f"{library} not found" if library else "it does not say why"
    return refuse(subject, f"{start}: {reason}", fix)


def find_missing_library(chatter: str) -> str:
    """The library the loader looked for in vain."""
    found = re.search(r"(lib[\w.+-]+): cannot open shared object file", chatter)
    return found[1] if found else ""


def judge_tensorrt(evidence: Evidence, subject: str) -> Finding:
    """TensorRT, also for RTX: it needs a GPU, a fitting driver, and cuda-python or pycuda."""
    answer = evidence.answers[subject.replace("-", "_")]  # probes go by the package's name
    if answer.failure:
        return explain_tensorrt(evidence, subject, answer)
    version, problem = answer.facts["version"], answer.facts["cuda"]
    numbers = tuple(map(int, re.findall(r"\d+", version)))
    if subject == "tensorrt" and numbers < _OLDEST_TENSORRT:
        detail = f"{version} is too old, {'.'.join(map(str, _OLDEST_TENSORRT))} or newer is needed"
        return refuse(
            subject,
            detail,
            NEWER_JETPACK if evidence.is_jetson else advise_tensorrt(evidence, subject),
        )
    if not evidence.has_gpu:
        return refuse(subject, f"{version} is installed, but {_NO_GPU}")
    if problem:
        detail = f"{version}, but no CUDA binding opens the GPU: {problem}"
        wheel = name_cuda_wheel(evidence.answers["libcuda"].facts["cuda"])
        return refuse(subject, detail, f"`pip install '{wheel}'`")
    return accept(subject, version)


def advise_tensorrt(evidence: Evidence, subject: str) -> str:
    """The extra whose wheels are for the driver's CUDA."""
    cuda = evidence.answers["libcuda"].facts.get("cuda", [13])
    suffix = "-cu12" if cuda[0] == 12 else ""
    return f"`pip install 'relo-edge[{_TENSORRT_EXTRAS[subject]}{suffix}]'`"


def explain_tensorrt(evidence: Evidence, subject: str, answer: Answer) -> Finding:
    """Why it does not open; without a GPU no install helps."""
    reason = "not installed" if answer.absent else find_logged_error(answer.chatter)
    reason = reason or answer.failure
    if subject == "tensorrt-rtx" and evidence.is_jetson:
        return refuse(subject, "not made for Jetson: use tensorrt")
    if not evidence.has_gpu:
        return refuse(subject, f"{reason}; {_NO_GPU}")
    return refuse(
        subject, reason, _JETPACK if evidence.is_jetson else advise_tensorrt(evidence, subject)
    )


def find_logged_error(chatter: str) -> str:
    """What TensorRT logs before its binding fails with `factory function returned nullptr`."""
    found = re.search(r"\[E\] (?:\[.*?\] )?(.+)", chatter)
    return found[1] if found else ""


def explain_failure(evidence: Evidence, subject: str) -> Finding:
    """Not installed, or installed and broken."""
    answer = evidence.answers[subject]
    if answer.absent:
        return refuse(subject, "not installed", advise_install(evidence, subject))
    package = _PACKAGES[subject]
    if subject == "onnxruntime" and evidence.versions("onnxruntime-gpu"):
        package = "onnxruntime-gpu"
    return refuse(subject, answer.failure, f"`pip install --force-reinstall {package}`")


def advise_install(evidence: Evidence, subject: str) -> str:
    """The extra that brings a runtime, unless it would put onnxruntime over onnxruntime-gpu."""
    if evidence.versions("onnxruntime-gpu"):
        return f"`pip install {_PACKAGES[subject]}`"
    return f"`pip install 'relo-edge[{_EXTRAS[subject]}]'`"


def accept(subject: str, detail: str) -> Finding:
    """A runtime that opens."""
    return Finding("runtimes", subject, "ok", detail)


def refuse(subject: str, detail: str, fix: str = "") -> Finding:
    """A runtime that does not."""
    return Finding("runtimes", subject, "missing", detail, fix)
