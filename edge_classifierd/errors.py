"""The expected failures. Each is one sentence: what failed, the value, and the next step.

Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """Exit codes of the process."""

    OK = 0
    FAILED = 1
    USAGE = 2
    MISSING = 3
    INTERRUPTED = 130


_MIN_HIDDEN: Final = 5
"""Shorter texts are not hidden: they stand in messages by chance."""
_MOST_HIDDEN: Final = 200
_hidden: dict[str, str] = {}


def hide(text: str, words: str) -> None:
    """Replace `text` by `words` in every later message: the content of `!file` and `!env` is never shown."""
    if len(text.strip()) >= _MIN_HIDDEN:
        _hidden.pop(text.strip(), None)
        _hidden[text.strip()] = words
        while len(_hidden) > _MOST_HIDDEN:
            del _hidden[next(iter(_hidden))]


def printable(text: str, *, keep: str = "") -> str:
    r"""Return text with every control and formatting character escaped (`\x1b`, `\n`, `\u202e`), except in `keep`.

    Names of files, topics and cameras come from others: they could forge log lines or control a terminal. Unicode's
    bidirectional marks are formatting characters.
    """
    if text.isprintable():
        return text
    return "".join(
        one
        if one.isprintable() or one in keep or "\udc80" <= one <= "\udcff" or unicodedata.category(one) == "Zs"
        else one.encode("unicode_escape", "backslashreplace").decode("ascii")
        for one in text
    )


def message_text(text: str, *, keep: str = "") -> str:
    """Return text for a message: printable, and without the content of `!file` and `!env`."""
    for hidden in sorted(_hidden, key=len, reverse=True):
        if hidden in text:
            text = re.sub(rf"(?<!\w){re.escape(hidden)}(?!\w)", lambda _, one=hidden: _hidden[one], text)  # type: ignore[misc]
    return printable(text, keep=keep)


class EdgeClassifierError(Exception):
    """An expected failure. `str()` is a complete sentence for people, with the remedy, on one line."""

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, sentence: str = "") -> None:
        super().__init__(message_text(sentence))


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with a configuration file. `line` and `column` count from 1; 0 means the whole file.

    In text the whole file is shown as line 1, column 1, so that editors can jump to it.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    temporary: bool = False
    """The file is valid, but a pipeline cannot start now, because a file that it names is missing or damaged."""
    awaited: bool = False
    """The daemon itself obtains the missing file."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", message_text(self.message))

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{printable(self.file)}:{max(1, self.line)}:{max(1, self.column)}: {key}{self.message}"


class ConfigurationError(EdgeClassifierError):
    """The configuration cannot be used. Carries every problem, in the file's order."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        if problems and all(problem.temporary for problem in problems):
            self.exit_code = ExitCode.FAILED
        Exception.__init__(self, "\n".join(str(problem) for problem in problems))


class UsageError(EdgeClassifierError):
    """The arguments of a command are wrong."""

    exit_code = ExitCode.USAGE


class ModelError(EdgeClassifierError):
    """A model file, its labels or its metadata cannot be used."""


class ModelRefusedError(ModelError):
    """The runtime refuses the model or cannot run it; most likely it always will."""


class InferenceError(EdgeClassifierError):
    """The runtime loaded the model but failed while running it."""


class MissingError(EdgeClassifierError):
    """Required hardware, a runtime or a library is missing."""

    exit_code = ExitCode.MISSING


class SourceError(EdgeClassifierError):
    """A frame source cannot be opened, or it stopped delivering. Opening it again may help."""


class BrokerError(EdgeClassifierError):
    """The MQTT broker refused the connection or cannot be reached."""


class OutboxError(EdgeClassifierError):
    """The outbox database cannot be used."""


class PayloadError(EdgeClassifierError):
    """The payload of a message is not valid for its topic."""


class FetchError(EdgeClassifierError):
    """A file cannot be downloaded, or its checksum is wrong."""


class RefusedFetchError(FetchError):
    """The server does not have the wanted file; most likely it will not have it soon."""


def is_expected(failure: BaseException) -> bool:
    """Return whether a failure is explained by its sentence alone, so that no traceback is needed."""
    return isinstance(failure, EdgeClassifierError) or _no_more_threads(failure)


def failure_sentence(failure: BaseException) -> str:
    """Return one sentence for people about anything that has ended a piece of work."""
    if isinstance(failure, EdgeClassifierError):
        return str(failure)
    if _no_more_threads(failure):
        return "no more threads can be started; configure fewer pipelines, or raise TasksMax of the service"
    return f"failed unexpectedly ({type(failure).__name__}: {failure}); this is a bug, please report it with the log"


def _no_more_threads(failure: BaseException) -> bool:
    return isinstance(failure, RuntimeError) and "can't start new thread" in str(failure)


def counted(number: int, noun: str) -> str:
    """Return `1 picture`, `1,000 pictures`, `2 classes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def shortened(text: str, length: int = 60) -> str:
    """Return `text` as one printable line of at most `length` characters."""
    line = printable(text[: length + 1])
    return line if len(line) <= length else line[: length - 1] + "…"
