"""Every size of every variant, and how each tracks; no size is written anywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from relo_edge.errors import InputError

__all__ = [
    "BATCH_NORM_EPSILON",
    "DATASETS",
    "LAYER_NORM_EPSILON",
    "PIXEL_MEAN",
    "PIXEL_STD",
    "SIZE_FLOOR",
    "VARIANTS",
    "TrackerProtocol",
    "TrackerVariant",
    "Variant",
    "find_variant",
]

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
LAYER_NORM_EPSILON = 1e-6
BATCH_NORM_EPSILON = 1e-5
SIZE_FLOOR = 1e-4
"""The smallest share of the crop's side that a box may have; the largest is 1 minus this."""

NEVER = 999999

COUNTS = (
    "width",
    "depth",
    "heads",
    "templates",
    "head_channels",
    "search_size",
    "template_size",
)
"""The sizes of a variant that are at least 1."""

DATASETS = ("default", "lasot", "lasotext", "trackingnet", "got10k", "tnl2k", "nfs", "uav")


@dataclass(frozen=True)
class TrackerProtocol:
    """How the network's answer becomes the next box; the release's settings for one dataset."""

    window_factor: float
    update_interval: int = NEVER
    update_threshold: float = float(NEVER)
    search_factor: float = 4.0
    template_factor: float = 2.0
    margin: float = 10.0

    def __post_init__(self) -> None:
        # Comparisons are written so that NaN is refused.
        for name in ("window_factor", "margin"):
            if not 0 <= getattr(self, name) < math.inf:
                found = getattr(self, name)
                raise InputError(_spell(name), found=found, expected="a number, 0 or more")
        for name in ("search_factor", "template_factor"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(
                    _spell(name), found=getattr(self, name), expected="a number above 0"
                )
        if not self.update_interval >= 1:
            expected = "1 frame or more"
            raise InputError("update interval", found=self.update_interval, expected=expected)
        if math.isnan(self.update_threshold):
            raise InputError("update threshold", found=self.update_threshold, expected="a number")


Found = TypeVar("Found", bound="TrackerVariant")


class TrackerVariant:
    """What every family's variants have: a dataclass of sizes with these fields among them."""

    name: str
    family: str
    protocols: Mapping[str, TrackerProtocol]

    @property
    def bundle_name(self) -> str:
        """What its bundle's folder is called where nobody says otherwise."""
        return self.name if self.name.startswith(self.family) else f"{self.family}-{self.name}"

    def protocol(self, dataset: str = "default") -> TrackerProtocol:
        """The settings for a dataset; the default ones where the release names none."""
        if dataset not in DATASETS:
            raise InputError(
                "protocol", found=dataset or "an empty name", expected=" | ".join(DATASETS)
            )
        return self.protocols.get(dataset, self.protocols["default"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a manifest, which names the family beside it."""
        plain = {key: _flatten(value) for key, value in vars(self).items() if key != "protocols"}
        del plain["family"]
        plain["protocols"] = {name: asdict(p) for name, p in self.protocols.items()}
        return plain

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings cannot be pickled, and processes that are not forked must be sent this.
        return type(self).from_dict, (self.to_dict(), self.family)

    @classmethod
    def from_dict(cls: type[Found], plain: Mapping[str, Any], family: str = "relo") -> Found:
        """The variant that a manifest describes."""
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
        values["protocols"] = {n: TrackerProtocol(**p) for n, p in plain["protocols"].items()}
        build: Any = cls
        found: Found = build(**values, family=family)
        return found


def _flatten(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Variant(TrackerVariant):
    """A one-stream encoder on crops: the dimensions from which every shape follows."""

    name: str
    width: int
    stage_blocks: tuple[int, int]
    depth: int
    heads: int
    temporal_tokens: int
    templates: int
    head_channels: int = 256
    search_size: int = 256
    template_size: int = 128
    family: str = "relo"
    protocols: Mapping[str, TrackerProtocol] = field(
        default_factory=lambda: {"default": TrackerProtocol(2.0)}, hash=False
    )

    patch = 16  # the 4x4 patch embed and two 2x2 merges: fixed by the architecture

    def __post_init__(self) -> None:
        if self.temporal_tokens < 0:
            found = self.temporal_tokens
            raise InputError(f"{self.name}: temporal tokens", found=found, expected="0 or more")
        for name in COUNTS:
            if getattr(self, name) < 1:
                found = getattr(self, name)
                raise InputError(f"{self.name}: {_spell(name)}", found=found, expected="1 or more")
        if len(self.stage_blocks) != 2 or min(self.stage_blocks) < 0:
            expected = "two counts, 0 or more each"
            what = f"{self.name}: stage blocks"
            raise InputError(what, found=self.stage_blocks, expected=expected)
        if self.width % self.heads or self.width % 4:
            raise InputError(
                f"{self.name}: width",
                found=self.width,
                expected=f"a multiple of 4 and {self.heads}",
            )
        if self.search_size % self.patch or self.template_size % self.patch:
            raise InputError(
                f"{self.name}: crop sizes",
                found=(self.search_size, self.template_size),
                expected=f"multiples of {self.patch}",
            )
        if "default" not in self.protocols:
            raise InputError(
                f"{self.name}: protocols", found=set(self.protocols), expected="default"
            )
        object.__setattr__(self, "protocols", MappingProxyType(dict(self.protocols)))

    @property
    def grid(self) -> int:
        """Cells along one side of the policy map."""
        return self.search_size // self.patch

    @property
    def search_tokens(self) -> int:
        """Tokens of one search crop."""
        return self.grid**2

    @property
    def tokens_per_template(self) -> int:
        """Tokens of one template crop."""
        return (self.template_size // self.patch) ** 2

    @property
    def template_tokens(self) -> int:
        """Tokens of all templates together."""
        return self.templates * self.tokens_per_template

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Temporal state of one target: an entry for each main block."""
        return (self.depth, self.temporal_tokens, self.width)


def _spell(name: str) -> str:
    """A field's name as an error line has it."""
    return name.replace("_", " ")


def _window_factors(**factors: float) -> dict[str, TrackerProtocol]:
    return {dataset: TrackerProtocol(factor) for dataset, factor in factors.items()}


_T256 = Variant(
    name="t256",
    width=384,
    stage_blocks=(1, 1),
    depth=12,
    heads=6,
    temporal_tokens=4,
    templates=1,
    protocols=_window_factors(default=2.0, lasot=2.2, lasotext=1.7, trackingnet=2.0, got10k=3.2),
)

_B256 = Variant(
    name="b256",
    width=512,
    stage_blocks=(3, 3),
    depth=24,
    heads=8,
    temporal_tokens=32,
    templates=2,
    protocols=_window_factors(default=3.0, lasot=3.0, lasotext=3.0, tnl2k=1.8, nfs=2.9, uav=1.0)
    | {
        "trackingnet": TrackerProtocol(2.0, update_interval=25, update_threshold=25.0),
        "got10k": TrackerProtocol(2.1, update_interval=3, update_threshold=25.0),
    },
)

_L256 = Variant(
    name="l256",
    width=768,
    stage_blocks=(2, 2),
    depth=40,
    heads=12,
    temporal_tokens=32,
    templates=2,
    protocols=_window_factors(default=2.7, lasot=2.9, lasotext=2.7, tnl2k=3.2, nfs=3.2, uav=3.8)
    | {
        "trackingnet": TrackerProtocol(2.0, update_interval=25, update_threshold=20.0),
        "got10k": TrackerProtocol(2.7, update_interval=3, update_threshold=46.0),
    },
)

_DEMO = Variant(
    name="demo",
    width=192,
    stage_blocks=(1, 1),
    depth=6,
    heads=3,
    temporal_tokens=4,
    templates=1,
    head_channels=64,
    search_size=128,
    template_size=64,
    # In crops as small as these, targets need more of the pixels.
    protocols={"default": TrackerProtocol(2.0, search_factor=3.0, template_factor=1.5)},
)


def _derive_sutrack(size: str, base: Variant, search_size: int) -> Variant:
    """SUTrack shares the encoder of RELO's variant of that size; its window has the factor 1."""
    still = TrackerProtocol(1.0)
    updated = TrackerProtocol(1.0, update_interval=25, update_threshold=0.70)
    return replace(
        base,
        name=f"sutrack-{size}{search_size}",
        family="sutrack",
        temporal_tokens=0,
        search_size=search_size,
        template_size=search_size // 2,
        protocols={"default": updated if base.templates > 1 else still},
    )


_SUTRACK = (
    _derive_sutrack("t", _T256, 224),
    _derive_sutrack("b", _B256, 224),
    _derive_sutrack("b", _B256, 384),
    _derive_sutrack("l", _L256, 224),
    _derive_sutrack("l", _L256, 384),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {v.name: v for v in (_T256, _B256, _L256, _DEMO, *_SUTRACK)}
)


def find_variant(name: str) -> Variant:
    """The registered variant of that name."""
    if name not in VARIANTS:
        raise InputError("variant", found=name, expected=" | ".join(VARIANTS))
    return VARIANTS[name]
