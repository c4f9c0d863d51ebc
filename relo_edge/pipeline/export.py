"""A checkpoint into a verified bundle: `relo-edge export` and its Python twin."""

from __future__ import annotations

from pathlib import Path

from relo_edge.bundle import Bundle

__all__ = ["export_bundle"]


def export_bundle(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    variant: str | None = None,
    replace: bool = False,
    words: str | Path | None = None,
) -> Bundle:
    """Export a checkpoint and verify the graphs against the reference network.

    Args:
        checkpoint: released, saved or safetensors weights; or the word `demo`, the built-in ones.
        output: the bundle folder to write; a failure leaves nothing there. If None, a folder here
            that is named after family and variant, as `relo-t256` is.
        variant: such as t256, sutrack-b224 or demo; recognised from the weights if None.
        replace: whether a bundle that is already there may be replaced.
        words: CLIP's vocabulary (bpe_simple_vocab_16e6.txt.gz), for a family that takes a target in
            words; None leaves them out.

    Returns:
        The published bundle.

    Raises:
        CheckpointError: the file does not hold the weights of a known variant.
        InputError: the output exists, or cannot be written, or there is no such vocabulary.
        GateError: a graph disagrees with the reference network.
        MissingDependency: torch, onnx or onnxruntime is not installed.
    """
    from relo_edge.export import publishing
    from relo_edge.network.checkpoint import read_checkpoint
    from relo_edge.network.demo import find_demo_checkpoint

    if output is not None:
        publishing.check_output(Path(output), replace=replace)  # before the long reading
    weights = find_demo_checkpoint() if str(checkpoint) == "demo" else Path(checkpoint)
    read = read_checkpoint(weights, variant)
    folder = Path(output or read.variant.bundle_name)
    publishing.check_output(folder, replace=replace)
    vocabulary = None if words is None else Path(words)
    return publishing.export_bundle(read, folder, replace=replace, words=vocabulary)
