"""What fails in the runtime, while it opens or in mid stream, leaves nothing behind."""

import numpy as np
import pytest
from recorded_steps import record_step, start, step
from recording_device import RecordingDevice, open_recorded

from relo_edge.errors import DeviceError
from relo_edge.runtimes.onnxruntime import OnnxRuntime


@pytest.mark.parametrize("call", ["begin", "end"])
def test_a_failed_capture_is_told_and_the_track_goes_on(small_bundle, caplog, call):
    device = RecordingDevice(fail_in=call)
    with caplog.at_level("WARNING", "relo_edge"):
        runtime = open_recorded(small_bundle, device=device)
    assert "goes on without CUDA graphs" in caplog.text
    assert runtime.launching.startswith(f"kernel by kernel: CUDA's {call} failed")
    start(runtime, [0])
    assert "enqueue" in [entry[0] for entry in record_step(runtime, device, 0)]
    plain = OnnxRuntime(small_bundle, "fp32")
    start(plain, [0])
    runtime.forget(0)
    expected, got = step(plain, 0), step(runtime, 0)
    np.testing.assert_allclose(got.maps, expected.maps, atol=1e-4)


CALLS = ["allocate", "allocate_pinned", "create_stream", "clear", "create_context", "send"]


@pytest.mark.parametrize("call", [*CALLS, "enqueue", "fetch", "synchronize"])
def test_whatever_fails_while_opening_nothing_is_left(small_bundle, call):
    device = RecordingDevice(fail_in=call)
    with pytest.raises(DeviceError, match=call):
        open_recorded(small_bundle, device=device)
    assert device.leftovers == (0, 0, 0, 0)
    assert device.active == 0


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_running_out_of_memory_gives_all_of_it_back(small_bundle, share):
    plenty = RecordingDevice()
    open_recorded(small_bundle, 4, device=plenty)
    needed = sum(entry[1] for entry in plenty.log if entry[0] == "allocate")
    device = RecordingDevice(memory=int(share * needed))
    with pytest.raises(DeviceError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        open_recorded(small_bundle, 4, device=device)
    assert device.leftovers == (0, 0, 0, 0)


@pytest.mark.parametrize("call", ["launch", "synchronize", "move"])
def test_an_error_in_mid_stream_ends_the_runtime_and_no_more(small_bundle, call):
    device, healthy = RecordingDevice(), open_recorded(small_bundle)
    runtime = open_recorded(small_bundle, 2, device=device)
    start(runtime, [0, 1])
    for _ in range(2):
        step(runtime, 0)
    step(runtime, 0, 1)
    device.fail_in = call
    with pytest.raises(
        DeviceError, match=f"CUDA's {call} failed: found CUDA_ERROR_ILLEGAL_ADDRESS"
    ):
        step(runtime, 0)
    assert device.leftovers == (0, 0, 0, 0)
    for use in (lambda: step(runtime, 0), lambda: runtime.forget(0), lambda: start(runtime, [0])):
        with pytest.raises(DeviceError, match=r"runtime is closed: found .*ILLEGAL_ADDRESS"):
            use()
    runtime.close()
    start(healthy, [0])
    assert np.isfinite(step(healthy, 0).scores).all()


def test_an_enqueue_that_is_refused_is_no_silent_answer(small_bundle, monkeypatch):
    device = RecordingDevice(graphs=False)
    runtime = open_recorded(small_bundle, device=device)
    start(runtime, [0])
    monkeypatch.setattr("recording_device.OnnxContext.execute_async_v3", lambda *_: False)
    with pytest.raises(DeviceError, match="tensorrt cannot run"):
        step(runtime, 0)
    assert device.leftovers == (0, 0, 0, 0)


def test_closing_gives_everything_back_once(small_bundle):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, 2, device=device)
    start(runtime, [0])
    step(runtime, 0)
    runtime.close()
    runtime.close()
    assert device.leftovers == (0, 0, 0, 0)
    with pytest.raises(DeviceError, match="found it was closed"):
        step(runtime, 0)
