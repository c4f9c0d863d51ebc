"""A training run's options, validated before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relo_edge.errors import InputError
from relo_edge.training.reinforce import ALGORITHMS

__all__ = ["STAGES", "TrainRequest"]

STAGES = ("warmup", "reinforce", "slt", "qat", "drlt")
NEEDS_WEIGHTS = {
    "reinforce": "run the warmup stage first and give its checkpoint with --from",
    "slt": "run the warmup stage first and give its checkpoint with --from",
    "qat": "give the checkpoint that loses too much in INT8 with --from",
}
LARGEST_SEED = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One stage of training; None leaves a choice to the stage's recipe.

    Args:
        stage: warmup, reinforce, slt, qat or drlt.
        output: the run's folder.
        variant: t256, b256, l256 or demo; drlt or demo (drlt-demo) for drlt.
        checkpoint: weights to start from; fresh ones if None.
        textures: videos that synthetic clips are painted with.
        cutouts: COCO folders whose objects and pictures synthetic clips are made of.
        data: folders of real clips, which take the place of synthetic ones.
        synthetic: the share of synthetic clips beside real ones.
        steps: steps in all.
        batch_clips: clips in a step, of all processes together.
        accumulate: parts in which a process takes its clips of a step, one after the other.
        rate: the highest learning rate.
        seed: of fresh weights, textures and clips.
        algorithm: how `reinforce` learns.
        fresh_policy: forget the checkpoint's policy.
        learn_centres: warm-up of all parts at one rate, as from nothing.
        teacher: an ONNX backbone whose features `warmup`'s tokens learn to predict.
        attention: `qat` rounds attention's own two products as well.
        threads: CPU threads of PyTorch.
        trial: whether held-out clips are tracked in the end.

    Raises:
        InputError: a value out of range, or an option that the stage does not take.
    """

    stage: str
    output: Path
    variant: str = "demo"
    checkpoint: Path | None = None
    textures: tuple[Path, ...] = ()
    cutouts: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    synthetic: float | None = None
    steps: int | None = None
    batch_clips: int | None = None
    accumulate: int = 1
    rate: float | None = None
    seed: int = 0
    algorithm: str = "actor-critic"
    fresh_policy: bool = False
    learn_centres: bool = False
    teacher: Path | None = None
    attention: bool = False
    threads: int | None = None
    trial: bool = True

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise InputError("stage", found=self.stage, expected=" | ".join(STAGES))
        if self.algorithm not in ALGORITHMS:
            raise InputError("algorithm", found=self.algorithm, expected=" | ".join(ALGORITHMS))
        self._check_numbers()
        self._check_stage_options()
        self._check_data()

    @property
    def synthetic_share(self) -> float:
        """1 without real clips."""
        return (self.synthetic or 0.0) if self.data else 1.0

    def _check_numbers(self) -> None:
        counts = {
            "--steps": self.steps,
            "--batch-clips": self.batch_clips,
            "--accumulate": self.accumulate,
            "--threads": self.threads,
        }
        for option, value in counts.items():
            if value is not None and value < 1:
                raise InputError(option, found=value, expected="1 or more")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError("--seed", found=self.seed, expected=f"0 to {LARGEST_SEED}")
        if self.rate is not None and not 0 < self.rate < 1:
            raise InputError("--rate", found=self.rate, expected="a number between 0 and 1")

    def _check_stage_options(self) -> None:
        only = {
            "--algorithm": (self.algorithm != ALGORITHMS[0], "reinforce"),
            "--attention": (self.attention, "qat"),
            "--learn-centres": (self.learn_centres, "warmup"),
            "--teacher": (self.teacher is not None, "warmup"),
        }
        for option, (given, stage) in only.items():
            if given and self.stage != stage:
                raise InputError(option, found=f"with {self.stage}", expected=f"with {stage}")
        if self.stage == "drlt":
            self._check_drlt()
        if self.fresh_policy and self.stage in ("qat", "slt", "drlt"):
            found = f"with {self.stage}"
            raise InputError("--fresh-policy", found=found, expected="with warmup or reinforce")
        if self.checkpoint is None:
            if self.fresh_policy:
                found, expected = "no --from", "weights to start from"
                raise InputError("--fresh-policy", found=found, expected=expected)
            if self.stage in NEEDS_WEIGHTS:
                fix = NEEDS_WEIGHTS[self.stage]
                raise InputError(
                    self.stage, found="no weights", expected="trained weights", fix=fix
                )

    def _check_drlt(self) -> None:
        """Its clips are drawn as whole frames, and it begins with fresh weights."""
        refused = {
            "--from": self.checkpoint,
            "--textures": self.textures,
            "--cutouts": self.cutouts,
            "--data": self.data,
        }
        for option, given in refused.items():
            if given:
                fix = "leave the option out: the stage draws its own clips for fresh weights"
                raise InputError(option, found="with drlt", expected="another stage", fix=fix)

    def _check_data(self) -> None:
        if self.synthetic is not None and not self.data:
            raise InputError("--synthetic", found="no --data", expected="real clips beside them")
        if self.synthetic is not None and not 0 < self.synthetic < 1:
            expected = "a share between 0 and 1"
            raise InputError("--synthetic", found=self.synthetic, expected=expected)
        for option, given in (("--textures", self.textures), ("--cutouts", self.cutouts)):
            if given and self.data and not self.synthetic:
                fix = "ask for a share of them with --synthetic"
                raise InputError(option, found="no synthetic clips to paint", fix=fix)
