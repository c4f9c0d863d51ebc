"""The sizes of DRLT's variants: the paper's where its text says them, and one reading elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from relo_edge.errors import InputError

__all__ = ["BOX", "DRLT_VARIANTS", "Convolution", "DrltVariant", "find_drlt_variant"]

BOX = 4
"""Numbers of a location; the last so many of the hidden state are the predicted one."""


@dataclass(frozen=True)
class Convolution:
    """One layer of the detector, with a leaky ReLU behind it."""

    channels: int
    kernel: int
    stride: int = 1
    pool: bool = False
    """Halved by a maximum afterwards."""


@dataclass(frozen=True)
class DrltVariant:
    """One DRLT: the dimensions from which every shape follows."""

    name: str
    frame_size: int
    """The side to which the whole frame is resized."""
    convolutions: tuple[Convolution, ...]
    features: int
    """The detector's first fully connected layer."""
    observation: int
    """The layer on top of features and location."""
    hidden: int

    family = "drlt"

    def __post_init__(self) -> None:
        for what in ("frame_size", "features", "observation"):
            if getattr(self, what) < 1:
                found = getattr(self, what)
                raise InputError(f"{self.name}: {what}", found=found, expected="1 or more")
        if self.hidden <= BOX:
            expected = f"more than the {BOX} entries of the box"
            raise InputError(f"{self.name}: hidden", found=self.hidden, expected=expected)
        if not self.convolutions or self.map_size < 1:
            found = f"{len(self.convolutions)} on a side of {self.frame_size}"
            expected = "at least one, and a cell left"
            raise InputError(f"{self.name}: convolutions", found=found, expected=expected)

    @property
    def map_size(self) -> int:
        """Cells along one side of the detector's last map."""
        side = self.frame_size
        for layer in self.convolutions:
            side = (side + 2 * (layer.kernel // 2) - layer.kernel) // layer.stride + 1
            side = side // 2 if layer.pool else side
        return side

    @property
    def flat_features(self) -> int:
        """Numbers of the detector's last map."""
        return self.convolutions[-1].channels * self.map_size**2

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        layers = [[c.channels, c.kernel, c.stride, c.pool] for c in self.convolutions]
        return {**vars(self), "convolutions": layers, "family": self.family}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> DrltVariant:
        """The variant that a manifest describes."""
        values = {name: value for name, value in plain.items() if name != "family"}
        values["convolutions"] = tuple(Convolution(*layer) for layer in values["convolutions"])
        return cls(**values)


def _alternate(times: int, narrow: int, wide: int) -> tuple[Convolution, ...]:
    """YOLO's pairs: a reduction by a 1x1, then a 3x3."""
    return (Convolution(narrow, 1), Convolution(wide, 3)) * times


_YOLO = (
    Convolution(64, 7, 2, pool=True),
    Convolution(192, 3, pool=True),
    *_alternate(1, 128, 256),
    Convolution(256, 1),
    Convolution(512, 3, pool=True),
    *_alternate(4, 256, 512),
    Convolution(512, 1),
    Convolution(1024, 3, pool=True),
    *_alternate(2, 512, 1024),
    Convolution(1024, 3),
    Convolution(1024, 3, 2),
    Convolution(1024, 3),
    Convolution(1024, 3),
)

# The paper: a YOLO network, 5000 numbers after its features are joined with the location, a layer
# of 5000, an LSTM of 5000. The reading: YOLO as first published, 448 pixels and 24 convolutions,
# whose first fully connected layer gives the 4996 features that 5000 leaves beside the location.
_PAPER = DrltVariant("drlt", 448, _YOLO, features=5000 - BOX, observation=5000, hidden=5000)

_DEMO = DrltVariant(
    "drlt-demo",
    64,
    (
        Convolution(16, 3, 2),
        Convolution(32, 3, 2),
        Convolution(64, 3, 2),
        Convolution(64, 3),
        Convolution(32, 1),
    ),
    features=192,
    observation=192,
    hidden=192,
)

DRLT_VARIANTS: Mapping[str, DrltVariant] = MappingProxyType({v.name: v for v in (_PAPER, _DEMO)})


def find_drlt_variant(name: str) -> DrltVariant:
    """The DRLT of that name."""
    if name not in DRLT_VARIANTS:
        raise InputError("variant", found=name, expected=" | ".join(DRLT_VARIANTS))
    return DRLT_VARIANTS[name]
