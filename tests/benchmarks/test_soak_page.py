"""A short soak of the live page passes, and what goes wrong in one is seen."""

from dataclasses import replace

import numpy as np
import pytest
from clips import StillRuntime

from relo_edge.benchmarks.soak import DEATHS
from relo_edge.benchmarks.soak_page import soak_page
from relo_edge.benchmarks.soak_viewer import read_stamp, stamp_frame
from relo_edge.opencv import cv2


@pytest.mark.slow
def test_a_short_soak(tmp_path):
    result = soak_page(StillRuntime(batch=3), 12.0, tmp_path)
    # In seconds memory has not settled; minutes are for the script.
    settled = replace(result, memory_growth=0.0)
    assert settled.passed, result.describe()
    assert result.added >= 3
    assert result.removed >= 1
    assert result.pictures > 20
    assert result.page_ms > 0
    for wrong in (
        {"unplayable": 1},
        {"order_broken": 1},
        {"recordings": 0},
        {"memory_growth": 0.03},
        {"reconnects": len(DEATHS) - 1},
        {"after": replace(result.after, threads=result.before.threads + 1)},
        {"after": replace(result.after, files=result.before.files + 1)},
    ):
        assert not replace(settled, **wrong).passed


@pytest.mark.parametrize("number", [0, 1, 4095, 2**24 - 1])
def test_a_frame_tells_its_number_through_jpeg(number):
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    encoded = cv2.imencode(".jpg", stamp_frame(frame, number), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    assert read_stamp(cv2.imdecode(encoded, cv2.IMREAD_COLOR)) == number
