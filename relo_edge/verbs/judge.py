"""What proves that it is still the same tracker, and how fast."""

from __future__ import annotations

from typing import Annotated

import typer

from relo_edge.verbs.shared import Bundle, Checkpoint, Json, Threads, app, print_result

__all__ = ["bench", "parity"]


@app.command(epilog="Example: relo-edge parity relo-t256 --runtime openvino --precision bf16")
def parity(
    bundle: Bundle,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the runtime.")] = "auto",
    checkpoint: Checkpoint = None,
    as_json: Json = False,
) -> None:
    """Hold a runtime against the reference network; exit 1 when it is not the same tracker."""
    from contextlib import closing

    from relo_edge.benchmarks.parity import count_frames, measure_parity
    from relo_edge.progress import show_progress
    from relo_edge.runtime import open_runtime

    with (
        closing(open_runtime(bundle, "pytorch", checkpoint=checkpoint)) as reference,
        closing(open_runtime(bundle, runtime, precision)) as candidate,
        show_progress("parity", count_frames()) as advance,
    ):
        result = measure_parity(reference, candidate, advance)
    print_result(result, as_json)
    if not result.passed:
        raise typer.Exit(1)


@app.command(epilog="Example: relo-edge bench relo-t256 --runtime pytorch --runtime openvino:bf16")
def bench(
    bundle: Bundle,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:PRECISION; repeat it. All that open here if absent."),
    ] = None,
    checkpoint: Checkpoint = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Time runtimes in one run, taking turns, with their ratios to the reference network."""
    from contextlib import ExitStack, closing

    from relo_edge.benchmarks.latency import bench_runtimes, count_turns
    from relo_edge.progress import show_progress
    from relo_edge.runtime import open_runtimes

    with ExitStack() as stack:
        opened = open_runtimes(bundle, runtime, checkpoint=checkpoint, threads=threads)
        for one in opened:
            stack.enter_context(closing(one))
        advance = stack.enter_context(show_progress("bench", count_turns(len(opened)), "turns"))
        result = bench_runtimes(opened, advance)
    print_result(result, as_json)
