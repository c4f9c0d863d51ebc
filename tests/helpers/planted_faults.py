"""The 68 faults that `parity` is tried on, each with the words that would explain it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from fault_changes import (
    MEAN,
    STD,
    change_box,
    change_score,
    change_weights,
    claim_history,
    clamp_offsets,
    drop_layer,
    drop_residual,
    forget_always,
    halve_nearest,
    ignore_window,
    keep_first,
    lag_behind,
    pad_edge,
    pad_grey,
    pass_state,
    perturb_all,
    read_signed,
    renormalise,
    round_bfloat16,
    round_half,
    scale_queries,
    scale_weights,
    set_attribute,
    spoil_logits,
    spoil_state,
    swap_channels,
    swap_maps,
    turn_softmax,
    zero_state,
    zoom_in,
    zoom_out,
)
from faulty_runtime import FaultyRuntime, Hooks, tamper

from relo_edge.geometry import hann_window

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
        missed=TOO_SMALL,
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
