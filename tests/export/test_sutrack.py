"""SUTrack's graphs in plain onnxruntime against numbers recorded from its authors' release."""

import numpy as np
import pytest
from engines import find_builders
from rollouts import open_graph
from support import draw_recipe, load_vectors

from relo_edge.export.folding import Affine, Scope, fold_repeated
from relo_edge.export.sutrack import encode_no_words
from relo_edge.families.sutrack import TEXT
from relo_edge.geometry import hann_window
from relo_edge.spec import VARIANTS

RELEASED = ["sutrack-t224", "sutrack-b224"]


@pytest.mark.slow  # the text tower alone has 123 million numbers to draw
@pytest.mark.parametrize("name", RELEASED)
def test_three_frames_equal_the_release(name):
    """The third with words, which move the text token by what the release's two tokens say."""
    variant, vectors = VARIANTS[name], load_vectors(f"step_{name.replace('-', '_')}")
    weights = Scope({n: tensor.numpy() for n, tensor in draw_recipe(name).items()})
    none = encode_no_words(weights)
    assert np.abs(none - vectors["text_token_none"]).max() < 1e-5 * np.abs(none).max()
    builders = find_builders(variant)
    template, step = (open_graph(build(variant, weights)) for build in builders.values())
    feeds = {"template": vectors["templates"], "box": vectors["template_boxes_xywh"]}
    tokens = template.run(["template_tokens"], feeds)[0].reshape(1, -1, variant.width)
    words = vectors["text_token_words"] - vectors["text_token_none"]
    window = hann_window(variant.grid, 1.0)
    for frame, shift in enumerate((0 * words, 0 * words, words)):
        feeds = {
            "search": vectors["searches"][frame : frame + 1],
            "template_tokens": tokens,
            TEXT: shift,
            "window": window,
        }
        box, score, scores = step.run(["box", "score", "score_map"], feeds)
        want = vectors[f"score_map_{frame}"]
        np.testing.assert_allclose(scores[0], want, rtol=0, atol=1e-4)
        row, column = np.unravel_index(np.argmax(want * window), want.shape)
        assert score[0] == pytest.approx((want * window)[row, column], abs=1e-4)
        x, y = vectors[f"offset_map_{frame}"][:, row, column]
        centre = [(column + x) / variant.grid, (row + y) / variant.grid]
        size = vectors[f"size_map_{frame}"][:, row, column]
        np.testing.assert_allclose(box[0], [*centre, *size], rtol=0, atol=1e-4)


def test_a_picture_fed_twice_is_folded_exactly():
    rng = np.random.default_rng(0)
    conv = Affine(rng.normal(size=(5, 6, 4, 4)), rng.normal(size=5))
    folded = fold_repeated(conv, 3)
    assert np.array_equal(folded.weight, conv.weight[:, :3] + conv.weight[:, 3:])
    assert np.array_equal(fold_repeated(folded, 3).weight, folded.weight)
