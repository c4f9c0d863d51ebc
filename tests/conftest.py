"""What is dear to make and shared by many tests: an exported bundle with recipe weights."""

import ctypes
from pathlib import Path

import pytest
import torch
from error_form import find_faults

from relo_edge.bundle import Bundle
from relo_edge.errors import ReloError
from relo_edge.export.publishing import export_bundle
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.spec import VARIANTS


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


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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
    torch.save(dict(draw_weights(VARIANTS[variant], salt)), path)
    return path


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory) -> Bundle:
    """The demo variant, exported; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    return export_bundle(read_checkpoint(write_checkpoint(folder, "demo")), folder / "bundle")


@pytest.fixture(scope="session")
def t256_bundle(tmp_path_factory) -> Bundle:
    """T256 with the weights of the recorded vectors; not to be changed."""
    folder = tmp_path_factory.mktemp("t256")
    return export_bundle(read_checkpoint(write_checkpoint(folder, "t256")), folder / "bundle")
