"""What is expensive to make and shared by many tests: exported bundles with fixed weights."""

import ctypes
import fcntl
import os
import signal
from collections.abc import Callable
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
from small_relo import export_small
from small_sutrack import export_small as export_small_sutrack
from support import draw_recipe

from relo_edge.bundle import Bundle, open_bundle
from relo_edge.errors import ReloError
from relo_edge.export import verification
from relo_edge.export.publishing import export_bundle
from relo_edge.host.telemetry import silence_libraries
from relo_edge.network.checkpoint import read_checkpoint

# A run under nohup or in a script's background ignores these, and so would every child.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Children import what is installed, not the folder of that name where the tests are run.
os.environ["PYTHONSAFEPATH"] = "1"

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


def write_checkpoint(folder: Path, variant: str, salt: int = 1) -> Path:
    path = folder / f"{variant}-{salt}.pth"
    torch.save(draw_recipe(variant, salt), path)
    return path


@pytest.fixture(scope="session")
def small_bundle(shared_folder) -> Bundle:
    """A small RELO with fixed weights, for whatever no size matters to; not to be changed."""
    return _share_folder(shared_folder, "small", export_small)


@pytest.fixture(scope="session")
def demo_bundle(shared_folder) -> Bundle:
    """The demo variant with fixed weights; not to be changed."""
    return _share_folder(shared_folder, "demo", _export_demo)


@pytest.fixture(scope="session")
def t256_bundle(shared_folder) -> Bundle:
    """T256 with the weights of the recorded vectors; not to be changed."""
    return _share_folder(shared_folder, "t256", _export_t256)


@pytest.fixture(scope="session")
def sutrack_bundle(shared_folder) -> Bundle:
    """A small SUTrack with two templates; not to be changed."""
    return _share_folder(shared_folder, "sutrack-small", export_small_sutrack)


def _share_folder(root: Path, name: str, export: Callable[[Path], Bundle]) -> Bundle:
    """The bundle of that name below the root, exported by whichever process comes first."""
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return open_bundle(root / name) if (root / name).exists() else export(root)


def _export_demo(root: Path) -> Bundle:
    return _export_recipe(root, "demo")


def _export_t256(root: Path) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "FRAMES", 2)  # the vectors prove more than ten would
        return _export_recipe(root, "t256")


def _export_recipe(root: Path, variant: str) -> Bundle:
    return export_bundle(read_checkpoint(write_checkpoint(root, variant)), root / variant)
