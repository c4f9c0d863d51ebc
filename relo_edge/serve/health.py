"""`/healthz` and `/readyz`: for whoever restarts the server, or sends users to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from relo_edge.serve.worker import TrackingWorker

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HEALTH_PATHS", "HealthApp"]

HEALTH_PATHS = ("/healthz", "/readyz")


class HealthApp:
    """Answers the two paths and passes the rest on; it names no source."""

    def __init__(self, app: ASGIApp, list_workers: Callable[[], Sequence[TrackingWorker]]) -> None:
        self._app, self._list_workers = app, list_workers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 while all is well, else 503."""
        if scope["type"] != "http" or scope["path"] not in HEALTH_PATHS:
            await self._app(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse

        judge = self._judge_health if scope["path"] == "/healthz" else self._judge_readiness
        problem = judge()
        text, status = (f"{problem}\n", 503) if problem else ("ok\n", 200)
        await PlainTextResponse(text, status)(scope, receive, send)

    def _judge_health(self) -> str:
        """Whether every tracking thread lives: restarting the server would mend it."""
        workers = self._list_workers()
        dead = sum(not worker.alive for worker in workers)
        return f"{dead} of {len(workers)} tracking threads ended" if dead else ""

    def _judge_readiness(self) -> str:
        """Whether every source gives frames, or waits because someone paused it."""
        workers = self._list_workers()
        away = sum(not worker.ready for worker in workers)
        return f"{away} of {len(workers)} sources give no frames" if away else ""
