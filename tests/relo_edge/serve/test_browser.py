"""The page as people use it, in a real browser: drag, follow, stop, reload, lose the line."""

import threading
from contextlib import contextmanager

import pytest
from browser import Browser, wait_for
from cameras import ScriptedCamera
from clips import StillRuntime, count_frames, write_video
from models import serve_model
from pages import Watcher, make_tracking, serve
from relay import Relay

from relo_edge.finder.finders import FinderRequest, open_finder
from relo_edge.serve.channel import Channel
from relo_edge.serve.page_finder import PageFinder
from relo_edge.serve.server import PageServer
from relo_edge.video.live import ReconnectPolicy
from relo_edge.video.recorder import VideoRecorder

CAMERA = "synthetic:size=320x240,fps=30"
PHASE = "document.getElementById('phase').textContent"
LIVE = f"{PHASE} === 'live' && !document.querySelector('#stage.empty')"
ROWS = "document.querySelectorAll('#targets li').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@contextmanager
def watch(browser, server, port=None, **options):
    """A tab on the server's page that must not complain."""
    tab = browser.open(server.url.replace(str(server.port), str(port or server.port)), **options)
    try:
        tab.until(LIVE)
        yield tab
        if port is None:
            assert tab.errors == []
    finally:
        tab.close()


@pytest.fixture
def server(tmp_path):
    with serve(tmp_path, CAMERA) as running:
        yield running


def test_drag_follow_stop(browser, server):
    with watch(browser, server) as tab:
        tab.drag((0.25, 0.25), (0.5, 0.5))
        tab.until(f"{ROWS} === 1")
        # What was drawn on the screen is what was begun in the frame: 320x240, larger here.
        (track,) = wait_for(lambda: server.site.broadcaster.latest.tracks)
        x, y, width, height = track.track.box
        assert (x + width / 2, y + height / 2) == pytest.approx((120, 90), abs=3)
        tab.until("document.querySelector('#targets .sure').textContent === '100%'")
        tab.drag((0.6, 0.6), (0.8, 0.9))
        tab.until(f"{ROWS} === 2")
        tab.ask("document.querySelector('#targets button').click()")
        tab.until(f"{ROWS} === 1")
        assert tab.ask("document.querySelector('#targets .name').textContent") == "target 2"
        tab.drag((0.1, 0.1), (0.3, 0.3))
        tab.until(f"{ROWS} === 2")
        tab.click("clear")
        tab.until(f"{ROWS} === 0")
        tab.until("document.getElementById('hint').hidden === false")


def test_a_target_in_words_is_shown_confirmed_or_corrected(browser, tmp_path):
    script = ("[84, 63, 168, 126]", '{"bbox_2d": null}', "[84, 63, 168, 126]")
    find = "(words.value = 'the red car', document.getElementById('ask').click())"
    shown = "!document.getElementById('confirm').hidden"
    with serve_model(*script) as model:
        finder = PageFinder(open_finder(FinderRequest(model.url, "pixels")))
        channel = Channel(make_tracking(tmp_path, "synthetic:size=336x252,fps=30"), finder)
        with PageServer(channel, "127.0.0.1", 0) as server, watch(browser, server) as tab:
            tab.until("!document.getElementById('find').hidden")
            tab.ask(find)
            tab.until(shown)
            look = "document.getElementById('picture').toDataURL()"
            still, frames = tab.ask(look), server.site.worker.frames
            wait_for(lambda: server.site.worker.frames > frames + 5)
            assert (tab.ask(look), tab.ask(ROWS)) == (still, 0), "nothing starts by itself"
            tab.click("confirm")
            tab.until(f"{ROWS} === 1 && !({shown}) && {look} !== {still!r}")
            tab.ask(find)
            tab.until("document.getElementById('notice').textContent.includes('no such target')")
            tab.until("!document.getElementById('ask').disabled")
            tab.ask(find)
            tab.until(shown)
            tab.drag((0.6, 0.6), (0.8, 0.8))
            tab.until(f"{ROWS} === 2 && !({shown})")
            x, y, width, height = wait_for(lambda: server.site.broadcaster.latest.tracks)[
                1
            ].track.box
            assert (x + width / 2, y + height / 2) == pytest.approx((235, 176), abs=4)


def test_without_a_finder_there_is_no_field_for_words(browser, server):
    with watch(browser, server) as tab:
        assert tab.ask("document.getElementById('find').offsetParent === null")


