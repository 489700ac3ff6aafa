"""Every route of the page: documented, closed to strangers, and unmoved by what they send."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from web_scene import PageScene

    from edge_classifierd.web.route import PageRoute

WRITES = {"POST", "PUT", "DELETE", "PATCH"}
ENDLESS = {"/api/stream", "/api/pipelines/{pipeline}/stream.mjpeg"}


def address(route: PageRoute, **values: str) -> str:
    known = {"pipeline": "driveway", "watch": "cat", "file": "app.js", "model": "birds", **values}
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "01M8JGC35X0D839T5N0EJ273WY"), route.path)


def all_routes(page: PageScene) -> tuple[PageRoute, ...]:
    return page.page.application.routes


def test_the_document_lists_exactly_the_routes_that_exist(page: PageScene, repository: Path) -> None:
    rows = re.findall(r"(?m)^\| (GET|POST|PUT|DELETE|PATCH) \| `([^`]+)` \|", (repository / "docs/web.md").read_text())
    assert sorted(rows) == sorted((route.method, route.path) for route in all_routes(page))


def test_without_a_session_only_public_routes_answer(page: PageScene) -> None:
    public = {route.path for route in all_routes(page) if route.public}
    assert public == {"/", "/static/{file}", "/healthz", "/api/session"}
    for route in all_routes(page):
        if not route.public:
            answer = page.request(route.method, address(route), basic=False, origin=f"http://127.0.0.1:{page.port}")
            assert (route.path, answer.status, answer.code) == (route.path, 401, "signed_out")
            assert "www-authenticate" not in answer.headers


def test_a_wrong_password_opens_nothing(page: PageScene) -> None:
    answer = page.get("/api/overview", basic=False, authorization="Basic Ondyb25n")
    assert (answer.status, answer.code) == (401, "wrong_password")


def test_changes_from_a_foreign_page_are_refused(page: PageScene) -> None:
    for route in all_routes(page):
        if route.method in WRITES:
            for origin in ("http://evil.example", "null", f"http://127.0.0.1:{page.port + 1}"):
                answer = page.request(route.method, address(route), origin=origin)
                assert (route.path, answer.status, answer.code) == (route.path, 403, "foreign_origin")


def test_a_change_without_origin_needs_an_authorization_header(page: PageScene) -> None:
    answer = page.request("POST", "/api/session", {"password": "x"}, basic=False)
    assert (answer.status, answer.code) == (403, "foreign_origin")


def test_no_route_answers_under_a_foreign_name(page: PageScene) -> None:
    for route in all_routes(page):
        answer = page.request(route.method, address(route), host="rebound.example.com")
        assert (route.path, answer.status, answer.code) == (route.path, 421, "foreign_host")


def test_no_route_takes_a_body_above_its_limit(page: PageScene) -> None:
    for route in all_routes(page):
        origin = f"http://127.0.0.1:{page.port}"
        answer = page.request(route.method, address(route), b"{}", content_length="1000000000", origin=origin)
        assert (route.path, answer.status, answer.code) == (route.path, 413, "too_large")
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("name", ["no-such-name", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "driveway%00", "*"])
def test_an_unknown_name_is_not_found(page: PageScene, name: str) -> None:
    page.request("POST", "/api/taught", {"name": "birds"})
    for route in all_routes(page):
        for parameter in re.findall(r"\{(\w+)\}", route.path):
            path = address(route, **{parameter: name})
            body = {"value": None} if route.most_bytes else None
            kind = route.content_types[0]
            answer = page.request(
                route.method, path, body, content_type=kind if body else None, origin=f"http://127.0.0.1:{page.port}"
            )
            assert (route.path, parameter, answer.status) == (route.path, parameter, 404)


def test_another_method_is_refused(page: PageScene) -> None:
    for path in {route.path: route for route in all_routes(page)}.values():
        methods = {route.method for route in all_routes(page) if route.path == path.path}
        other = next(method for method in ("PATCH", "OPTIONS") if method not in methods)
        answer = page.request(other, address(path))
        assert (path.path, answer.status) == (path.path, 405)
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_every_answer_has_the_headers_that_protect_it(page: PageScene) -> None:
    for route in all_routes(page):
        if route.method == "GET" and route.path not in ENDLESS:
            headers = page.get(address(route)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "'unsafe" not in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"
            if route.path.startswith("/api/"):
                assert headers["cache-control"].startswith("no-store")


def test_the_body_must_be_json(page: PageScene) -> None:
    origin = f"http://127.0.0.1:{page.port}"
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        answer = page.request("POST", "/api/session", b"{}", content_type=kind, origin=origin)
        assert (answer.status, answer.code) == (415, "content_type")
    for body in (b"", b"{", b"[]", b"\xff", b"[" * 60000):
        answer = page.request("POST", "/api/session", body or b" ", origin=origin)
        assert (answer.status, answer.code) == (400, "malformed")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"POST /api/session HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["no host", "two hosts", "long address", "many headers", "TLS", "two lengths"],
)
def test_a_malformed_request_is_refused_and_the_page_goes_on(page: PageScene, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as connection:
        connection.sendall(sent)
        answer = b""
        while chunk := receive(connection):
            answer += chunk
            if b"\r\n\r\n" in answer:
                break
    assert answer.startswith(b"HTTP/1.1 4") or answer == b""
    assert page.get("/healthz").status == 200


def receive(connection: socket.socket) -> Any:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""
