"""The names under which the page answers, and the origins whose changes it takes."""

from __future__ import annotations

import pytest

from edge_classifierd.web.access.hosts import Hosts

HOSTS = Hosts(("cam.example.org",), "https://porch.example.net/cameras/")


@pytest.mark.parametrize(
    "header",
    [
        "127.0.0.1:8480", "192.168.1.9", "[::1]:8480", "[fe80::1]", "localhost", "localhost:8480", "porch", "PORCH:1",
        "porch.local", "porch.lan.", "a.b.home.arpa", "porch.internal:8480", "cam.example.org", "porch.example.net:443",
    ],
)  # fmt: skip
def test_names_of_this_device_are_allowed(header: str) -> None:
    assert HOSTS.allows(header)


@pytest.mark.parametrize(
    "header",
    [
        "", "evil.example", "evil.example:8480", "porch.local.evil.example", "cam.example.org.evil.example", ".local",
        "a@porch.local", "porch.local/x", "porch.local:x", "evil.example#porch.local", "[::1", "evil.example\\.local",
        "1.2.3.4.evil.example", "a@b",
    ],
)  # fmt: skip
def test_other_names_are_not(header: str) -> None:
    assert not HOSTS.allows(header)


@pytest.mark.parametrize(
    ("origin", "header", "same"),
    [
        ("http://porch.local:8480", "porch.local:8480", True),
        ("https://porch.local", "porch.local", True),
        ("https://cam.example.org", "127.0.0.1:8480", True),  # a proxy that replaces Host
        ("http://porch.local:8481", "porch.local:8480", False),
        ("http://evil.example", "porch.local:8480", False),
        ("null", "porch.local:8480", False),
        ("", "porch.local:8480", False),
        ("file://porch.local:8480", "porch.local:8480", False),
        ("http://porch.local:8480@evil.example", "porch.local:8480", False),
        ("http://[::1", "porch.local:8480", False),
    ],
)
def test_only_a_page_of_this_device_is_of_the_same_origin(origin: str, header: str, *, same: bool) -> None:
    assert HOSTS.same_origin(origin, header) is same
