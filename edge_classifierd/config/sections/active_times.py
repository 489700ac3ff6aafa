"""The key `active` of a pipeline: ranges of local clock times and sun times."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.decision.active_times import EXAMPLES, PATTERN, ActiveRange, ActiveTimes

_MOST_RANGES = 32
_RANGE_SCHEMA = {"type": "string", "pattern": PATTERN}


def _active_times(value: object) -> ActiveTimes:
    if isinstance(value, ActiveTimes):
        return value
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise PydanticCustomError("expected", "")
    if len(texts) > _MOST_RANGES:
        raise PydanticCustomError("too_long", "", {"max_length": _MOST_RANGES})
    ranges = []
    for text in texts:
        try:
            ranges.append(ActiveRange.parse(text))
        except ValueError as error:
            shown = f"{text[:40]!r}: " if len(texts) > 1 else ""
            raise PydanticCustomError("rule", "{problem}", {"problem": f"{shown}{error}"}) from None
    return ActiveTimes(tuple(ranges))


ActiveTimesValue = Annotated[
    ActiveTimes,
    BeforeValidator(_active_times),
    PlainSerializer(lambda times: [str(one) for one in times.ranges], return_type=list[str]),
    WithJsonSchema(
        {
            "anyOf": [
                _RANGE_SCHEMA,
                {"type": "array", "items": _RANGE_SCHEMA, "maxItems": _MOST_RANGES},
                {"type": "null"},
            ]
        }
    ),
    Expected(f"a range of times such as {EXAMPLES}, or a list of them"),
]
"""Text or a list of texts; empty: always. The place for sun times is set by the configuration as a whole."""
