"""What is expensive to make and shared by many tests: exported bundles with fixed weights."""

import ctypes
import fcntl
import os
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path

# Before a library counts the cores: each worker of a parallel run, and its children, keep to one.
if (WORKER := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {CORES[int(WORKER.removeprefix("gw")) % len(CORES)]})

import pytest
import torch
import typer
from error_form import find_faults
from hypothesis import settings
from small_sutrack import export_small
from support import draw_recipe

from relo_edge.bundle import Bundle, open_bundle
from relo_edge.errors import ReloError
from relo_edge.export import verification
from relo_edge.export.publishing import export_bundle
from relo_edge.host.telemetry import silence_libraries
from relo_edge.network.checkpoint import Checkpoint, read_checkpoint
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.spec import VARIANTS

# A run under nohup or in a script's background ignores these, and so would every child.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

silence_libraries()  # some tests import these libraries themselves

# Verbs, options and their types take a tenth of a second to put together, and hundreds of tests do.
typer.main.get_command = cache(typer.main.get_command)

# Machines are shared: how long an example takes says nothing.
settings.register_profile("relo-edge", deadline=None)
settings.load_profile("relo-edge")


@pytest.fixture(scope="session")
def error_lines():
    """Every message that a ReloError is made with, while the suite runs in this process."""
    lines, build = [], ReloError.__init__

    def note(self, *args, **options):
        build(self, *args, **options)
        lines.append(str(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReloError, "__init__", note)
        yield lines


@pytest.fixture(autouse=True)
def check_error_lines(error_lines):
    """Whatever a test makes relo-edge say has the form of an error line."""
    error_lines.clear()
    yield
    faults = {line: find_faults(line) for line in error_lines}
    assert not {line: found for line, found in faults.items() if found}


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """One folder for all processes of a run: what is expensive is made by the first and shared."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(shared_folder):
    """Tests leave the user's cache and records alone."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("cache", "state"):
            patch.setenv(f"XDG_{kind.upper()}_HOME", str(shared_folder / kind))
            (shared_folder / kind).mkdir(exist_ok=True)
        yield


@pytest.fixture(autouse=True)
def own_state(own_cache, tmp_path_factory, monkeypatch):
    """What a test has measured or built here is no other test's machine."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def pytest_collection_modifyitems(items):
    """GPU tests run wherever a driver loads; elsewhere the report says why they did not."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        skip = pytest.mark.skip(reason=f"no NVIDIA driver: {error}")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


SMALL = replace(VARIANTS["demo"], name="small", width=96, depth=2, head_channels=32)


def write_checkpoint(folder: Path, variant: str, salt: int = 1) -> Path:
    path = folder / f"{variant}-{salt}.pth"
    torch.save(draw_recipe(variant, salt), path)
    return path


@pytest.fixture(scope="session")
def demo_bundle(shared_folder) -> Bundle:
    """The demo variant, exported; not to be changed."""
    return _share_bundle(shared_folder, "demo")


@pytest.fixture(scope="session")
def t256_bundle(shared_folder) -> Bundle:
    """T256 with the weights of the recorded vectors; not to be changed."""
    return _share_bundle(shared_folder, "t256")


@pytest.fixture(scope="session")
def small_bundle(shared_folder) -> Bundle:
    """A third of the demo's blocks, half as wide: for what costs by layer; not to be changed."""
    return _share_bundle(shared_folder, "small")


@pytest.fixture(scope="session")
def sutrack_bundle(shared_folder) -> Bundle:
    """A small SUTrack with two templates; not to be changed."""
    folder = shared_folder / "sutrack-small"
    with (shared_folder / "sutrack-small.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            export_small(shared_folder)
    return open_bundle(folder)


def _share_bundle(root: Path, variant: str) -> Bundle:
    """The variant's bundle with fixed weights, exported by whichever process comes first."""
    folder = root / variant
    with (root / f"{variant}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch:
                if variant == "t256":  # its release's vectors prove more than ten frames would
                    patch.setattr(verification, "FRAMES", 2)
                export_bundle(_draw_checkpoint(root, variant), folder)
    return open_bundle(folder)


def _draw_checkpoint(root: Path, variant: str) -> Checkpoint:
    if variant in VARIANTS:
        return read_checkpoint(write_checkpoint(root, variant))
    source = root / "small.pth"
    torch.save({}, source)
    return Checkpoint(SMALL, draw_weights(SMALL), source)
