"""The search by entropy finds what onnxruntime's own does."""

import contextlib
import io

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from relo_edge.calibration import thresholds

DRAW = np.random.default_rng(0)
VALUES = {
    "normal": DRAW.normal(size=20_000),
    "of one sign": np.abs(DRAW.normal(size=20_000)) ** 1.5 - 0.2,
    "heavy tails": DRAW.standard_t(3, size=20_000),
    "far outliers": np.append(DRAW.normal(size=20_000), np.full(5, 60.0)),
    "one value": np.full(1000, 3.0),
    "silent": np.zeros(100),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_threshold_is_onnxruntimes(values):
    collector = HistogramCollector("entropy", True, 512, 128, 99.99, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        for scale in (1, 1.3):  # the second widens the first's histogram
            collector.collect({"values": [(values * scale).astype(np.float32)]})
        wanted = collector.compute_entropy()["values"]
    spread = thresholds._fold_histogram(*collector.histogram_dict["values"][:4])
    found, width = thresholds.METHODS["entropy"](spread), spread.edges[1]
    # onnxruntime's bounds are a bin apart, and each is cut where values of its sign end.
    assert 0 <= found - max(abs(float(bound)) for bound in wanted[:2]) <= 1.01 * width
