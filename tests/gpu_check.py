"""`make gpu-check`: all that only a GPU can show, in cells that each leave their result at once.

First a probe of one minute: device, engine, one step, capture, parity. Then T256 in FP16 at batch
1 with its peers, then the other precisions, batches and variants, and the tests marked `gpu` last.
Each cell is a process of its own with a timeout, and appends one line of JSON: whatever ends the
run early, what was measured stays, and the next run skips it.

    python tests/gpu_check.py [--bundle FOLDER ...] [--minutes N] [--output FOLDER] [--again]

Nothing but numpy and the library under test is needed where bundles are given. Without them they
are made from drawn weights, which takes torch and onnx: times are real then, and INT8, which nobody
calibrated, has no parity.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WORKSHOPS = ("benchmarks", "calibration", "export", "runtimes", "training")
VARIANTS = ("t256", "b256", "l256")
PEERS = (
    ("pytorch", "eager"),
    ("pytorch", "compiled"),
    ("pytorch", "compiled-half"),
    ("onnxruntime-cuda", "fp16"),
    ("onnxruntime-cuda", "fp32"),
)
OTHERS = ("fp32", "int8", "fp8")
BATCHES = (4, 8)
TIMEOUTS = {"probe": 120, "prepare": 300, "build": 420, "measure": 150, "tests": 900}
SLOWER = 4  # a Jetson's six cores beside a server's; what is killed loses its timings of kernels
MARK = "result: "

Cell = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    """Run every cell that has no result yet; 1 without a GPU, or when a cell failed.

    A cell is skipped, and has not failed, where a peer is not installed or a precision cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", action="append", default=[], help="a bundle; may be repeated")
    parser.add_argument("--minutes", type=float, default=30.0, help="no cell begins after that")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--again", action="store_true", help="try failed cells once more")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        make_importable(Path(scratch))
        if options.cell:
            from gpu_cells import end_with_parent, run_cell

            end_with_parent()
            print(MARK + json.dumps(run_cell(json.loads(options.cell))), flush=True)
            return 0
        from relo_edge.runtimes.tensorrt.gpu import find_gpu

        gpu = find_gpu()
        if gpu is None:
            print("gpu-check: no NVIDIA GPU here (see `relo-edge doctor`)", file=sys.stderr)
            return 1
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return run_cells(gpu, options)


def make_importable(folder: Path) -> None:
    """Where nothing can be installed: the package as it installs, made of links."""
    # This script's own folder has a `relo_edge` too: the tests of the real one.
    helpers = str(ROOT / "tests" / "helpers")
    sys.path[0] = helpers
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        import relo_edge.runtimes.tensorrt  # noqa: F401
    except ImportError:
        sys.modules.pop("relo_edge", None)
        package = folder / "relo_edge"
        package.mkdir()
        for path in (*(ROOT / "relo_edge").iterdir(), *(ROOT / name for name in WORKSHOPS)):
            (package / path.name).symlink_to(path)
        sys.path.insert(0, str(folder))
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def run_cells(gpu: Any, options: argparse.Namespace) -> int:
    """Cell after cell, each result written before the next begins."""
    options.output.mkdir(parents=True, exist_ok=True)
    log = options.output / f"gpu-check-{gpu.label}.jsonl"
    deadline = time.monotonic() + 60 * options.minutes
    given = [str(Path(path).resolve()) for path in options.bundle]
    if gpu.board:
        TIMEOUTS.update({kind: SLOWER * limit for kind, limit in TIMEOUTS.items()})
    probed = run_once({"kind": "probe", "bundle": given[0] if given else None}, log, options)
    library = probed["result"]["library"] if probed["status"] == "ok" else guess_library(gpu)
    for cell in list_cells(given, find_work_folder(gpu.label), library):
        if time.monotonic() > deadline:
            print(f"gpu-check: {options.minutes:g} minutes are over", file=sys.stderr)
            break
        run_once(cell, log, options)
    lines = read_lines(log)
    print(describe_results(lines))
    return int(any(line["status"] not in ("ok", "skipped") for line in lines))


