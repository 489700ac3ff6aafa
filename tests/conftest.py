"""What every test may use: the repository's root, the real data beside it, and one setting of hypothesis."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from edge_classifierd.health.storage import volatile_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parents[1]

# No deadlines: the machines that run this are slow and noisy. CI tries the same examples every time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# What a service manager or a user has set for a daemon is not meant for the daemons of the tests.
for _name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "STATE_DIRECTORY", "RUNTIME_DIRECTORY",
              "CREDENTIALS_DIRECTORY", "EDGE_CLASSIFIERD_STATE", "EDGE_CLASSIFIERD_ROOT"):  # fmt: skip
    os.environ.pop(_name, None)

# Programs that a shell starts in the background ignore Ctrl-C, and so would the daemons that these tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Debian 13 has /tmp in memory, where a daemon reports that its events would not survive a loss of power.
if volatile_reason(Path(tempfile.gettempdir())):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/var/tmp")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return _ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and models beside the checkout, which is not part of the project."""
    folder = _ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the photographs and models in {folder}")
    return folder


@pytest.fixture(autouse=True)
def _nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what the tags of earlier tests' configurations hide in messages."""
    monkeypatch.setattr("edge_classifierd.errors._hidden", {})


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Remove the log handlers that a command has added in this process: their stream ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers.copy(), root.level
    yield
    for handler in root.handlers.copy():
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)
