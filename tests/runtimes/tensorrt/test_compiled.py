"""What TensorRT for RTX compiles as it opens is kept beside its plan."""

import gc
import weakref

import pytest
from recording_device import OnnxContext, OnnxEngine, RecordingDevice, open_recorded

from relo_edge.runtimes.tensorrt import engine as engine_module
from relo_edge.runtimes.tensorrt import runtime as runtime_module
from relo_edge.runtimes.tensorrt.compiled import read_compiled, write_compiled


class Kernels:
    """RTX's runtime cache: what was read into it, and something new."""

    def __init__(self):
        self.read = b""

    def deserialize(self, content):
        self.read = content
        return True

    def serialize(self):
        return self.read or b"compiled"


class Settings:
    """RTX's runtime configuration."""

    def __init__(self):
        self.kernels = self.allocation = None

    def set_execution_context_allocation_strategy(self, strategy):
        self.allocation = strategy.name

    def create_runtime_cache(self):
        return Kernels()

    def set_runtime_cache(self, kernels):
        self.kernels = weakref.ref(kernels)  # as the bindings do, which keep nothing alive
        return True


@pytest.fixture
def rtx(monkeypatch):
    """Contexts made by RTX's settings; all settings that were made."""
    made = []

    def create(engine, settings):
        engine._device.note("settings")
        return OnnxContext(engine, engine._device)

    def configure(_engine):
        made.append(Settings())
        return made[-1]

    monkeypatch.setattr(OnnxEngine, "create_runtime_config", configure, raising=False)
    monkeypatch.setattr(OnnxEngine, "create_execution_context", create)
    return made


def test_rtx_captures_by_itself(small_bundle, rtx):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, device=device, flavour="tensorrt-rtx")
    assert "TensorRT for RTX" in runtime.launching
    assert not device.live_graphs
    assert len(rtx) == 2  # one for each engine, whatever the number of its contexts
    for made in rtx:
        assert made.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
        assert made.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
        assert made.allocation == "USER_MANAGED"


def test_what_rtx_compiled_is_kept_for_the_next_opening(tmp_path):
    plan = tmp_path / "step.plan"
    assert read_compiled(plan) == b""
    write_compiled(plan, b"compiled")
    assert read_compiled(plan) == b"compiled"
    plan.with_suffix(".kernels").write_bytes(b"of somebody else")
    assert read_compiled(plan) == b""
    write_compiled(tmp_path / "no" / "such" / "folder.plan", b"compiled")


@pytest.mark.slow
def test_rtx_reads_what_it_compiled_before(small_bundle, rtx, monkeypatch):
    kept = {}
    monkeypatch.setattr(
        engine_module, "write_compiled", lambda plan, found: kept.update({plan.name: found})
    )
    monkeypatch.setattr(runtime_module, "read_compiled", lambda plan: b"")
    open_recorded(small_bundle, flavour="tensorrt-rtx")
    assert set(kept.values()) == {b"compiled"}
    assert len(kept) == 2
    kept.clear()
    monkeypatch.setattr(runtime_module, "read_compiled", lambda plan: b"before")
    runtime = open_recorded(small_bundle, flavour="tensorrt-rtx")
    gc.collect()
    assert [made.kernels().read for made in rtx[2:]] == [b"before"] * 2
    assert not kept
    runtime.close()
    del runtime
    gc.collect()
    assert [made.kernels() for made in rtx[2:]] == [None] * 2
