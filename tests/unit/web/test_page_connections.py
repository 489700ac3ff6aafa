"""Connections that send nothing, or read nothing, keep nobody else out."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from pipelines_scene import until
from web_scene import completed

from edge_classifierd.web.connections import Connections, JoinedWrites

if TYPE_CHECKING:
    from web_scene import PageScene


class Transport:
    def __init__(self) -> None:
        self.aborted = False
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.aborted = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


class Connection:
    def __init__(self) -> None:
        self.transport = Transport()


@pytest.fixture
def connections() -> Connections:
    return Connections(3)


def opened(connections: Connections, count: int) -> list[Any]:
    made: list[Any] = [Connection() for _ in range(count)]
    for one in made:
        connections.add(one)
    return made


def test_the_oldest_idle_connection_makes_room(connections: Connections) -> None:
    made = opened(connections, 5)
    assert [one.transport.aborted for one in made] == [True, True, False, False, False]


def test_a_connection_in_use_by_a_signed_in_client_stays(connections: Connections) -> None:
    kept, *others = opened(connections, 3)
    connections.keep(kept)
    opened(connections, 2)
    assert [one.transport.aborted for one in (kept, *others)] == [False, True, True]
    connections.release(kept)
    opened(connections, 3)
    assert kept.transport.aborted


def test_without_one_to_replace_the_new_connection_is_closed(connections: Connections) -> None:
    made = opened(connections, 3)
    for one in made:
        connections.keep(one)
    (late,) = opened(connections, 1)
    assert late.transport.aborted
    assert not any(one.transport.aborted for one in made)


def test_a_closed_connection_makes_room(connections: Connections) -> None:
    made = opened(connections, 3)
    connections.remove(made[0])
    opened(connections, 1)
    assert not made[1].transport.aborted


def test_what_is_written_in_one_turn_is_sent_at_once() -> None:
    async def write() -> list[bytes]:
        transport = Transport()
        joined: Any = JoinedWrites(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
        for data in (b"head ", b"body", b""):
            joined.write(data)
        await asyncio.sleep(0)
        joined.write(b"the ")
        joined.write(b"end")
        joined.close()
        await asyncio.sleep(0)
        assert joined.is_closing()
        return transport.sent

    assert completed(write()) == [b"head body", b"the end"]


def test_the_page_answers_while_hundreds_of_connections_send_nothing(page: PageScene) -> None:
    idle = [socket.create_connection(("127.0.0.1", page.port), timeout=10) for _ in range(200)]
    try:
        for one in idle[::2]:
            one.send(b"GET / HT")
        assert page.get("/api/overview").status == 200
        assert page.get("/healthz", basic=False).status == 200
    finally:
        for one in idle:
            one.close()


def test_a_taken_port_is_a_reason_in_health_and_not_the_end(page: PageScene) -> None:
    from edge_classifierd.web.server import PageServer

    server = PageServer(page.parts.section, page._make)
    server.start()
    try:
        until(lambda: server.reason is not None)
        assert server.reason is not None
        assert (server.reason.flag, "Address already in use" in server.reason.sentence) == ("web", True)
        assert page.get("/healthz").status == 200
    finally:
        server.stop(5)
