"""The summary after an installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_classifierd.doctor.check_result import CheckResult
from edge_classifierd.doctor.summary import next_command, summary_lines

CONFIG = Path("/etc/edge-classifierd/config.yaml")
WORKS = CheckResult("broker", "ok", "b:1883: logged in")


def test_what_works_comes_first_and_what_fails_last_and_no_line_is_too_long() -> None:
    results = [
        CheckResult("configuration", "ok", "fine"),
        CheckResult("edge tpu", "unused", "none is plugged in"),
        CheckResult("camera door", "failed", "/dev/video0: no such device", "connect it " + "look " * 30),
        WORKS,
        CheckResult("watchdog", "unused", "no systemd"),
        CheckResult("clock", "warning", "not synchronised"),
        CheckResult("disk", "failed", "49 MB free", "free some"),
    ]
    lines = list(summary_lines(results, 80))
    assert max(map(len, lines)) <= 80
    assert lines[:7] == [
        "Works:",
        "  broker: b:1883: logged in",
        "Not used:",
        "  edge tpu: none is plugged in",
        "Warnings:",
        "  clock: not synchronised",
        "Does not work:",
    ]
    assert lines[7].startswith("  camera door: /dev/video0: no such device; connect it look")
    assert lines[8].startswith("    look")
    assert lines[-1] == "  disk: 49 MB free; free some"


@pytest.mark.parametrize(
    ("names", "command"),
    [
        ([], "sudo edge-classifierd listen"),
        (["disk"], "sudo edge-classifierd doctor"),
        (["runtime", "model door", "camera door"], "sudo edge-classifierd doctor"),
        (["model door"], f"sudoedit {CONFIG} && sudo systemctl restart edge-classifierd"),
        (["camera door"], f"sudoedit {CONFIG} && sudo systemctl restart edge-classifierd"),
        (["disk", "broker"], f"sudoedit {CONFIG} && sudo systemctl restart edge-classifierd"),
        (["camera door", "configuration"], "sudo edge-classifierd check"),
    ],
)
def test_one_command_is_next(names: list[str], command: str) -> None:
    results = [WORKS, *(CheckResult(name, "failed", "it broke") for name in names)]
    assert next_command(results, CONFIG, default=True) == command


def test_another_configuration_is_named_so_that_a_shell_takes_it() -> None:
    command = next_command([WORKS], Path("/a b.yaml"), default=False)
    assert command == "sudo edge-classifierd listen --config '/a b.yaml'"
