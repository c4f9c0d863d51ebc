"""Settings and sizes that cannot be are refused where they are written down."""

from dataclasses import replace

import pytest

from relo_edge.errors import InputError
from relo_edge.spec import VARIANTS, TrackerProtocol, find_variant

DEMO = VARIANTS["demo"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("window_factor", -0.1, "window factor: found -0.1"),
        ("window_factor", float("nan"), "window factor: found nan"),
        ("margin", -1.0, "margin: found -1.0"),
        ("margin", float("inf"), "margin: found inf"),
        ("search_factor", 0.0, "search factor: found 0.0"),
        ("search_factor", float("nan"), "search factor: found nan"),
        ("template_factor", -2.0, "template factor: found -2.0"),
        ("update_interval", 0, "update interval: found 0"),
        ("update_threshold", float("nan"), "update threshold: found nan"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(field, value, message):
    with pytest.raises(InputError, match=message):
        TrackerProtocol(**{"window_factor": 2.0, field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "demo: width: found 0"),
        ({"depth": 0}, "demo: depth: found 0"),
        ({"heads": 0}, "demo: heads: found 0"),
        ({"temporal_tokens": -1}, "demo: temporal tokens: found -1"),
        ({"templates": 0}, "demo: templates: found 0"),
        ({"head_channels": 0}, "demo: head channels: found 0"),
        ({"stage_blocks": (1, -1)}, "demo: stage blocks"),
        ({"stage_blocks": (1,)}, "demo: stage blocks"),
        ({"width": 190}, "a multiple of 4 and 3"),
        ({"search_size": 120}, "multiples of 16"),
        ({"template_size": 72}, "multiples of 16"),
        ({"protocols": {}}, "demo: protocols"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(DEMO, **changes)


def test_a_protocol_of_a_dataset_without_its_own_is_the_default():
    assert DEMO.protocol("nfs") == DEMO.protocol()
    with pytest.raises(InputError, match="protocol: found kitti"):
        DEMO.protocol("kitti")


def test_an_unknown_variant_names_the_known_ones():
    with pytest.raises(InputError, match=r"variant: found x9, expected t256 \| b256"):
        find_variant("x9")
