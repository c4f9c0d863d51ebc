"""RELO: a one-stream encoder with temporal tokens, and a policy over the search crop's cells."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from relo_edge.contract import BATCH, GraphContract, TensorSpec
from relo_edge.families.family import Family, Release, Shapes
from relo_edge.families.motion import PolicyMotion
from relo_edge.families.template_contract import describe_template
from relo_edge.spec import VARIANTS, TrackerProtocol, TrackerVariant, Variant

if TYPE_CHECKING:
    from torch import Tensor

    from relo_edge.network.relo import Relo

__all__ = ["FAMILY", "ReloFamily"]

SIZES = {name: v for name, v in VARIANTS.items() if v.family == "relo"}
PUBLISHED = ("t256", "b256", "l256")


class ReloFamily(Family):
    """The temporal tokens are the state; a first frame has none."""

    name = "relo"
    title = "RELO"
    variants = MappingProxyType(SIZES)
    graphs = ("template", "step")
    builders = "relo_edge.export.graphs"
    marker = "encoder.body.ttokens"
    release_file = "RELO_ep0090.pth.tar"
    release = Release(
        "xche32/RELO",
        {n: f"checkpoints/train/relo/relo_{n}/RELO_ep0090.pth.tar" for n in PUBLISHED},
    )

    def read_variant(self, plain: Mapping[str, Any]) -> TrackerVariant:
        """Sizes of the one-stream encoder."""
        return Variant.from_dict(plain, self.name)

    def contract(
        self, variant: TrackerVariant, graph: str, state_dtype: str = "float32"
    ) -> GraphContract:
        """Names and shapes are public API."""
        sizes = cast(Variant, variant)
        if graph == "template":
            return describe_template(sizes)
        side, grid, state = sizes.search_size, sizes.grid, (BATCH, *sizes.state_shape)
        tokens = (BATCH, sizes.template_tokens, sizes.width)
        carried = "temporal_tokens_out"
        return GraphContract(
            inputs=(
                TensorSpec("search", "uint8", (BATCH, side, side, 3), "pixels"),
                TensorSpec("template_tokens", "float32", tokens, "target"),
                TensorSpec("temporal_tokens", state_dtype, state, "state", carried),
                TensorSpec("has_history", "float32", (BATCH,), "fresh"),
                TensorSpec("window", "float32", (grid, grid), "shared"),
            ),
            outputs=(
                TensorSpec("box", "float32", (BATCH, 4), "box"),
                TensorSpec("score", "float32", (BATCH,), "score"),
                TensorSpec("policy_logits", "float32", (BATCH, grid, grid), "map"),
                TensorSpec(carried, state_dtype, state, "state"),
            ),
        )

    def motion(self, variant: TrackerVariant, protocol: TrackerProtocol) -> PolicyMotion:
        """Crops around the last box; the policy tells the confidence."""
        return PolicyMotion(cast(Variant, variant), protocol)

    def list_shapes(self, variant: TrackerVariant) -> Shapes:
        """All of the network's, the value head's included."""
        from relo_edge.network.relo import state_shapes

        return state_shapes(cast(Variant, variant))

    def recognise(self, shapes: Shapes) -> TrackerVariant | None:
        """By the temporal tokens alone, which differ from variant to variant."""
        shape = shapes[self.marker]
        fits = (v for v in SIZES.values() if (1, v.temporal_tokens, v.width) == shape)
        return next(fits, None)

    def find_lack(self, shapes: Shapes) -> tuple[str, str] | None:
        """Warm-up checkpoints come before the policy is learnt."""
        parts = {name.partition(".")[0] for name in shapes}
        if "decoder" in parts and "policy_model" not in parts:
            return "a warm-up checkpoint without a policy head", "no policy_model"
        return None

    def build_network(
        self, variant: TrackerVariant, weights: Mapping[str, Tensor]
    ) -> _ReloReference:
        """The reference network by the names of the contract."""
        from relo_edge.network.relo import build_network

        return _ReloReference(build_network(cast(Variant, variant), weights))


class _ReloReference:
    """Feeds and outputs by name."""

    def __init__(self, module: Relo) -> None:
        self.module = module

    def encode_template(self, template: Tensor, box: Tensor) -> dict[str, Tensor]:
        return {"template_tokens": self.module.encode_template(template, box)}

    def step(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from relo_edge.network.heads import choose_boxes

        names = ("search", "template_tokens", "temporal_tokens", "has_history")
        maps, state = self.module(*(feeds[name] for name in names))
        boxes, scores = choose_boxes(maps.policy_logits, maps.sizes, maps.offsets, feeds["window"])
        return {
            "box": boxes,
            "score": scores,
            "policy_logits": maps.policy_logits,
            "temporal_tokens_out": state,
            "sizes": maps.sizes,
            "offsets": maps.offsets,
        }


FAMILY = ReloFamily()
