"""`make gpu-check`: all that only a GPU can show, in one run of under eight minutes.

First the tests marked `gpu`, then the time of a step and its parity: PyTorch eager and compiled,
onnxruntime-CUDA, TensorRT or TensorRT for RTX; every precision, variant and batch. What is not
here is left out, with the reason in the result. Weights are the recipe's, and INT8 is not
calibrated: times are real, INT8's parity says nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WORKSHOPS = ("benchmarks", "calibration", "export", "runtimes", "training")
BUDGET = 450.0
VARIANTS = ("t256", "b256", "l256")
PRECISIONS = ("fp32", "fp16", "int8")
BATCHES = (1, 4, 8)
ROUNDS, STEPS, WARM_UP = 5, 20, 5
GPU_TESTS = (
    "tests/runtimes/tensorrt/test_device.py",
    "tests/runtimes/tensorrt/test_gpu.py",
    "tests/runtimes/test_protocol.py",
)
REFERENCE = "pytorch"


def main() -> int:
    """Run everything; 1 without a GPU or when a test failed."""
    with tempfile.TemporaryDirectory() as scratch:
        make_importable(Path(scratch))
        from relo_edge.runtimes.tensorrt.engines import find_gpu

        gpu = find_gpu()
        if gpu is None:
            print("gpu-check: no NVIDIA GPU here (see `relo-edge doctor`)", file=sys.stderr)
            return 1
        deadline = time.monotonic() + BUDGET
        tests = run_gpu_tests()
        result = measure_variants(Path(scratch), deadline)
        result = {"gpu": gpu.name, "capability": gpu.capability, "tests": tests, **result}
        publish_result(result, ROOT / "benchmarks" / "results")
        return 0 if tests["exit"] == 0 else 1


def make_importable(folder: Path) -> None:
    """Where nothing can be installed: the package as it installs, made of links."""
    # This script's own folder has a `relo_edge` too: the tests of the real one.
    sys.path[0] = str(ROOT / "tests" / "helpers")
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


def run_gpu_tests() -> dict[str, Any]:
    """The tests marked `gpu`, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *GPU_TESTS], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-4000:], file=sys.stderr)
    lines = done.stdout.strip().splitlines()
    return {"exit": done.returncode, "summary": lines[-1] if lines else done.stderr[-300:]}


def measure_variants(scratch: Path, deadline: float) -> dict[str, Any]:
    """Rows for every variant until the time is up; the smallest first, as it is asked for most."""
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for name in VARIANTS:
        if time.monotonic() > deadline:
            skipped[name] = "no time left"
            continue
        bundle, openers = prepare_variant(name, scratch / name, skipped)
        for batch in BATCHES:
            if time.monotonic() > deadline:
                skipped[f"{name} batch {batch}"] = "no time left"
                continue
            rows += measure_batch(name, batch, openers(batch), skipped)
        del bundle
    return {"rows": rows, "skipped": skipped}


def prepare_variant(name: str, folder: Path, skipped: dict[str, str]) -> tuple[Any, Any]:
    """A bundle with graphs and engines of every precision, and what opens it at some batch."""
    from engines import add_fp16, add_int8, write_bundle

    from relo_edge.network.fixed_weights import draw_weights
    from relo_edge.spec import VARIANTS

    weights = draw_weights(VARIANTS[name])
    bundle = add_int8(add_fp16(write_bundle(name, weights, folder)))
    flavour = build_all(bundle, skipped)

    def openers(batch: int) -> Iterator[tuple[str, Callable[[], Any]]]:
        from relo_edge.runtime import open_runtime

        for mode in ("eager", "compiled", "compiled half"):
            yield f"pytorch {mode}", lambda m=mode: open_pytorch(VARIANTS[name], weights, batch, m)
        for runtime in ("onnxruntime-cuda", *([flavour] if flavour else [])):
            for precision in PRECISIONS:
                yield (
                    f"{runtime} {precision}",
                    lambda r=runtime, p=precision: open_runtime(bundle, r, p, batch=batch),
                )

    return bundle, openers


def build_all(bundle: Any, skipped: dict[str, str]) -> str | None:
    """Engines of every precision with the library that fits this GPU; its name."""
    from relo_edge.contract import GRAPHS
    from relo_edge.errors import ReloError
    from relo_edge.runtimes.tensorrt.engines import build_engines, open_target

    flavour = None
    for precision in PRECISIONS:
        try:
            target = open_target(None, max(BATCHES), None)
            graphs = {name: bundle.engine_graph(name, precision) for name in GRAPHS}
            build_engines(bundle, precision, graphs, target)
            flavour = target.library.flavour
        except ReloError as error:
            skipped[f"{bundle.variant.name} engine {precision}"] = str(error)
    return flavour


def open_pytorch(variant: Any, weights: Any, batch: int, mode: str) -> Any:
    """The reference network, eager or compiled with CUDA graphs, TF32 off in both."""
    import torch

    from relo_edge.runtimes.pytorch import PytorchRuntime

    if not torch.cuda.is_available():
        raise RuntimeError("this torch does not reach the GPU")
    torch.backends.cudnn.allow_tf32 = False
    runtime = PytorchRuntime(variant, weights, batch=batch, device="cuda")
    runtime.name, runtime.precision = f"pytorch {mode}", "fp16" if "half" in mode else "fp32"
    if mode != "eager":
        runtime._network = Compiled(torch, runtime._network, half="half" in mode)
    return runtime


