"""The 68 faults that `parity` is tried on, each with the words that would explain it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from faulty_runtime import FaultyRuntime, Hooks, tamper
from onnx import helper, numpy_helper

from relo_edge.geometry import hann_window
from relo_edge.host.opencv import cv2

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BOTH = ("template", "step")
STEP = ("step",)
TOO_SMALL = "changes every output by less than the float32 limit"


@dataclass(frozen=True)
class Fault:
    """One fault in a runtime (hooks) or in graphs (change)."""

    group: str
    name: str
    words: str
    """What an exact explanation says."""
    hooks: Hooks | None = None
    change: Any = None
    graphs: tuple[str, ...] = STEP
    missed: str = ""
    """Why it is not caught."""

    def plant(self, bundle, folder):
        """The bundle and a runtime of it with the fault."""
        if self.change:
            bundle = tamper(bundle, folder, **dict.fromkeys(self.graphs, self.change))
        return bundle, FaultyRuntime(bundle, self.hooks)


def read_weight(model, name):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return tensor, numpy_helper.to_array(tensor).copy()


def write_weight(model, name, change):
    tensor, values = read_weight(model, name)
    tensor.CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), name))


def find_node(model, name):
    return next(node for node in model.graph.node if node.name == name)


def swap_channels(model):
    """Patches are flattened pixel by pixel, red first."""
    write_weight(
        model, "patch_embed/weight", lambda w: w.reshape(16, 3, -1)[:, ::-1].reshape(w.shape)
    )


def renormalise(gain, shift):
    """As though pixels were normalised to `gain * x/255 + shift`, by channel."""

    def change(model):
        _, centre = read_weight(model, "pixels/centre")
        _, weight = read_weight(model, "patch_embed/weight")
        # The right embedding: weight @ (x - centre) + bias, the weight with 1/(255 std) in it.
        plain = weight.reshape(16, 3, -1) * (255 * STD)[None, :, None]
        scale = np.broadcast_to(gain, 3) / 255
        moved = centre.reshape(-1, 3)[0] if centre.size >= 3 else np.full(3, centre.item())
        right = moved / 255 / STD - MEAN / STD
        wrong = moved * scale + shift
        write_weight(
            model,
            "patch_embed/weight",
            lambda w: (plain * scale[None, :, None]).reshape(w.shape),
        )
        write_weight(
            model,
            "patch_embed/bias",
            lambda b: b + ((wrong - right)[None, :, None] * plain).sum(axis=(0, 1)),
        )

    return change


def read_signed(model):
    """Pixels go through INT8 on their way to floats."""
    cast = find_node(model, "pixels/float")
    signed = helper.make_node("Cast", [cast.input[0]], ["pixels/signed"], "pixels/signed", to=3)
    cast.input[0] = "pixels/signed"
    model.graph.node.insert(0, signed)


def zero_state(model):
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "temporal_tokens":
                node.input[index] = "state/zeroed"
    zero = numpy_helper.from_array(np.zeros((), np.float32), "state/zero")
    model.graph.initializer.append(zero)
    node = helper.make_node("Mul", ["temporal_tokens", "state/zero"], ["state/zeroed"], "state/mul")
    model.graph.node.insert(0, node)


def swap_maps(model):
    names = {"size/map": "offset/map", "offset/map": "size/map"}
    for node in model.graph.node:
        if node.name.startswith("choice/"):
            node.input[:] = [names.get(name, name) for name in node.input]


def ignore_window(*readers):
    def change(model):
        for name in readers:
            find_node(model, name).input[0] = "policy/logits"

    return change


def scale_weights(factor, *names):
    def change(model):
        for name in names:
            write_weight(model, name, lambda w: factor * w)

    return change


def scale_queries(factor):
    """The first third of q, k, v."""

    def change(model):
        for last in ("weight", "bias"):
            write_weight(model, f"block1/attn/qkv/{last}", scale_first_third(factor))

    return change


def scale_first_third(factor):
    def change(values):
        width = values.shape[-1] // 3
        return np.concatenate([factor * values[..., :width], values[..., width:]], axis=-1)

    return change


def perturb_all(model):
    rng = np.random.default_rng(0)
    change_weights(model, lambda w: w * (1 + 0.01 * rng.standard_normal(w.shape)))


def change_weights(model, change):
    for tensor in list(model.graph.initializer):
        if tensor.name.endswith("/weight"):
            write_weight(model, tensor.name, change)


def round_half(values):
    return values.astype(np.float16)


def round_bfloat16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)


def set_attribute(op, name, value):
    def change(model):
        for node in model.graph.node:
            if node.op_type == op:
                kept = [attribute for attribute in node.attribute if attribute.name != name]
                del node.attribute[:]
                node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def turn_softmax(model):
    node = find_node(model, "block2/attn/softmax")
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("axis", -2))


def drop_residual(model):
    node = find_node(model, "block3/attended")
    zero = numpy_helper.from_array(np.zeros((1,), np.float32), "residual/zero")
    model.graph.initializer.append(zero)
    model.graph.node.insert(
        list(model.graph.node).index(node),
        helper.make_node("Mul", [node.input[0], "residual/zero"], ["residual/gone"], "residual"),
    )
    node.input[0] = "residual/gone"


def zoom_out(crop):
    side = crop.shape[0]
    inner = round(side / 1.25)
    start = (side - inner) // 2
    wide = np.zeros_like(crop)
    small = cv2.resize(crop, (inner, inner))
    wide[start : start + inner, start : start + inner] = small
    return wide


def zoom_in(crop):
    side = crop.shape[0]
    shift = (side / 2 - 0.5) * (1 - 1 / 0.8)
    return cv2.warpAffine(crop, np.array([[1.25, 0, shift], [0, 1.25, shift]]), (side, side))


def halve_nearest(crop):
    side = crop.shape[0]
    small = cv2.resize(crop, (side // 2, side // 2), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST)


def find_picture(crop):
    lit = crop.any(axis=2)
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def pad_grey(crop):
    shown = find_picture(crop)
    padded = np.full_like(crop, 128)
    padded[shown] = crop[shown]
    return padded


def pad_edge(crop):
    rows, columns = find_picture(crop)
    sides = [(part.start, crop.shape[0] - part.stop) for part in (rows, columns)]
    return np.pad(crop[rows, columns], (*sides, (0, 0)), mode="edge")


def pass_state(change, first=None):
    """The state of the frame before, changed; what a first frame is given."""

    def state(past, flag):
        if not past:
            return first, [float(first is not None)]
        return change(past[-1]), [1.0]

    return state


def forget_always(past, flag):
    return None, [0.0]


def lag_behind(past, flag):
    return (past[-2] if len(past) > 1 else None), [float(bool(past))]


def keep_first(past, flag):
    return (past[0] if past else None), [float(bool(past))]


def claim_history(past, flag):
    return (past[-1] if past else None), [1.0]


def drop_layer(state):
    kept = state.copy()
    kept[:, 3] = 0
    return kept


def change_score(rule):
    def answer(box, score, logits, window, search, number):
        windowed = logits[0] * window
        return box, np.float32([rule(logits[0], windowed, score[0])]), logits

    return answer


def change_box(rule):
    def answer(box, score, logits, window, search, number):
        grid = window.shape[0]
        corner = np.array(divmod(int(np.argmax(logits[0] * window)), grid)[::-1])
        return np.float32([rule(box[0], corner, grid)]), score, logits

    return answer


def spoil_logits(when):
    def answer(box, score, logits, window, search, number):
        return (box, score, logits * np.nan) if when(search, number) else (box, score, logits)

    return answer


def spoil_state(past, flag):
    state, given = pass_state(lambda s: s)(past, flag)
    return (np.full_like(state, np.inf) if len(past) > 3 else state), given


def clamp_offsets(box, corner, grid):
    offset = (box[:2] * grid - corner).clip(0, 1)
    return [*(corner + offset) / grid, *box[2:]]


FAULTS = (
    # What goes in: pixels and crops
    Fault("pixels", "BGR in both crops", "BGR for RGB", change=swap_channels, graphs=BOTH),
    Fault("pixels", "BGR in the search crop", "swapped of the search crop", change=swap_channels),
    Fault(
        "pixels",
        "no normalisation but the division by 255",
        "only divided by 255",
        change=renormalise(1, 0),
        graphs=BOTH,
    ),
    Fault(
        "pixels", "mean and deviation 0.5", "0.5 in place", change=renormalise(2, -1), graphs=BOTH
    ),
    Fault(
        "pixels",
        "mean and deviation in BGR order",
        "BGR order",
        change=renormalise(1 / STD[::-1], -MEAN[::-1] / STD[::-1]),
        graphs=BOTH,
    ),
    Fault(
        "pixels",
        "deviation without mean",
        "the mean not subtracted",
        change=renormalise(1 / STD, 0),
        graphs=BOTH,
    ),
    Fault(
        "pixels",
        "divided by 256",
        "divided by 256",
        change=renormalise(255 / 256 / STD, -MEAN / STD),
        graphs=BOTH,
    ),
    Fault("pixels", "read as signed bytes", "signed bytes", change=read_signed, graphs=BOTH),
    Fault(
        "pixels",
        "video range in place of full range",
        "squeezed into 16 to 235 of the search crop",
        Hooks(search=lambda c: (c * (219 / 255) + 16).round()),
    ),
    Fault(
        "pixels",
        "search crop one pixel to the right",
        "one pixel to the right of the search crop",
        Hooks(search=lambda c: np.roll(c, 1, axis=1)),
    ),
    Fault(
        "pixels",
        "template one pixel right and down",
        "one pixel right and down of the template",
        Hooks(template=lambda c: np.roll(c, (1, 1), (0, 1))),
    ),
    Fault(
        "pixels",
        "search factor 5 in place of 4",
        "1.25 times the right one of the search crop",
        Hooks(search=zoom_out),
    ),
    Fault(
        "pixels",
        "template factor 1.6 in place of 2",
        "0.8 times the right one of the template",
        Hooks(template=zoom_in),
    ),
    Fault(
        "pixels",
        "nearest neighbour in place of bilinear",
        "nearest neighbour of the search crop",
        Hooks(search=halve_nearest),
    ),
    Fault("pixels", "padding grey, not black", "grey in place", Hooks(search=pad_grey)),
    Fault("pixels", "padding repeats the edge", "edge repeated", Hooks(search=pad_edge)),
    # What goes in: the template's box, and when a template is renewed
    Fault(
        "template",
        "box by its centre",
        "the centre, not the corner",
        Hooks(box=lambda b: [*(b[:2] + b[2:] / 2), *b[2:]]),
    ),
    Fault(
        "template",
        "box as x, y, right, bottom",
        "right, bottom in place",
        Hooks(box=lambda b: [*b[:2], *(b[:2] + b[2:])]),
    ),
    Fault("template", "box in pixels", "in pixels", Hooks(box=lambda b: b * 64)),
    Fault("template", "a new template is ignored", "not taken over", Hooks(late_template=True)),
    Fault(
        "template",
        "the first target's template is kept for all",
        "only ever set once",
        Hooks(first_template_only=True),
    ),
    # Temporal state
    Fault("state", "zeros for the history", "zeros arrive", change=zero_state),
    Fault("state", "never any history", "history does not arrive", Hooks(state=forget_always)),
    Fault("state", "history on a first frame", "given zeros", Hooks(state=claim_history)),
    Fault("state", "not reset for a new target", "forget is ignored", Hooks(forgets=False)),
    Fault("state", "one frame stale", "one frame earlier", Hooks(state=lag_behind)),
    Fault("state", "never renewed", "never renewed", Hooks(state=keep_first)),
    Fault(
        "state",
        "layers in reverse order",
        "its layers is reversed",
        Hooks(state=pass_state(lambda s: s[:, ::-1])),
    ),
    Fault(
        "state",
        "two layers swapped",
        "layers 0 and 1 are swapped",
        Hooks(state=pass_state(lambda s: s[:, [1, 0, 2, 3, 4, 5]])),
    ),
    Fault("state", "a layer missing", "layer 3 of 6", Hooks(state=pass_state(drop_layer))),
    Fault(
        "state",
        "kept in bfloat16",
        "kept in bfloat16",
        Hooks(state=pass_state(round_bfloat16)),
        missed=TOO_SMALL,
    ),
    Fault(
        "state",
        "1.1 times too large",
        "1.1 times",
        Hooks(state=pass_state(lambda s: 1.1 * s)),
        missed="no effect: the LayerNorm that reads the state divides by its size",
    ),
    Fault("state", "a step is not taken back", "not taken back", Hooks(rewinds=False)),
    Fault("state", "two targets' states swapped", "states are", Hooks(slots="swapped states")),
    Fault("state", "one state for all targets", "states are", Hooks(slots="one state")),
    # Window and score
    Fault(
        "window",
        "left out",
        "the window is left out",
        change=ignore_window("score", "choice/cell"),
    ),
    Fault(
        "window",
        "left out for the cell",
        "window: the window is left out",
        change=ignore_window("choice/cell"),
    ),
    Fault("window", "applied twice", "applied twice", Hooks(window=lambda w, _: w * w)),
    Fault(
        "window",
        "another than the one given",
        "the protocol's",
        Hooks(window=lambda w, _: hann_window(len(w), 2.0)),
    ),
    Fault("window", "rows for columns", "swapped", Hooks(window=lambda w, _: w.T)),
    Fault(
        "window",
        "that of the frame before",
        "that of the step before",
        Hooks(window=lambda w, before: w if before is None else before),
    ),
    Fault("score", "not windowed", "window is left out", change=ignore_window("score")),
    Fault(
        "score",
        "1.5 times too large",
        "1.5 times",
        Hooks(answer=change_score(lambda m, w, s: 1.5 * s)),
    ),
    Fault(
        "score",
        "sigmoid of it",
        "sigmoid is taken",
        Hooks(answer=change_score(lambda m, w, s: 1 / (1 + np.exp(-s)))),
    ),
    Fault(
        "score",
        "mean of the map",
        "map's mean",
        Hooks(answer=change_score(lambda m, w, s: m.mean())),
    ),
    Fault(
        "score",
        "softmax probability",
        "softmax's probability",
        Hooks(answer=change_score(lambda m, w, s: 1 / np.exp(w - w.max()).sum())),
    ),
    # Boxes
    Fault("box", "size and offset maps swapped", "offset maps are swapped", change=swap_maps),
    Fault(
        "box",
        "width and height swapped",
        "width and height are swapped",
        Hooks(answer=change_box(lambda b, c, g: b[[0, 1, 3, 2]])),
    ),
    Fault(
        "box",
        "corner for centre",
        "the corner, not the centre",
        Hooks(answer=change_box(lambda b, c, g: [*(b[:2] - b[2:] / 2), *b[2:]])),
    ),
    Fault(
        "box",
        "left, top, right, bottom",
        "left, top, right, bottom",
        Hooks(answer=change_box(lambda b, c, g: [*(b[:2] - b[2:] / 2), *(b[:2] + b[2:] / 2)])),
    ),
    Fault(
        "box",
        "offsets left out",
        "offsets are left out",
        Hooks(answer=change_box(lambda b, c, g: [*(c / g), *b[2:]])),
    ),
    Fault("box", "offsets clamped", "clamped from 0 to 1", Hooks(answer=change_box(clamp_offsets))),
    Fault(
        "box",
        "size clamped",
        "size is clamped at 0.2",
        Hooks(answer=change_box(lambda b, c, g: [*b[:2], *b[2:].clip(0, 0.2)])),
    ),
    # Numbers
    Fault(
        "numbers",
        "NaN after 12 frames",
        "not finite",
        Hooks(answer=spoil_logits(lambda search, number: number > 12)),
    ),
    Fault("numbers", "infinite state", "not finite", Hooks(state=spoil_state)),
    Fault(
        "numbers",
        "NaN on a bright target only",
        "not finite on the bright target",
        Hooks(answer=spoil_logits(lambda search, number: search.mean() > 150)),
    ),
    # Weights and layers
    Fault("layers", "all weights 1 % off", "begins in", change=perturb_all, graphs=BOTH),
    Fault(
        "layers",
        "one weight 1 % off",
        "begins in step: block3/mlp/w3/matmul",
        change=scale_weights(1.01, "block3/mlp/w3/weight"),
    ),
    Fault(
        "layers",
        "a layer scale left out",
        "begins in step: block2/attn/proj/matmul",
        change=scale_weights(5.0, "block2/attn/proj/weight", "block2/attn/proj/bias"),
    ),
    Fault(
        "layers",
        "attention scale left out",
        "begins in step: block1/attn/qkv/matmul",
        change=scale_queries(8.0),
    ),
    Fault(
        "layers",
        "GELU by tanh",
        "begins in template: stage1.0/gelu",
        change=set_attribute("Gelu", "approximate", "tanh"),
        graphs=BOTH,
        missed=TOO_SMALL,
    ),
    Fault(
        "layers",
        "epsilon 1e-3 in every norm",
        "norm (LayerNormalization)",
        change=set_attribute("LayerNormalization", "epsilon", 1e-3),
        graphs=BOTH,
    ),
    Fault(
        "layers",
        "epsilon 1e-5 in every norm",
        "norm (LayerNormalization)",
        change=set_attribute("LayerNormalization", "epsilon", 1e-5),
        graphs=BOTH,
    ),
    Fault(
        "layers",
        "a bias left out",
        "begins in step: block1/mlp/w3",
        change=scale_weights(0.0, "block1/mlp/w3/bias"),
    ),
    Fault(
        "layers",
        "a residual left out",
        "begins in step: block3/attended",
        change=drop_residual,
    ),
    Fault(
        "layers",
        "weights in half precision",
        "patch_embed/matmul",
        change=lambda model: change_weights(model, round_half),
        graphs=BOTH,
    ),
    Fault(
        "layers",
        "weights in bfloat16",
        "patch_embed/matmul",
        change=lambda model: change_weights(model, round_bfloat16),
        graphs=BOTH,
    ),
    Fault(
        "layers",
        "softmax over the wrong axis",
        "begins in step: block2/attn/softmax",
        change=turn_softmax,
    ),
)
