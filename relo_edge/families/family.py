"""The questions that every family of trackers answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from relo_edge.contract import GraphContract
from relo_edge.spec import TrackerProtocol, TrackerVariant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relo_edge.families.motion import Motion

__all__ = ["Family", "ReferenceNetwork", "Release", "Shapes"]

Shapes = Mapping[str, tuple[int, ...]]
"""By name of a checkpoint's tensor."""


@dataclass(frozen=True)
class Release:
    """Where a family's authors published its weights."""

    repository: str
    """On the Hugging Face hub."""
    files: Mapping[str, str]
    """By variant, the checkpoint's path in the repository."""


class ReferenceNetwork(Protocol):
    """A family's network in PyTorch, asked by the names of its contract."""

    @property
    def module(self) -> nn.Module:
        """What holds the weights."""

    def encode_template(self, template: Tensor, box: Tensor) -> dict[str, Tensor]:
        """What the template graph makes of RGB uint8 crops [N,H,W,3] and boxes [N,4]."""

    def step(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The step graph's outputs; where there is a map, `sizes` and `offsets` [B,2,G,G] too."""


class Family(ABC):
    """One kind of tracker: its checkpoints, networks, graphs, and how frames become boxes.

    Attributes:
        name: as a manifest has it.
        title: as its authors write it.
        variants: by name.
        graphs: the graphs of every precision, in the order in which they are run; `step` is last.
        builders: the module whose `BUILDERS` make the graphs, each of a variant and its weights;
            `export` imports it.
        marker: a tensor that every checkpoint of the family has and no other family's.
        release_file: what its authors call a checkpoint.
        unused: the starts of the names of a checkpoint's tensors that no inference uses.
        release: where its weights are, if they are public.
    """

    name: str
    title: str
    variants: Mapping[str, TrackerVariant]
    graphs: tuple[str, ...]
    builders: str
    marker: str
    release_file: str
    unused: tuple[str, ...] = ()
    release: Release | None = None

    @abstractmethod
    def read_variant(self, plain: Mapping[str, Any]) -> TrackerVariant:
        """The variant that a manifest describes."""

    @abstractmethod
    def contract(
        self, variant: TrackerVariant, graph: str, state_dtype: str = "float32"
    ) -> GraphContract:
        """The inputs and outputs of one of the graphs."""

    @abstractmethod
    def motion(self, variant: TrackerVariant, protocol: TrackerProtocol) -> Motion:
        """How a frame becomes feeds, and an answer a box."""

    @abstractmethod
    def list_shapes(self, variant: TrackerVariant) -> Shapes:
        """Every used tensor of a checkpoint of this variant."""

    @abstractmethod
    def build_network(
        self, variant: TrackerVariant, weights: Mapping[str, Tensor]
    ) -> ReferenceNetwork:
        """The network in evaluation mode, holding exactly these weights."""

    def recognise(self, shapes: Shapes) -> TrackerVariant | None:
        """The variant whose tensors these are; None where none has this marker's shape.

        Args:
            shapes: of a checkpoint that has the family's marker.
        """
        for variant in self.variants.values():
            if self.list_shapes(variant)[self.marker] == shapes[self.marker]:
                return variant
        return None

    def find_lack(self, shapes: Shapes) -> tuple[str, str] | None:
        """What a checkpoint of this family is instead of a whole one, and what it lacks."""
        del shapes
        return None
