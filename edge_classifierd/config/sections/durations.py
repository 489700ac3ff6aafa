"""Durations (`250ms`, `30s`, `5m`, `2h`, `14d`, or a number of seconds) as seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)"
_LONGEST_S = 36525 * 86400.0  # a century: a longer duration is a typing mistake


def parse_duration(value: object) -> float:
    """Return the seconds of a number or of text with a unit; raises PydanticCustomError for anything else."""
    seconds: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := re.fullmatch(_PATTERN, value)):
        seconds = float(match[1]) * _UNITS_S[match[2]]
    if seconds is None:
        raise PydanticCustomError("expected", "must be a duration")
    if not 0 <= seconds <= _LONGEST_S:
        raise PydanticCustomError("expected", "must be a duration of at most a hundred years")
    return seconds


def format_duration(seconds: float) -> str:
    """Return the shortest exact spelling of `seconds`: `90s`, `5m`, `14d`."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = seconds / _UNITS_S[unit]
        if count >= 1 and abs(count - round(count)) < 1e-9 * count:
            return f"{round(count)}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": _LONGEST_S},
                {"type": "string", "pattern": f"^{_PATTERN}$"},
            ]
        }
    ),
    Expected("a duration such as 250ms, 30s, 5m, 2h, 14d or a number of seconds"),
]
"""Seconds as a float."""
