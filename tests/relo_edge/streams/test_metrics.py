"""What Prometheus reads: counts and times of each source, from `track` and from `serve`."""

import socket
import sys
import urllib.request

import pytest
from cameras import ScriptedCamera, list_additions, list_holdings
from clips import StillRuntime

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.streams import following
from relo_edge.streams.jobs import SourceJob
from relo_edge.streams.metrics import Metrics, parse_address, serve_metrics
from relo_edge.streams.sharing import SharedRuntime
from relo_edge.tracker import MultiTracker, Track
from relo_edge.tracking.loop import track_feed
from relo_edge.tracking.outputs import Sinks
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.feed import Feed
from relo_edge.video.live import ReconnectPolicy, read_live

START = TargetStart((30.0, 20.0, 24.0, 18.0))
QUICK = ReconnectPolicy(first_delay=0.02, max_delay=0.05)


def read(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"relo_edge_{name}", labels)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:9100", ("::1", 9100)),
        (":80", ("127.0.0.1", 80)),
    ],
)
def test_without_a_host_this_machine_alone_may_read(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "x", "65536", "-1", "host:", "host:x", "²"])
def test_an_address_that_cannot_be_is_refused(text):
    with pytest.raises(InputError, match="--metrics: found .*, expected a port from 0 to 65535"):
        parse_address(text)


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SourceError, match=f"127.0.0.1:{port} cannot be served"):
            serve_metrics(str(port)).__enter__()


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingDependency, match=r"`pip install 'relo-edge\[metrics\]'`"):
        Metrics()


def test_each_loss_of_a_target_counts_once():
    metrics = Metrics()
    meter = metrics.meter("a")
    for lost in (False, True, True, False, True):
        meter.count_frame(
            {"car": Track(START.box, 1.0, 1.0, lost), "van": Track(START.box, 1, 1, False)}
        )
    assert read(metrics, "lost_targets_total", source="a") == 2
    assert read(metrics, "frames_total", source="a") == 5
    assert read(metrics, "targets", source="a") == 2
    assert read(metrics, "source_running", source="a") == 0


def test_one_sources_frames_drops_and_reconnections(capsys):
    before = list_holdings()
    camera = ScriptedCamera((30, "stop"), (0, "refuse"), (30, "end"))
    with serve_metrics("0") as metrics, read_live(camera, reconnect=QUICK) as reader:
        url = capsys.readouterr().err.split()[-1]
        meter = metrics.meter("cam1")
        tracker = MultiTracker(meter.time_network(StillRuntime(seconds=0.01)), color="bgr")
        summary = track_feed(Feed(reader), tracker, [START], meter=meter)
        text = urllib.request.urlopen(url).read().decode()
        assert f'relo_edge_frames_total{{source="cam1"}} {summary.frames:.1f}\n' in text
        assert f'relo_edge_dropped_frames_total{{source="cam1"}} {reader.dropped:.1f}\n' in text
        assert 'relo_edge_reconnects_total{source="cam1"} 1.0\n' in text
        for stage in ("wait", "crop", "network"):
            labels = f'{{source="cam1",stage="{stage}"}}'
            assert f"relo_edge_stage_seconds_count{labels} {summary.frames - 1:.1f}\n" in text
        network = read(metrics, "stage_seconds_sum", source="cam1", stage="network")
        assert network >= 0.01 * (summary.frames - 1)
        # Another reader of the same source, as after a restart: counts go on.
        with read_live(ScriptedCamera((1, "end"))) as second:
            meter.watch(second)
        assert read(metrics, "reconnects_total", source="cam1") == 1
    assert not list_additions(before)


def test_several_sources_are_told_apart(monkeypatch):
    cameras = {
        "a": ScriptedCamera((9, "end"), live=False),
        "b": ScriptedCamera((5, "end"), live=False),
    }
    monkeypatch.setattr(following, "read_live", lambda name: read_live(cameras[name]))
    jobs = [SourceJob(name, name, [START], Sinks()) for name in cameras]
    runtime, metrics = StillRuntime(batch=2), Metrics()
    protocol = runtime.variant.protocol()
    following.follow_sources(SharedRuntime(runtime), jobs, protocol, None, metrics=metrics)
    assert [read(metrics, "frames_total", source=name) for name in "ab"] == [9, 5]
    assert read(metrics, "stage_seconds_count", source="b", stage="network") == 4