def test_a_tap_or_a_drag_taken_back_starts_nothing(browser, server):
    with watch(browser, server) as tab:
        tab.drag((0.5, 0.5), (0.501, 0.501))
        tab.drag((0.2, 0.2), (0.6, 0.6), release=False)
        tab.send("Input.dispatchKeyEvent", type="keyDown", key="Escape")
        tab.mouse("mouseReleased", 10, 10)
        tab.until("document.getElementById('delay').textContent.endsWith('ms')")
        assert server.site.worker.state["targets"] == []


def test_the_picture_stands_still_while_a_box_is_drawn(browser, server):
    with watch(browser, server) as tab:
        look = "document.getElementById('picture').toDataURL()"
        first = tab.ask(look)
        tab.until(f"{look} !== {first!r}")
        tab.drag((0.2, 0.2), (0.6, 0.6), release=False)
        frames, still = server.site.worker.frames, tab.ask(look)
        wait_for(lambda: server.site.worker.frames > frames + 10)
        assert tab.ask(look) == still
        tab.mouse("mouseReleased", *_middle(tab))
        tab.until(f"{look} !== {still!r}")
        tab.until(f"{ROWS} === 1")


def _middle(tab):
    left, top, width, height = tab.find_picture()
    return left + width / 2, top + height / 2


def test_a_finger_on_a_phone(browser, server, tmp_path):
    with watch(browser, server, size=(400, 800), mobile=True) as tab:
        tab.drag((0.25, 0.25), (0.5, 0.5), touch=True)
        tab.until(f"{ROWS} === 1")
        assert tab.ask("document.documentElement.scrollWidth") <= 400
        small = "[...document.querySelectorAll('button')].filter(b => b.offsetParent)"
        assert tab.ask(f"Math.min(...{small}.map(b => b.offsetHeight))") >= 40
        tab.shoot(tmp_path / "phone.png")
        assert (tmp_path / "phone.png").stat().st_size > 10_000


def test_pause_resume_restart(browser, server):
    with watch(browser, server) as tab:
        tab.click("pause")
        tab.until(f"{PHASE} === 'paused'")
        tab.drag((0.25, 0.25), (0.5, 0.5))
        tab.until(f"{ROWS} === 1")
        frames = server.site.worker.frames
        tab.click("pause")
        tab.until(LIVE)
        wait_for(lambda: server.site.worker.frames > frames)
        tab.click("restart")
        tab.until(f"{ROWS} === 0")
        tab.until(LIVE)


def test_record_and_download(browser, server, tmp_path, monkeypatch):
    opened, close = threading.Event(), VideoRecorder.close
    monkeypatch.setattr(
        VideoRecorder, "close", lambda recorder: opened.wait(20) and close(recorder)
    )
    with watch(browser, server) as tab:
        tab.drag((0.25, 0.25), (0.5, 0.5))
        tab.click("record")
        tab.until("document.getElementById('record').textContent === 'Stop'")
        frames = server.site.worker.frames
        wait_for(lambda: server.site.worker.frames > frames + 10)
        tab.click("record")
        tab.until("document.getElementById('files').textContent.endsWith(': being saved …')")
        assert tab.text("record") == "Record"
        opened.set()
        tab.until("document.querySelectorAll('#files a').length === 2")
        assert "being saved" not in tab.text("files")
        fetched = "fetch(a.href).then(r => r.text()).then(t => t.split('\\n')[0])"
        links = "[...document.querySelectorAll('#files a')]"
        head = tab.ask(f"(a => {fetched})({links}.find(a => a.href.endsWith('.csv')))")
        assert head == "frame,target,x,y,w,h,score,confidence,lost"
        (video,) = tmp_path.glob("*.mp4")
        assert count_frames(video) >= 10


@pytest.mark.slow
def test_reload_and_a_second_viewer_find_everything_as_it_is(browser, server):
    with watch(browser, server) as tab, watch(browser, server, dark=True) as other:
        tab.drag((0.25, 0.25), (0.5, 0.5))
        other.until(f"{ROWS} === 1")
        other.click("record")
        tab.until("document.getElementById('record').textContent === 'Stop'")
        tab.reload()
        tab.until(LIVE)
        tab.until(f"{ROWS} === 1")
        assert tab.text("record") == "Stop"
        tab.until("document.getElementById('total').textContent.endsWith('ms')")
        other.ask("document.querySelector('#targets button').click()")
        tab.until(f"{ROWS} === 0")


