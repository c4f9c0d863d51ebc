"""The scale and bias of a LayerNormalization, moved into the product that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["Constants", "find_products", "fold_norms"]


def fold_norms(model: ModelProto) -> list[str]:
    """Fold, in place, into each product that alone reads a norm; returns the tensors changed.

    Exact in float32. In half, the two rounded factors of each weight become one that is rounded
    once: such an error is the same at every token, so it adds up where others cancel.
    """
    constants, changed = Constants(model.graph), []
    for norm, product, add in list(find_products(model.graph, constants)):
        scale, shift = (constants.read(name) for name in norm.input[1:])
        weight, bias = constants.read(product.input[1]), constants.read(add.input[1])
        # A reshape between them may have put several tokens into one row.
        repeats = len(weight) // len(scale)
        weighted = np.tile(scale, repeats)[:, None] * weight
        product.input[1] = constants.store(f"{product.name}/folded", weighted)
        shifted = bias + np.tile(shift, repeats) @ weight
        add.input[1] = constants.store(f"{add.name}/folded", shifted)
        norm.input[1] = constants.store(f"norm/one_{len(scale)}", np.ones_like(scale))
        norm.input[2] = constants.store(f"norm/zero_{len(scale)}", np.zeros_like(shift))
        changed.append(norm.output[0])
    return changed


class Constants:
    """A graph's initializers by name, read as float64 and stored as float32."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._known = {tensor.name: tensor for tensor in graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def read(self, name: str) -> NDArray[np.float64]:
        """The values of a constant."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self._known[name]).astype(np.float64)

    def store(self, name: str, values: NDArray[np.float64]) -> str:
        """Add a constant, unless one of that name is there; returns the name."""
        from onnx import numpy_helper

        if name not in self._known:
            tensor = numpy_helper.from_array(values.astype(np.float32), name)
            self._graph.initializer.append(tensor)
            self._known[name] = tensor
        return name


def find_products(
    graph: GraphProto, constants: Constants
) -> Iterator[tuple[NodeProto, NodeProto, NodeProto]]:
    """Each norm that is read by one product with a constant weight and bias, and by no other."""
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)

    def find_reader(node: NodeProto, op: str) -> NodeProto | None:
        found = readers.get(node.output[0], [])
        return found[0] if len(found) == 1 and found[0].op_type == op else None

    for norm in graph.node:
        if norm.op_type != "LayerNormalization":
            continue
        product = find_reader(find_reader(norm, "Reshape") or norm, "MatMul")
        add = product and find_reader(product, "Add")
        if product and add and product.input[1] in constants and add.input[1] in constants:
            yield norm, product, add
