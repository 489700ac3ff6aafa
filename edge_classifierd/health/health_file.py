"""The health file: the newest health document of the daemon, readable without a broker."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.state_file import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

_NAME: Final = "health.json"
# Directories of the installed service. A doctor outside the service has no $RUNTIME_DIRECTORY.
_SERVICE_RUN, _SERVICE_STATE = Path("/run/edge-classifierd"), Path("/var/lib/edge-classifierd")
_MODE: Final = 0o640  # readable for the service's group, because it may contain addresses of cameras


class HealthFile:
    """Writes the health file. Used by the service's thread."""

    def __init__(self, state: Path) -> None:
        """`health.json` in systemd's `$RUNTIME_DIRECTORY`, without one in the directory `state`."""
        self._path = (_runtime_directory() or state) / _NAME
        self._failing = False

    def write(self, document: bytes) -> None:
        """Replace the file atomically. Log one warning when that starts to fail."""
        try:
            replace_file(self._path, document, durably=False, mode=_MODE)
        except OSError as error:
            if not self._failing:
                _log.warning("%s: cannot be written (%s); doctor cannot read the daemon's health", self._path, error)
            self._failing = True
        else:
            self._failing = False


@dataclass(frozen=True, slots=True)
class ReportedPipeline:
    """The reported state of one pipeline."""

    online: bool
    reasons: tuple[str, ...]
    accelerator: str | None
    fps: float | None
    picture: str | None = None
    """What is known of the camera's picture (docs/health.schema.json)."""
    resting: bool = False
    """Whether its camera is closed outside its `active` times."""


@dataclass(frozen=True, slots=True)
class ReportedHealth:
    """The parts of a health file that the doctor and the command line use."""

    uptime_s: float
    """Uptime of the daemon when it wrote the file."""
    connected: bool
    durable: bool
    reasons: tuple[str, ...]
    pipelines: Mapping[str, ReportedPipeline]


def possible_paths(state: Path) -> tuple[Path, ...]:
    """Return the possible paths of the health file for this state directory, the most likely first."""
    folders = (_runtime_directory(), _SERVICE_RUN if state == _SERVICE_STATE else None, state)
    return tuple(folder / _NAME for folder in folders if folder is not None)


def read_health(path: Path) -> ReportedHealth:
    """Read a health file. Raises OSError, or ValueError when the content is not a health document."""
    try:
        document = json.loads(path.read_bytes())
        return ReportedHealth(
            uptime_s=float(document["uptime_s"]),
            connected=document["mqtt"]["connected_since_s"] is not None,
            durable=bool(document["outbox"]["durable"]),
            reasons=tuple(map(str, document["reasons"])),
            pipelines={str(name): _pipeline(entry) for name, entry in document["pipelines"].items()},
        )
    except (TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a health document ({error})") from error


def _pipeline(entry: Mapping[str, Any]) -> ReportedPipeline:
    fps, accelerator, picture = entry["fps"], entry["accelerator"], entry["picture"]
    return ReportedPipeline(
        online=entry["status"] == "online",
        reasons=tuple(map(str, entry["reasons"])),
        accelerator=None if accelerator is None else str(accelerator),
        fps=None if fps is None else float(fps),
        resting=entry["status"] == "resting",
        picture=None if picture is None else str(picture),
    )


def _runtime_directory() -> Path | None:
    folder = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(folder) if folder else None
