"""The soak's viewer reads from a picture which frame it is."""

import numpy as np
import pytest

from relo_edge.benchmarks.soak.viewer import read_stamp, stamp_frame
from relo_edge.host.opencv import cv2


@pytest.mark.parametrize("number", [0, 1, 4095, 2**24 - 1])
def test_a_frame_tells_its_number_through_jpeg(number):
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    encoded = cv2.imencode(".jpg", stamp_frame(frame, number), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    assert read_stamp(cv2.imdecode(encoded, cv2.IMREAD_COLOR)) == number
