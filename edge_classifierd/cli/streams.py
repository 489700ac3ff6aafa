"""The standard streams. A closed, full or broken stream, or a missing character, never causes a traceback."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from typing import Any, Final

import typer

from edge_classifierd.errors import printable

_REPLACE: Final = "edge-classifierd"
_PLAIN: Final = {"…": "...", "–": "-", "—": "-", "×": "x", "°": " deg", "“": '"', "”": '"', "’": "'"}


def prepare() -> None:
    """Open /dev/null for closed streams, and replace characters that the encoding of a stream lacks.

    Without this the next opened file, such as a database, would get the number of the closed stream, and a library
    that prints would write into it.
    """
    codecs.register_error(_REPLACE, _replacement)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _recording_failures(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=_REPLACE)


def failure() -> OSError | None:
    """Return the error if stdout could not be written, else None. After an error stdout is discarded."""
    raw = getattr(getattr(sys.__stdout__, "buffer", None), "raw", None)
    if not isinstance(raw, _FailureRecorder):
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        raw.failure = raw.failure or error
    if raw.failure is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), raw.fileno())
    return raw.failure


def show(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text for people on stdout, or with `err` on stderr. Control characters are escaped, except line feeds."""
    typer.echo(printable(text, keep="\n\t"), err=err, nl=nl)


def complain(sentence: str) -> None:
    """Print a sentence on stderr. If stderr cannot be written, only the exit code is left."""
    try:
        show(sentence, err=True)
    except OSError:
        silence()


def silence() -> None:
    """Discard stderr. Its buffered text would fail again at the end and change the exit code to 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def can_show(text: str) -> bool:
    """Return whether the encoding of stdout has all characters of `text`."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def print_json(document: Any) -> None:  # noqa: ANN401 - anything that json accepts
    """Print one line of JSON on stdout, in ASCII where a character cannot be shown (a file name not in UTF-8)."""
    text = json.dumps(document, ensure_ascii=False)
    typer.echo(text if can_show(text) and text.isprintable() else json.dumps(document))


class _FailureRecorder(io.FileIO):
    """Records a failed write, because the caller may have caught the error."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer of any kind
        """Write like FileIO."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def _recording_failures(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return stdout on a file that records failures. The old object keeps the descriptor open."""
    stream.flush()
    raw = _FailureRecorder(stream.fileno(), "w", closefd=False)
    sys.__stdout__ = io.TextIOWrapper(  # type: ignore[misc]
        io.BufferedWriter(raw), encoding=stream.encoding, errors=_REPLACE, line_buffering=stream.line_buffering
    )
    return sys.__stdout__


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace one character: a byte of a file name as it is, typographic marks by ASCII, others by their number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    escaped = character.encode("ascii", "backslashreplace").decode("ascii")
    return _PLAIN.get(character, escaped), error.start + 1
