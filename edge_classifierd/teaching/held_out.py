"""Decides which pictures are held out, once and for ever: a held-out picture is never learnt from, in no version.

A recording is on one side as a whole, so that nobody's burst lies on both. Of the first two recordings of a class the
smaller one is held out; of later ones those whose identifier has a hash that is divisible by five. While a class has a
single recording, a fifth of its pictures is held out in whole groups of near-duplicates, the newest first: a result
measured with them is an estimate.

Sides are decided when they first matter, at the first training or export, and stored.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_classifierd.learning.duplicates import grouped, near_duplicates
from edge_classifierd.learning.training_set import NEARLY_SAME_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

Side = Literal["learn", "held", "split"]
_ONE_IN: Final = 5


@dataclass(frozen=True, slots=True)
class SidedPicture:
    """A picture of a class, as far as the rule needs it."""

    id: str
    class_id: str
    recording: str
    hash: bytes
    held_out: bool | None
    """None while it is not decided."""


def sides_are_decided(connection: sqlite3.Connection, model: int) -> bool:
    """Return whether every picture in a class has a side."""
    undecided = connection.execute(
        "SELECT 1 FROM pictures JOIN classes ON classes.id = class"
        " WHERE pictures.model = ? AND binned_ms IS NULL AND held_out IS NULL LIMIT 1",
        (model,),
    )
    return undecided.fetchone() is None


def assign_sides(connection: sqlite3.Connection, model: int) -> None:
    """Decide the side of every picture in a class that has none yet, and store it."""
    rows = connection.execute(
        "SELECT pictures.id, class, recording, hash, held_out FROM pictures JOIN classes ON classes.id = class"
        " WHERE pictures.model = ? AND binned_ms IS NULL ORDER BY class, pictures.id",
        (model,),
    )
    pictures = [
        SidedPicture(one, class_id, recording, bits, None if held is None else bool(held))
        for one, class_id, recording, bits, held in rows
    ]
    sides: dict[str, Side] = dict(
        connection.execute("SELECT id, side FROM recordings WHERE model = ? AND side IS NOT NULL", (model,))
    )
    recordings, decided = decide(pictures, sides)
    connection.executemany(
        "UPDATE recordings SET side = ? WHERE id = ?", [(side, one) for one, side in recordings.items()]
    )
    connection.executemany(
        "UPDATE pictures SET held_out = ? WHERE id = ?", [(held, one) for one, held in decided.items()]
    )


def decide(pictures: Sequence[SidedPicture], sides: Mapping[str, Side]) -> tuple[dict[str, Side], dict[str, bool]]:
    """Return the new sides of recordings and pictures; what is decided already is never among them.

    Args:
        pictures: Every picture in a class.
        sides: The sides of recordings that are decided.
    """
    known = dict(sides)
    sizes: dict[str, dict[str, int]] = {}
    recorded: dict[str, list[SidedPicture]] = {}
    for one in pictures:
        recordings = sizes.setdefault(one.class_id, {})
        recordings[one.recording] = recordings.get(one.recording, 0) + 1
        recorded.setdefault(one.recording, []).append(one)
    for recordings in sizes.values():
        known |= _decide_recordings(dict(sorted(recordings.items())), known)
    held: dict[str, bool] = {}
    for recording, own in recorded.items():
        if any(one.held_out is None for one in own):
            side = known[recording]
            chosen = _split(own) if side == "split" else dict.fromkeys((one.id for one in own), side == "held")
            held |= {one.id: chosen[one.id] for one in own if one.held_out is None}
    return {one: side for one, side in known.items() if one not in sides}, held


def _decide_recordings(sizes: Mapping[str, int], known: Mapping[str, Side]) -> dict[str, Side]:
    """Return the sides of the undecided recordings of a class; `sizes` is in the order of their identifiers."""
    undecided = [one for one in sizes if one not in known]
    if len(sizes) == 1:
        return dict.fromkeys(undecided, "split")
    chosen: dict[str, Side] = {}
    before = {known[one] for one in sizes if one in known}
    if not before:
        held = min(undecided[:2], key=lambda one: (sizes[one], one != undecided[1]))
        chosen = {one: "held" if one == held else "learn" for one in undecided[:2]}
    elif undecided and "held" not in before:
        chosen[undecided[0]] = "held"
    elif undecided and before == {"held"}:
        chosen[undecided[0]] = "learn"
    for one in undecided:
        chosen.setdefault(one, "learn" if zlib.crc32(one.encode()) % _ONE_IN else "held")
    return chosen


def _split(pictures: Sequence[SidedPicture]) -> dict[str, bool]:
    """Return which pictures of one recording are held out; the given ones are in the order in which they were taken."""
    hashes = np.unpackbits(np.frombuffer(b"".join(one.hash for one in pictures), np.uint8)).reshape(len(pictures), -1)
    groups = grouped(len(pictures), near_duplicates(hashes.astype(np.bool_), NEARLY_SAME_BITS)).tolist()
    members: dict[int, list[SidedPicture]] = {}
    for group, one in zip(groups, pictures, strict=True):
        members.setdefault(group, []).append(one)
    held = {one.id: one.held_out for one in pictures if one.held_out is not None}
    fresh = []
    for group in members.values():
        sides = {one.held_out for one in group} - {None}
        if not sides:
            fresh.append(group)
        else:  # a picture between two that are on different sides is learnt from
            held |= {one.id: sides == {True} for one in group if one.held_out is None}
    left = round(len(pictures) / _ONE_IN) - sum(held.values())
    if len(fresh) == len(members) and len(fresh) > 1:  # the first decision: hold out something
        left = max(left, 1, min(len(group) for group in fresh))
    learnt = sum(not side for side in held.values())
    for number, group in enumerate(sorted(fresh, key=lambda group: group[-1].id, reverse=True)):
        last = number == len(fresh) - 1 and not learnt
        side = len(group) <= left and not last
        left -= side * len(group)
        learnt += not side
        held |= {one.id: side for one in group}
    return held
