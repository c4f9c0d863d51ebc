"""A bundle as a Triton model repository: two models, whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.bundle import Bundle
from relo_edge.contract import BATCH, STEP, TEMPLATE, TensorSpec, describe_graph, list_graphs
from relo_edge.errors import InputError, PrecisionError
from relo_edge.graphs.saving import save_graph
from relo_edge.host.files import publish_folder
from relo_edge.triton.configuration import (
    BACKENDS,
    ServedModel,
    ServingOptions,
    describe_sequence_model,
    describe_template_model,
    import_schema,
    print_configuration,
)
from relo_edge.triton.model_tensors import START, list_inputs, list_states
from relo_edge.triton.sequence_graph import build_sequence_graph

__all__ = ["CONFIGURATION", "ModelRepository", "write_repository"]

CONFIGURATION = "config.pbtxt"
VERSION = "1"
PLANS = "build_plans.sh"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What is a folder's name on every system, and what Triton's clients can ask for."""


@dataclass(frozen=True)
class ModelRepository:
    """What was written."""

    path: Path
    model: ServedModel
    options: ServingOptions

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": str(self.path),
            "models": self.model.names,
            "precision": self.model.precision,
            "backend": self.options.backend,
            "strategy": self.options.strategy,
            "batch": self.options.batch,
            "streams": self.streams,
            "run": False,
        }

    @property
    def streams(self) -> int | None:
        """The most streams that one instance of the model has open at once; None: any number."""
        if not self.model.step.states:
            return None
        return self.options.batch if self.options.strategy == "direct" else self.options.streams

    def _describe_batching(self) -> str:
        batches = f"batches up to {self.options.batch}"
        if self.streams is None:
            return f"{batches}, no state"
        return f"{self.options.strategy}, {batches}, {self.streams} streams at once"

    def describe(self) -> str:
        """The models, and what is left to do."""
        options, model = self.options, self.model
        lines = [
            f"{self.path}: {model.variant.name} in {model.precision} for Triton's "
            f"{options.backend} backend, not run here",
            f"  {model.name}: {self._describe_batching()}",
        ]
        if model.template:
            lines.append(f"  {model.template}: encodes templates")
        if options.backend == "tensorrt":
            lines.append(f"build the plans with the server's own TensorRT: sh {self.path / PLANS}")
        return "\n".join(lines)


def write_repository(
    bundle: Bundle,
    output: Path,
    precision: str,
    options: ServingOptions,
    *,
    name: str,
    replace: bool,
) -> ModelRepository:
    """Write the models; whatever ends it early leaves nothing."""
    import_schema()
    if not NAME.fullmatch(name):
        expected = "letters, digits, dots, dashes and underscores"
        raise InputError("model name", found=repr(name), expected=expected)
    _check_output(output, replace)
    _check_precision(bundle, precision, options.backend)
    graphs, dtype = _find_graphs(bundle, precision, options.backend)
    model = ServedModel.of(bundle, name, precision, options.protocol, dtype)
    wrapped = build_sequence_graph(graphs[STEP], model.step, model.motion.shared)
    with publish_folder(output.resolve()) as folder:
        place = _place(folder, model.name, describe_sequence_model(model, options))
        save_graph(wrapped, place / "model.onnx")
        if model.template:
            place = _place(folder, model.template, describe_template_model(model, options))
            shutil.copyfile(graphs[TEMPLATE], place / "model.onnx")
        if options.backend == "tensorrt":
            (folder / PLANS).write_text(_write_plan_script(model, options), encoding="utf-8")
    return ModelRepository(output, model, options)


def _check_output(output: Path, replace: bool) -> None:
    """A folder that is replaced must be a repository: nothing else is ever removed."""
    if not output.exists():
        return
    there = [path for path in output.iterdir() if path.name != PLANS] if output.is_dir() else None
    if there is None or any(not (path / CONFIGURATION).is_file() for path in there):
        found = "a file" if there is None else "a folder of other things"
        expected = "a new folder, or a model repository's"
        raise InputError(f"output {output}", found=found, expected=expected)
    if there and not replace:
        raise InputError(
            f"output {output}", found="a model repository", fix="replace it with --force"
        )


def _check_precision(bundle: Bundle, precision: str, backend: str) -> None:
    """onnxruntime has no FP8 kernels; another precision is missing or there."""
    if precision == "fp8" and backend == "onnxruntime":
        offered = [name for name in bundle.precisions if name != "fp8"]
        raise PrecisionError(
            f"precision of Triton's {backend} backend",
            found=precision,
            expected=" | ".join(offered),
            fix="use `--backend tensorrt`",
        )


def _find_graphs(bundle: Bundle, precision: str, backend: str) -> tuple[dict[str, Path], str]:
    """The graphs as the backend takes them, and the type of the step's state."""
    names = list_graphs(bundle.variant)
    if backend == "tensorrt":
        made = {name: bundle.engine_graph(name, precision) for name in names}
        return {name: graph.path for name, graph in made.items()}, made[STEP].state_dtype
    return {name: bundle.graph(name, precision) for name in names}, bundle.state_dtype(precision)


def _place(folder: Path, name: str, config: Any) -> Path:
    """The model's folder with its configuration; the folder of its version is returned."""
    version = folder / name / VERSION
    version.mkdir(parents=True)
    (folder / name / CONFIGURATION).write_text(print_configuration(config), encoding="utf-8")
    return version


def _write_plan_script(model: ServedModel, options: ServingOptions) -> str:
    """Plans run only on the TensorRT that built them: the server's, which is not here."""
    states = [state.before for state in list_states(model.step)]
    start = [TensorSpec(START, "float32", (BATCH, 1))] if states else []
    parts = {model.name: [*list_inputs(model.step), *states, *start]}
    if model.template:
        parts[model.template] = list(describe_graph(model.variant, TEMPLATE).inputs)
    lines = [
        "#!/bin/sh",
        "# Run in a container of the same release as the server's: a plan is bound to TensorRT's",
        "# version and to the GPU.",
        "set -eu",
        'cd "$(dirname "$0")"',
    ]
    for name, specs in parts.items():
        shapes = [
            f"--{end}Shapes={_print_shapes(specs, batch)}"
            for end, batch in (("min", 1), ("opt", options.batch), ("max", options.batch))
        ]
        files = f"--onnx={name}/{VERSION}/model.onnx"
        plan = f"--saveEngine={name}/{VERSION}/{BACKENDS['tensorrt']}"
        lines.append(" ".join(["trtexec --stronglyTyped", files, plan, *shapes]))
    return "\n".join(lines) + "\n"


def _print_shapes(specs: Sequence[TensorSpec], batch: int) -> str:
    return ",".join(f"{spec.name}:{'x'.join(map(str, spec.at_batch(batch)))}" for spec in specs)
