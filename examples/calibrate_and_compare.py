"""INT8 for your bundle: made, compared with float32, timed: `python calibrate_and_compare.py`.

With a bundle and clips of your own: `python calibrate_and_compare.py relo-t256 street.mp4`.
The calibration is short here (`quick`); leave that out for a bundle that you deploy.
"""

import shutil
import sys
from pathlib import Path

from relo_edge import open_bundle
from relo_edge.pipeline import check_parity, inspect_bundle, quantize_bundle, run_bench


def main(folder: str = "", *clips: str) -> None:
    """Quantize, compare and time; the bundle is changed only if its gate is met."""
    if not folder:  # the built-in bundle is shared: work on a copy
        shutil.copytree(inspect_bundle("demo").path, "relo-demo", dirs_exist_ok=True)
        folder = "relo-demo"
    quantized = quantize_bundle(folder, "int8", clips=clips, method="minmax", quick=True)
    print(quantized.describe())
    bundle = open_bundle(folder)
    print("precisions:", ", ".join(bundle.precisions))
    parity = check_parity(bundle, "onnxruntime", "int8")
    print("same tracker:", parity.passed)
    bench = run_bench(Path(folder), ["onnxruntime:fp32", "onnxruntime:int8"])
    print(bench.describe())


if __name__ == "__main__":
    main(*sys.argv[1:])
