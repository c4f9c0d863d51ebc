"""`--finder transformers:MODEL`: a detector in this process, where that package is installed."""

import sys

import numpy as np
import pytest
import tiny_models

from relo_edge.errors import FinderError, InputError, MissingDependency
from relo_edge.finder import local_detector
from relo_edge.finder.finders import FinderRequest, open_finder


def test_without_the_package_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match="needs transformers, which is not installed"):
        open_finder(FinderRequest("transformers:owlv2"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("transformers")
    return tiny_models.write_owlv2(tmp_path_factory.mktemp("owlv2"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["owlv2", "owlvit", "grounding_dino"])
def test_a_detectors_best_box_lies_in_the_picture(kind, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    model = getattr(tiny_models, f"write_{kind}")(tmp_path)
    monkeypatch.setattr(local_detector, "SURE", 0.0)
    frame = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    x, y, width, height = open_finder(FinderRequest(f"transformers:{model}")).find(frame, "car")
    assert x >= 0
    assert y >= 0
    assert x + width <= 200
    assert y + height <= 200


@pytest.mark.slow
def test_a_detector_that_sees_nothing(model, monkeypatch):
    monkeypatch.setattr(local_detector, "SURE", 2.0)
    frame = np.zeros((200, 200, 3), np.uint8)
    with pytest.raises(FinderError, match="sees no such target: found a best score of"):
        open_finder(FinderRequest(f"transformers:{model}")).find(frame, "car")


@pytest.mark.slow
def test_a_model_that_is_none(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="detector .* cannot be read: found"):
        open_finder(FinderRequest(f"transformers:{tmp_path}"))
