"""What people and logs see of an address."""

from __future__ import annotations

import pytest

from edge_classifierd.config.sections.camera_addresses import mask_userinfo, shown_url


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
