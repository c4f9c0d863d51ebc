"""One stage of training from request to result: `relo-edge train` and nothing else calls it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from relo_edge.errors import InputError, SourceError
from relo_edge.graphs.int8_ranges import Int8Ranges, write_ranges
from relo_edge.host.files import hash_file
from relo_edge.host.locks import lock_output
from relo_edge.host.progress import show_progress
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.relo import Relo, build_network
from relo_edge.spec import Variant, find_variant
from relo_edge.training.checkpointing import Journal
from relo_edge.training.closed_loop_trial import Trial, try_checkpoint
from relo_edge.training.curve import draw_curve
from relo_edge.training.cutouts import read_photos
from relo_edge.training.data import Material, open_material
from relo_edge.training.init_weights import build_fresh
from relo_edge.training.loop import LoopSettings, Stage, run_loop
from relo_edge.training.pack_weights import pack_weights
from relo_edge.training.qat import Qat
from relo_edge.training.range_search import find_ranges
from relo_edge.training.real_clips import Footage
from relo_edge.training.reinforce import ALGORITHMS, Reinforce
from relo_edge.training.render import Jitter
from relo_edge.training.synthetic_batches import ClipSettings, name_lost_helpers
from relo_edge.training.textures import Atlas, build_atlas
from relo_edge.training.warmup import Warmup

__all__ = ["STAGES", "TrainRequest", "TrainResult", "run_training"]

log = logging.getLogger("relo_edge")

STAGES = ("warmup", "reinforce", "qat")
ATLAS = 3000
TRIAL_CLIPS = 16
RANGE_BATCHES = 4
"""Steps' worth of clips on which ranges are looked up."""


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for; None leaves a choice to the recipe."""

    stage: str
    output: Path
    variant: str = "demo"
    start: Path | None = None
    videos: tuple[Path, ...] = ()
    cutouts: tuple[Path, ...] = ()
    """COCO folders whose objects and pictures synthetic clips are made of."""
    steps: int | None = None
    clips: int | None = None
    rate: float | None = None
    seed: int = 0
    algorithm: str = "actor-critic"
    fresh_policy: bool = False
    learn_centres: bool = False
    """Warm-up: train all of the network and its centres at one rate, as from nothing."""
    threads: int | None = None
    data: tuple[Path, ...] = ()
    """Folders of real clips, which take the place of synthetic ones."""
    synthetic: float | None = None
    """The share of synthetic clips beside them."""
    attention: bool = False

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise InputError("stage", found=self.stage, expected=" | ".join(STAGES))
        if self.algorithm not in ALGORITHMS:
            raise InputError("algorithm", found=self.algorithm, expected=" | ".join(ALGORITHMS))
        for name in ("steps", "clips", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(name, found=value, expected="1 or more")
        if not 0 <= self.seed < 1 << 31:
            raise InputError("seed", found=self.seed, expected=f"0 to {(1 << 31) - 1}")
        if self.stage != "reinforce" and self.algorithm != ALGORITHMS[0]:
            raise InputError("--algorithm", found=f"with {self.stage}", expected="with reinforce")
        if self.stage != "qat" and self.attention:
            raise InputError("--attention", found=f"with {self.stage}", expected="with qat")
        if self.stage == "qat" and self.fresh_policy:
            raise InputError("--fresh-policy", found="with qat", expected="with another stage")
        if self.learn_centres and self.stage != "warmup":
            found = f"with {self.stage}"
            raise InputError("--learn-centres", found=found, expected="with warmup")
        if self.fresh_policy and self.start is None:
            raise InputError("--fresh-policy", found="no --start", expected="weights to start from")
        if self.rate is not None and not 0 < self.rate < 1:
            raise InputError("rate", found=self.rate, expected="a number between 0 and 1")
        if self.stage == "reinforce" and self.start is None:
            fix = "run the warmup stage first and give its checkpoint with --start"
            raise InputError("reinforce", found="no weights", expected="warmed-up ones", fix=fix)
        if self.stage == "qat" and self.start is None:
            fix = "give the checkpoint that loses too much in INT8 with --start"
            raise InputError("qat", found="no weights", expected="trained ones", fix=fix)
        self._check_material()

    def _check_material(self) -> None:
        if self.synthetic is not None and not self.data:
            raise InputError("--synthetic", found="no --data", expected="real clips beside them")
        if self.synthetic is not None and not 0 < self.synthetic < 1:
            expected = "a share between 0 and 1"
            raise InputError("--synthetic", found=self.synthetic, expected=expected)
        if self.data and (self.videos or self.cutouts) and not self.synthetic:
            fix = "ask for a share of them with --synthetic"
            name = "--textures" if self.videos else "--cutouts"
            raise InputError(name, found="no synthetic clips to paint", fix=fix)

    @property
    def synthetic_share(self) -> float:
        """All, unless there are real clips."""
        return (self.synthetic or 0.0) if self.data else 1.0


@dataclass(frozen=True)
class TrainResult:
    """What came of it."""

    stage: str
    variant: str
    checkpoint: Path
    steps: int
    clips: int
    hours: float
    finished: bool
    trial: Trial | None
    """How the weights track clips they have never seen; None for a warm-up without a policy."""
    ranges: Path | None = None
    """What `quantize --ranges` takes over; None but for qat."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        paths = {"checkpoint": str(self.checkpoint), "ranges": self.ranges and str(self.ranges)}
        return asdict(self) | paths

    def describe(self) -> str:
        """For a reader."""
        end = "done" if self.finished else "interrupted, the same command goes on"
        head = (
            f"{self.stage} of {self.variant}: {self.steps} steps, {self.clips} clips, "
            f"{self.hours:.2f} hours, {end}"
        )
        lines = [head, self.trial.describe()] if self.trial else [head]
        files = [self.checkpoint, self.ranges] if self.ranges else [self.checkpoint]
        return "\n".join([*lines, *map(str, files)])


