"""What a class or a model still needs before a training gives a good result, in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.teaching.records import TaughtClass

LEAST_PICTURES: Final = 5
"""Of a class, to train."""
LEAST_CLASSES: Final = 2
ENOUGH_PICTURES: Final = 20
ENOUGH_RECORDINGS: Final = 2
_SAME_LIGHT_MS: Final = 2 * 3_600_000


def is_enough(pictures: int, recordings: int) -> bool:
    """Return whether a class has enough pictures for a good result."""
    return pictures >= ENOUGH_PICTURES and recordings >= ENOUGH_RECORDINGS


def class_advice(*, unknown: bool, pictures: int, recordings: int, span_ms: int) -> str:
    """Return the next step for a class; `span_ms` is the time between its first and last picture."""
    if not pictures and unknown:
        return "Record the empty scene, people, rain: what must not be taken for one of your classes."
    if pictures < LEAST_PICTURES:
        return f"At least {LEAST_PICTURES} pictures are needed, {ENOUGH_PICTURES} are better."
    if pictures < ENOUGH_PICTURES:
        return f"Record {counted(ENOUGH_PICTURES - pictures, 'picture')} more."
    if recordings < ENOUGH_RECORDINGS:
        return "Record it once more, at another time of day; until then its result is an estimate."
    if span_ms < _SAME_LIGHT_MS:
        return "Enough. Another light would still help."
    return "Enough."


def missing(classes: Sequence[TaughtClass]) -> str:
    """Return what a training still needs; empty when it can begin. Classes without a picture are left out of it."""
    begun = [one for one in classes if one.pictures]
    if len(begun) < LEAST_CLASSES:
        return f"Record at least {LEAST_CLASSES} classes with {LEAST_PICTURES} pictures each."
    few = [one for one in begun if one.pictures < LEAST_PICTURES]
    if few:
        least = f"{LEAST_PICTURES} are needed"
        return f"{few[0].name} has only {counted(few[0].pictures, 'picture')}; {least}, or move what it has to the bin."
    return ""
