"""What to do instead: a mistyped word's nearest known one, and where no runtime opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from relo_edge.errors import InputError, MissingDependency, ReloError, RuntimeUnavailable

__all__ = ["check_word", "explain_no_runtime"]


def check_word(what: str, word: str, known: Sequence[str]) -> None:
    """Refuse a word that is not among the known ones, and ask whether the nearest was meant."""
    if word not in known:
        near = get_close_matches(word.lower(), known, 1)
        fix = f"did you mean {near[0]}?" if near else None
        raise InputError(what, found=word, expected=" | ".join(known), fix=fix)


def explain_no_runtime(reasons: Mapping[str, Exception], *, has_gpu: bool) -> ReloError:
    """One line that is short enough to be read: the CPU's reasons, then the GPU's if there is one.

    Args:
        reasons: why each runtime does not open, by its name.
        has_gpu: whether there is an NVIDIA GPU.
    """
    on_cpu = [reasons["openvino"], reasons["onnxruntime"]]
    on_gpu = "no NVIDIA GPU here"
    if has_gpu:
        on_gpu = f"{reasons['tensorrt']}; {reasons['onnxruntime-cuda']}"
    elif all(isinstance(reason, MissingDependency) for reason in on_cpu):
        return MissingDependency("no CPU runtime imports", fix="`pip install 'relo-edge[cpu]'`")
    found = "; ".join(dict.fromkeys([*map(str, on_cpu), f"on GPUs: {on_gpu}"]))
    return RuntimeUnavailable(f"no runtime can open this: {found}", fix="see `relo-edge doctor`")