@dataclass(frozen=True)
class _Recipe:
    stage: Stage
    clips: ClipSettings
    loop: LoopSettings


def run_training(request: TrainRequest) -> TrainResult:
    """Train one stage, or go on where the output folder says it stopped."""
    if request.threads:
        torch.set_num_threads(request.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _start_network(request).to(device)
    recipe = _choose_recipe(request, network)
    material = _open_material(request, recipe.clips, network.variant)
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"folder {str(request.output)!r} cannot be made"
        raise SourceError(what, found=error.strerror) from error
    journal = Journal(request.output, request.stage, _identify(request, material.footage))
    if journal.restore(network):
        log.info("going on after step %d", journal.step)
    if isinstance(recipe.stage, Qat):
        _fix_ranges(recipe.stage, material, device, journal)
    torch.manual_seed(request.seed + journal.step)  # what the stages draw beside the clips
    streaming = material.stream(journal.step, device)
    alone = lock_output(request.output / request.stage)
    with alone, name_lost_helpers(), _fast_attention(device), streaming as clips:
        finished = run_loop(network, recipe.stage, clips, recipe.loop, journal)
    files = [journal.checkpoint]
    if finished:
        files.append(request.output / f"{request.stage}.safetensors")
        pack_weights(*files)
    ranges = _hand_over(recipe.stage, files) if isinstance(recipe.stage, Qat) else None
    draw_curve(journal.log, request.output / f"{request.stage}-curve.png")
    trial = _try(journal, recipe.stage) if finished else None
    return TrainResult(
        request.stage,
        network.variant.name,
        journal.checkpoint,
        journal.step,
        journal.clips,
        journal.seconds / 3600,
        finished,
        trial,
        ranges,
    )


def _open_material(request: TrainRequest, settings: ClipSettings, variant: Variant) -> Material:
    def paint() -> Atlas:
        photos = read_photos(request.cutouts)
        return build_atlas(request.videos, request.seed, ATLAS, ATLAS, photos)

    return open_material(request.data, request.synthetic_share, settings, variant, paint)


def _fix_ranges(stage: Qat, material: Material, device: torch.device, journal: Journal) -> None:
    """Look the ranges up on the weights it starts from, once for all of the run."""
    if not journal.kept:
        with material.stream(0, device) as clips:
            batches = [batch.to(device) for batch in islice(clips, RANGE_BATCHES)]
        log.info("looking up ranges")
        journal.kept = find_ranges(stage.teacher, batches, attention=stage.attention)
    stage.ranges = journal.kept


def _hand_over(stage: Qat, files: Sequence[Path]) -> Path:
    """The ranges as a file, bound to the weights as they are now."""
    weights = {path.name: hash_file(path) for path in files}
    target = files[0].with_name(f"{stage.name}-ranges.json")
    variant = stage.teacher.variant.name
    write_ranges(target, Int8Ranges(variant, weights, stage.attention, stage.ranges))
    return target


def _identify(request: TrainRequest, footage: Sequence[Footage]) -> dict[str, Any]:
    """What a resumed run must have in common with the one it goes on from; steps may change."""
    own: dict[str, Any] = {"attention": request.attention} if request.stage == "qat" else {}
    if footage:
        own["data"] = [source.describe() for source in footage]
        own["synthetic"] = request.synthetic_share
    if request.cutouts:
        own["cutouts"] = [folder.name for folder in request.cutouts]
    if request.learn_centres:
        own["learn_centres"] = True
    return own | {
        "variant": request.variant,
        "start": hash_file(request.start) if request.start else None,
        "textures": [video.name for video in request.videos],
        "clips": request.clips,
        "seed": request.seed,
        "algorithm": request.algorithm,
        "fresh_policy": request.fresh_policy,
    }


def _try(journal: Journal, stage: Stage) -> Trial | None:
    if not stage.has_policy:
        return None
    with show_progress("trial", TRIAL_CLIPS, "clips") as advance:
        return try_checkpoint(journal.checkpoint, TRIAL_CLIPS, advance=advance)


def _choose_recipe(request: TrainRequest, network: Relo) -> _Recipe:
    """The paper's where there are weights to start from; a steeper one from nothing."""
    if request.stage == "reinforce":
        stage: Stage = Reinforce(request.algorithm)
        clips = ClipSettings(16, 8, Jitter(), request.seed)
        loop = LoopSettings(steps=1000, rate=1e-4, warm_steps=20)
    elif request.stage == "qat":
        teacher = build_network(network.variant, copy.deepcopy(network.state_dict()))
        stage = Qat(teacher, request.attention)
        clips = ClipSettings(16, 3, Jitter(), request.seed)
        loop = LoopSettings(300, 5e-5, weight_decay=0, warm_steps=20, save_every=50, half=False)
    elif request.start is None:
        stage = Warmup(encoder_rate=1.0, spread=0.5, centre=0.5)
        clips = ClipSettings(48, 2, Jitter(centre=3.5, scale=0.4, calm=0.2), request.seed)
        loop = LoopSettings(steps=4000, rate=1e-3)
    elif request.learn_centres:
        stage = Warmup(encoder_rate=1.0, spread=0.5, centre=0.5)
        clips = ClipSettings(48, 2, Jitter(centre=3.5, scale=0.4, calm=0.4), request.seed)
        loop = LoopSettings(steps=2000, rate=5e-4)
    else:
        stage = Warmup()
        clips = ClipSettings(48, 1, Jitter(), request.seed)
        loop = LoopSettings(steps=1000, rate=1e-4)
    return _Recipe(
        stage,
        replace(clips, clips=request.clips or clips.clips),
        replace(loop, steps=request.steps or loop.steps, rate=request.rate or loop.rate),
    )


def _start_network(request: TrainRequest) -> Relo:
    variant = find_variant(request.variant)
    network = build_fresh(variant, request.seed)
    if request.start is not None:
        weights = read_checkpoint(request.start, variant.name).weights
        if request.fresh_policy:
            kept = ("policy_model.", "value_model.")
            weights = {name: w for name, w in weights.items() if not name.startswith(kept)}
        network.load_state_dict(weights, strict=not request.fresh_policy)
    return network


@contextmanager
def _fast_attention(device: torch.device) -> Iterator[None]:
    """On a CPU, plain products train faster than the fused kernel at so few tokens."""
    if device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield
