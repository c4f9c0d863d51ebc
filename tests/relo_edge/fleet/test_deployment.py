"""What a fleet is deployed with; without Ray, every way to it names the extra."""

import sys

import pytest

from relo_edge.errors import InputError, MissingDependency
from relo_edge.fleet import FleetOptions, FleetTracker, build_app, deploy
from relo_edge.fleet.deployment import _read_options


def test_a_fixed_number_of_replicas():
    settings = FleetOptions("demo", replicas=3, gpus=0.5, threads=2).to_serve()
    assert settings["num_replicas"] == 3
    assert settings["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.5}
    assert "autoscaling_config" not in settings


def test_replicas_that_come_with_the_load():
    settings = FleetOptions("demo", replicas=2, most_replicas=8, streams=16).to_serve()
    scaling = settings["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 8)
    assert scaling["target_ongoing_requests"] == 8
    # Whoever is taken away moves its streams: never for a short lull.
    assert scaling["downscale_delay_s"] >= 600
    assert "num_replicas" not in settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": 0}, "streams: found 0"),
        ({"replicas": 0}, "replicas: found 0"),
        ({"threads": -1}, "threads: found -1"),
        ({"gpus": -0.5}, "gpus: found -0.5"),
        ({"gpus": float("nan")}, "gpus: found nan"),
        ({"replicas": 3, "most_replicas": 2}, "most_replicas: found 2, expected 3 or more"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError) as refused:
        FleetOptions("demo", **options)
    assert message in str(refused.value)


def test_settings_come_as_text_from_the_command_line():
    options = _read_options({"bundle": "b", "gpus": "0.5", "most_replicas": "4", "streams": "2"})
    assert options == FleetOptions("b", gpus=0.5, most_replicas=4, streams=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bundle": "b", "gpu": "1"}, "setting: found gpu"),
        ({"bundle": "b", "streams": "many"}, "streams: found 'many', expected an integer"),
        ({"streams": "2"}, "a fleet needs a bundle; give bundle=PATH"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError) as refused:
        build_app(settings)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "start",
    [
        lambda: build_app({"bundle": "demo"}),
        lambda: deploy(FleetOptions("demo")),
        lambda: FleetTracker(color="bgr"),
    ],
    ids=["build_app", "deploy", "tracker"],
)
def test_without_ray_the_extra_is_named(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with pytest.raises(MissingDependency, match=r"relo-edge\[fleet\]"):
        start()
