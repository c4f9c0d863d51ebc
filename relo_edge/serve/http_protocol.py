"""uvicorn's HTTP protocol with bounds: idle, slow and surplus connections are closed."""

from __future__ import annotations

import asyncio

from relo_edge.serve.limits import IDLE_SECONDS, MAX_CONNECTIONS, SEND_SECONDS

__all__ = ["build_protocol"]


def build_protocol() -> type[asyncio.Protocol]:
    """The class for `uvicorn.Config(http=…)`; uvicorn is imported here."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class BoundedProtocol(H11Protocol):
        """A connection has IDLE_SECONDS for each request, whatever it trickles meanwhile."""

        _idle_timer: asyncio.TimerHandle | None = None
        _send_timer: asyncio.TimerHandle | None = None
        _idle_since = 0.0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._start_idle_timer()
            open_connections = [c for c in self.connections if not c.transport.is_closing()]
            if len(open_connections) > MAX_CONNECTIONS:
                # A newcomer that asks for something outlives those that say nothing.
                idle = [c for c in open_connections if isinstance(c, BoundedProtocol) and c.is_idle]
                min(idle, key=lambda connection: connection._idle_since).transport.abort()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._start_idle_timer()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._send_timer = self.loop.call_later(SEND_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._cancel(self._send_timer)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._cancel(self._idle_timer, self._send_timer)

        @property
        def is_idle(self) -> bool:
            """Whether no request is being answered."""
            upgraded = self.transport.get_protocol() is not self
            return not upgraded and (self.cycle is None or self.cycle.response_complete)

        def _start_idle_timer(self) -> None:
            self._cancel(self._idle_timer)
            self._idle_since = self.loop.time()
            self._idle_timer = self.loop.call_later(IDLE_SECONDS, self._abort_idle)

        def _abort_idle(self) -> None:
            if self.is_idle:
                self.transport.abort()

        def _cancel(self, *timers: asyncio.TimerHandle | None) -> None:
            for timer in timers:
                if timer is not None:
                    timer.cancel()

    return BoundedProtocol
