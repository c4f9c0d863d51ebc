"""A whole benchmark: opens what is asked for, times it, proves it, and starts each one anew."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relo_edge.benchmarks.speed.contenders import Contender, PeerContender, RuntimeContender
from relo_edge.benchmarks.speed.keeping import keep_times
from relo_edge.benchmarks.speed.latency import (
    REFERENCE,
    Scene,
    count_parity_frames,
    count_turns,
    make_rows,
    prove_parity,
    read_scene,
    take_turns,
)
from relo_edge.benchmarks.speed.load import LoadMeter, wait_until_quiet
from relo_edge.benchmarks.speed.power import PowerMeter
from relo_edge.benchmarks.speed.results import BenchResult, Proof
from relo_edge.benchmarks.speed.startup import StartUp, measure_start
from relo_edge.errors import InputError, MissingDependency, RuntimeUnavailable
from relo_edge.host.opencv import cv2
from relo_edge.host.progress import show_progress
from relo_edge.peers.registry import open_peer
from relo_edge.runtime import Runtime, open_runtime, open_runtimes, resolve_bundle

__all__ = ["BenchRequest", "run_bench"]

log = logging.getLogger("relo_edge")

COMPILE = "compile"
COMPILED = "pytorch-compile"


@dataclass(frozen=True)
class BenchRequest:
    """What is to be timed."""

    bundle: str
    runtimes: list[str] | None = None
    """NAME or NAME:PRECISION; None for all that open here."""
    batches: tuple[int, ...] = (1,)
    clip: str | None = None
    peers: tuple[str, ...] = ()
    checkpoint: Path | None = None
    threads: int | None = None
    trust_engines: bool = False
    every_precision: bool = False
    """Whether runtimes that are not named come in every precision of the bundle."""

    @property
    def is_complete(self) -> bool:
        """Whether all that opens here is timed as `track` would run it: `auto` may go by that."""
        return not (self.runtimes or self.threads or self.checkpoint)


def run_bench(request: BenchRequest) -> BenchResult:
    """Speed, proof, start-up and memory of everything asked for."""
    scene = read_scene(request.clip)
    if request.threads:
        cv2.setNumThreads(request.threads)
    with ExitStack() as stack:
        contenders = list(_open_contenders(request, scene, stack))
        meter = stack.enter_context(PowerMeter())
        wait_until_quiet()
        with show_progress("timing", count_turns(len(contenders)), "turns") as advance:
            load = LoadMeter()
            take_turns(contenders, scene, meter, advance)
            measured = load.read()
        proofs: dict[int, Proof] = {}
        starts: dict[int, StartUp] = {}
        interrupted = False
        try:
            proofs = _prove(request, contenders)
            starts = _measure_starts(request, contenders)
        except KeyboardInterrupt:  # what was timed took longest: it is told
            interrupted = True
        result = make_rows(contenders, scene, request.threads, proofs, starts, measured)
        environment = {**_describe_request(request), **result.environment}
        result = replace(result, environment=environment, interrupted=interrupted)
    if request.is_complete and not interrupted:
        keep_times(resolve_bundle(request.bundle), result)
    return result


def _describe_request(request: BenchRequest) -> dict[str, str]:
    """What was measured, without the folders of this machine."""
    bundle = resolve_bundle(request.bundle)
    checkpoint = request.checkpoint or bundle.manifest["checkpoint"]["path"]
    return {
        "bundle": bundle.path.name,
        "variant": bundle.variant.name,
        "checkpoint": Path(checkpoint).name,
    }


def _open_contenders(request: BenchRequest, scene: Scene, stack: ExitStack) -> Iterator[Contender]:
    for batch in request.batches:
        runtimes = open_runtimes(
            request.bundle,
            request.runtimes,
            checkpoint=request.checkpoint,
            batch=batch,
            threads=request.threads,
            trust_engines=request.trust_engines,
            every_precision=request.every_precision,
        )
        for runtime in runtimes:
            stack.enter_context(closing(runtime))
            yield RuntimeContender(runtime, scene.first, scene.box)
    for word in request.peers:
        if word == COMPILE:
            yield RuntimeContender(_compile_reference(request, stack), scene.first, scene.box)
        else:
            yield PeerContender(open_peer(word), scene.first, scene.box)


def _open_reference(request: BenchRequest) -> Runtime:
    return open_runtime(
        resolve_bundle(request.bundle),
        REFERENCE,
        checkpoint=request.checkpoint,
        threads=request.threads,
    )


def _compile_reference(request: BenchRequest, stack: ExitStack) -> Runtime:
    runtime: Any = stack.enter_context(closing(_open_reference(request)))
    log.info("torch.compile takes its time")
    runtime.compile_network()
    return runtime  # type: ignore[no-any-return]


def _prove(request: BenchRequest, contenders: list[Contender]) -> dict[int, Proof]:
    """Compare each contender with a reference of its own, where one opens."""
    try:
        reference = _open_reference(request)
    except (MissingDependency, InputError) as error:
        log.warning("nothing here proves that it is the same tracker: %s", error)
        return {}
    with (
        closing(reference),
        show_progress("parity", count_parity_frames(contenders)) as advance,
    ):
        return prove_parity(reference, contenders, advance)


def _measure_starts(request: BenchRequest, contenders: list[Contender]) -> dict[int, StartUp]:
    """Start each runtime in its own process; peers are left out."""
    path = str(resolve_bundle(request.bundle).path.resolve())
    chosen = {
        place: contender
        for place, contender in enumerate(contenders)
        if isinstance(contender, RuntimeContender) and contender.name != COMPILED
    }
    starts = {}
    with show_progress("start-up", len(chosen), "processes") as advance:
        for place, contender in chosen.items():
            opening: dict[str, Any] = {
                "bundle": path,
                "name": contender.name,
                "precision": contender.precision,
                "batch": contender.batch,
                "threads": request.threads,
                "trust_engines": request.trust_engines,
            }
            if request.checkpoint and contender.name == REFERENCE:
                opening["checkpoint"] = str(request.checkpoint.resolve())
            try:
                starts[place] = measure_start(opening)
            except RuntimeUnavailable as error:
                # What was timed before is worth more than this.
                log.warning("not measured: %s", error)
            advance()
    return starts
