"""A bundle as a Ray Serve application: replicas, what each may use, and when there are more."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from relo_edge.errors import InputError, MissingDependency
from relo_edge.host.telemetry import import_silenced

__all__ = ["APP", "FleetOptions", "build_app", "deploy", "import_serve"]

APP = "relo-edge"
"""The application's name where none is given."""

KINDS = {float: "a number", int: "an integer", str: "text"}

DOWNSCALE_SECONDS = 600.0
"""A replica that is taken away moves its streams to others: not for a short lull."""


@dataclass(frozen=True)
class FleetOptions:
    """How a bundle is deployed.

    Attributes:
        bundle: a bundle folder that every machine has at this path, or the word `demo`.
        runtime: a runtime's name; `auto` takes the fastest that opens on the replica's machine.
        precision: a precision of the runtime; `auto` takes its best.
        protocol: the tracker settings, by dataset.
        streams: the most streams that one replica follows.
        replicas: how many replicas; with `most_replicas`, the fewest.
        most_replicas: up to how many Serve may start under load; as many as `replicas` if None.
        gpus: the share of a GPU that a replica takes: 1, or 0.5 for two on one; 0 for a CPU.
        threads: CPU threads of a replica, which are also the cores that it takes.
    """

    bundle: str
    runtime: str = "auto"
    precision: str = "auto"
    protocol: str = "default"
    streams: int = 8
    replicas: int = 1
    most_replicas: int | None = None
    gpus: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("streams", "replicas", "threads"):
            if getattr(self, name) < 1:
                raise InputError(name, found=getattr(self, name), expected="1 or more")
        if not self.gpus >= 0:
            raise InputError("gpus", found=self.gpus, expected="0 or more")
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            expected = f"{self.replicas} or more, as the fewest are"
            raise InputError("most_replicas", found=self.most_replicas, expected=expected)

    def to_serve(self) -> dict[str, Any]:
        """The settings of Serve's deployment."""
        settings: dict[str, Any] = {
            "max_ongoing_requests": 2 * self.streams,
            "ray_actor_options": {"num_cpus": self.threads, "num_gpus": self.gpus},
            "health_check_period_s": 5,
        }
        if self.most_replicas is None:
            return {**settings, "num_replicas": self.replicas}
        scaling = {
            "min_replicas": self.replicas,
            "max_replicas": self.most_replicas,
            # A stream has one request under way at most.
            "target_ongoing_requests": max(1.0, self.streams / 2),
            "downscale_delay_s": DOWNSCALE_SECONDS,
        }
        return {**settings, "autoscaling_config": scaling}


def build_app(settings: dict[str, Any]) -> Any:
    """The application, for `serve run --name relo-edge relo_edge.fleet:build_app bundle=…`.

    Args:
        settings: fields of FleetOptions by name; text is read as the field's type.

    Returns:
        An application that Ray Serve runs.

    Raises:
        InputError: an unknown field, or a value that it cannot have.
        MissingDependency: ray[serve] is not installed.
    """
    return _bind(_read_options(settings))


def deploy(options: FleetOptions, *, name: str = APP) -> Any:
    """Run the application on the cluster that this process is connected to.

    Where it runs already, every replica is replaced, and the streams start again on the new ones.

    Args:
        options: what is deployed.
        name: the application's name, by which clients ask for it.

    Returns:
        Ray Serve's handle, once all replicas are ready.

    Raises:
        InputError: a bundle or an option that cannot be; the replica's own words say which.
        MissingDependency: ray[serve] is not installed.
    """
    serve = import_serve()
    # Clients hold handles: nobody needs an HTTP proxy. Where Serve runs already, nothing changes.
    serve.start(proxy_location="Disabled")
    try:
        return serve.run(_bind(options), name=name, route_prefix=None)
    except RuntimeError as error:
        raise InputError(
            f"application {name} does not start",
            found=str(error).strip().splitlines()[-1] if str(error).strip() else error,
            fix="`serve status` shows what each replica says",
        ) from None


def import_serve() -> Any:
    """Ray Serve, without usage reports.

    Raises:
        MissingDependency: ray[serve] is not installed, or does not import.
    """
    try:
        return import_silenced("ray.serve")
    except ImportError as error:
        raise MissingDependency(
            "Ray Serve does not import", found=error, fix="`pip install 'relo-edge[fleet]'`"
        ) from None


def _bind(options: FleetOptions) -> Any:
    serve = import_serve()
    from relo_edge.fleet.replica import TrackerReplica
    from relo_edge.fleet.routing import ROUTER, STATS_SECONDS

    router = import_silenced("ray.serve.config").RequestRouterConfig(
        request_router_class=ROUTER, request_routing_stats_period_s=STATS_SECONDS
    )
    deployment = serve.deployment(request_router_config=router, **options.to_serve())
    return deployment(TrackerReplica).bind(options)


def _read_options(settings: dict[str, Any]) -> FleetOptions:
    kinds = {field.name: str(field.type) for field in fields(FleetOptions)}
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in kinds:
            raise InputError("setting", found=name, expected=" | ".join(kinds))
        kind = float if "float" in kinds[name] else int if "int" in kinds[name] else str
        try:
            values[name] = kind(value)
        except (TypeError, ValueError):
            raise InputError(name, found=repr(value), expected=KINDS[kind]) from None
    if "bundle" not in values:
        raise InputError("a fleet needs a bundle", fix="give bundle=PATH")
    return FleetOptions(**values)
