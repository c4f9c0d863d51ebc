"""Checkpoints: whatever file holds the weights, they come out whole, or one line says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.errors import CheckpointError, InputError, MissingDependency
from relo_edge.host.files import hash_file
from relo_edge.network.inert_pickle import Inert, StoredTensor, read_torch_file
from relo_edge.spec import VARIANTS, Variant, find_variant

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "read_checkpoint"]

RELEASE_FILE = "RELO_ep0090.pth.tar"
MARKER = "encoder.body.ttokens"  # no other tracker has it, and its shape tells the variants apart
COUNTER = "num_batches_tracked"  # the only weights that need not be floating-point numbers


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights that fit their variant exactly: finite, in float32, free of the file."""

    variant: Variant
    weights: dict[str, Tensor] = field(repr=False)
    path: Path

    @cached_property
    def sha256(self) -> str:
        """The file's hash, by which an artifact names its source."""
        return hash_file(self.path)


def read_checkpoint(path: str | Path, variant: str | None = None) -> Checkpoint:
    """The weights in a release file, a saved state dict or a safetensors file; no code in it runs.

    The file itself tells its variant; asking for another one is an error.
    """
    path, asked = Path(path), find_variant(variant) if variant else None
    with _explain_damage(path):
        entries = _read_entries(path)
    tensors = _check_tensors(path, entries)
    found = _identify_variant(path, tensors[MARKER].shape)
    if asked and asked.name != found.name:
        raise CheckpointError(
            f"{path} holds another variant",
            found=found.name,
            expected=asked.name,
            fix=f"ask for {found.name}, or give the {RELEASE_FILE} of {asked.name}",
        )
    _check_layout(path, found, tensors)
    with _explain_damage(path):
        weights = {name: _read_weight(path, name, stored) for name, stored in tensors.items()}
    return Checkpoint(found, weights, path)


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Whatever a reader trips over becomes one line about the file."""
    try:
        import torch  # noqa: F401
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingDependency(
            f"{path} cannot be read", found=error, fix="pip install 'relo-edge[export]'"
        ) from error
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be opened", found=error.strerror) from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint",
            found=error,
            expected=f"{RELEASE_FILE}, a saved state dict, or safetensors",
            fix="download the file again",
        ) from error


def _read_entries(path: Path) -> dict[str, Any]:
    """The state dict as stored; the first bytes tell the format, whatever the name says."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path} cannot be opened", found=found, expected=RELEASE_FILE)
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError("an empty file")
    if start[8:] == b"{":
        return _list_safetensors(path)
    if not start.startswith((b"PK", b"\x80")):
        raise ValueError(f"a file that starts with {start!r}")
    content = read_torch_file(path)
    entries = content.get("net", content) if isinstance(content, dict) else content
    if not isinstance(entries, dict):
        raise ValueError(f"{_describe_entry(entries)} in the place of a state dict")
    return entries


def _list_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    file: Any = safe_open(path, framework="pt")
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
    return {
        name: StoredTensor(shape, partial(_copy_tensor, file, name))
        for name, shape in shapes.items()
    }


def _copy_tensor(file: Any, name: str) -> Tensor:
    tensor: Tensor = file.get_tensor(name).clone()
    return tensor


def _check_tensors(path: Path, entries: dict[str, Any]) -> dict[str, StoredTensor]:
    """A trained RELO's tensors and nothing else, or a word on what the file holds instead."""
    if MARKER not in entries:
        first_names = ", ".join(_quote_name(name) for name in list(entries)[:3])
        raise CheckpointError(
            f"{path} holds no RELO weights",
            found=first_names or "nothing",
            expected=MARKER,
            fix=f"weights of SUTrack or another tracker do not fit, give {RELEASE_FILE}",
        )
    for name, entry in entries.items():
        if not isinstance(entry, StoredTensor):
            raise CheckpointError(
                f"{path}: weight {_quote_name(name)} is spoiled",
                found=_describe_entry(entry),
                expected="a dense tensor",
                fix=f"get {RELEASE_FILE} from a source you trust",
            )
    parts = {name.partition(".")[0] for name in entries}
    if "decoder" in parts and "policy_model" not in parts:
        raise CheckpointError(
            f"{path} is a warm-up checkpoint without a policy head",
            found="no policy_model",
            fix=f"{RELEASE_FILE} is the one needed",
        )
    return entries


def _identify_variant(path: Path, shape: tuple[int, ...]) -> Variant:
    shapes = {name: (1, v.temporal_tokens, v.width) for name, v in VARIANTS.items()}
    for name, expected in shapes.items():
        if shape == expected:
            return VARIANTS[name]
    raise CheckpointError(
        f"{path} holds no known variant",
        found=f"{MARKER} of {shape}",
        expected=", ".join(f"{expected} for {name}" for name, expected in shapes.items()),
    )


def _check_layout(path: Path, variant: Variant, tensors: dict[str, StoredTensor]) -> None:
    from relo_edge.network.relo import state_shapes

    expected = state_shapes(variant)
    found = {name: stored.shape for name, stored in tensors.items()}
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [name for name in expected if found.get(name) != expected[name]],
    }
    for problem, names in problems.items():
        if names:
            raise CheckpointError(
                f"{path} does not fit {variant.name}, weights {problem}: {len(names)}, "
                f"the first {_quote_name(names[0])}",
                found=found.get(names[0], "none"),
                expected=expected.get(names[0], "none"),
                fix=f"give the {RELEASE_FILE} of {variant.name}",
            )


def _read_weight(path: Path, name: str, stored: StoredTensor) -> Tensor:
    import torch

    weight = stored.read()
    if weight.is_floating_point():
        weight = weight.to(torch.float32).contiguous()
        if not torch.isfinite(weight).all():
            raise CheckpointError(
                f"{path}: weight {name} is not finite",
                found="NaN" if torch.isnan(weight).any() else "Inf",
                fix="download the file again, or take an earlier checkpoint",
            )
    elif not name.endswith(COUNTER):
        raise CheckpointError(
            f"{path}: weight {name}", found=weight.dtype, expected="floating-point numbers"
        )
    return weight


def _describe_entry(entry: Any) -> str:
    return f"{entry.name[:80]!a}" if isinstance(entry, Inert) else type(entry).__name__


def _quote_name(name: str) -> str:
    """A name out of a stranger's file, harmless to print."""
    return ascii(name[:80])
