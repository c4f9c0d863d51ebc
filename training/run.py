"""One stage of training, from request to result."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from relo_edge.errors import InputError
from relo_edge.graphs.int8_ranges import Int8Ranges, write_ranges
from relo_edge.host.files import hash_file
from relo_edge.host.locks import lock_output
from relo_edge.host.progress import show_progress
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.relo import Relo
from relo_edge.spec import VARIANTS, Variant, find_variant
from relo_edge.training.checkpointing import RunState, make_run_folder
from relo_edge.training.closed_loop_trial import Trial, try_checkpoint
from relo_edge.training.curve import draw_curve
from relo_edge.training.cutouts import check_folders, read_photos
from relo_edge.training.data import TrainingData, open_training_data
from relo_edge.training.drlt_run import run_drlt
from relo_edge.training.held_out import build_held_out_atlas, try_held_out
from relo_edge.training.init_weights import build_fresh
from relo_edge.training.loop import Stage, run_loop
from relo_edge.training.pack_weights import pack_weights
from relo_edge.training.processes import Processes, join_processes
from relo_edge.training.qat import Qat
from relo_edge.training.range_search import find_ranges
from relo_edge.training.real_clips import ClipSource
from relo_edge.training.recipes import choose_recipe
from relo_edge.training.requests import STAGES, TrainRequest
from relo_edge.training.synthetic_batches import ClipSettings, name_lost_workers
from relo_edge.training.teacher import Teacher
from relo_edge.training.textures import Atlas, build_atlas
from relo_edge.training.train_result import TrainResult
from relo_edge.training.warmup import Warmup

__all__ = ["STAGES", "TrainRequest", "TrainResult", "run_training"]

log = logging.getLogger("relo_edge")

ATLAS = 3000
TRIAL_CLIPS = 16
HELD_OUT_CLIPS = 64
RANGE_BATCHES = 4
"""Steps' worth of clips on which ranges are looked up."""


def run_training(request: TrainRequest) -> TrainResult:
    """Train one stage, or go on where the output folder says it stopped."""
    if request.threads:
        torch.set_num_threads(request.threads)
    with join_processes() as processes:
        if request.stage == "drlt":
            return run_drlt(request, processes)
        return _run_stage(request, processes)


def _run_stage(request: TrainRequest, processes: Processes) -> TrainResult:
    device = processes.device
    check_folders(request.cutouts)
    network = _start_network(request).to(device)
    recipe = choose_recipe(request, network, processes.world)
    training_data = _open_data(request, recipe.clips, network.variant)
    make_run_folder(request.output)
    run_state = RunState(request.output, request.stage, _identify(request, training_data.sources))
    alone = lock_output(request.output / request.stage) if processes.leads else nullcontext()
    with alone:  # from here on files of the run are changed
        if run_state.restore(network) and processes.leads:
            log.info("going on after step %d", run_state.step)
        if isinstance(recipe.stage, Qat):
            _fix_ranges(recipe.stage, training_data, device, run_state)
        if isinstance(recipe.stage, Warmup) and recipe.stage.teacher:
            _bring_teacher(recipe.stage.teacher, training_data, device, run_state)
        streaming = training_data.stream(run_state.step, device, processes.rank, processes.world)
        with name_lost_workers(), _fast_attention(device), streaming as clips:
            finished = run_loop(network, recipe.stage, clips, recipe.loop, run_state, processes)
    result = TrainResult(
        request.stage,
        network.variant.name,
        run_state.checkpoint,
        run_state.step,
        run_state.clips,
        run_state.seconds / 3600,
        finished,
        None,
        rank=processes.rank,
    )
    return (
        _publish(request, recipe.stage, network, run_state, result) if processes.leads else result
    )


def _publish(
    request: TrainRequest,
    stage: Stage[Relo],
    network: Relo,
    run_state: RunState,
    result: TrainResult,
) -> TrainResult:
    """The files and trials of a run that has ended, finished or not."""
    files = [run_state.checkpoint]
    if result.finished:
        files.append(request.output / f"{request.stage}.safetensors")
        pack_weights(files[0], files[1], card=_write_card(request, run_state))
    ranges = _write_trained_ranges(stage, files) if isinstance(stage, Qat) else None
    draw_curve(run_state.log, request.output / f"{request.stage}-curve.png")
    if not (result.finished and stage.has_policy and request.trial):
        return replace(result, ranges=ranges)
    held_out = None
    if request.cutouts:
        held_out = try_held_out(network, build_held_out_atlas(request.cutouts), HELD_OUT_CLIPS)
    return replace(result, ranges=ranges, trial=_try_synthetic(run_state), held_out=held_out)