def run_once(cell: Cell, log: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What an earlier run found out, or what this one does; written down before it is returned."""
    known = find_result(log, cell)
    if known and is_current(known) and not (options.again and known["status"] != "ok"):
        return known
    print(f"gpu-check: {describe_cell(cell)}", file=sys.stderr, flush=True)
    line = {**run_process(cell), "cell": cell}
    append_line(log, line)
    publish_table(log)
    return line


def is_current(line: dict[str, Any]) -> bool:
    """Whether what the cell made is still there."""
    if line["status"] != "ok":
        return True
    bundle = Path(line["cell"].get("bundle") or "")
    if line["cell"]["kind"] == "prepare":
        return bundle.is_dir()
    plans = line["result"].get("plans", []) if line["cell"]["kind"] == "build" else []
    return all((bundle / "engines" / plan).is_file() for plan in plans)


def guess_library(gpu: Any) -> str:
    """The library that fits the GPU, as the probe did not come so far."""
    from relo_edge.runtimes.tensorrt.library import choose_flavour

    return choose_flavour(gpu.capability)


def find_work_folder(label: str) -> Path:
    """Where bundles and engines are kept for the next run."""
    from relo_edge.host.files import find_cache

    return find_cache() / "gpu-check" / label


def list_cells(given: Sequence[str], work: Path, library: str) -> Iterator[Cell]:
    """In the order of what is most wanted."""
    chosen = list(given) or [str(work / name) for name in VARIANTS]
    first = chosen[0]
    if not given:
        yield {"kind": "prepare", "bundle": first}
    yield from build_and_measure(first, library, "fp16", 1)
    for runtime, precision in PEERS:
        yield measure(first, runtime, precision, 1)
    for bundle in chosen:
        if bundle != first:
            if not given:
                yield {"kind": "prepare", "bundle": bundle}
            yield from build_and_measure(bundle, library, "fp16", 1)
            yield measure(bundle, *PEERS[0], 1)
        for precision in OTHERS:
            yield from build_and_measure(bundle, library, precision, 1)
        for batch in BATCHES:
            for precision in ("fp16", "int8"):
                yield from build_and_measure(bundle, library, precision, batch)
            yield measure(bundle, *PEERS[0], batch)
    yield {"kind": "tests"}


def build_and_measure(bundle: str, library: str, precision: str, batch: int) -> Iterator[Cell]:
    """An engine of one precision and batch, then its times."""
    yield {
        "kind": "build",
        "bundle": bundle,
        "library": library,
        "precision": precision,
        "batch": batch,
    }
    yield measure(bundle, library, precision, batch)


def measure(bundle: str, runtime: str, precision: str, batch: int) -> Cell:
    """One contender."""
    return {
        "kind": "measure",
        "bundle": bundle,
        "runtime": runtime,
        "precision": precision,
        "batch": batch,
    }


def run_process(cell: Cell) -> dict[str, Any]:
    """The cell in a process of its own, ended with all its children when its time is up."""
    command = [sys.executable, __file__, "--cell", json.dumps(cell)]
    start, limit = time.monotonic(), float(os.environ.get("GPU_CHECK_TIMEOUT", 0))
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=limit or TIMEOUTS[cell["kind"]])
        status = "ok" if child.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        status, out, err = "timeout", "", ""
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    seconds = round(time.monotonic() - start, 1)
    found = [line[len(MARK) :] for line in out.splitlines() if line.startswith(MARK)]
    if status == "ok" and found:
        result = json.loads(found[-1])
        if "skipped" in result:
            return {"status": "skipped", "seconds": seconds, "reason": result["skipped"]}
        return {"status": "ok", "seconds": seconds, "result": result}
    said = err.strip().splitlines()
    reason = said[-1] if said else f"exit code {child.returncode}"
    if status == "timeout":
        reason = f"no result after {seconds:g} s"
    return {
        "status": "failed" if status == "ok" else status,
        "seconds": seconds,
        "reason": reason[:500],
    }


def append_line(log: Path, line: dict[str, Any]) -> None:
    """One write, on the disk before anything else begins; a torn line before it is closed."""
    text = json.dumps(line) + "\n"
    with log.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(log: Path) -> list[dict[str, Any]]:
    """The last result of each cell; a line that a kill tore is none."""
    found: dict[str, dict[str, Any]] = {}
    if log.is_file():
        for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                found[json.dumps(line["cell"], sort_keys=True)] = line
            except (ValueError, KeyError, TypeError):
                continue
    return list(found.values())


def find_result(log: Path, cell: Cell) -> dict[str, Any] | None:
    """What an earlier run left of this cell."""
    return next((line for line in read_lines(log) if line["cell"] == cell), None)


def describe_cell(cell: Cell) -> str:
    """In a few words."""
    place = Path(cell["bundle"]).name if cell.get("bundle") else ""
    parts = [cell["kind"], place, cell.get("runtime") or cell.get("library"), cell.get("precision")]
    batch = f"batch {cell['batch']}" if "batch" in cell else ""
    return " ".join(part for part in (*parts, batch) if part)


def publish_table(log: Path) -> None:
    """The table beside the log, as far as it goes."""
    from relo_edge.host.files import write_text

    write_text(log.with_suffix(".txt"), describe_results(read_lines(log)) + "\n")


def describe_results(lines: Sequence[dict[str, Any]]) -> str:
    """What was found out, the times in a table, and what failed and why."""
    told = []
    for line in lines:
        if line["status"] == "ok" and line["cell"]["kind"] in ("probe", "tests"):
            facts = ", ".join(f"{name} {value}" for name, value in line["result"].items())
            told.append(f"{line['cell']['kind']}: {facts}")
    rows = [line for line in lines if line["cell"]["kind"] == "measure" and line["status"] == "ok"]
    if rows:
        head = f"{'bundle':<12}{'batch':>6}  {'runtime':<18}{'precision':<14}"
        told.append(f"{head}{'p50 ms':>9}{'p99 ms':>9}{'GPU ms':>9}{'x eager':>9}  parity")
        told += [describe_row(line, rows) for line in rows]
    told += [
        f"{line['status']}: {describe_cell(line['cell'])}: {line['reason']}"
        for line in lines
        if line["status"] != "ok"
    ]
    return "\n".join(told)


def describe_row(line: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """One contender's times, and how much faster than the eager network it is."""
    cell, found = line["cell"], line["result"]
    eager = {**cell, "runtime": PEERS[0][0], "precision": PEERS[0][1]}
    reference = next((row["result"]["p50_ms"] for row in rows if row["cell"] == eager), None)
    gpu = "-" if found["gpu_ms"] is None else f"{found['gpu_ms']:.3f}"
    ratio = "-" if reference is None else f"{reference / found['p50_ms']:.2f}"
    parity = {True: "passed", False: "FAILED", None: "-"}[found["parity"]]
    name = Path(cell["bundle"]).name
    place = f"{name:<12}{cell['batch']:>6}  {cell['runtime']:<18}{cell['precision']:<14}"
    return f"{place}{found['p50_ms']:>9.3f}{found['p99_ms']:>9.3f}{gpu:>9}{ratio:>9}  {parity}"


if __name__ == "__main__":
    sys.exit(main())