class Compiled:
    """A network whose steps are compiled and replayed as CUDA graphs."""

    def __init__(self, torch: Any, network: Any, *, half: bool) -> None:
        self.encode_template = network.encode_template
        self._torch, self._half = torch, half
        self._call = torch.compile(network, mode="reduce-overhead")

    def __call__(self, *arguments: Any) -> Any:
        with self._torch.autocast("cuda", self._torch.float16, enabled=self._half):
            return self._call(*arguments)


def measure_batch(
    name: str, batch: int, openers: Any, skipped: dict[str, str]
) -> list[dict[str, Any]]:
    """Every contender in turns, so that ratios hold; parity where one target is stepped."""
    with ExitStack() as stack:
        opened = {}
        for title, opener in openers:
            try:
                runtime = stack.enter_context(closing(opener()))
                start_targets(runtime)
                step_targets(runtime, WARM_UP)
                opened[title] = runtime
            except Exception as error:  # whatever a library raises, the others are measured
                skipped[f"{name} batch {batch} {title}"] = f"{type(error).__name__}: {error}"[:300]
        times = time_turns(opened)
        reference = times.get(f"{REFERENCE} eager", {}).get("p50_ms")
        return [
            {
                "variant": name,
                "batch": batch,
                "runtime": title,
                **spent,
                "ratio_to_eager": reference / spent["p50_ms"] if reference else None,
                "parity": measure_parity(opened, title) if batch == 1 else None,
            }
            for title, spent in times.items()
        ]


def time_turns(opened: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Medians of the wall time of a step, and of the GPU's own time where it can be told."""
    import numpy as np

    spent: dict[str, list[float]] = {title: [] for title in opened}
    for _ in range(ROUNDS):
        for title, runtime in opened.items():
            step_targets(runtime, WARM_UP)
            spent[title] += step_targets(runtime, STEPS)
    found = {}
    for title, times in spent.items():
        p50, p99 = (1e3 * float(t) for t in np.percentile(times, [50, 99]))
        gpu = None
        if hasattr(opened[title], "time_launches"):
            gpu = float(np.median(opened[title].time_launches(ROUNDS * STEPS)))
        found[title] = {"p50_ms": p50, "p99_ms": p99, "gpu_ms": gpu}
    return found


def start_targets(runtime: Any) -> None:
    """A template in every place of every slot."""
    import numpy as np

    variant = runtime.variant
    crop = np.full((variant.template_size, variant.template_size, 3), 90, np.uint8)
    box = np.array([0.25, 0.25, 0.5, 0.5], np.float32)
    for slot in range(runtime.batch):
        for index in range(variant.templates):
            runtime.encode_template(slot, index, crop, box)
        runtime.forget(slot)


def step_targets(runtime: Any, count: int) -> list[float]:
    """Seconds of so many steps of all slots."""
    import numpy as np

    side, grid = runtime.variant.search_size, runtime.variant.grid
    crops = np.random.default_rng(0).integers(0, 256, (runtime.batch, side, side, 3), np.uint8)
    window, slots, times = np.ones((grid, grid), np.float32), list(range(runtime.batch)), []
    for _ in range(count):
        start = time.perf_counter()
        runtime.step(slots, crops, window)
        times.append(time.perf_counter() - start)
    return times


def measure_parity(opened: dict[str, Any], title: str) -> dict[str, Any] | None:
    """A contender beside the eager network on a built-in clip."""
    from relo_edge.benchmarks.parity.compare import compare_runtimes, run_reference
    from relo_edge.benchmarks.parity.rollout import find_segments

    reference = opened.get(f"{REFERENCE} eager")
    if reference is None or opened[title] is reference:
        return None
    alone = run_reference(reference, find_segments([])[:1])
    result = compare_runtimes(reference, opened[title], alone)
    return result.to_dict()


def describe_result(result: dict[str, Any]) -> str:
    """A table, then what was left out and why."""
    lines = [f"{result['gpu']}; tests: {result['tests']['summary']}"]
    head = f"{'variant':<9}{'batch':>6}  {'runtime':<24}{'p50 ms':>9}{'p99 ms':>9}{'GPU ms':>9}"
    lines.append(f"{head}{'x eager':>9}  parity")
    for row in result["rows"]:
        gpu = f"{row['gpu_ms']:>9.3f}" if row["gpu_ms"] is not None else f"{'-':>9}"
        ratio = f"{row['ratio_to_eager']:>9.2f}" if row["ratio_to_eager"] else f"{'-':>9}"
        times = f"{row['p50_ms']:>9.3f}{row['p99_ms']:>9.3f}{gpu}{ratio}"
        parity = "-" if row["parity"] is None else str(row["parity"]["passed"])
        lines.append(f"{row['variant']:<9}{row['batch']:>6}  {row['runtime']:<24}{times}  {parity}")
    lines += [f"left out {what}: {why}" for what, why in result["skipped"].items()]
    return "\n".join(lines)


def publish_result(result: dict[str, Any], folder: Path) -> None:
    """JSON and table side by side, named after the day and the GPU."""
    from relo_edge.host.files import write_text

    day = datetime.now(timezone.utc).date().isoformat()
    stem = f"{day}-{'-'.join(result['gpu'].lower().split())}"
    table = describe_result(result)
    write_text(folder / f"{stem}.json", json.dumps(result, indent=1) + "\n")
    write_text(folder / f"{stem}.txt", table + "\n")
    print(table)


if __name__ == "__main__":
    sys.exit(main())
