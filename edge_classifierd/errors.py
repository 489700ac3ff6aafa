"""The tree of expected failures: each is one sentence that names what failed, the value seen and the next step.

Anything outside this tree is a bug and keeps its traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller (a shell, systemd)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    MISSING = 3
    INTERRUPTED = 130


class EdgeClassifierError(Exception):
    """An expected failure; `str()` is the whole sentence for people, remedy included."""

    exit_code: ExitCode = ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem with a configuration file; `line` and `column` count from 1, 0 when the whole file is meant.

    As text the whole file's place is its beginning, so that every editor can jump to it.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    temporary: bool = False
    """The file is right, but a pipeline cannot start now: something that the file names is missing or damaged."""

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{max(1, self.line)}:{max(1, self.column)}: {key}{self.message}"


class ConfigurationError(EdgeClassifierError):
    """The configuration cannot be used; carries every problem found, in the file's order."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        if problems and all(problem.temporary for problem in problems):
            self.exit_code = ExitCode.FAILED
        super().__init__("\n".join(str(problem) for problem in problems))


class UsageError(EdgeClassifierError):
    """A command was called with arguments that do not fit."""

    exit_code = ExitCode.USAGE


class ModelError(EdgeClassifierError):
    """A model file, its labels or its metadata cannot be used."""


class InferenceError(EdgeClassifierError):
    """The runtime loaded the model but failed while running it."""


class MissingError(EdgeClassifierError):
    """Hardware, a runtime or a library that the work needs is not there."""

    exit_code = ExitCode.MISSING


class SourceError(EdgeClassifierError):
    """A frame source cannot be opened or stopped delivering; reopening may help."""


class BrokerError(EdgeClassifierError):
    """The MQTT broker refused or cannot be reached."""


class OutboxError(EdgeClassifierError):
    """The outbox's file cannot be used."""


class PayloadError(EdgeClassifierError):
    """A message does not hold what its topic promises."""


class FetchError(EdgeClassifierError):
    """A file cannot be fetched from the network, or is not the one that was meant."""


def shortened(text: str, length: int = 60) -> str:
    """`text` on one line and short enough for a message."""
    line = "".join(character if character.isprintable() else "?" for character in text[: length + 1])
    return line if len(line) <= length else line[: length - 1] + "…"
