"""From a checkpoint to a published bundle: build, check, verify, and only then move into place."""

from __future__ import annotations

import logging
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.bundle import FORMAT, Bundle, describe_files, open_bundle, write_manifest
from relo_edge.contract import list_graphs
from relo_edge.errors import GateError, InputError, MissingDependency
from relo_edge.export.folding import Scope
from relo_edge.export.verification import FrameErrors, verify_graphs
from relo_edge.families.registry import find_family
from relo_edge.families.words import VOCABULARY, WORDS, Vocabulary
from relo_edge.graphs.saving import save_graph
from relo_edge.host.files import publish_folder

if TYPE_CHECKING:
    from relo_edge.network.checkpoint import Checkpoint

__all__ = ["check_output", "export_bundle"]

log = logging.getLogger("relo_edge")

TOOLS = ("relo-edge", "torch", "onnx", "onnxruntime", "numpy")


def export_bundle(
    checkpoint: Checkpoint, output: Path, *, replace: bool = False, words: Path | None = None
) -> Bundle:
    """Publish the checkpoint's float32 bundle at `output`; a failure leaves nothing there.

    With CLIP's vocabulary as `words`, the bundle also holds what makes a tensor of a sentence.
    """
    _require_packages()
    vocabulary = _check_words(checkpoint, words)
    check_output(output, replace=replace)
    output = output.resolve()  # a relative one may lead into the folder that is replaced
    with publish_folder(output) as folder:
        log.info("building the %s graphs", checkpoint.variant.name)
        _write_graphs(checkpoint, folder)
        log.info("verifying against the reference network")
        errors = _verify_bundle(checkpoint, folder)
        manifest = _describe_bundle(checkpoint, folder, errors)
        if vocabulary is not None:
            _add_words(checkpoint, folder, vocabulary, manifest)
        write_manifest(folder, manifest)
    return open_bundle(output)


def _check_words(checkpoint: Checkpoint, words: Path | None) -> bytes | None:
    """The vocabulary, if it is one and the family takes words."""
    if words is None:
        return None
    if not hasattr(_import_builders(checkpoint), "write_words"):
        title = find_family(checkpoint.variant.family).title
        raise InputError(f"{title} takes no words", fix="leave `--words` out")
    Vocabulary.read(words)
    return words.read_bytes()


def _import_builders(checkpoint: Checkpoint) -> Any:
    return import_module(find_family(checkpoint.variant.family).builders)


def _add_words(
    checkpoint: Checkpoint, folder: Path, vocabulary: bytes, manifest: dict[str, Any]
) -> None:
    """The words graph and the vocabulary, in float32 alone: they are used once a target."""
    log.info("building the words graph")
    file = f"{WORDS}.onnx"
    _import_builders(checkpoint).write_words(checkpoint, folder / file)
    _check_graph(folder / file)
    (folder / VOCABULARY).write_bytes(vocabulary)
    graphs = manifest["graphs"]["fp32"]
    manifest["graphs"] = {**manifest["graphs"], "fp32": {**graphs, WORDS: file}}
    manifest["files"] |= describe_files(folder, file, VOCABULARY)


def _require_packages() -> None:
    for package in ("torch", "onnx", "onnxruntime"):
        if find_spec(package) is None:
            fix = "`pip install 'relo-edge[export]'`"
            raise MissingDependency(f"{package} is not installed", fix=fix)


def check_output(output: Path, *, replace: bool) -> None:
    """Fail before any long work if the output cannot be written."""
    if not output.exists():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / "manifest.json").exists()):
        found = "a folder of other things" if output.is_dir() else "a file"
        raise InputError(f"output {output}", found=found, expected="a new folder, or a bundle's")
    if not replace and any(output.iterdir()):
        raise InputError(f"output {output}", found="a bundle there", fix="replace it with --force")


def _write_graphs(checkpoint: Checkpoint, folder: Path) -> None:
    weights = Scope({name: tensor.numpy() for name, tensor in checkpoint.weights.items()})
    builders = _import_builders(checkpoint).BUILDERS
    for name in list_graphs(checkpoint.variant):
        path = folder / f"{name}.onnx"
        save_graph(builders[name](checkpoint.variant, weights), path)
        _check_graph(path)


def _check_graph(path: Path) -> None:
    """ONNX's own full check, shape inference included."""
    import onnx

    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GateError(f"{path.name} is not valid ONNX", found=error) from None


def _verify_bundle(checkpoint: Checkpoint, folder: Path) -> list[FrameErrors]:
    variant = checkpoint.variant
    network = find_family(variant.family).build_network(variant, checkpoint.weights)
    return verify_graphs(folder, variant, network)


def _describe_bundle(
    checkpoint: Checkpoint, folder: Path, errors: list[FrameErrors]
) -> dict[str, Any]:
    files = {name: f"{name}.onnx" for name in list_graphs(checkpoint.variant)}
    return {
        "format": FORMAT,
        "family": checkpoint.variant.family,
        "variant": checkpoint.variant.to_dict(),
        "checkpoint": {
            "path": str(checkpoint.path.resolve()),
            "sha256": checkpoint.sha256,
        },
        "tools": _list_versions(),
        "graphs": {"fp32": files},
        "state_dtype": {"fp32": "float32"},
        "files": describe_files(folder, *files.values()),
        "parity": {"fp32": {"against": "pytorch", "frames": [e.to_dict() for e in errors]}},
    }


def _list_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            versions[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return versions
