"""FP8 (E4M3): the Q/DQ pairs of an INT8 graph, with eight-bit floats between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from relo_edge.calibration.quantizer import E4M3, list_products, quantize_graph
from relo_edge.contract import PIXELS

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["list_fp8_products", "quantize_fp8_graph"]


def list_fp8_products(model: ModelProto, *, attention: bool = False) -> list[str]:
    """As for INT8, without the product that reads the pixels.

    E4M3 has three bits of mantissa: of whole numbers, it holds those up to 16 alone exactly.
    """
    readers = {node.name for node in model.graph.node if PIXELS in node.input}
    return [name for name in list_products(model, attention=attention) if name not in readers]


def quantize_fp8_graph(
    model: ModelProto, products: Iterable[str], thresholds: Mapping[str, float]
) -> ModelProto:
    """The graph (which is changed) with E4M3 around the products; a threshold becomes 448."""
    return quantize_graph(model, products, thresholds, E4M3)
