"""Several sources on one page, and what a supervisor is told of them."""

import json
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
from browser import Browser, wait_for
from cameras import ScriptedCamera, list_additions, list_holdings
from clips import StillRuntime
from pages import CAMERA, Watcher, fetch, serve
from websockets.exceptions import ConnectionClosed

from relo_edge.errors import InputError
from relo_edge.host.opencv import cv2
from relo_edge.serve.building import build_wall, build_worker
from relo_edge.serve.server import PageServer
from relo_edge.streams.metrics import Metrics
from relo_edge.streams.named_sources import NamedSource
from relo_edge.streams.sharing import SharedRuntime
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.live import read_live

START = TargetStart((40.0, 30.0, 24.0, 18.0), "ball")


def make_sources(*names, **given):
    return [NamedSource(n, CAMERA) for n in names] + [NamedSource(*pair) for pair in given.items()]


@contextmanager
def show_wall(folder, sources, starts=None, host="127.0.0.1", metrics=None):
    runtime = StillRuntime(batch=2 * len(sources))
    starts = {source.name: (starts or {}).get(source.name, ()) for source in sources}
    wall = build_wall(sources, runtime, 2, "default", None, folder, starts, metrics)
    with PageServer(wall, host, 0) as server:
        yield server


class TileWatcher(Watcher):
    """A viewer of one of the sources."""

    def __init__(self, server, name, small=False):
        self.path = f"/sources/{name}/live{'?small' if small else ''}"
        super().__init__(server, path=self.path)


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
    folder = tmp_path_factory.mktemp("takes")
    with show_wall(folder, make_sources("door", "yard"), {"door": [START]}) as server:
        yield server


def test_the_wall_lists_its_sources_and_each_has_its_page(wall):
    assert b'<ul id="wall"' in fetch(wall)[2]
    assert json.loads(fetch(wall, "/sources")[2]) == {"sources": ["door", "yard"]}
    for file in ("", "page.css", "page.js", "line.js", "plot.js", "stage.js"):
        assert fetch(wall, f"/sources/door/{file}")[0] == 200
    for path in ("/sources/gone/", "/sources/door/none", "/live", "/recordings/x.mp4"):
        assert fetch(wall, path)[0] == 404


def test_each_source_has_its_own_targets_and_its_own_limit(wall):
    with TileWatcher(wall, "door") as door, TileWatcher(wall, "yard") as yard:
        door.until(lambda: door.state and door.head and door.head["tracks"])
        assert (door.state["source"], door.state["max_targets"]) == ("door", 2)
        assert [track["name"] for track in door.head["tracks"]] == ["ball"]
        for _ in range(2):
            assert yard.add((40, 30, 20, 20))["type"] == "done"
        assert "at most 2" in yard.add((40, 30, 20, 20))["message"]
        yard.until(lambda: len(yard.head["tracks"]) == 2)
        assert yard.ask("clear")["type"] == "done"
        assert [entry["name"] for entry in door.state["targets"]] == ["ball"]


def test_a_tile_gets_a_small_picture(tmp_path):
    sources = [NamedSource("wide", "synthetic:size=960x540,fps=30")]
    with (
        show_wall(tmp_path, sources) as server,
        TileWatcher(server, "wide", small=True) as tile,
        TileWatcher(server, "wide") as page,
    ):
        for watcher, size in ((tile, (480, 270)), (page, (960, 540))):
            watcher.until(lambda w=watcher: w.head)
            jpeg = np.frombuffer(watcher.head["jpeg"], np.uint8)
            assert cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape[1::-1] == size
            assert watcher.head["size"] == [960, 540]


def test_recordings_lie_in_a_folder_for_each_source(tmp_path):
    with (
        show_wall(tmp_path, make_sources("door", "yard")) as server,
        TileWatcher(server, "yard") as page,
    ):
        page.until(lambda: page.head)
        assert page.ask("record")["type"] == "done"
        shown = len(page.heads)
        page.until(lambda: len(page.heads) > shown + 3)
        assert page.ask("stop-recording")["type"] == "done"
        names = [entry["name"] for entry in page.until(lambda: page.state["files"])]
        assert sorted(name.partition("-")[0] for name in names) == ["yard", "yard"]
        assert sorted(path.name for path in (tmp_path / "yard").iterdir()) == sorted(names)
        assert fetch(server, f"/sources/yard/recordings/{names[0]}")[0] == 200
        assert fetch(server, f"/sources/door/recordings/{names[0]}")[0] == 404


@pytest.mark.slow
def test_sources_come_and_go_while_the_page_is_open(tmp_path):
    before = list_holdings()
    with show_wall(tmp_path, make_sources("door", "yard")) as server:
        wall, runtime = server.site, SharedRuntime(StillRuntime(batch=2))
        worker = build_worker(
            NamedSource("late", CAMERA), runtime.share, "default", None, tmp_path, [], None,
            beside_others=True,
        )  # fmt: skip
        wall.add("late", worker)
        with TileWatcher(server, "late") as page:
            page.until(lambda: len(page.heads) > 3)
        with pytest.raises(InputError, match="source 'late' is there"):
            wall.add("late", worker)
        with TileWatcher(server, "yard") as page:
            page.until(lambda: page.head)
            wall.remove("yard")
            assert fetch(server, "/sources/yard/")[0] == 404
            with pytest.raises(ConnectionClosed):
                page.until(lambda: False)
        assert json.loads(fetch(server, "/sources")[2]) == {"sources": ["door", "late"]}
        with pytest.raises(InputError, match="source: found 'yard'"):
            wall.remove("yard")
        assert server.alive
    wait_for(lambda: not list_additions(before))


class NotedCamera(ScriptedCamera):
    """Tells which of its frames are still held by anyone."""

    def __init__(self):
        super().__init__((9999, "end"), pause=0.02)
        self.given = []

    def _give(self, *life):
        for frame in super()._give(*life):
            self.given.append(weakref.ref(frame))
            yield frame

    def count_held(self):
        return sum(frame() is not None for frame in self.given)


def test_a_source_that_has_gone_keeps_no_picture(tmp_path, monkeypatch):
    """What it was made of refers to itself, and stays until Python collects its oldest garbage."""
    cameras = {"door": NotedCamera(), "yard": NotedCamera()}
    monkeypatch.setattr("relo_edge.serve.building.read_live", lambda name: read_live(cameras[name]))
    with show_wall(tmp_path, [NamedSource(name, name) for name in cameras]) as server:
        kept = server.site.workers[0]
        with TileWatcher(server, "door") as page:
            page.until(lambda: len(page.heads) > 3)
        server.site.remove("door")
        wait_for(lambda: not cameras["door"].count_held())
        assert kept.frames > 3
        wait_for(cameras["yard"].count_held)


def test_one_that_does_not_open_is_shown_and_can_be_restarted(tmp_path, monkeypatch):
    cameras = {
        "good": ScriptedCamera((9999, "end")),
        "bad": ScriptedCamera((0, "refuse"), (9999, "end")),
    }
    monkeypatch.setattr("relo_edge.serve.building.read_live", lambda name: read_live(cameras[name]))
    sources = [NamedSource(name, name) for name in cameras]
    with show_wall(tmp_path, sources, {"bad": [START]}) as server:
        assert fetch(server, "/healthz")[::2] == (200, b"ok\n")
        status, _, body = fetch(server, "/readyz")
        assert (status, body) == (503, b"1 of 2 sources give no frames\n")
        with TileWatcher(server, "bad") as page:
            page.until(lambda: page.state)
            assert page.state["phase"] == "failed"
            assert "camera x does not open" in page.state["notice"]
            assert page.ask("restart")["type"] == "done"
            page.until(lambda: page.head and page.head["tracks"])
        wait_for(lambda: fetch(server, "/readyz")[0] == 200)


def test_a_silent_camera_keeps_nobody_waiting(tmp_path, monkeypatch):
    cameras = {"good": ScriptedCamera((9999, "end")), "silent": ScriptedCamera(*[(0, "hang")] * 20)}
    monkeypatch.setattr("relo_edge.serve.building.read_live", lambda name: read_live(cameras[name]))
    sources = [NamedSource(name, name) for name in cameras]
    with (
        show_wall(tmp_path, sources, {"silent": [START]}) as server,
        TileWatcher(server, "good") as page,
    ):
        page.until(lambda: len(page.heads) > 3)


@pytest.mark.slow
def test_a_target_that_does_not_fit_a_late_first_frame_is_a_notice(tmp_path, monkeypatch):
    late = ScriptedCamera(*[(0, "stop")] * 3, (9999, "end"), pause=0.01)
    monkeypatch.setattr("relo_edge.serve.building.read_live", lambda _: read_live(late))
    away = TargetStart((500.0, 0.0, 5.0, 5.0), "away")
    with (
        show_wall(tmp_path, [NamedSource("late", "x")], {"late": [away]}) as server,
        TileWatcher(server, "late") as page,
    ):
        page.until(lambda: page.head and page.state["notice"])
        assert "outside the frame" in page.state["notice"]
        assert server.alive


def test_health_needs_no_token_and_everything_else_does(tmp_path):
    with show_wall(tmp_path, make_sources("door"), host="0.0.0.0") as server:
        assert fetch(server, "/healthz")[0] == 200
        wait_for(lambda: fetch(server, "/readyz")[0] == 200)
        for path in ("/", "/sources", "/sources/door/", "/healthz/", "/sources/door/healthz"):
            assert fetch(server, path)[0] == 401
        assert fetch(server, "/healthz", Origin="http://evil")[0] == 403


def test_a_server_whose_tracker_ended_is_not_well(tmp_path):
    with serve(tmp_path) as server:
        assert fetch(server, "/healthz")[0] == 200
        server.site.worker.close()
        status, _, body = fetch(server, "/healthz")
        assert (status, body) == (503, b"1 of 1 tracking threads ended\n")


def test_the_page_counts_for_prometheus(tmp_path):
    metrics = Metrics()
    with (
        show_wall(tmp_path, make_sources("door"), {"door": [START]}, metrics=metrics) as server,
        TileWatcher(server, "door") as page,
    ):
        page.until(lambda: len(page.heads) > 3)

        def read(name, **labels):
            return metrics.registry.get_sample_value(
                f"relo_edge_{name}", {"source": "door", **labels}
            )

        assert read("frames_total") >= 3
        assert read("source_running") == 1
        for stage in ("wait", "crop", "network", "encode"):
            assert read("stage_seconds_count", stage=stage) > 0


@pytest.mark.slow
def test_one_click_enlarges_a_picture_in_a_browser(tmp_path, wall):
    browser = Browser(tmp_path)
    try:
        tab = browser.open(wall.url)
        tab.until("document.querySelectorAll('#wall .tile:not(.empty)').length === 2")
        assert tab.text("tile-door").startswith("door")
        tab.ask("document.querySelector('#tile-door a').click()")
        tab.until("location.pathname === '/sources/door/'")
        tab.until("document.getElementById('fps') !== null")
        tab.until("document.getElementById('phase').textContent === 'live'")
        tab.until("document.querySelectorAll('#targets li').length === 1")
        tab.click("back")
        tab.until("location.pathname === '/' && document.querySelectorAll('#wall li').length === 2")
        assert tab.errors == []
    finally:
        browser.close()
