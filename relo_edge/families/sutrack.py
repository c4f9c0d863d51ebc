"""SUTrack: the same one-stream encoder without a state, a text token, and a map of centres."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import BATCH, GraphContract, TensorSpec
from relo_edge.families.family import Family, Release, Shapes
from relo_edge.families.motion import CropMotion
from relo_edge.families.template_contract import describe_template
from relo_edge.families.words import CONTEXT, WORDS
from relo_edge.geometry import Box
from relo_edge.spec import VARIANTS, TrackerProtocol, TrackerVariant, Variant

if TYPE_CHECKING:
    from torch import Tensor

    from relo_edge.network.sutrack import SuTrack

__all__ = ["FAMILY", "TEXT", "SuTrackFamily"]

TEXT = "text_shift"
"""What a sentence adds to the text token that stands for no words; zeros without a sentence."""


SIZES = {name: v for name, v in VARIANTS.items() if v.family == "sutrack"}


class SuTrackFamily(Family):
    """Nothing is carried from frame to frame but the box and the templates."""

    name = "sutrack"
    title = "SUTrack"
    variants = MappingProxyType(SIZES)
    graphs = ("template", "step")
    builders = "relo_edge.export.sutrack"
    marker = "encoder.body.cls_token"
    release_file = "SUTRACK_ep0180.pth.tar"
    unused = ("text_encoder.clip.visual.", "task_decoder.")
    release = Release(
        "xche32/SUTrack",
        {
            name: f"checkpoints/train/sutrack/{name.replace('-', '_')}/SUTRACK_ep0180.pth.tar"
            for name in SIZES
        },
    )

    def read_variant(self, plain: Mapping[str, Any]) -> TrackerVariant:
        """Sizes of the one-stream encoder."""
        return Variant.from_dict(plain, self.name)

    def contract(
        self, variant: TrackerVariant, graph: str, state_dtype: str = "float32"
    ) -> GraphContract:
        """Names and shapes are public API."""
        del state_dtype  # there is no state
        sizes = cast(Variant, variant)
        if graph == "template":
            return describe_template(sizes)
        shift = (BATCH, 1, sizes.width)
        if graph == WORDS:
            ids = TensorSpec("word_ids", "int64", (BATCH, CONTEXT), "given")
            return GraphContract((ids,), (TensorSpec(TEXT, "float32", shift, "target"),))
        side, grid = sizes.search_size, sizes.grid
        tokens = (BATCH, sizes.template_tokens, sizes.width)
        return GraphContract(
            inputs=(
                TensorSpec("search", "uint8", (BATCH, side, side, 3), "pixels"),
                TensorSpec("template_tokens", "float32", tokens, "target"),
                TensorSpec(TEXT, "float32", shift, "target"),
                TensorSpec("window", "float32", (grid, grid), "shared"),
            ),
            outputs=(
                TensorSpec("box", "float32", (BATCH, 4), "box"),
                TensorSpec("score", "float32", (BATCH,), "score"),
                TensorSpec("score_map", "float32", (BATCH, grid, grid), "map"),
            ),
        )

    def motion(self, variant: TrackerVariant, protocol: TrackerProtocol) -> CentreMotion:
        """Crops around the last box."""
        return CentreMotion(cast(Variant, variant), protocol)

    def list_shapes(self, variant: TrackerVariant) -> Shapes:
        """All but what no inference uses."""
        from relo_edge.network.sutrack import sutrack_shapes

        return sutrack_shapes(cast(Variant, variant))

    def recognise(self, shapes: Shapes) -> TrackerVariant | None:
        """By width and number of positions: the variants of one width differ in their crops."""
        shape = shapes.get("encoder.body.pos_embed")
        fits = (v for v in SIZES.values() if (1, _count_positions(v), v.width) == shape)
        return next(fits, None)

    def build_network(
        self, variant: TrackerVariant, weights: Mapping[str, Tensor]
    ) -> _SuTrackReference:
        """The reference network by the names of the contract."""
        from relo_edge.network.sutrack import build_sutrack

        return _SuTrackReference(build_sutrack(cast(Variant, variant), weights))


class CentreMotion(CropMotion):
    """A cell's score is not a probability among the cells: it does not say how sure it is."""

    def __init__(self, variant: Variant, protocol: TrackerProtocol) -> None:
        super().__init__(variant, protocol)
        self._no_words = np.zeros((1, variant.width), np.float32)

    def describe_target(self, box: Box, size: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
        """No words, whatever a target before this one had."""
        del box, size
        return {TEXT: self._no_words}

    def list_logits(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map is one of sigmoids."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logits: NDArray[np.float32] = np.log(scores) - np.log1p(-scores)
        return logits


class _SuTrackReference:
    """Feeds and outputs by name."""

    def __init__(self, module: SuTrack) -> None:
        self.module = module
        self._no_words: Tensor | None = None

    def encode_template(self, template: Tensor, box: Tensor) -> dict[str, Tensor]:
        return {"template_tokens": self.module.encode_template(template, box)}

    def step(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from relo_edge.network.heads import choose_boxes

        if self._no_words is None:
            self._no_words = self.module.encode_words()
        text = self._no_words + feeds[TEXT]
        maps = self.module(feeds["search"], feeds["template_tokens"], text)
        boxes, scores = choose_boxes(maps.scores, maps.sizes, maps.offsets, feeds["window"])
        return {
            "box": boxes,
            "score": scores,
            "score_map": maps.scores,
            "sizes": maps.sizes,
            "offsets": maps.offsets,
        }


def _count_positions(variant: Variant) -> int:
    return variant.search_tokens + variant.tokens_per_template


FAMILY = SuTrackFamily()
