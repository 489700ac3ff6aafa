"""The standard streams: what is closed, full, cut off or cannot show a character never becomes a traceback."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from typing import Any, Final

import typer

_READABLE: Final = "edge-classifierd"
_PLAIN: Final = {"…": "...", "–": "-", "—": "-", "×": "x", "°": " deg", "“": '"', "”": '"', "’": "'"}


def prepare() -> None:
    """Stand /dev/null in for what was closed, and have characters that a stream's encoding lacks replaced.

    A closed one must be filled: the next file to be opened, a database say, would get its number and every word of a
    library that writes to it.
    """
    codecs.register_error(_READABLE, _readable)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _noticed(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=_READABLE)


def failure() -> OSError | None:
    """Why what was printed on stdout did not arrive, if it did not. After a failure nothing more is tried."""
    raw = getattr(getattr(sys.__stdout__, "buffer", None), "raw", None)
    if not isinstance(raw, _Noticing):
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        raw.failure = raw.failure or error
    if raw.failure is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), raw.fileno())
    return raw.failure


def complain(sentence: str) -> None:
    """Say it on stderr; where that cannot be written either, the exit code alone has to do."""
    try:
        typer.echo(sentence, err=True)
    except OSError:
        silence()


def silence() -> None:
    """Give up stderr: what it still holds would fail once more at the end, and change the exit code to 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def can_show(text: str) -> bool:
    """Whether stdout's encoding has all of it."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def print_json(document: Any) -> None:  # noqa: ANN401 - whatever json can write
    """One line of JSON on stdout, in ASCII where the stream cannot show it as it is (a file name that is no UTF-8)."""
    text = json.dumps(document, ensure_ascii=False)
    typer.echo(text if can_show(text) else json.dumps(document))


class _Noticing(io.FileIO):
    """Remembers that it could not be written: whoever caught the error first may have kept it."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer of any kind
        """As FileIO's."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def _noticed(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stdout, over a file that notices failures; the old one keeps the number open."""
    stream.flush()
    raw = _Noticing(stream.fileno(), "w", closefd=False)
    sys.__stdout__ = io.TextIOWrapper(  # type: ignore[misc]
        io.BufferedWriter(raw), encoding=stream.encoding, errors=_READABLE, line_buffering=stream.line_buffering
    )
    return sys.__stdout__


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """One character: a file name's stray byte as it was, a typographic one in plain letters, others by their number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    escaped = character.encode("ascii", "backslashreplace").decode("ascii")
    return _PLAIN.get(character, escaped), error.start + 1
