"""The sizes of DRLT's variants: the paper's where its text says them, and one reading elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from relo_edge.errors import InputError
from relo_edge.spec import TrackerProtocol, TrackerVariant

__all__ = [
    "BOX",
    "DRLT_VARIANTS",
    "Convolution",
    "DrltVariant",
    "build_variant",
    "find_drlt_variant",
]

BOX = 4
"""Numbers of a location; the last so many of the hidden state are the predicted one."""


class Convolution(NamedTuple):
    """One layer of the detector, with a leaky ReLU behind it."""

    channels: int
    kernel: int
    stride: int = 1
    pool: int = 1
    """The side over which a maximum is taken afterwards."""


@dataclass(frozen=True)
class DrltVariant(TrackerVariant):
    """One DRLT: the dimensions from which every shape follows."""

    name: str
    frame_size: int
    """The side to which the whole frame is resized."""
    channels: tuple[int, ...]
    """Of each convolution, as the next three."""
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    pools: tuple[int, ...]
    features: int
    """The detector's first fully connected layer."""
    observation: int
    """The layer on top of features and location."""
    hidden: int
    family: str = "drlt"
    protocols: Mapping[str, TrackerProtocol] = field(
        default_factory=lambda: {"default": TrackerProtocol(0.0)}, hash=False
    )

    def __post_init__(self) -> None:
        lists = (self.channels, self.kernels, self.strides, self.pools)
        if len({len(one) for one in lists}) > 1:
            found = ", ".join(str(len(one)) for one in lists)
            expected = "as many channels, kernels, strides and pools"
            raise InputError(f"{self.name}: convolutions", found=found, expected=expected)
        counts = [self.frame_size, self.features, self.observation]
        if min(counts + [size for one in lists for size in one]) < 1:
            raise InputError(f"{self.name}: sizes", found="one below 1", expected="1 or more")
        if self.hidden <= BOX:
            expected = f"more than the {BOX} entries of the box"
            raise InputError(f"{self.name}: hidden", found=self.hidden, expected=expected)
        if not self.channels or self.map_size < 1:
            found = f"{len(self.channels)} on a side of {self.frame_size}"
            expected = "at least one, and a cell left"
            raise InputError(f"{self.name}: convolutions", found=found, expected=expected)
        if self.channels[-1] <= BOX:
            expected = f"more than {BOX}: a cell's score and box"
            raise InputError(
                f"{self.name}: last channels", found=self.channels[-1], expected=expected
            )
        object.__setattr__(self, "protocols", MappingProxyType(dict(self.protocols)))

    @property
    def convolutions(self) -> list[Convolution]:
        """The detector's layers, in order."""
        lists = zip(self.channels, self.kernels, self.strides, self.pools, strict=True)
        return [Convolution(*layer) for layer in lists]

    @property
    def map_size(self) -> int:
        """Cells along one side of the detector's last map."""
        side = self.frame_size
        for layer in self.convolutions:
            side = (side + 2 * (layer.kernel // 2) - layer.kernel) // layer.stride + 1
            side //= layer.pool
        return side

    @property
    def flat_features(self) -> int:
        """Numbers of the detector's last map."""
        return self.channels[-1] * self.map_size**2


def build_variant(
    name: str, frame_size: int, layers: list[Convolution], features: int, width: int
) -> DrltVariant:
    """A variant whose added layer is as wide as its LSTM."""
    channels, kernels, strides, pools = (tuple(one) for one in zip(*layers, strict=True))
    return DrltVariant(name, frame_size, channels, kernels, strides, pools, features, width, width)


def _alternate(times: int, narrow: int, wide: int) -> list[Convolution]:
    """YOLO's pairs: a reduction by a 1x1, then a 3x3."""
    return [Convolution(narrow, 1), Convolution(wide, 3)] * times


_YOLO = [
    Convolution(64, 7, 2, pool=2),
    Convolution(192, 3, pool=2),
    *_alternate(1, 128, 256),
    Convolution(256, 1),
    Convolution(512, 3, pool=2),
    *_alternate(4, 256, 512),
    Convolution(512, 1),
    Convolution(1024, 3, pool=2),
    *_alternate(2, 512, 1024),
    Convolution(1024, 3),
    Convolution(1024, 3, 2),
    Convolution(1024, 3),
    Convolution(1024, 3),
]

# The paper: a YOLO network, 5000 numbers after its features are joined with the location, a layer
# of 5000, an LSTM of 5000. The reading: YOLO as first published, 448 pixels and 24 convolutions,
# whose first fully connected layer gives the 4996 features that 5000 leaves beside the location.
_PAPER = build_variant("drlt", 448, _YOLO, features=5000 - BOX, width=5000)

_SMALL = [
    Convolution(16, 3, 2),
    Convolution(32, 3, 2),
    Convolution(64, 3, 2),
    Convolution(64, 3),
    Convolution(32, 1),
]
_DEMO = build_variant("drlt-demo", 64, _SMALL, features=192, width=192)

DRLT_VARIANTS: Mapping[str, DrltVariant] = MappingProxyType({v.name: v for v in (_PAPER, _DEMO)})


def find_drlt_variant(name: str) -> DrltVariant:
    """The DRLT of that name."""
    if name not in DRLT_VARIANTS:
        raise InputError("variant", found=name, expected=" | ".join(DRLT_VARIANTS))
    return DRLT_VARIANTS[name]
