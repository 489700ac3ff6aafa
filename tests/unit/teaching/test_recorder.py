"""Recordings begin, thin out frames and end, with a real store and frames that the test offers."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from moving_pictures import picture
from pipelines_scene import until

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.jpeg import read_header
from edge_classifierd.pipeline.observation.tap import FrameTap
from edge_classifierd.preprocess import Region, View
from edge_classifierd.teaching.recorder import LONGEST_S, MOST_KEPT, Recorder, RecordingRunsError, RecordingState
from edge_classifierd.teaching.records import NotTaughtError
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class HandClock(SystemClock):
    """A clock whose seconds a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Bench:
    """A recorder of the model `things` with its first class, and a camera `yard`."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.store = TeachingStore(folder, self.clock)
        self.store.create("things", None)
        self.cup = self.store.add_class("things", "cup").id
        self.tap = FrameTap()
        self.states: list[RecordingState] = []
        self._changed = threading.Condition()
        self.recorder = Recorder(self.store, self.tap, self.clock, self._note)

    def _note(self, state: RecordingState) -> None:
        with self._changed:
            self.states.append(state)
            self._changed.notify_all()

    def begin(self, view: View | None = None) -> RecordingState:
        state = self.recorder.begin("things", self.cup, "yard", view or View())
        with self._changed:  # the thread subscribes first
            self._changed.wait_for(lambda: "yard" in self.tap._subscribers, 10)
        return state

    def offer(self, level: int, after_s: float = 0.2) -> RecordingState:
        """Offer a frame of the camera and return the state after it was looked at."""
        seen = len(self.states)
        self.clock.now_s += after_s
        self.offer_unseen(level)
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.states) > seen, 10)
        return self.states[-1]

    def offer_unseen(self, level: int) -> None:
        self.tap.offer("yard", Frame(picture(level, noise=True), 0, self.clock.now_s, datetime.now(UTC)))

    def ended(self) -> RecordingState:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.states) and self.states[-1].ended is not None, 10)
        return self.states[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.recorder.stop(5)
    made.store.close()


def test_pictures_that_differ_are_kept_and_look_alikes_are_counted(bench: Bench) -> None:
    begun = bench.begin()
    first = bench.offer(1)
    assert (first.id, first.kept, first.similar) == (begun.id, 1, 0)
    assert bench.offer(1).similar == 1
    last = bench.offer(2)
    assert (last.kept, last.similar) == (2, 1)
    assert {one.id for one in bench.store.pictures("things", bench.cup)} == {first.newest, last.newest}
    assert {one.recording for one in bench.store.pictures("things", bench.cup)} == {begun.id}


def test_at_most_five_pictures_a_second_are_taken(bench: Bench) -> None:
    recording = bench.begin().id
    bench.offer(1)
    bench.clock.now_s += 0.1
    bench.offer_unseen(2)  # before the next is due
    until(lambda: bench.recorder._slot._frame is None)
    bench.offer(3, after_s=0.1)
    ended = bench.recorder.end(recording)
    assert ended is not None
    assert (ended.kept, ended.similar) == (2, 0)


def test_a_picture_is_cut_to_the_region(bench: Bench) -> None:
    bench.begin(View(region=Region(0, 0, 0.5, 1)))
    newest = bench.offer(1).newest
    assert newest is not None
    jpeg = bench.store.jpeg("things", newest, thumb=False)
    assert jpeg is not None
    header = read_header(jpeg)
    assert header is not None
    assert (header.width, header.height) == (80, 120)


def test_letting_go_ends_a_recording(bench: Bench) -> None:
    state = bench.begin()
    bench.offer(1)
    ended = bench.recorder.end(state.id)
    assert ended is not None
    assert (ended.ended, ended.kept, ended.ends_in_s) == ("released", 1, 0.0)
    assert bench.recorder.held(state.id) == ended
    assert bench.tap._subscribers == {}


def test_a_recording_ends_two_seconds_after_the_last_sign_of_life(bench: Bench) -> None:
    state = bench.begin()
    bench.clock.now_s += 1.9
    assert bench.recorder.held(state.id) is not None
    bench.clock.now_s += 1.9
    assert bench.offer(1, after_s=0).ended is None
    bench.clock.now_s += 0.2
    assert bench.ended().ended == "silent"


def test_a_recording_ends_after_a_minute_although_it_is_held(bench: Bench) -> None:
    state = bench.begin()
    for _ in range(int(LONGEST_S)):
        held = bench.recorder.held(state.id)
        assert held is not None
        bench.clock.now_s += 1
    assert bench.ended().ended == "time"


def test_a_recording_ends_when_a_hundred_pictures_are_kept(bench: Bench) -> None:
    state = bench.begin()
    for level in range(MOST_KEPT):
        bench.recorder.held(state.id)
        bench.offer(level)
    ended = bench.ended()
    assert (ended.ended, ended.kept) == ("full", MOST_KEPT)


def test_only_one_recording_runs_at_a_time(bench: Bench) -> None:
    state = bench.begin()
    with pytest.raises(RecordingRunsError):
        bench.begin()
    bench.recorder.end(state.id)
    bench.begin()


def test_a_recording_for_an_unknown_class_is_refused(bench: Bench) -> None:
    with pytest.raises(NotTaughtError):
        bench.recorder.begin("things", "0" * 26, "yard", View())
    assert bench.recorder.held("0" * 26) is None
    assert bench.recorder.end("0" * 26) is None
    bench.begin()


def test_undoing_the_step_of_a_recording_removes_all_its_pictures(bench: Bench) -> None:
    state = bench.begin()
    bench.offer(1)
    step = bench.offer(2).step
    bench.recorder.end(state.id)
    assert step is not None
    bench.store.undo("things", step)
    assert bench.store.pictures("things", bench.cup) == []


def test_a_store_that_takes_no_picture_ends_the_recording_with_its_sentence(bench: Bench) -> None:
    bench.begin()
    bench.store.remove_class("things", bench.cup)
    bench.clock.now_s += 0.2
    bench.offer_unseen(1)
    assert "class" in str(bench.ended().ended)