def test_a_slow_viewer_slows_nobody(browser, tmp_path):
    with (
        serve(tmp_path, CAMERA) as server,
        Watcher(server, eager=False) as slow,
        watch(browser, server) as tab,
    ):
        slow.until(lambda: slow.head)
        tab.until("document.getElementById('delay').textContent.endsWith('ms')")
        shown = "document.getElementById('picture').toDataURL()"
        for _ in range(3):
            before = tab.ask(shown)
            tab.until(f"{shown} !== {before!r}")
        assert len(slow.heads) <= 2


def test_a_dropped_line_is_said_and_mended(browser, server):
    relay = Relay(server.port)
    try:
        with watch(browser, server, port=relay.port) as tab:
            tab.drag((0.25, 0.25), (0.5, 0.5))
            tab.until(f"{ROWS} === 1")
            relay.cut()
            tab.until(f"{PHASE} === 'offline'")
            assert tab.ask("document.getElementById('pause').disabled")
            frames = server.site.worker.frames
            wait_for(lambda: server.site.worker.frames > frames + 5)
            relay.mend()
            tab.until(LIVE)
            tab.until(f"{ROWS} === 1")
            tab.drag((0.6, 0.6), (0.8, 0.8))
            tab.until(f"{ROWS} === 2")
    finally:
        relay.close()


@pytest.mark.slow
def test_a_camera_that_breaks_is_said(browser, tmp_path):
    lives = [(40, "stop"), (10**6, "stop")]
    camera = ScriptedCamera(*lives, pause=0.05)
    slow = ReconnectPolicy(first_delay=1, max_delay=1)
    with serve(tmp_path, camera, reconnect=slow) as server, watch(browser, server) as tab:
        tab.until(f"{PHASE} === 'reconnecting'")
        tab.until(LIVE)


def test_every_mistake_is_shown_in_words(browser, tmp_path):
    runtime = StillRuntime(batch=1)
    with serve(tmp_path, CAMERA, runtime=runtime) as server, watch(browser, server) as tab:
        tab.drag((0.25, 0.25), (0.5, 0.5))
        tab.until(f"{ROWS} === 1")
        tab.drag((0.6, 0.6), (0.8, 0.8))
        tab.until("document.getElementById('notice').textContent.startsWith('At most 1 target')")


def test_after_the_end_no_box_can_be_drawn(browser, tmp_path):
    """It used to stay on the picture, and in the list, as a target that nobody followed."""
    clip = write_video(tmp_path / "clip.mp4", frames=4)
    with serve(tmp_path / "recordings", str(clip)) as server:
        tab = browser.open(server.url)
        tab.until(f"{PHASE} === 'paused' && !document.querySelector('#stage.empty')")
        tab.click("pause")
        tab.until(f"{PHASE} === 'ended'")
        tab.drag((0.25, 0.25), (0.75, 0.75))
        tab.until("document.getElementById('notice').textContent.includes('has ended: restart')")
        assert (tab.ask(ROWS), server.site.worker.state["targets"]) == (0, [])
        tab.close()


def test_no_label_of_the_plots_is_clipped(browser, server):
    plot = """import('/plot.js').then(({ plotLatency }) => {
        const canvas = document.getElementById('latency-plot');
        plotLatency(canvas, [{ at: 1, ms: { wait: MS } }]);
        const pen = canvas.getContext('2d');
        const inked = (x) => pen.getImageData(x, 0, 1, canvas.height).data.some((v) => v);
        return [inked(0), [...Array(30).keys()].some(inked)];
    })"""
    with watch(browser, server) as tab:
        for milliseconds in (0.3, 25, 1234567):
            assert tab.ask(plot.replace("MS", str(milliseconds))) == [False, True]


@pytest.mark.slow
def test_with_a_token_the_printed_address_opens_the_page(browser, tmp_path):
    with serve(tmp_path, CAMERA, host="0.0.0.0") as server:
        address = f"http://127.0.0.1:{server.port}/"
        tab = browser.open(address)
        assert "token" in tab.ask("document.body.textContent")
        assert tab.ask("document.getElementById('picture')") is None
        tab.go(f"{address}?token={server.token}")
        tab.until(LIVE)
        assert tab.ask("location.href") == address
        assert tab.ask("document.cookie") == ""
        tab.close()
