"""Explains the errors of FFmpeg."""

from __future__ import annotations

import errno
from typing import Final

import av.error

from edge_classifierd.errors import SourceError

_WORDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (av.error.HTTPUnauthorizedError, "401 unauthorised; check the user name and password in the address"),
    (av.error.HTTPForbiddenError, "403 forbidden; check the account's rights on the camera"),
    (av.error.HTTPNotFoundError, "404 not found; check the path in the address"),
    (av.error.HTTPClientError, "refused; check the address, and whether the camera serves too many viewers"),
    (av.error.HTTPServerError, "refused; check the camera, and whether it serves too many viewers"),
    (av.error.ConnectionRefusedError, "connection refused; check that the camera is on, and the port"),
    (av.error.ConnectionResetError, "the connection was reset; check the camera"),
    (av.error.BrokenPipeError, "the connection was closed; check the camera"),
    (av.error.FileNotFoundError, "no such file; check the path"),
    (av.error.PermissionError, "permission denied; make it readable for the service user"),
    (av.error.IsADirectoryError, "a folder, not a video; for pictures use `type: folder`"),
    (av.error.ProtocolNotFoundError, "this kind of address is unknown to FFmpeg; use a file, rtsp:// or http(s)://"),
)


class RefusedStreamError(SourceError):
    """The server answered with the status of an error."""

    def __init__(self, text: str, *, unauthorised: bool) -> None:
        super().__init__(text)
        self.unauthorised: Final = unauthorised
        """The login was refused."""


def in_words(  # noqa: PLR0911 - one return a cause
    error: av.error.FFmpegError, timeout_s: float | None, *, opening: bool
) -> str:
    """Return what an error of FFmpeg means and what to do, without the input's name."""
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return no_answer(timeout_s) if opening else f"no data{_within(timeout_s)}; check the camera and the network"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, av.error.InvalidDataError) and opening:
        return "not a video that can be read; check the address, or that the file is complete"
    if error.errno == errno.EPROTONOSUPPORT:  # the RTSP status 461
        return "the camera does not send in this way (461 unsupported transport); set `transport: udp`, or tcp"
    if error.errno == errno.EIO:
        if opening:
            return "cannot be reached or sends no video; check the address and the network"
        return "the data ended early; check the network"
    return f"{(error.strerror or type(error).__name__).rstrip('. ')}; check the source"


def no_answer(timeout_s: float | None) -> str:
    """Return the words for an input that does not answer."""
    return f"no answer{_within(timeout_s)}; check the camera and the network"


def _within(timeout_s: float | None) -> str:
    return "" if timeout_s is None else f" within {timeout_s:g} s"
