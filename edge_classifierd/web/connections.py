"""Bounds what a client can hold: connections in all, time for a request, and time without reading an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

IDLE_S: Final = 10.0
"""A connection is closed that has not sent a complete request, or has not read its answer, for this long."""


class Connections:
    """The open connections. One in excess replaces the oldest whose client is not signed in or that is idle."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._replaceable: dict[BoundedConnection, None] = {}  # in the order of their last use
        self._count = 0

    def add(self, connection: BoundedConnection) -> None:
        """Count a new connection, and end another one, or this one, when there are too many."""
        self._count += 1
        if self._count > self._most:
            oldest = next(iter(self._replaceable), connection)
            self._replaceable.pop(oldest, None)
            oldest.transport.abort()
        if not connection.transport.is_closing():
            self._replaceable[connection] = None

    def keep(self, connection: BoundedConnection) -> None:
        """Do not end a connection for another one: its client is signed in, and its request is being handled."""
        self._replaceable.pop(connection, None)

    def release(self, connection: BoundedConnection) -> None:
        """Allow to end a connection for another one; it becomes the newest."""
        self.keep(connection)
        if not connection.transport.is_closing():
            self._replaceable[connection] = None

    def remove(self, connection: BoundedConnection) -> None:
        """Forget a closed connection."""
        self._count -= 1
        self.keep(connection)

    def factory(self) -> Callable[..., BoundedConnection]:
        """Return what uvicorn calls to make the protocol of a connection."""

        def make(
            config: Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> BoundedConnection:
            return BoundedConnection(self, config, server_state, app_state, _loop)

        return make


class JoinedWrites:
    """A transport that sends at once what is written in one turn of the loop.

    The head of an answer and its body need one system call then, and the client wakes once for both.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send data at the end of this turn."""
        if not data:
            return
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        """Send what was written, and close the connection."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the rest of the transport
        """Return a part of the transport itself."""
        return getattr(self._transport, name)

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held:
            self._transport.write(b"".join(held))


class BoundedConnection(H11Protocol):
    """One connection of uvicorn with deadlines."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        # The application finds `app_state` as `request.state`.
        super().__init__(config, server_state, {**app_state, "keep_connection": lambda: connections.keep(self)}, loop)
        self._open = connections
        self._request_deadline: asyncio.TimerHandle | None = None
        self._read_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Count the connection and wait for its first request."""
        super().connection_made(transport)
        self.transport = JoinedWrites(transport, self.loop)  # type: ignore[assignment] # has what uvicorn uses
        self._open.add(self)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Pass data on; a request must be complete `IDLE_S` after its first byte."""
        if not self._in_progress and self._request_deadline is None:
            self._await_request()
        super().data_received(data)
        if self._in_progress:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Continue with the next request on this connection."""
        self._open.release(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Give the client `IDLE_S` to read what was sent."""
        super().pause_writing()
        self._cancel_read_deadline()
        self._read_deadline = self.loop.call_later(IDLE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the deadline."""
        self._cancel_read_deadline()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._cancel_read_deadline()
        self._open.remove(self)
        super().connection_lost(exc)

    @property
    def _in_progress(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        self._request_deadline = self.loop.call_later(IDLE_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._request_deadline is not None:
            self._request_deadline.cancel()
            self._request_deadline = None

    def _cancel_read_deadline(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None
