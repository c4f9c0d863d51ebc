"""What several tests need: the recorded vectors, and weights drawn once."""

import fcntl
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from relo_edge.network.fixed_weights import draw_weights
from relo_edge.network.relo import Relo, build_network
from relo_edge.spec import VARIANTS

GRAPHS = ("template", "step")
DATA = Path(__file__).parents[1] / "data"


def load_vectors(name: str) -> dict[str, np.ndarray]:
    """One of the files recorded from the authors' release."""
    with np.load(DATA / f"{name}.npz") as stored:
        return dict(stored)


def draw_recipe(name: str, salt: int = 1) -> dict[str, Tensor]:
    """The recipe's weights of a large variant, drawn once for all processes of a run."""
    folder = Path(os.environ["XDG_CACHE_HOME"]).with_name("recipes")  # set by conftest.py
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{salt}.safetensors"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            save_file(dict(draw_weights(VARIANTS[name], salt)), path)
    return load_file(path)


@lru_cache(maxsize=2)
def recipe_network(variant: str, salt: int = 1) -> Relo:
    """The reference network with recipe weights; two are kept, they are large."""
    return build_network(VARIANTS[variant], draw_recipe(variant, salt))


def read_temporal(runtime, slot: int) -> np.ndarray:
    """The one state that RELO carries."""
    (state,) = runtime.read_state(slot).values()
    return state
