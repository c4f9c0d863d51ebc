"""A soak of the wall: four sources on one runtime, each with a viewer; they come and go."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from relo_edge.benchmarks.soak.log import FailingCamera, Soak, SoakLog
from relo_edge.benchmarks.soak.page import RECORDINGS, StampedCamera
from relo_edge.benchmarks.soak.viewer import SoakViewer
from relo_edge.runtime import Runtime
from relo_edge.serve.named_targets import build_targets
from relo_edge.serve.recordings import Recordings
from relo_edge.serve.server import PageServer
from relo_edge.serve.wall import Wall
from relo_edge.serve.worker import TrackingWorker
from relo_edge.streams.sharing import SharedRuntime
from relo_edge.video.live import ReconnectPolicy, read_live
from relo_edge.video.opening import open_source

__all__ = ["WALL_SOURCES", "WALL_TARGETS", "WallSoak"]

CAMERA = "synthetic:size=480x360,fps=15"
"""No larger than a small picture, so that the stamp in it stays readable."""
SIZE = (480, 360)
NAMES = ("steady", "a", "b", "c")
"""The first stays, fails and is recorded; the others come and go."""
TARGETS = 2
WALL_SOURCES = len(NAMES)
WALL_TARGETS = TARGETS * WALL_SOURCES
CHANGING = 0.05
"""How often a source is removed, or comes back."""


class WallSoak(Soak):
    """Serves the wall to a viewer of each source, as `serve` with several sources does."""

    add_rate, remove_rate = 0.8, 0.4

    def __init__(self, runtime: Runtime, log: SoakLog) -> None:
        super().__init__(log)
        self._shared = SharedRuntime(runtime)
        self._steady = FailingCamera(log.seconds, CAMERA)
        self._workers = {name: self._build_worker(name) for name in NAMES}
        self._viewers: dict[str, SoakViewer] = {}
        self._stack = ExitStack()
        self._stack.callback(runtime.close)
        self._wall = Wall(dict(self._workers))
        self._server = self._stack.enter_context(PageServer(self._wall, "127.0.0.1", 0))
        count = 2 * RECORDINGS
        self._changes = [log.seconds * (n + 0.5) / count for n in range(count)]
        self._pictures = self._removed = 0
        self._ages: list[float] = []
        for name in NAMES:
            self._visit(name)

    def advance(self) -> bool:
        """Watch each picture for a while."""
        for viewer in self._viewers.values():
            viewer.watch(self.log.rng.uniform(0.05, min(0.2, self.log.seconds / 60)))
        return True

    def use(self) -> None:
        """Start or stop a recording when it is time; now and then a source leaves or comes back.

        While memory is compared all are there: each has some of its own.
        """
        if self._changes and self.log.elapsed > self._changes[0]:
            self._changes.pop(0)
            steady = self._viewers["steady"]
            steady.ask("stop-recording" if steady.state["recording"] else "record")
        if self.log.measuring:
            self._bring_back_all()
        elif self.log.rng.random() < CHANGING:
            name = self.log.rng.choice(NAMES[1:])
            self._remove(name) if name in self._viewers else self._bring_back(name)

    def list_targets(self) -> list[int]:
        """Those of all sources: the source's place in the hundreds of millions, then its number."""
        return [
            place * 10**8 + entry["target"]
            for place, name in enumerate(NAMES)
            if name in self._viewers
            for entry in self._viewers[name].state.get("targets", ())
        ]

    def has_room(self) -> bool:
        """Whether some source takes another target."""
        return self._find_roomy() is not None

    def add_target(self) -> bool:
        """Draw a box in a picture shown."""
        viewer = self._find_roomy()
        assert viewer is not None
        box = list(self.log.draw_box(*SIZE))
        return bool(viewer.ask("add", picture=viewer.picture, box=box)["type"] == "done")

    def remove_target(self, target: int) -> bool:
        """Remove it on its source's page."""
        place, number = divmod(target, 10**8)
        return bool(self._viewers[NAMES[place]].ask("remove", target=number)["type"] == "done")

    def close(self) -> None:
        """Leave, stop the server, and check what was recorded."""
        with self._stack:
            for name in list(self._viewers):
                self._leave(name)
            self.log.reconnects = self._workers["steady"].reconnects
        self.log.frames += sum(worker.frames for worker in self._workers.values())
        page_ms = round(median(self._ages), 1) if self._ages else None
        self.log.more |= {
            "pictures": self._pictures,
            "page_ms": page_ms,
            "sources_gone": self._removed,
        }
        for video in self._workers["steady"].recordings.made:
            if video.suffix == ".mp4":
                self.log.check_recording(video, video.with_suffix(".csv"))

    def _build_worker(self, name: str) -> TrackingWorker:
        camera = StampedCamera(self._steady if name == "steady" else lambda: open_source(CAMERA))
        policy = ReconnectPolicy(first_delay=0.1, max_delay=1)
        return TrackingWorker(
            lambda: read_live(camera, reconnect=policy),
            lambda: build_targets(self._shared.share(most=TARGETS)),
            Recordings(self.log.folder / name),
            name=name,
        )

    def _find_roomy(self) -> SoakViewer | None:
        roomy = [
            viewer
            for viewer in self._viewers.values()
            if viewer.picture is not None and len(viewer.state.get("targets", ())) < TARGETS
        ]
        return self.log.rng.choice(roomy) if roomy else None

    def _visit(self, name: str) -> None:
        self._viewers[name] = SoakViewer(self._server.port, f"/sources/{name}/live?small")

    def _leave(self, name: str) -> None:
        viewer = self._viewers.pop(name)
        self._pictures += viewer.pictures
        self.log.order_broken += viewer.order_broken
        self._ages += viewer.ages
        viewer.close()

    def _remove(self, name: str) -> None:
        self._leave(name)
        self._wall.remove(name)
        self._removed += 1
        self.log.frames += self._workers.pop(name).frames

    def _bring_back_all(self) -> None:
        for name in NAMES:
            if name not in self._viewers:
                self._bring_back(name)

    def _bring_back(self, name: str) -> None:
        self._workers[name] = self._build_worker(name)
        self._wall.add(name, self._workers[name])
        self._visit(name)
