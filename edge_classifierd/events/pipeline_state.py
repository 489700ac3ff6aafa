"""A pipeline's state: the retained JSON of `<base>/<pipeline>/state`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.clock import timestamp
from edge_classifierd.events.schema import RankedLabel, dump, ranked_documents

if TYPE_CHECKING:
    from datetime import datetime

SCHEMA_VERSION = 1
"""The `schema` of every state document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineState:
    """The latest frame's best classes, the watches that are on, and since when this label and these watches hold.

    `label` and `confidence` are None until a frame was classified.
    """

    label: str | None
    confidence: float | None
    top: tuple[RankedLabel, ...]
    active: tuple[str, ...]
    since: datetime


def encode_state(state: PipelineState) -> bytes:
    """Return compact UTF-8 JSON, keys in the documented order."""
    return dump(
        {
            "schema": SCHEMA_VERSION,
            "label": state.label,
            "confidence": None if state.confidence is None else round(state.confidence, 4),
            "top": ranked_documents(state.top),
            "active": list(state.active),
            "since": timestamp(state.since),
        }
    )
