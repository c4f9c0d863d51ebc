"""Ray Serve's part of a fleet, in this process: replicas, a router, and a way to kill one."""

from dataclasses import dataclass
from typing import Any

from relo_edge import open_runtime
from relo_edge.fleet.messages import FleetModel
from relo_edge.fleet.stream_table import StreamTable


class ReplicaGone(Exception):
    """What Ray raises for a replica that has died."""


@dataclass
class Response:
    value: Any

    def result(self, timeout_s):
        assert timeout_s > 0
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def cancel(self):
        """Nobody waits."""


class Call:
    def __init__(self, function):
        self.remote = function


class LocalFleet:
    """A handle: requests go where the router of relo_edge.fleet would send them."""

    def __init__(self, bundle, replicas=2, streams=2):
        self.runtimes = [
            open_runtime(bundle, "onnxruntime", batch=streams, threads=1) for _ in range(replicas)
        ]
        variant = self.runtimes[0].variant
        self.model = FleetModel(variant, variant.protocol(), "onnxruntime", "fp32")
        self.tables = {
            f"replica{n}": StreamTable(runtime, variant.protocol())
            for n, runtime in enumerate(self.runtimes)
        }
        self.dying = set()
        self.describe = Call(lambda: Response(self.model))
        self.ask = Call(self.answer)

    def answer(self, ask, replica):
        if replica in self.dying:
            self.dying.remove(replica)
            del self.tables[replica]
            return Response(ReplicaGone())
        if replica not in self.tables:
            replica = min(self.tables, key=lambda name: len(self.tables[name]), default=None)
            if replica is None:
                return Response(ReplicaGone())
        return Response((replica, self.tables[replica].answer([ask])[0]))

    def kill(self, replica):
        """The next request to it finds it dead."""
        self.dying.add(replica)

    def close(self):
        for runtime in self.runtimes:
            runtime.close()
