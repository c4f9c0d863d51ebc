"""What several tests need: the recorded vectors, and weights drawn once."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from relo_edge.network.fixed_weights import draw_weights
from relo_edge.network.relo import Relo, build_network
from relo_edge.spec import VARIANTS

GRAPHS = ("template", "step")
DATA = Path(__file__).parents[1] / "data"


def load_vectors(name: str) -> dict[str, np.ndarray]:
    """One of the files recorded from the authors' release."""
    with np.load(DATA / f"{name}.npz") as stored:
        return dict(stored)


@lru_cache(maxsize=2)
def recipe_network(variant: str, salt: int = 1) -> Relo:
    """The reference network with recipe weights; two are kept, they are large."""
    return build_network(VARIANTS[variant], draw_weights(VARIANTS[variant], salt))


def read_temporal(runtime, slot: int) -> np.ndarray:
    """The one state that RELO carries."""
    (state,) = runtime.read_state(slot).values()
    return state
