"""What the planted faults change: weights and nodes of a graph, crops, state, and answers."""

import numpy as np
from onnx import helper, numpy_helper

from relo_edge.host.opencv import cv2

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


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
