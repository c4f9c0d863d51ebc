"""DRLT: whole frames through a detector's convolutions and an LSTM, whose state holds the box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import BATCH, GraphContract, TensorSpec
from relo_edge.families.family import Family, Shapes
from relo_edge.families.motion import Cropper, Motion
from relo_edge.geometry import Box, CropWindow, box_in_frame, clip_box
from relo_edge.network.drlt_sizes import BOX, DRLT_VARIANTS, DrltVariant
from relo_edge.spec import TrackerProtocol, TrackerVariant

if TYPE_CHECKING:
    from torch import Tensor

    from relo_edge.network.drlt import Drlt

__all__ = ["FAMILY", "DrltFamily"]


class DrltFamily(Family):
    """Hidden and cell state are carried; there is no template, no map and no score."""

    name = "drlt"
    title = "DRLT"
    variants = DRLT_VARIANTS
    graphs = ("step",)
    builders = "relo_edge.export.drlt"
    marker = "recurrent.weight_hh_l0"
    release_file = "drlt.safetensors of `train drlt`"

    def read_variant(self, plain: Mapping[str, Any]) -> TrackerVariant:
        """Sizes of detector and LSTM."""
        return DrltVariant.from_dict(plain, self.name)

    def contract(
        self, variant: TrackerVariant, graph: str, state_dtype: str = "float32"
    ) -> GraphContract:
        """Names and shapes are public API."""
        del graph  # there is one
        sizes = cast(DrltVariant, variant)
        side, state = sizes.frame_size, (BATCH, sizes.hidden)
        return GraphContract(
            inputs=(
                TensorSpec("frame", "uint8", (BATCH, side, side, 3), "pixels"),
                TensorSpec("location", "float32", (BATCH, BOX), "target"),
                TensorSpec("h", state_dtype, state, "state", "h_out"),
                TensorSpec("c", state_dtype, state, "state", "c_out"),
                TensorSpec("has_history", "float32", (BATCH,), "fresh"),
            ),
            outputs=(
                TensorSpec("box", "float32", (BATCH, BOX), "box"),
                TensorSpec("h_out", state_dtype, state, "state"),
                TensorSpec("c_out", state_dtype, state, "state"),
            ),
        )

    def motion(self, variant: TrackerVariant, protocol: TrackerProtocol) -> FrameMotion:
        """The whole frame, whatever the last box."""
        return FrameMotion(cast(DrltVariant, variant), protocol)

    def list_shapes(self, variant: TrackerVariant) -> Shapes:
        """All of the network's."""
        from relo_edge.network.drlt import drlt_shapes

        return drlt_shapes(cast(DrltVariant, variant))

    def build_network(
        self, variant: TrackerVariant, weights: Mapping[str, Tensor]
    ) -> _DrltReference:
        """The reference network by the names of the contract."""
        from relo_edge.network.drlt import build_drlt

        return _DrltReference(build_drlt(cast(DrltVariant, variant), weights))


class FrameMotion(Motion):
    """Frames are resized whole; boxes are shares of them."""

    steps_first_frame = True

    def __init__(self, variant: DrltVariant, protocol: TrackerProtocol) -> None:
        self.protocol = protocol
        self.pixels = (variant.frame_size, variant.frame_size, 3)

    def fill_pixels(
        self,
        pixels: NDArray[np.uint8],
        frame: NDArray[np.uint8],
        box: Box,
        widen: float,
        cropper: Cropper,
    ) -> CropWindow | None:
        """The whole frame, without keeping its shape."""
        del box, widen
        cropper.shrink(frame, pixels)
        return None

    def locate(
        self,
        answer: NDArray[np.float32],
        previous: Box,
        window: CropWindow | None,
        size: tuple[int, int],
    ) -> Box:
        """Centre and size in shares of the frame, clipped to it."""
        del previous, window
        width, height = size
        x, y, across, down = (float(value) for value in answer)
        box = ((x - across / 2) * width, (y - down / 2) * height, across * width, down * height)
        return clip_box(box, *size, self.protocol.margin)

    def describe_target(self, box: Box, size: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
        """The location vector of the first frame."""
        return {"location": box_in_frame(box, size)}


class _DrltReference:
    """Feeds and outputs by name."""

    def __init__(self, module: Drlt) -> None:
        self.module = module

    def encode_template(self, template: Tensor, box: Tensor) -> dict[str, Tensor]:
        del template, box
        raise TypeError("there are no templates")

    def step(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from relo_edge.network.drlt import LstmState

        before = LstmState(feeds["h"], feeds["c"])
        box, after = self.module(feeds["frame"], feeds["location"], before, feeds["has_history"])
        return {"box": box, "h_out": after.hidden, "c_out": after.cell}


FAMILY = DrltFamily()
