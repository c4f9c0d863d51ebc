"""A tracker of a few nodes, unlike the real ones where it can be: no templates, no map, no score.

Whole frames of 8x8 go in, a target's place is told once, two states of one shape are carried, and
the box is made of both. What a runtime mixes up, shows.
"""

from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch

from relo_edge.contract import BATCH, GraphContract, TensorSpec, describe_graph
from relo_edge.export.builder import FLOAT, GraphBuilder
from relo_edge.export.publishing import export_bundle
from relo_edge.families.family import Family
from relo_edge.families.motion import Motion
from relo_edge.geometry import clip_box
from relo_edge.network.checkpoint import Checkpoint
from relo_edge.spec import TrackerProtocol, TrackerVariant

SIDE = 8


@dataclass(frozen=True)
class ToyVariant(TrackerVariant):
    name: str = "toy"
    size: int = SIDE
    family: str = "toy"
    protocols: object = field(
        default_factory=lambda: MappingProxyType({"default": TrackerProtocol(0.0)}), hash=False
    )


TOY = ToyVariant()


class ToyFamily(Family):
    name, title, graphs = "toy", "Toy", ("step",)
    builders, marker, release_file = "toy_family", "decay", "toy.pth"
    variants = MappingProxyType({"toy": TOY})

    def read_variant(self, plain):
        return ToyVariant.from_dict(plain, "toy")

    def contract(self, variant, graph, state_dtype="float32"):
        def row(name, role, partner="", dtype="float32"):
            return TensorSpec(name, dtype, (BATCH, 4), role, partner)

        frame = TensorSpec("frame", "uint8", (BATCH, SIDE, SIDE, 3), "pixels")
        states = [row(n, "state", f"{n}_out", state_dtype) for n in ("h", "c")]
        fresh = TensorSpec("known", "float32", (BATCH,), "fresh")
        after = [row(f"{n}_out", "state", dtype=state_dtype) for n in ("h", "c")]
        return GraphContract(
            (frame, row("place", "target"), *states, fresh), (row("box", "box"), *after)
        )

    def motion(self, variant, protocol):
        return ToyMotion()

    def list_shapes(self, variant):
        return {"decay": (4,)}

    def build_network(self, variant, weights):
        return ToyNetwork(weights["decay"])


class ToyMotion(Motion):
    pixels = (SIDE, SIDE, 3)

    def fill_pixels(self, pixels, frame, box, widen, cropper):
        cropper.shrink(frame, pixels)

    def locate(self, answer, previous, window, size):
        width, height = size
        x, y, w, h = (float(value) for value in answer)
        return clip_box((x * width, y * height, w * width, h * height), width, height, 4.0)

    def describe_target(self, box, size):
        return {"place": np.float32(box) / np.float32([*size, *size])}


class ToyNetwork:
    def __init__(self, decay):
        self.module, self.decay = torch.nn.Identity(), decay

    def step(self, feeds):
        known = feeds["known"].unsqueeze(1)
        light = (feeds["frame"].float() / 255).mean(dim=(1, 2, 3)).unsqueeze(1)
        h = feeds["h"] * known * self.decay + light * feeds["place"]
        c = torch.where(known > 0.5, feeds["c"], feeds["place"]) * 0.5 + h
        return {"box": h + c, "h_out": h, "c_out": c}


def build_step(variant, weights):
    graph = GraphBuilder("step")
    known = graph.add("Unsqueeze", "known/rows", ["known", graph.indices(1)])
    light = graph.add("Cast", "frame/float", ["frame"], to=FLOAT)
    light = graph.add("ReduceMean", "frame/mean", [light, graph.indices(1, 2, 3)], keepdims=0)
    light = graph.add("Unsqueeze", "frame/rows", [light, graph.indices(1)])
    light = graph.add("Mul", "frame/light", [light, graph.weight("levels", np.array(1 / 255))])
    kept = graph.add(
        "Where", "h/kept", [add_flag(graph, known), "h", graph.weight("zero", np.zeros(4))]
    )
    kept = graph.add("Mul", "h/decayed", [kept, graph.weight("decay", weights["decay"])])
    seen = graph.add("Mul", "h/seen", [light, "place"])
    graph.add("Add", "h_out", [kept, seen])
    old = graph.add("Where", "c/old", ["known/flag", "c", "place"])
    half = graph.add("Mul", "c/half", [old, graph.weight("half", np.array(0.5))])
    graph.add("Add", "c_out", [half, "h_out"])
    graph.add("Add", "box", ["h_out", "c_out"])
    return graph.build(describe_graph(variant, "step"), {})


def add_flag(graph, known):
    return graph.add("Greater", "known/flag", [known, graph.weight("known/half", np.array(0.5))])


BUILDERS = {"step": build_step}
FAMILY = ToyFamily()


def write_toy(folder):
    """Its bundle; the family must be known by then."""
    source = folder / "toy.pth"
    source.write_bytes(b"toy")
    weights = {"decay": torch.tensor([0.9, 0.8, 0.7, 0.6])}
    return export_bundle(Checkpoint(TOY, weights, source), folder / "toy")
