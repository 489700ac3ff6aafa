"""The result of one check: the verdict, what was found, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edge_classifierd.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

Verdict = Literal["ok", "unused", "warning", "failed"]
"""`ok`: tested and works. `unused`: missing and not needed."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the doctor's output."""

    name: str
    """What was checked: `camera driveway`, `disk`."""
    verdict: Verdict
    sentence: str
    remedy: str = ""
    """The next step; empty when there is nothing to do."""
    missing: bool = False
    """Whether hardware or a runtime is missing, in contrast to not working."""

    @property
    def text(self) -> str:
        """Return name, sentence and remedy on one line."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.name}: {self.sentence}{remedy}"

    def __str__(self) -> str:
        return f"{self.verdict:<7}  {self.text}"


def from_sentence(name: str, sentence: str, verdict: Verdict = "failed", *, missing: bool = False) -> CheckResult:
    """Make a result of an error message, whose remedy follows the last `; `."""
    said, separator, remedy = sentence.rpartition("; ")
    return CheckResult(name, verdict, said if separator else sentence, remedy if separator else "", missing)


def exit_code(results: Iterable[CheckResult]) -> ExitCode:
    """Return 3 when hardware or a runtime is missing, else 1 when a check failed, else 0. Warnings do not count."""
    failed = [result for result in results if result.verdict == "failed"]
    if any(result.missing for result in failed):
        return ExitCode.MISSING
    return ExitCode.FAILED if failed else ExitCode.OK
