"""Exported graphs run frame by frame on a synthetic clip, without a tracker."""

import numpy as np
import onnx

from relo_edge.geometry import box_in_template, crop_into, hann_window, place_crop
from relo_edge.graphs.sessions import open_session
from relo_edge.synthetic.clip import make_clip

OUTPUTS = ["box", "score", "policy_logits", "temporal_tokens_out"]


def open_graph(model):
    """A session on one core; `model` is a path or a model."""
    return open_session(model, threads=1)


def open_rounding(model):
    """A session that rounds every half tensor, as a GPU does.

    On a CPU, onnxruntime computes half nodes in float32 and keeps what goes from one to the next
    in float32 too, unless it is an output: overflow and rounding would go unseen.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(
        value
        for value in graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    )
    return open_graph(exposed)


def roll_out(variant, template, step, seed=1, frames=8, restart=4):
    """Feeds and outputs of `step` for each frame, the state carried but for each restart.

    The crops lie around the true boxes, so any two graphs see the same pictures.
    """
    clip, dtype = make_clip(seed, frames), read_dtype(step, "temporal_tokens")
    state, rows = np.zeros((1, *variant.state_shape), dtype), []
    for index, (picture, box) in enumerate(zip(clip.frames(), clip.boxes, strict=True)):
        if not index:
            tokens = encode_template(variant, template, picture, box)
        feeds = {
            "search": cut_crop(picture, box, 4.0, variant.search_size)[None],
            "template_tokens": tokens,
            "temporal_tokens": state,
            "has_history": np.array([index % restart > 0], np.float32),
            "window": hann_window(variant.grid, 2.0),
        }
        outputs = dict(zip(OUTPUTS, step.run(OUTPUTS, feeds), strict=True))
        state = outputs["temporal_tokens_out"]
        rows.append((feeds, outputs))
    return rows


def encode_template(variant, template, picture, box):
    size = variant.template_size
    place = box_in_template(box, place_crop(box, 2.0, size), size)
    feeds = {"template": cut_crop(picture, box, 2.0, size)[None], "box": place[None]}
    return np.tile(template.run(["template_tokens"], feeds)[0], (1, variant.templates, 1))


def cut_crop(picture, box, factor, size):
    return crop_into(np.empty((size, size, 3), np.uint8), picture, place_crop(box, factor, size))


def read_dtype(session, name):
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    return next(types[value.type] for value in session.get_inputs() if value.name == name)


def stack_output(rows, name):
    """One output over all frames, in double precision."""
    return np.stack([outputs[name] for _, outputs in rows]).astype(np.float64)


def compare_outputs(expected, got):
    """Each output's largest error, also relative to the largest value, and its cosine."""
    found = {}
    for name in expected[0][1]:
        one, other = (stack_output(rows, name) for rows in (expected, got))
        error = float(np.abs(one - other).max())
        cosine = float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
        found[name] = {"error": error, "relative": error / np.abs(one).max(), "cosine": cosine}
    return found
