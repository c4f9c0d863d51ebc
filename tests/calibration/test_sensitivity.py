"""The costliest parts are found, and given up one by one until the gate is met."""

import json
from types import SimpleNamespace

import pytest

from relo_edge.calibration.sensitivity import (
    group_products,
    keep_costly_parts,
    measure_costs,
    write_costs,
)
from relo_edge.calibration.verdict import TrackScore
from relo_edge.measures.gates import StartSensitivity
from relo_edge.measures.tensor_errors import OutputError

PRODUCTS = [
    "patch_embed/matmul",
    "block0/attn/qkv/matmul",
    "block0/attn/proj/matmul",
    "block0/mlp/w3/matmul",
    "size/conv2/sum",
    "size/conv5",
]
HARM = {"size/conv5": 0.2, "block0/mlp/w3/matmul": 0.1}
"""What each product takes off the track in this small world."""


def attempt(_title, products, telling=True):
    harm = sum(HARM.get(name, 0.0) for name in products)
    verdict = SimpleNamespace(
        passed=harm < 0.05,
        track=TrackScore(1 - harm, StartSensitivity(1.0)),
        worst_output=("sizes", OutputError(0, 0, 1 - harm / 10)),
        judged_track=telling,
    )
    return SimpleNamespace(verdict=verdict, products=list(products))


def test_products_belong_to_parts():
    parts = group_products(PRODUCTS)
    assert list(parts) == ["patch_embed", "block0/attn", "block0/mlp", "size"]
    assert parts["block0/attn"] == PRODUCTS[1:3]
    assert [name for names in parts.values() for name in names] == PRODUCTS


@pytest.mark.parametrize("telling", [True, False])
def test_the_costliest_come_first(telling):
    costs = measure_costs(group_products(PRODUCTS), lambda *words: attempt(*words, telling))
    assert [cost.part for cost in costs[:2]] == ["size", "block0/mlp"]
    assert costs[0].products == 2
    assert costs[0].worst_output == "sizes"


def test_parts_are_given_up_until_the_gate_is_met():
    parts = group_products(PRODUCTS)
    costs = measure_costs(parts, attempt)
    best, kept = keep_costly_parts(costs, parts, attempt("whole", PRODUCTS), attempt)
    assert kept == ["size", "block0/mlp"]
    assert best.verdict.passed
    assert best.products == PRODUCTS[:3]


def test_what_passes_is_left_whole_and_what_never_passes_ends():
    parts = group_products(PRODUCTS)
    costs = measure_costs(parts, attempt)
    whole = attempt("whole", PRODUCTS[:3])
    assert keep_costly_parts(costs, parts, whole, attempt) == (whole, [])

    def fail(_title, _products):
        return SimpleNamespace(verdict=SimpleNamespace(passed=False))

    best, kept = keep_costly_parts(costs, parts, fail("", []), fail)
    assert not best.verdict.passed
    assert len(kept) == len(parts)


def test_table_and_plot_are_written(tmp_path):
    costs = measure_costs(group_products(PRODUCTS), attempt)
    assert list(write_costs(costs, ["size"], tmp_path)) == ["sensitivity.json", "sensitivity.png"]
    table = json.loads((tmp_path / "sensitivity.json").read_text())
    assert table["kept_in_float32"] == ["size"]
    assert table["parts"][0]["part"] == "size"
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
