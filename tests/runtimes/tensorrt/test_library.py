"""Which TensorRT is taken, and what is said when it cannot be."""

import types

import pytest

from relo_edge.errors import InputError, MissingDependency, RuntimeUnavailable
from relo_edge.runtimes.tensorrt import library as shelf
from relo_edge.runtimes.tensorrt.library import FLAVOURS, Library, choose_flavour, find_library


class Renamed:
    """RTX's module under another name and version."""

    def __init__(self, version, module):
        self.__version__, self._module = version, module

    def __getattr__(self, name):
        return getattr(self._module, name)


def offer(monkeypatch, **versions):
    """Let these modules be all that is installed."""
    rtx = find_library("tensorrt-rtx").trt

    def import_module(name):
        if name not in versions:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return Renamed(versions[name], rtx)

    monkeypatch.setattr(shelf, "import_module", import_module)


def test_rtx_is_found_by_its_wheels_without_their_meta_package():
    found = find_library("tensorrt-rtx")
    assert found.is_rtx
    assert not found.needs_gpu_to_build
    assert found.at_least(10, 13)
    assert found.version.startswith("1.")


def test_one_logger_serves_the_process():
    assert find_library("tensorrt-rtx").logger is find_library("tensorrt-rtx").logger


@pytest.mark.parametrize(
    ("capability", "installed", "expected"),
    [
        (None, {}, "tensorrt-rtx"),
        ((8, 9), {"tensorrt": "10.9.0", "tensorrt_rtx": "1.4"}, "tensorrt-rtx"),
        ((8, 9), {"tensorrt": "10.9.0"}, "tensorrt"),
        ((8, 7), {"tensorrt": "10.3.0"}, "tensorrt"),
        ((9, 0), {"tensorrt": "11.4.0", "tensorrt_rtx": "1.4"}, "tensorrt"),
        ((9, 0), {"tensorrt_rtx_bindings": "1.7.1.116"}, "tensorrt-rtx"),
        ((9, 0), {"tensorrt": "8.6.1", "tensorrt_rtx": "1.4"}, "tensorrt-rtx"),
        ((11, 0), {}, "tensorrt"),
    ],
)
def test_the_gpu_and_what_is_installed_decide(monkeypatch, capability, installed, expected):
    offer(monkeypatch, **installed)
    assert choose_flavour(capability) == expected


def test_an_old_one_is_refused_with_the_way_out(monkeypatch):
    offer(monkeypatch, tensorrt="8.5.2")
    with pytest.raises(
        RuntimeUnavailable, match=r"8\.5\.2, expected 10\.3 or newer; .*JetPack 6.1"
    ):
        find_library("tensorrt")


def test_one_that_is_not_there_is_named(monkeypatch):
    offer(monkeypatch)
    for flavour in FLAVOURS:
        with pytest.raises(MissingDependency, match=f"{flavour} does not import.*pip install"):
            find_library(flavour)


def test_what_an_uninstall_left_behind_is_not_a_library(monkeypatch):
    monkeypatch.setattr(shelf, "import_module", types.ModuleType)
    with pytest.raises(MissingDependency, match="tensorrt without its libraries"):
        find_library("tensorrt")


def test_an_unknown_name_is_a_mistake_of_the_caller():
    with pytest.raises(InputError, match="found trt, expected tensorrt | tensorrt-rtx"):
        find_library("trt")


class Recorder:
    """Notes what is set on a builder's config."""

    def __init__(self):
        self.flags = []

    def set_flag(self, flag):
        self.flags.append(flag.name)


@pytest.mark.parametrize(
    ("version", "wanted", "flags", "level"),
    [
        ("10.3.0", "version", ["VERSION_COMPATIBLE"], None),
        ("10.3.0", "hardware", [], "AMPERE_PLUS"),
        ("10.13.3", "hardware", [], "SAME_COMPUTE_CAPABILITY"),
        ("11.4.0", "hardware", [], "SAME_COMPUTE_CAPABILITY"),
    ],
)
def test_each_version_is_asked_for_compatibility_in_its_own_way(version, wanted, flags, level):
    trt = Renamed(version, find_library("tensorrt-rtx").trt)
    config = Recorder()
    Library("tensorrt", trt, None, None).set_compatible(config, wanted)
    found = getattr(config, "hardware_compatibility_level", None)
    assert config.flags == flags
    assert (found.name if found else None) == level
