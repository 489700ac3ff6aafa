"""The event stream: what it sends, what it sends again, and readers that lag."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from pipelines_scene import until
from test_device_routes import detect
from web_scene import BASIC, Stream, completed, free_port, listens

from edge_classifierd.web import connections
from edge_classifierd.web.live.page_health import PageHealth
from edge_classifierd.web.live.reader import MOST_WAITING, StreamReader

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from web_scene import PageScene

    from edge_classifierd.web.server import PageServer


def ids(stream: Stream, count: int) -> list[str]:
    """Return the ids of the next events."""
    return [str(stream.next("event")["event_id"]) for _ in range(count)]


def content(reader: StreamReader) -> bytes | None:
    return completed(reader.next())


def test_the_stream_sends_hello_and_scores_that_belong_to_pictures(page: PageScene) -> None:
    stream = Stream(page, "/api/stream?pipeline=driveway")
    try:
        assert stream.answer.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        assert "no-transform" in str(stream.answer.getheader("Cache-Control"))
        assert stream.answer.getheader("X-Accel-Buffering") == "no"
        assert stream.next("hello")["build"] == page.get("/api/overview").document["build"]
        scores = [stream.next("scores") for _ in range(6)]
    finally:
        stream.close()
    assert [len(score["top"]) for score in scores] == [5] * 6
    assert set(scores[0]["watches"]) == {"cat"}
    numbers = [score["frame"] for score in scores]
    assert numbers == sorted(set(numbers))
    assert numbers[5] - numbers[0] >= 700  # milliseconds: at most five a second; the first frame may be older
    until(lambda: page.page.streams.count == 0)


def test_the_stream_shows_a_change_that_was_made_elsewhere(page: PageScene) -> None:
    stream = Stream(page, "/api/stream")
    try:
        stream.next("hello")
        page.request("PUT", "/api/pipelines/driveway/watches/cat/threshold", {"value": 0.5})
        settings = stream.next("settings")
        assert settings["overridden"] == ["cat.threshold"]
        page.request("PUT", "/api/pipelines/driveway/watches/cat/threshold", {"value": None})
        assert stream.next("settings")["overridden"] == []
        assert stream.next("health")["version"] == "1"
    finally:
        stream.close()


def test_more_streams_than_places_are_refused(page: PageScene) -> None:
    streams = [Stream(page, "/api/stream") for _ in range(8)]
    try:
        for stream in streams:
            stream.next("hello")
        answer = page.get("/api/stream")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "too_many_streams", "5")
    finally:
        for stream in streams:
            stream.close()
    until(lambda: page.page.streams.count == 0)


def test_events_that_a_client_missed_are_sent_first(page: PageScene) -> None:
    missed = [detect(page) for _ in range(3)]
    for path, headers in (("/api/stream", {"Last-Event-ID": missed[0]}), (f"/api/stream?after={missed[0]}", {})):
        stream = Stream(page, path, **headers)
        try:
            stream.next("hello")
            assert ids(stream, 2) == missed[1:]
        finally:
            stream.close()
    answer = page.get("/api/stream?after=yesterday")
    assert (answer.status, answer.code) == (422, "value_refused")


def test_at_most_the_newest_hundred_events_are_sent_again(page: PageScene) -> None:
    missed = [detect(page) for _ in range(103)]
    stream = Stream(page, "/api/stream", **{"Last-Event-ID": missed[0]})
    try:
        assert ids(stream, 100) == missed[3:]
    finally:
        stream.close()


def test_an_event_that_comes_during_the_refill_is_sent_once_and_in_order() -> None:
    reader = StreamReader(None)
    reader.put(b"scores;")
    reader.put(b"second;", "2")
    reader.put(b"third;", "3")
    reader.refill([("1", b"first;"), ("2", b"second;")])
    assert content(reader) == b"first;second;scores;third;"


def test_a_reader_for_whom_64_messages_wait_is_disconnected_after_them() -> None:
    reader = StreamReader(None)
    for _ in range(MOST_WAITING):
        reader.put(b"x")
    assert content(reader) == b"x" * 64  # one that reads in time
    for _ in range(MOST_WAITING + 2):
        reader.put(b"x")
    assert content(reader) == b"x" * 64
    assert content(reader) is None


def test_a_client_that_does_not_read_loses_its_place(page: PageScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.5)
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as deaf:
        deaf.sendall(f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {BASIC}\r\n\r\n".encode())
        until(lambda: page.page.streams.count == 1)
        for _ in range(200):
            page.page.streams._soon(page.page.streams._send_all, b":" + b"x" * 100_000 + b"\n\n")
        until(lambda: page.page.streams.count == 0)


def test_a_delay_that_nobody_notices_is_no_reason(page: PageScene) -> None:
    health = PageHealth(page.parts, page.page.viewers, page.page.access)
    for late_s, reasons in ((0.2, 0), (0.3, 1), (0.0, 1)):
        health.record_delay(late_s)
        document = health.document()
        assert document is not None
        assert len(document["web"]["reasons"]) == reasons


def test_a_page_that_runs_late_is_a_reason_in_its_health(page: PageScene) -> None:
    stream = Stream(page, "/api/stream")
    try:
        until(lambda: page.page.streams._look_task is not None)
        page.page.streams._soon(time.sleep, 1.5)
        until(lambda: page.get("/api/health").document["web"]["reasons"])
        (reason,) = page.get("/api/health").document["web"]["reasons"]
        assert reason.startswith("the page is slow")
    finally:
        stream.close()
    until(lambda: page.page.streams.count == 0)
    assert page.get("/api/health").document["web"]["reasons"] == []


def test_open_streams_end_with_the_page(serve: Callable[..., PageServer]) -> None:
    port = free_port()
    server = serve(listen=f"127.0.0.1:{port}")
    until(lambda: listens(port))
    request = f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {BASIC}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as reading:
        reading.sendall(request)
        until(lambda: b"hello" in reading.recv(1000))
        server.stop(10)
        assert not server._thread.is_alive()
        rest = b"".join(iter(lambda: reading.recv(1000), b""))
    assert rest.endswith(b"event: bye\ndata: {}\n\n\r\n0\r\n\r\n")
