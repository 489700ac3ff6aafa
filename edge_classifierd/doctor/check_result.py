"""A finding: what one check of the doctor saw, its verdict, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edge_classifierd.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

Verdict = Literal["ok", "unused", "warning", "failed"]
"""`ok` was tested and works; `unused` is not there and not needed."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the doctor's."""

    name: str
    """What was looked at: `camera driveway`, `disk`."""
    verdict: Verdict
    sentence: str
    remedy: str = ""
    """The next step; empty where nothing is to be done."""
    missing: bool = False
    """Whether hardware or a runtime is not there, rather than there and not working."""

    @property
    def text(self) -> str:
        """Name, sentence and remedy on one line."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.name}: {self.sentence}{remedy}"

    def __str__(self) -> str:
        return f"{self.verdict:<7}  {self.text}"


def from_sentence(name: str, sentence: str, verdict: Verdict = "failed", *, missing: bool = False) -> CheckResult:
    """From a sentence in the project's manner, which has its remedy behind the last `; `."""
    said, separator, remedy = sentence.rpartition("; ")
    return CheckResult(name, verdict, said if separator else sentence, remedy if separator else "", missing)


def exit_code(findings: Iterable[CheckResult]) -> ExitCode:
    """3 when hardware or a runtime is missing, else 1 when anything failed, else 0; warnings do not count."""
    failed = [finding for finding in findings if finding.verdict == "failed"]
    if any(finding.missing for finding in failed):
        return ExitCode.MISSING
    return ExitCode.FAILED if failed else ExitCode.OK
