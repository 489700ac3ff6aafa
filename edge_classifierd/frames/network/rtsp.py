"""Explains why an RTSP camera refuses a login."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import Final

from edge_classifierd.config.sections.camera_addresses import split_address as urlsplit
from edge_classifierd.frames.network.http_client import shown_names

_MOST_BYTES: Final = 65_536
_REFUSED: Final = "401 unauthorised; check the user name and password in the address"
_FFMPEG_ALGORITHM: Final = "MD5"


def explain_refusal(url: str, timeout_s: float) -> str:
    """Ask the camera which logins it offers, and return the words of a message.

    FFmpeg supports Basic and Digest with MD5 only, and reports any other as a wrong password.
    """
    parts = urlsplit(url)
    if parts.username is None:
        return "401 unauthorised; put the user name and password into the address (rtsp://USER:PASSWORD@…)"
    challenges: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        target = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        answer = _describe(parts.hostname or "", parts.port or 554, target, timeout_s)
        challenges = re.findall(r"(?im)^www-authenticate:\s*(.*?)\s*$", answer)
    algorithms = [found.upper() for one in challenges for found in re.findall(r"algorithm\s*=\s*\"?([\w-]+)", one)]
    usable = any(one.lower().startswith("basic") for one in challenges) or len(algorithms) < len(challenges)
    if not usable and algorithms and _FFMPEG_ALGORITHM not in algorithms:
        names = shown_names(", ".join(algorithms))
        return (
            f"401 unauthorised; the camera offers Digest with {names} only, which cannot be used over RTSP; set the "
            "camera to Digest with MD5, or to Basic"
        )
    return _REFUSED


def _describe(host: str, port: int, target: str, timeout_s: float) -> str:
    """Send one DESCRIBE request (RFC 2326, 10.2) and return the head of the answer."""
    with socket.create_connection((host, port), timeout_s) as connection:
        request = f"DESCRIBE {target} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < _MOST_BYTES and (data := connection.recv(4096)):
            answer += data
        return answer.decode("latin-1")
