"""The command line: one thin function per verb; the work is done elsewhere."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from relo_edge.errors import InputError, ReloError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Take a trained RELO tracker to the edge, and prove that it is still the same tracker.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Typer carries its own copy of click in new releases and uses the package in older ones;
# the base of all its usage errors is reached through the class that both export.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


INTERRUPTED = 130


class Result(Protocol):
    """What a verb has to say, for a program and for a reader."""

    def to_dict(self) -> dict[str, Any]: ...

    def describe(self) -> str: ...


Bundle = Annotated[str, typer.Argument(help="Bundle folder, or demo.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights for the pytorch runtime: in place of a bundle's own.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores if absent.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def relo_edge() -> None:
    """Verbs share these rules: results on stdout, progress on stderr, one line per error."""


@app.command(epilog="Example: relo-edge doctor --json")
def doctor(as_json: Json = False) -> None:
    """Say what this machine can run, and why not the rest."""
    from relo_edge.doctor import collect_evidence, judge_evidence
    from relo_edge.doctor.report import print_json, print_report

    diagnosis = judge_evidence(collect_evidence())
    (print_json if as_json else print_report)(diagnosis)
    if not diagnosis.can_track:
        raise typer.Exit(1)


@app.command(epilog="Example: relo-edge track clip.mp4 --bundle demo --init 120,80,64,48")
def track(
    source: Annotated[str, typer.Argument(help="Video file, folder of images or camera number.")],
    init: Annotated[
        str, typer.Option(metavar="X,Y,W,H", help="The target's box in the first frame, in pixels.")
    ],
    bundle: Annotated[str | None, typer.Option(help="Bundle folder, or demo.")] = None,
    checkpoint: Checkpoint = None,
    runtime: Annotated[str, typer.Option(help="auto, or a runtime's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or a precision of the bundle.")] = "auto",
    dataset: Annotated[str, typer.Option(help="Whose tracker settings to use.")] = "default",
    save: Annotated[Path | None, typer.Option(help="Annotated video to write (.mp4).")] = None,
    boxes: Annotated[Path | None, typer.Option(help="Boxes to write (.csv or .json).")] = None,
    threads: Threads = None,
    show: Annotated[bool, typer.Option("--show", help="Watch in a window; q ends it.")] = False,
    as_json: Json = False,
) -> None:
    """Follow one target through a video, a folder of images or a camera."""
    from contextlib import closing

    from relo_edge.recording import check_outputs
    from relo_edge.runtime import open_runtime
    from relo_edge.session import parse_box, track_source
    from relo_edge.tracker import Tracker
    from relo_edge.video import open_source

    box = parse_box(init)
    check_outputs(source, save, boxes)
    with (
        open_source(source) as frames,
        closing(
            open_runtime(bundle, runtime, precision, checkpoint=checkpoint, threads=threads)
        ) as opened,
    ):
        tracker = Tracker(opened, opened.variant.protocol(dataset), color="bgr")
        summary = track_source(frames, tracker, box, video_path=save, boxes_path=boxes, show=show)
    _print_result(summary, as_json)
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example: relo-edge demo --output demo_out")
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the video and boxes.")] = Path(
        "demo_out"
    ),
    as_json: Json = False,
) -> None:
    """Track a synthetic clip with the built-in weights: nothing to download, no GPU needed."""
    from relo_edge.demo import run_demo

    result = run_demo(output)
    _print_result(result, as_json)
    if result.track.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command(
    epilog="Example: relo-edge export --variant t256 --checkpoint RELO_ep0090.pth.tar -o relo-t256"
)
def export(
    checkpoint: Annotated[Path, typer.Option(help="Released, saved or safetensors weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle folder to write.")],
    variant: Annotated[
        str | None, typer.Option(help="t256, b256, l256 or demo; found from the weights if absent.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint into a bundle, verified against the reference network."""
    from relo_edge.export.publishing import check_output, export_bundle
    from relo_edge.inspection import inspect_bundle
    from relo_edge.network.checkpoint import read_checkpoint

    check_output(output, replace=force)
    bundle = export_bundle(read_checkpoint(checkpoint, variant), output, replace=force)
    _print_result(inspect_bundle(bundle), as_json)


@app.command(epilog="Example: relo-edge fetch t256 -o checkpoints")
def fetch(
    variant: Annotated[str, typer.Argument(help="t256, b256 or l256.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to download into.")] = Path(
        "checkpoints"
    ),
    as_json: Json = False,
) -> None:
    """Download the authors' public weights; a broken download is resumed."""
    from relo_edge.hub import fetch_checkpoint

    _print_result(fetch_checkpoint(variant, output), as_json)


@app.command(epilog="Example: relo-edge inspect relo-t256")
def inspect(bundle: Bundle, as_json: Json = False) -> None:
    """List a bundle's graphs, engines and parity; exit 1 when a file is not as published."""
    from relo_edge.inspection import inspect_bundle
    from relo_edge.runtime import RuntimeRequest

    inspection = inspect_bundle(RuntimeRequest(bundle, "inspect").bundle)
    _print_result(inspection, as_json)
    if not inspection.is_sound:
        raise typer.Exit(1)


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
    _print_result(result, as_json)
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
    _print_result(result, as_json)


@app.command(
    epilog="Example: relo-edge quantize relo-t256 --int8 --clips street.mp4 --clips GOT-10k"
)
def quantize(
    bundle: Bundle,
    int8: Annotated[bool, typer.Option("--int8", help="Add an INT8 graph (Q/DQ).")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add FP16 graphs.")] = False,
    clips: Annotated[
        list[str] | None,
        typer.Option(help="Video, or folder of images with ground truth; repeat it."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto, minmax, percentile, entropy or mse: how ranges are chosen.")
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Add a lower precision, calibrated while really tracking; exit 1 when it is not kept."""
    from relo_edge.calibration.precision import quantize_half, quantize_int8, record_clips
    from relo_edge.runtime import RuntimeRequest

    if int8 == fp16:
        raise InputError("precision", found="both" if int8 else "none", expected="--int8 or --fp16")
    opened = RuntimeRequest(bundle, "quantize").bundle
    recording = record_clips(opened, clips or [])
    quantized = (
        quantize_int8(opened, recording, method) if int8 else quantize_half(opened, recording)
    )
    _print_result(quantized, as_json)


def main() -> None:
    """Run a verb; whatever goes wrong ends in one line and the right exit code."""
    log, chatter = logging.getLogger("relo_edge"), logging.StreamHandler()
    log.setLevel(logging.INFO)
    log.addHandler(chatter)
    try:
        code = app(standalone_mode=False)
    except ReloError as error:
        code = _complain(str(error), error.exit_code)
    except _UsageProblem as problem:
        code = _report_usage(problem)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    finally:
        log.removeHandler(chatter)
    if code == INTERRUPTED:
        _complain("interrupted", code)
    sys.exit(code)


def _print_result(result: Result, as_json: bool) -> None:
    print(json.dumps(result.to_dict()) if as_json else result.describe())


def _report_usage(problem: Any) -> int:
    """Typer's own complaints in our one-line form; a bare call is answered with the help."""
    if type(problem).__name__ == "NoArgsIsHelpError":
        print(problem, file=sys.stderr)
        return 2
    message = " ".join(problem.format_message().split()).rstrip(".")
    command = problem.ctx.command_path if problem.ctx else "relo-edge"
    return _complain(f"{message}; see `{command} --help`", 2)


def _complain(message: str, code: int) -> int:
    print(f"relo-edge: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
