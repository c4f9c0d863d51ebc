"""A kill, or a full disk, at each system call that changes a bundle: it is whole, old or new."""

import json
from pathlib import Path

import pytest
from fault_injection import build_shim, run_driver

DRIVER = Path(__file__).with_name("kill_driver.py")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    built = build_shim(tmp_path_factory.mktemp("shim"))
    return built or pytest.skip("no C compiler for the shim that strikes at system calls")


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["new", "old"])
@pytest.mark.parametrize("kind", ["kill", "no-space"])
@pytest.mark.parametrize("action", ["add", "replace"])
def test_a_bundle_is_whole_after_a_fault_at_any_call(
    small_bundle, tmp_path, shim, action, kind, disk
):
    out = run_driver(DRIVER, shim, small_bundle.path, tmp_path, action, kind, disk)
    result = json.loads(out)
    assert result["problems"] == []
    assert result["struck"] >= (20 if kind == "kill" else 10)
    assert result["old"] > 0
    assert result["new"] > 0
