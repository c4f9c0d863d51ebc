"""The word `demo` as a bundle: the built-in weights, exported once into the user's cache."""

from __future__ import annotations

from relo_edge import __version__
from relo_edge.bundle import Bundle, open_bundle
from relo_edge.errors import BundleError
from relo_edge.export.publishing import export_bundle
from relo_edge.files import find_cache, hash_file
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint

__all__ = ["find_demo_bundle"]


def find_demo_bundle() -> Bundle:
    """The cached bundle, or a new one when there is none, it is damaged, or the weights changed."""
    path = find_cache() / f"demo-{__version__}"
    weights = find_demo_checkpoint()
    try:
        bundle = open_bundle(path) if path.exists() else None
    except BundleError:
        bundle = None
    sound = bundle and not bundle.find_damage()
    if bundle and sound and bundle.manifest["checkpoint"]["sha256"] == hash_file(weights):
        return bundle
    return export_bundle(read_checkpoint(weights, "demo"), path, replace=True)
