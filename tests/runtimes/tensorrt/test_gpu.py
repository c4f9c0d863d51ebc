"""The promises that only a GPU can keep; `make gpu-check` runs them on one."""

import ctypes
import resource
import shutil
import threading
from contextlib import closing

import numpy as np
import pytest
from engines import add_fp16
from support import GRAPHS, load_vectors

from relo_edge.bundle import open_bundle
from relo_edge.contract import EngineGraph
from relo_edge.errors import MissingDependency, RuntimeUnavailable
from relo_edge.geometry import box_iou, read_box
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.tensorrt.device import open_device
from relo_edge.runtimes.tensorrt.engines import build_engines, open_target
from relo_edge.tracker import Tracker

pytestmark = pytest.mark.gpu

FRAMES = 10_000
GROWTH = 8 << 20


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def built(request, t256_bundle, tmp_path_factory):
    """T256 with engines in float32 and half, for whichever library is here and runs this GPU."""
    folder = tmp_path_factory.mktemp("engines") / "b"
    shutil.copytree(t256_bundle.path, folder)
    bundle = add_fp16(open_bundle(folder))
    try:
        target = open_target(request.param, "1,2", None)
        for precision in ("fp32", "fp16"):
            dtype = bundle.state_dtype(precision)
            graphs = {n: EngineGraph(bundle.graph(n, precision), dtype) for n in GRAPHS}
            build_engines(bundle, precision, graphs, target)
        open_runtime(bundle, request.param, "fp32").close()
    except (MissingDependency, RuntimeUnavailable) as error:
        pytest.skip(str(error))
    return bundle, request.param


def track(runtime, vectors):
    tracker = Tracker(runtime, color="rgb")
    first, *others = vectors["frames"]
    tracker.init(first, read_box(vectors["init_box_xywh"]))
    return np.array([tracker.update(frame).box for frame in others])


def test_float32_follows_the_release_to_half_a_pixel(built):
    bundle, name = built
    vectors = load_vectors("rollout_1")
    with closing(open_runtime(bundle, name, "fp32")) as runtime:
        boxes = track(runtime, vectors)
    np.testing.assert_allclose(boxes, vectors["t256_default_boxes"], rtol=0, atol=0.5)


def test_half_overlaps_the_release(built):
    bundle, name = built
    vectors = load_vectors("rollout_1")
    with closing(open_runtime(bundle, name, "fp16")) as runtime:
        boxes = track(runtime, vectors)
    pairs = zip(boxes, vectors["t256_default_boxes"], strict=True)
    assert np.mean([box_iou(read_box(a), read_box(b)) for a, b in pairs]) >= 0.98


def test_two_trackers_in_two_threads_equal_each_alone(built):
    bundle, name = built
    vectors, found = load_vectors("rollout_1"), {}
    with closing(open_runtime(bundle, name, "fp16")) as runtime:
        alone = track(runtime, vectors)

    def follow(index):
        with closing(open_runtime(bundle, name, "fp16")) as runtime:
            found[index] = track(runtime, vectors)

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        np.testing.assert_array_equal(found[index], alone)


def read_free_memory():
    """Of the GPU, from the driver, in the context that the runtime shares."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    cuda = ctypes.CDLL("libcuda.so.1")
    with open_device().activate():
        assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return free.value


def test_ten_thousand_frames_do_not_grow(built):
    bundle, name = built
    side, grid = bundle.variant.search_size, bundle.variant.grid
    crops = np.random.default_rng(0).integers(0, 256, (8, 2, side, side, 3), np.uint8)
    window = np.ones((grid, grid), np.float32)
    with closing(open_runtime(bundle, name, "fp16", batch=2)) as runtime:
        for index in range(200):
            slots = [index % 2] if index % 3 else [0, 1]
            runtime.step(slots, crops[index % 8][slots], window)
        host, device = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, read_free_memory()
        for index in range(FRAMES):
            runtime.step([0, 1], crops[index % 8], window)
        assert read_free_memory() >= device - GROWTH
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <= host + GROWTH // 1024


def test_closing_gives_the_gpu_back_its_memory(built):
    bundle, name = built
    open_runtime(bundle, name, "fp16").close()
    before = read_free_memory()
    for _ in range(3):
        open_runtime(bundle, name, "fp16").close()
    assert read_free_memory() >= before - GROWTH
