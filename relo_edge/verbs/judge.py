"""What proves that it is still the same tracker, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relo_edge.verbs.shared import (
    Bundle,
    Checkpoint,
    Clips,
    Json,
    Threads,
    app,
    print_result,
)

if TYPE_CHECKING:
    from relo_edge.benchmarks.parity.layers import LayerWalk, Side
    from relo_edge.benchmarks.parity.paired_runtime import TwinRuntime

__all__ = ["bench", "compare", "evaluate", "parity", "report"]


@app.command(epilog="Example: relo-edge parity relo-t256 --runtime openvino --clips street.mp4")
def parity(
    bundle: Bundle,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the runtime.")] = "auto",
    checkpoint: Checkpoint = None,
    clips: Clips = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also walk the graphs: where is the error born?")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw errors and track as PNG or SVG.")] = None,
    as_json: Json = False,
) -> None:
    """Hold a runtime against the reference network. Exit 1 when it is not the same tracker."""
    from contextlib import closing

    from relo_edge.benchmarks.parity.layers import check_side
    from relo_edge.benchmarks.parity.plot import PLOT_SUFFIXES, plot_parity
    from relo_edge.benchmarks.parity.rollout import compare_clips, count_frames, find_stretches
    from relo_edge.benchmarks.parity.verdict import find_gate, judge_parity
    from relo_edge.host.files import check_output
    from relo_edge.host.progress import show_progress
    from relo_edge.runtime import open_runtime, resolve_bundle

    if plot:
        check_output(plot, PLOT_SUFFIXES)
    stretches = find_stretches(clips or [])
    with (
        closing(open_runtime(bundle, "pytorch", checkpoint=checkpoint)) as reference,
        closing(open_runtime(bundle, runtime, precision)) as candidate,
    ):
        find_gate(candidate.precision)
        opened = resolve_bundle(bundle) if layers else None
        side = check_side(opened, candidate.precision) if opened else None
        with show_progress("parity", count_frames(stretches)) as advance:
            rollouts = compare_clips(reference, candidate, stretches, advance)
        walk = _walk_layers(rollouts[0].twin, side, checkpoint) if side else None
        result = judge_parity(rollouts, walk)
    print_result(result, as_json)
    if plot:
        plot_parity(result, plot)
    if not result.passed:
        raise typer.Exit(1)


def _walk_layers(twin: TwinRuntime, side: Side, checkpoint: Path | None) -> LayerWalk:
    """A lower precision beside the float graph; that one beside a new export of the weights."""
    from tempfile import TemporaryDirectory

    from relo_edge.benchmarks.parity.layers import Side, walk_layers
    from relo_edge.export.publishing import export_bundle
    from relo_edge.runtime import RuntimeRequest
    from relo_edge.runtimes.pytorch import find_checkpoint

    if side.precision != "fp32":
        return walk_layers(twin, Side(side.bundle, "fp32"), side)
    weights = find_checkpoint(RuntimeRequest(side.bundle, "pytorch", checkpoint=checkpoint))
    with TemporaryDirectory() as scratch:
        fresh = export_bundle(weights, Path(scratch) / "reference")
        return walk_layers(twin, Side(fresh, "fp32"), side)


@app.command(epilog="Example: relo-edge bench relo-t256 --runtime pytorch --runtime openvino:bf16")
def bench(
    bundle: Bundle,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:PRECISION; repeat it. All that open here if absent."),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Targets in each step; repeat it. 1 if absent.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="Video or sequence folder, also timed end to end.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="compile, vit=MODEL.onnx or nano=BACKBONE.onnx,HEAD.onnx; repeat it."),
    ] = None,
    checkpoint: Checkpoint = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Time runtimes in turns, each with its proof. Exit 1 when one is not the same tracker."""
    from relo_edge.benchmarks.speed.bench import BenchRequest, run_bench

    request = BenchRequest(
        bundle, runtime, tuple(batch or [1]), clip, tuple(peer or []), checkpoint, threads
    )
    result = run_bench(request)
    print_result(result, as_json)
    if not result.passed:
        raise typer.Exit(1)


@app.command(
    "eval", epilog="Example: relo-edge eval relo-t256 LaSOT --runtime openvino --precision int8"
)
def evaluate(
    bundle: Bundle,
    folder: Annotated[
        Path, typer.Argument(metavar="DATASET", help="OTB, LaSOT, GOT-10k/val … or plain folder.")
    ],
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the runtime.")] = "auto",
    checkpoint: Checkpoint = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="got10k, lasot, lasotext, nfs, otb, plain, tnl2k, trackingnet or uav; "
            "found from the folder if absent."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Whose tracker settings to use; the layout's own if absent.")
    ] = None,
    one_based: Annotated[
        bool, typer.Option("--one-based", help="Boxes count pixels from 1, not from 0.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for results; if absent, one in eval_out/."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes side by side; one if absent, with --ray one a machine."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to run the jobs on, or local.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure AUC, precision, AO and SR on a dataset. What is done already is not run again."""
    from relo_edge.benchmarks.accuracy.evaluation import EvalRequest, evaluate_dataset
    from relo_edge.datasets.layouts import read_dataset
    from relo_edge.runtime import resolve_bundle

    request = EvalRequest(
        resolve_bundle(bundle),
        runtime,
        precision,
        checkpoint,
        settings=dataset,
        output=output,
        jobs=jobs,
        ray=ray,
    )
    sequences = read_dataset(folder, layout, origin=float(one_based))
    print_result(evaluate_dataset(request, sequences), as_json)


@app.command(epilog="Example: relo-edge compare eval_out/fp32 eval_out/int8")
def compare(
    first: Annotated[Path, typer.Argument(help="Results folder of `eval`.")],
    second: Annotated[Path, typer.Argument(help="Another one, of the same sequences.")],
    as_json: Json = False,
) -> None:
    """Say where two results differ, and if by more than chance."""
    from relo_edge.benchmarks.accuracy.comparison import compare_results

    print_result(compare_results(first, second), as_json)


@app.command(epilog="Example: relo-edge report --bench b.json --eval eval_out/fp32 -o report.html")
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")],
    bench: Annotated[Path | None, typer.Option(help="What bench --json printed.")] = None,
    parity: Annotated[
        list[Path] | None, typer.Option(help="What parity --json printed; repeat it.")
    ] = None,
    evaluated: Annotated[
        list[Path] | None, typer.Option("--eval", help="Results folder of eval; repeat it.")
    ] = None,
) -> None:
    """Show measurements in one HTML file. It needs nothing but a browser."""
    from relo_edge.benchmarks.report.html import REPORT_SUFFIXES, write_report
    from relo_edge.benchmarks.report.inputs import read_findings
    from relo_edge.host.files import check_output

    check_output(output, REPORT_SUFFIXES)
    write_report(read_findings(bench, parity or [], evaluated or []), output)
    print(output)
