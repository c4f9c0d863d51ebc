"""Checkpoints: whatever file holds the weights, they come out whole, or one line says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.errors import CheckpointError, InputError, MissingDependency
from relo_edge.families.family import Family
from relo_edge.families.registry import find_family, list_families, resolve_variant
from relo_edge.host.files import describe_kind, hash_file
from relo_edge.network.inert_pickle import Inert, read_torch_file
from relo_edge.network.safetensors_file import list_safetensors
from relo_edge.network.stored_tensors import FileBytes, FileState, StoredTensor, read_state
from relo_edge.spec import TrackerVariant

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "read_checkpoint"]

COUNTER = "num_batches_tracked"  # the only weights that need not be floating-point numbers


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights that fit their variant exactly: finite, in float32, free of the file."""

    variant: TrackerVariant
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
    path, asked = Path(path), resolve_variant(variant) if variant else None
    with _explain_damage(path), _open_file(path) as data:
        found, weights = _read_weights(path, asked, _read_entries(data))
        data.demand_unchanged()
    return Checkpoint(found, weights, path, data.state)


def _read_weights(
    path: Path, asked: TrackerVariant | None, entries: dict[str, Any]
) -> tuple[TrackerVariant, dict[str, Tensor]]:
    """The weights, once names and shapes are those of one variant."""
    family = _find_family(path, asked, entries)
    tensors = _check_tensors(path, family, entries)
    found = _identify_variant(path, family, tensors)
    if asked and asked.name != found.name:
        raise CheckpointError(
            f"{path} holds another variant",
            found=found.name,
            expected=asked.name,
            fix=f"ask for {found.name}, or give the {_name_release(asked)} of {asked.name}",
        )
    _check_layout(path, family, found, tensors)
    return found, {name: _read_weight(path, name, stored) for name, stored in tensors.items()}


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Whatever a reader trips over becomes one line about the file."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        fix = "`pip install 'relo-edge[export]'`"
        if find_spec("torch") is None:
            raise MissingDependency("torch is not installed", fix=fix) from None
        raise MissingDependency("torch does not import", found=error, fix=fix) from error
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be opened", found=error.strerror) from error
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint",
            found=error,
            expected="a release's .pth.tar, a saved state dict, or safetensors",
            fix="download the file again",
        ) from error


def _open_file(path: Path) -> FileBytes:
    if not path.is_file():
        found = describe_kind(path.stat().st_mode) if path.exists() else "no such file"
        raise InputError(f"{path} cannot be opened", found=found, expected="a checkpoint")
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


def _find_family(path: Path, asked: TrackerVariant | None, entries: dict[str, Any]) -> Family:
    """The family whose marker is there; the one asked for comes first."""
    families = list_families()
    for family in families:
        if family.marker in entries:
            return family
    wanted = [family for family in families if asked and family.name == asked.family] or families
    first_names = ", ".join(_quote_name(name) for name in list(entries)[:3])
    titles = " or ".join(family.title for family in wanted)
    files = " or ".join(family.release_file for family in wanted)
    raise CheckpointError(
        f"{path} holds no {titles} weights",
        found=first_names or "nothing",
        expected=" or ".join(family.marker for family in wanted),
        fix=f"weights of another tracker do not fit, give {files}",
    )


def _check_tensors(path: Path, family: Family, entries: dict[str, Any]) -> dict[str, StoredTensor]:
    """A trained tracker's tensors and nothing else, or a word on what the file holds instead."""
    tensors = {n: entry for n, entry in entries.items() if not n.startswith(family.unused)}
    for name, entry in tensors.items():
        if not isinstance(entry, StoredTensor):
            raise CheckpointError(
                f"{path}: weight {_quote_name(name)} is spoiled",
                found=_describe_entry(entry),
                expected="a dense tensor",
                fix=f"get {family.release_file} from a source you trust",
            )
    lack = family.find_lack({name: entry.shape for name, entry in tensors.items()})
    if lack is not None:
        what, found = lack
        raise CheckpointError(
            f"{path} is {what}", found=found, fix=f"{family.release_file} is the one needed"
        )
    return tensors


def _identify_variant(
    path: Path, family: Family, tensors: dict[str, StoredTensor]
) -> TrackerVariant:
    found = family.recognise({name: stored.shape for name, stored in tensors.items()})
    if found is not None:
        return found
    shapes = {name: family.list_shapes(v)[family.marker] for name, v in family.variants.items()}
    raise CheckpointError(
        f"{path} holds no known variant",
        found=f"{family.marker} of {tensors[family.marker].shape}",
        expected=", ".join(f"{expected} for {name}" for name, expected in shapes.items()),
    )


def _name_release(variant: TrackerVariant) -> str:
    return find_family(variant.family).release_file


def _check_layout(
    path: Path, family: Family, variant: TrackerVariant, tensors: dict[str, StoredTensor]
) -> None:
    expected = family.list_shapes(variant)
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
                fix=f"give the {family.release_file} of {variant.name}",
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
