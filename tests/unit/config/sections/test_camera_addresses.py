"""What people and logs see of an address."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from pydantic import ValidationError

from edge_classifierd.config.sections.camera_addresses import mask_userinfo, shown_url, split_address
from edge_classifierd.config.sections.sources import SnapshotCameraSection, StreamSection
from edge_classifierd.errors import SourceError

PRINTABLE = [chr(code) for code in range(0x20, 0x7F)]
"""Every character that a keyboard without accents has."""
FOREIGN = ["ü", "ж", "½", "℀", "猫", "🐈", "e\u0301"]
REMEDY = "in a password write / as %2F, ? as %3F, # as %23 and @ as %40"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://porch:554/live", "rtsp://porch:554/live"),
        ("rtsp://me:secret@porch/live", "rtsp://***@porch/live"),
        ("rtsp://me:sec/r@e?t#@porch/live", "rtsp://***@porch/live"),
        ("http://porch/video?user=me&pwd=secret", "http://porch/video?***"),
        ("/videos/a@b?.mp4", "/videos/a@b?.mp4"),
        (
            "rtsp://cam/user=me_password=se_cret_channel=1_stream=0.sdp",
            "rtsp://cam/user=me_password=***_channel=1_stream=0.sdp",
        ),
        ("http://cam/token=secret/video.cgi", "http://cam/token=***/video.cgi"),
        ("rtmp://cam/live?token=secret", "rtmp://cam/live?***"),
    ],
)
def test_secrets_in_addresses_are_masked(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://me:sec/r@e?t#@porch/live", "rtsp://***@porch/live"),
        ("gopher://me:two\nlines@porch", "gopher://***@porch"),
        ("http://porch/video?user=me", "http://porch/video?user=me"),
        ("me@porch", "me@porch"),
    ],
)
def test_a_password_ends_at_the_last_at_sign(text: str, masked: str) -> None:
    assert mask_userinfo(text) == masked


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp"])
@pytest.mark.parametrize("server", ["camera", "camera:8080", "192.168.1.9:81", "[fe80::1]", "[::1]:8080"])
@pytest.mark.parametrize("rest", ["", "/live/1.jpg", "/live?channel=1"])
def test_any_character_of_a_login_is_understood_or_refused_with_the_remedy(scheme: str, server: str, rest: str) -> None:
    refused = set()
    logins = [(f"ad{one}min", "QX1234QZ", one) for one in [*PRINTABLE, *FOREIGN] if one != ":"]
    passwords = [*PRINTABLE, *FOREIGN, "@[1/2", "@1/2", "[s3]", "@::", "1?@"]
    logins += [login for one in passwords for login in (("admin", f"QX{one}QZ", one), ("me", one, one))]
    for user, password, character in logins:
        encoded = f"{quote(user, safe='')}:{quote(password, safe='')}"
        assert login_of(f"{scheme}://{encoded}@{server}{rest}") == (user, password, server)
        problem = mistake(f"{scheme}://{user}:{password}@{server}{rest}")
        if problem is None:
            assert login_of(f"{scheme}://{user}:{password}@{server}{rest}") == (user, password, server)
        else:
            refused.add(character)
            assert REMEDY in problem
            assert not any(part in problem for part in ("QX", "QZ", "1234"))
    assert refused == {"/", "?", "#", "@[1/2", "@1/2", "1?@"}


def mistake(address: str) -> str | None:
    """Return what `check` says of the address, which has to be the same for every source and for `split_address`."""
    try:
        section = StreamSection(type="stream", url=address)
    except ValidationError as error:
        words = error.errors()[0]["type"], error.errors()[0]["msg"]
        with pytest.raises(SourceError) as caught:
            split_address(address)
        assert str(caught.value) == f"{shown_url(address)}: {words[1]}"
        if address.startswith("http"):
            with pytest.raises(ValidationError) as refused:
                SnapshotCameraSection(type="snapshot", url=address)
            assert (refused.value.errors()[0]["type"], refused.value.errors()[0]["msg"]) == words
        return words[1]
    assert section.url == address
    if address.startswith("http"):
        assert SnapshotCameraSection(type="snapshot", url=address).url == address
    return None


def login_of(address: str) -> tuple[str, str, str]:
    assert mistake(address) is None
    parts = split_address(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    server = f"{host}:{parts.port}" if parts.port else f"{host}"
    return unquote(parts.username or ""), unquote(parts.password or ""), server


@pytest.mark.parametrize(
    ("address", "host", "path"),
    [
        ("http://camera/me@home", "camera", "/me@home"),
        ("http://u:p@camera/1.jpg?a=[1]#x", "camera", "/1.jpg"),
        ("rtsp://u@camera/a:b@c", "camera", "/a:b@c"),
        ("http://[::1]/me@home", "::1", "/me@home"),
        ("http://Camera:80", "camera", ""),
    ],
)
def test_an_address_is_split(address: str, host: str, path: str) -> None:
    assert mistake(address) is None
    parts = split_address(address)
    assert (parts.hostname, parts.path) == (host, path)


@pytest.mark.parametrize(
    "address", ["http://u:p@cam:80/a@b", "http://cam:80/a@b", "http://cam/a:b@c", "http://u:p@cam/?m=a@b"]
)
def test_an_at_sign_that_may_end_a_password_is_refused(address: str) -> None:
    assert REMEDY in (mistake(address) or "")


@pytest.mark.parametrize(
    "address", ["", "nothing", "http://", "http://cam:" + "9" * 5000, "http://\ud800:\ud800@[\ud800]"]
)
def test_a_wrong_address_is_an_expected_failure(address: str) -> None:
    with pytest.raises(SourceError):
        split_address(address)
