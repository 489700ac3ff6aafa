"""The summary after an installation: what works, what does not, and the one command to run next."""

from __future__ import annotations

from shlex import quote
from textwrap import wrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edge_classifierd.doctor.check_result import CheckResult, Verdict

_PARTS: Final = ("camera", "broker", "model", "edge tpu")
_HEADINGS: Final[dict[Verdict, str]] = {
    "ok": "Works:",
    "unused": "Not used:",
    "warning": "Warnings:",
    "failed": "Does not work:",
}


def summary_lines(results: Sequence[CheckResult], width: int) -> Iterator[str]:
    """Return the results of cameras, broker, models and Edge TPUs, and all failures and warnings, wrapped."""
    for verdict, heading in _HEADINGS.items():
        listed = [
            result
            for result in results
            if result.verdict == verdict and (verdict in {"warning", "failed"} or result.name.startswith(_PARTS))
        ]
        if listed:
            yield heading
        for result in listed:
            yield from wrapped(f"  {result.text}", width, indent=4)


def next_command(results: Sequence[CheckResult], config: Path, *, default: bool) -> str:
    """Return the command to run next. `default`: the configuration has its default path."""
    file = quote(str(config))
    option = "" if default else f" --config {file}"
    failed = [result.name for result in results if result.verdict == "failed"]
    if "configuration" in failed:
        return f"sudo edge-classifierd check{option}"
    if "runtime" not in failed and any(name.startswith(("camera", "broker", "round trip", "model")) for name in failed):
        return f"sudoedit {file} && sudo systemctl restart edge-classifierd"
    if failed:
        return f"sudo edge-classifierd doctor{option}"
    return f"sudo edge-classifierd listen{option}"


def wrapped(text: str, width: int, *, indent: int) -> list[str]:
    """Wrap a line at spaces only, so that paths and commands can be copied."""
    return wrap(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
