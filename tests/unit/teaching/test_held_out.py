"""The rule of held-out pictures: whole recordings, both sides, and no picture ever changes sides."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from teaching_scene import SetClock, add, frame

from edge_classifierd.errors import UsageError
from edge_classifierd.events.ulid import UlidGenerator
from edge_classifierd.teaching.held_out import SidedPicture, decide
from edge_classifierd.teaching.store import TeachingStore

IDS = UlidGenerator(SetClock())
RECORDINGS = [IDS.new() for _ in range(8)]
PICTURES = [IDS.new() for _ in range(60)]


def picture(number: int, class_id: str, recording: int, look: int) -> SidedPicture:
    """Pictures of one look are near-duplicates."""
    bits = np.random.default_rng(look).integers(0, 256, 32, np.uint8)
    bits[0] = number  # at most 8 bits
    return SidedPicture(PICTURES[number], class_id, RECORDINGS[recording], bits.tobytes(), None)


pictures = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=len(PICTURES)
).map(lambda drawn: [picture(number, *one) for number, one in enumerate(drawn)])


@given(pictures)
def test_a_recording_is_on_one_side_unless_its_class_has_no_other(offered: list[SidedPicture]) -> None:
    sides, held = decide(offered, {})
    assert set(held) == {one.id for one in offered}
    for recording, side in sides.items():
        own = [held[one.id] for one in offered if one.recording == recording]
        if side != "split":
            assert set(own) == {side == "held"}
        else:
            classes = {one.class_id for one in offered if one.recording == recording}
            assert any(len({one.recording for one in offered if one.class_id == name}) == 1 for name in classes)


@given(pictures)
def test_a_class_with_two_recordings_of_its_own_is_on_both_sides(offered: list[SidedPicture]) -> None:
    own = [replace(one, class_id="a") for one in offered]
    _, held = decide(own, {})
    if len({one.recording for one in own}) > 1:
        assert set(held.values()) == {False, True}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=len(PICTURES)))
def test_near_duplicates_of_a_single_recording_stay_together(looks: list[int]) -> None:
    own = [picture(number, "a", 0, look) for number, look in enumerate(looks)]
    sides, held = decide(own, {})
    assert sides == {RECORDINGS[0]: "split"}
    by_look: dict[int, set[bool]] = {}
    for look, one in zip(looks, own, strict=True):
        by_look.setdefault(look, set()).add(held[one.id])
    assert all(len(side) == 1 for side in by_look.values())
    assert (set(held.values()) == {False, True}) == (len(by_look) > 1)


@given(pictures, st.data())
def test_what_is_decided_stays_decided(offered: list[SidedPicture], data: st.DataObject) -> None:
    """Pictures come one after the other, change class, and the sides are decided at any time between."""
    sides: dict[str, object] = {}
    held: dict[str, bool] = {}
    present: list[SidedPicture] = []
    for one in offered:
        present.append(one)
        if not data.draw(st.booleans()):
            continue
        known = [
            replace(other, held_out=held.get(other.id), class_id=data.draw(st.sampled_from("ab"))) for other in present
        ]
        new_sides, new_held = decide(known, sides)  # type: ignore[arg-type]  # a side as it was returned
        assert not new_sides.keys() & sides.keys()
        assert not new_held.keys() & held.keys()
        sides |= new_sides
        held |= new_held
        assert held.keys() == {other.id for other in present}


def test_of_the_first_two_recordings_the_smaller_one_is_held_out() -> None:
    for smaller in (0, 1):
        offered = [picture(number, "a", smaller if number < 3 else 1 - smaller, number) for number in range(10)]
        assert decide(offered, {})[0] == {RECORDINGS[smaller]: "held", RECORDINGS[1 - smaller]: "learn"}


def test_a_fifth_of_later_recordings_is_held_out() -> None:
    recordings = [IDS.new() for _ in range(1000)]
    offered = [SidedPicture(IDS.new(), "a", one, bytes(32), None) for one in recordings]
    counts = Counter(decide(offered, {})[0].values())
    assert 150 < counts["held"] < 250


def test_a_picture_between_near_duplicates_on_both_sides_is_learnt_from() -> None:
    first, last = picture(0, "a", 0, 1), picture(1, "a", 0, 2)
    both = bytearray(first.hash)
    near = [
        replace(first, held_out=True),
        replace(last, hash=bytes(both[:31] + bytes([both[31] ^ 255])), held_out=False),
    ]
    both[31] ^= 15
    middle = SidedPicture(PICTURES[2], "a", RECORDINGS[0], bytes(both), None)
    assert decide([*near, middle], {RECORDINGS[0]: "split"}) == ({}, {PICTURES[2]: False})


def test_a_fifth_of_a_single_recording_is_held_out_also_when_it_grows() -> None:
    own = [picture(number, "a", 0, number) for number in range(30)]
    _, held = decide(own[:20], {})
    known = [replace(one, held_out=held.get(one.id)) for one in own]
    _, more = decide(known, {RECORDINGS[0]: "split"})
    assert (sum(held.values()), sum(more.values())) == (4, 2)


def test_a_single_recording_gives_an_estimate_and_a_second_one_a_result(
    store: TeachingStore, robin: str, clock: SetClock
) -> None:
    unknown = store.model("birds").classes[0].id
    first = add(store, robin, *range(20))
    add(store, unknown, *range(100, 120))
    one, other = store.training_set("birds").classes
    assert (one.name, len(one.learn), len(one.held_out), one.estimate) == ("unknown", 16, 4, True)
    assert {found.id for found in other.held_out} == set(first[-4:])
    clock.passed_s += 61
    again = add(store, robin, *range(20, 32))
    robins = store.training_set("birds").classes[1]
    assert {found.id for found in robins.held_out} == {*first[-4:], *again}
    assert not robins.estimate
    assert store.training_set("birds").estimate  # of unknown
    assert all(found.path.is_file() for found in (*robins.learn, *robins.held_out))


def test_a_training_that_needs_more_pictures_is_refused_with_what_is_missing(store: TeachingStore, robin: str) -> None:
    add(store, robin, *range(5))
    with pytest.raises(UsageError, match="Record at least 2 classes"):
        store.training_set("birds")
    unknown = store.model("birds").classes[0].id
    add(store, unknown, 10, 11)
    with pytest.raises(UsageError, match="unknown has only 2 pictures"):
        store.training_set("birds")


class Teaching(RuleBasedStateMachine):
    """A real store, used at random; the sides that a training saw once hold for every later one."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.store = TeachingStore(Path(self.folder.name), self.clock)
        self.store.create("birds")
        self.classes = [one.id for one in self.store.model("birds").classes]
        self.classes.append(self.store.add_class("birds", "robin").id)
        self.offered = 0
        self.seen: dict[str, bool] = {}

    @rule(where=st.integers(0, 1), count=st.integers(1, 8))
    def record(self, where: int, count: int) -> None:
        recording = self.store.begin_recording("birds", self.classes[where], "garden")
        for _ in range(count):
            self.offered += 1
            self.store.add_picture(
                "birds", class_id=self.classes[where], picture=frame(self.offered), source="camera", recording=recording
            )

    @rule(seconds=st.integers(1, 120))
    def wait(self, seconds: int) -> None:
        self.clock.passed_s += seconds

    @precondition(lambda self: self.offered > 3)
    @rule(data=st.data(), to=st.sampled_from(["to_sort", "bin", 0, 1]), start=st.sampled_from(["to_sort", "bin", 0, 1]))
    def move(self, data: st.DataObject, to: str | int, start: str | int) -> None:
        place = self.classes[start] if isinstance(start, int) else start
        found = self.store.pictures("birds", place)
        chosen = data.draw(st.lists(st.sampled_from([one.id for one in found]), max_size=5)) if found else []
        if chosen:
            self.store.move("birds", chosen, self.classes[to] if isinstance(to, int) else to)

    @rule()
    def undo(self) -> None:
        step = self.store.model("birds").newest_step
        if step is not None:
            self.store.undo("birds", step)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = TeachingStore(Path(self.folder.name), self.clock)

    @invariant()
    def train(self) -> None:
        try:
            found = self.store.training_set("birds")
        except UsageError:
            return
        for one in found.classes:
            for held, own in ((False, one.learn), (True, one.held_out)):
                for picture in own:
                    assert self.seen.setdefault(picture.id, held) == held

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestTeaching = Teaching.TestCase
TestTeaching.settings = settings(max_examples=15, stateful_step_count=20)
