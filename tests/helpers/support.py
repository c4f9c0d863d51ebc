"""What several tests need: the recorded vectors, and weights drawn once."""

import fcntl
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from relo_edge.families.registry import find_family
from relo_edge.network.fixed_weights import draw_tensor
from relo_edge.network.relo import Relo, build_network
from relo_edge.spec import VARIANTS, Variant

GRAPHS = ("template", "step")
DATA = Path(__file__).parents[1] / "data"


def load_vectors(name: str) -> dict[str, np.ndarray]:
    """One of the files recorded from the authors' release."""
    with np.load(DATA / f"{name}.npz") as stored:
        return dict(stored)


def draw_recipe(name: str, salt: int = 1) -> dict[str, Tensor]:
    """The recipe's weights of a large variant, each drawn once for all processes of a run."""
    folder = Path(os.environ["XDG_CACHE_HOME"]).with_name("recipes")  # set by conftest.py
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{salt}.safetensors"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            save_file(_draw_missing(VARIANTS[name], salt, folder), path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
    return load_file(path)


def _draw_missing(variant: Variant, salt: int, folder: Path) -> dict[str, Tensor]:
    """Weights, drawn unless another variant has them: all of SUTrack's have one text tower."""
    weights, shapes = {}, find_family(variant.family).list_shapes(variant)
    for path in folder.glob(f"*-{salt}.safetensors"):
        with safe_open(path, "pt") as file:
            for name in shapes.keys() & file.keys():
                if tuple(file.get_slice(name).get_shape()) == shapes[name]:
                    weights[name] = file.get_tensor(name)
    for name in shapes.keys() - weights.keys():
        weights[name] = torch.from_numpy(draw_tensor(name, shapes[name], salt))
    return weights


@lru_cache(maxsize=2)
def recipe_network(variant: str, salt: int = 1) -> Relo:
    """The reference network with recipe weights; two are kept, they are large."""
    return build_network(VARIANTS[variant], draw_recipe(variant, salt))


def read_temporal(runtime, slot: int) -> np.ndarray:
    """The one state that RELO carries."""
    (state,) = runtime.read_state(slot).values()
    return state
