"""Plans built once for all processes of a run: the same inputs built again prove nothing more."""

import fcntl
import hashlib
from dataclasses import replace

import pytest

from relo_edge.host.files import hash_file
from relo_edge.runtimes.tensorrt import engines
from relo_edge.runtimes.tensorrt.builder import build_plan


@pytest.fixture
def shared_plans(shared_folder, monkeypatch):
    """`build_engines` takes what another test has built from the same graph for the same target."""

    def build(library, graph, wanted, advance, pressed):
        inputs = library.flavour, library.version, hash_file(graph), replace(wanted, timings=None)
        name = hashlib.sha256(repr(inputs).encode()).hexdigest()
        path = shared_folder / f"{name}.plan"
        with (shared_folder / "plans.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                path.write_bytes(build_plan(library, graph, wanted, advance, pressed))
        return path.read_bytes()

    monkeypatch.setattr(engines, "build_plan", build)
