"""Checkpoints: whatever file holds the weights, they come out whole, or one line says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.errors import CheckpointError, InputError, MissingDependency
from relo_edge.host.files import describe_kind, hash_file
from relo_edge.network.inert_pickle import Inert, read_torch_file
from relo_edge.network.safetensors_file import list_safetensors
from relo_edge.network.stored_tensors import FileBytes, FileState, StoredTensor, read_state
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
    state: FileState | None = field(default=None, repr=False)
    """The file as it was when the weights were read."""

    @cached_property
    def sha256(self) -> str:
        """The hash of the file that the weights are from, by which an artifact names its source.

        Raises:
            CheckpointError: the file is not that one any more.
        """
        digest = hash_file(self.path)
        if self.state not in (None, read_state(self.path)):
            raise CheckpointError(
                f"{self.path} was changed after it was read", fix="run this again"
            )
        return digest


def read_checkpoint(path: str | Path, variant: str | None = None) -> Checkpoint:
    """The weights in a release file, a saved state dict or a safetensors file; no code in it runs.

    The file itself tells its variant; asking for another one is an error.
    """
    path, asked = Path(path), find_variant(variant) if variant else None
    with _explain_damage(path), _open_file(path) as data:
        found, weights = _read_weights(path, asked, _read_entries(data))
        data.demand_unchanged()
    return Checkpoint(found, weights, path, data.state)


def _read_weights(
    path: Path, asked: Variant | None, entries: dict[str, Any]
) -> tuple[Variant, dict[str, Tensor]]:
    """The weights, once names and shapes are those of one variant."""
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
    return found, {name: _read_weight(path, name, stored) for name, stored in tensors.items()}


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Whatever a reader trips over becomes one line about the file."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            f"{path} cannot be read", found=error, fix="pip install 'relo-edge[export]'"
        ) from error
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be opened", found=error.strerror) from error
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint",
            found=error,
            expected=f"{RELEASE_FILE}, a saved state dict, or safetensors",
            fix="download the file again",
        ) from error


def _open_file(path: Path) -> FileBytes:
    if not path.is_file():
        found = describe_kind(path.stat().st_mode) if path.exists() else "no such file"
        raise InputError(f"{path} cannot be opened", found=found, expected=RELEASE_FILE)
    return FileBytes(path)


def _read_entries(data: FileBytes) -> dict[str, Any]:
    """The state dict as stored; the first bytes tell the format, whatever the name says."""
    start = data.read(0, min(9, data.size))
    if not start:
        raise ValueError("an empty file")
    if start[8:] == b"{":
        return list_safetensors(data)
    if not start.startswith((b"PK", b"\x80")):
        raise ValueError(f"a file that starts with {start!r}")
    content = read_torch_file(data)
    entries = content.get("net", content) if isinstance(content, dict) else content
    if not isinstance(entries, dict):
        raise ValueError(f"{_describe_entry(entries)} in the place of a state dict")
    return entries


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