def _write_card(request: TrainRequest, run_state: RunState) -> dict[str, str]:
    """Where the weights come from, as text."""
    sources = {"textures": request.textures, "cutouts": request.cutouts, "data": request.data}
    named = {name: ", ".join(path.name for path in paths) for name, paths in sources.items()}
    card = {
        "stage": request.stage,
        "variant": request.variant,
        "steps": str(run_state.step),
        "clips": str(run_state.clips),
        "seed": str(request.seed),
        "start": str(run_state.identity["start"] or "fresh weights"),
    }
    named["teacher"] = request.teacher.name if request.teacher else ""
    return card | {name: names for name, names in named.items() if names}


def _open_data(request: TrainRequest, settings: ClipSettings, variant: Variant) -> TrainingData:
    def paint() -> Atlas:
        photos = read_photos(request.cutouts)
        return build_atlas(request.textures, request.seed, ATLAS, ATLAS, photos)

    return open_training_data(request.data, request.synthetic_share, settings, variant, paint)


def _fix_ranges(
    stage: Qat, training_data: TrainingData, device: torch.device, run_state: RunState
) -> None:
    """Find the ranges of the initial weights, once for all of the run."""
    if not run_state.kept:
        with training_data.stream(0, device) as clips:
            batches = [batch.to(device) for batch in islice(clips, RANGE_BATCHES)]
        log.info("looking up ranges")
        run_state.kept = find_ranges(stage.teacher, batches, attention=stage.attention)
    stage.ranges = run_state.kept


def _bring_teacher(
    teacher: Teacher, training_data: TrainingData, device: torch.device, run_state: RunState
) -> None:
    """Measure its features once, or take over what the run's map to them has learned."""
    if run_state.kept:
        teacher.load_state_dict(run_state.kept["teacher"])
    else:
        with training_data.stream(0, device) as clips:
            teacher.look_at(islice(clips, RANGE_BATCHES))
    # The tensors that learn, not copies: each checkpoint holds their latest values.
    run_state.kept = {"teacher": teacher.to(device).state_dict()}


def _write_trained_ranges(stage: Qat, files: Sequence[Path]) -> Path:
    """Write the ranges, bound to the weights by their hashes."""
    weights = {path.name: hash_file(path) for path in files}
    target = files[0].with_name(f"{stage.name}-ranges.json")
    variant = stage.teacher.variant.name
    write_ranges(target, Int8Ranges(variant, weights, stage.attention, stage.ranges))
    return target


def _identify(request: TrainRequest, sources: Sequence[ClipSource]) -> dict[str, Any]:
    """Settings that a resumed run must share; the number of steps may change."""
    own: dict[str, Any] = {"attention": request.attention} if request.stage == "qat" else {}
    if sources:
        own["data"] = [source.describe() for source in sources]
        own["synthetic"] = request.synthetic_share
    if request.cutouts:
        own["cutouts"] = [folder.name for folder in request.cutouts]
    if request.learn_centres:
        own["learn_centres"] = True
    if request.teacher:
        own["teacher"] = hash_file(request.teacher)
    return own | {
        "variant": request.variant,
        "start": hash_file(request.checkpoint) if request.checkpoint else None,
        "textures": [video.name for video in request.textures],
        "clips": request.batch_clips,
        "seed": request.seed,
        "algorithm": request.algorithm,
        "fresh_policy": request.fresh_policy,
    }


def _try_synthetic(run_state: RunState) -> Trial:
    with show_progress("trial", TRIAL_CLIPS, "clips") as advance:
        return try_checkpoint(run_state.checkpoint, TRIAL_CLIPS, advance=advance)


def _start_network(request: TrainRequest) -> Relo:
    own = [name for name, one in VARIANTS.items() if one.family == "relo"]
    if request.variant not in own:
        raise InputError("--variant", found=request.variant, expected=" | ".join(own))
    variant = find_variant(request.variant)
    network = build_fresh(variant, request.seed)
    if request.checkpoint is not None:
        weights = read_checkpoint(request.checkpoint, variant.name).weights
        if request.fresh_policy:
            kept = ("policy_model.", "value_model.")
            weights = {name: w for name, w in weights.items() if not name.startswith(kept)}
        network.load_state_dict(weights, strict=not request.fresh_policy)
    return network


@contextmanager
def _fast_attention(device: torch.device) -> Iterator[None]:
    """On a CPU, plain attention trains faster than the fused kernel at so few tokens."""
    if device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield
