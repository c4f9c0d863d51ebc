"""SUTrack's network against numbers recorded from its authors' release."""

import json
from functools import lru_cache

import numpy as np
import pytest
import torch
from support import DATA, draw_recipe, load_vectors

from relo_edge.families.sutrack import FAMILY
from relo_edge.network.sutrack import build_sutrack, sutrack_shapes
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.spec import VARIANTS, TrackerProtocol
from relo_edge.tracker import Tracker

MAP_TOLERANCE = 2e-5
TEXT_TOLERANCE = 1e-5  # of the largest entry
RELEASED = ["t224", pytest.param("b224", marks=pytest.mark.slow)]


@lru_cache(maxsize=1)
def sutrack_network(size):
    variant = VARIANTS[f"sutrack-{size}"]
    return build_sutrack(variant, draw_recipe(variant.name))


def encode_templates(network, vectors):
    boxes = torch.from_numpy(vectors["template_boxes_xywh"])
    tokens = network.encode_template(torch.from_numpy(vectors["templates"]), boxes)
    return tokens.flatten(0, 1).unsqueeze(0)


def read_maps(network, vectors, frame, templates, text):
    search = torch.from_numpy(vectors["searches"][frame : frame + 1])
    return [single[0].numpy() for single in network(search, templates, text)]


def measure_errors(vectors, frame, maps):
    names = ("score_map", "size_map", "offset_map")
    pairs = zip(maps, names, strict=True)
    return [float(np.abs(got - vectors[f"{name}_{frame}"]).max()) for got, name in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("size", RELEASED)
def test_maps_equal_the_release(size):
    vectors, network = load_vectors(f"step_sutrack_{size}"), sutrack_network(size)
    templates = encode_templates(network, vectors)
    words = network.encode_words(torch.from_numpy(vectors["word_ids"]).long())
    for frame, text in enumerate((network.encode_words(), network.encode_words(), words)):
        errors = measure_errors(vectors, frame, read_maps(network, vectors, frame, templates, text))
        assert max(errors) < MAP_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("size", RELEASED)
def test_the_text_token_equals_the_release(size):
    vectors, network = load_vectors(f"step_sutrack_{size}"), sutrack_network(size)
    ids = torch.from_numpy(vectors["word_ids"]).long()
    for got, name in [(network.encode_words(), "none"), (network.encode_words(ids), "words")]:
        want = vectors[f"text_token_{name}"]
        assert np.abs(got.numpy() - want).max() < TEXT_TOLERANCE * np.abs(want).max()


@pytest.mark.slow
def test_words_templates_and_boxes_matter():
    vectors, network = load_vectors("step_sutrack_t224"), sutrack_network("t224")
    templates, text = encode_templates(network, vectors), network.encode_words()
    words = network.encode_words(torch.from_numpy(vectors["word_ids"]).long())
    shifted = {**vectors, "template_boxes_xywh": vectors["template_boxes_xywh"] + 0.1}
    for tokens, token in [(templates, words), (encode_templates(network, shifted), text)]:
        maps = read_maps(network, vectors, 0, tokens, token)
        assert max(measure_errors(vectors, 0, maps)) > 10 * MAP_TOLERANCE


@pytest.mark.parametrize("size", ["t224", "b224", "b384", "l224", "l384"])
def test_a_released_checkpoint_has_exactly_these_tensors(size):
    recorded = json.loads((DATA / f"keys_sutrack_{size}.json").read_text())
    used = {n: tuple(shape) for n, shape in recorded.items() if not n.startswith(FAMILY.unused)}
    assert sutrack_shapes(VARIANTS[f"sutrack-{size}"]) == used


SETTINGS = {"default": TrackerProtocol(1.0), "update": TrackerProtocol(1.0, 3, -1.0)}


@pytest.mark.slow
@pytest.mark.parametrize(("size", "setting"), [("t224", "default"), ("b224", "update")])
def test_the_closed_loop_equals_the_release(size, setting):
    vectors, clip = load_vectors(f"step_sutrack_{size}"), load_vectors("rollout_1")
    variant = VARIANTS[f"sutrack-{size}"]
    wanted = vectors[f"{setting}_boxes"]
    weights = sutrack_network(size).state_dict()
    with PytorchRuntime(variant, weights) as runtime:
        tracker = Tracker(runtime, SETTINGS[setting], color="rgb")
        tracker.init(clip["frames"][0], tuple(clip["init_box_xywh"].tolist()))
        tracks = [tracker.update(frame) for frame in clip["frames"][1 : len(wanted) + 1]]
    assert np.abs([track.box for track in tracks] - wanted).max() < 0.05
    scores = [track.score for track in tracks]
    np.testing.assert_allclose(scores, vectors[f"{setting}_scores"], atol=1e-4)
