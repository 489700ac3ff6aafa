from __future__ import annotations

import math
import time

import pytest
from health_clock import HandClock
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.clock import SystemClock
from edge_classifierd.health.heartbeat import Heartbeats, Stuck


def test_a_silent_stage_is_stuck_after_its_deadline(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    heartbeats.register("inference driveway", 5)
    clock.pass_s(5)
    assert heartbeats.stuck() == ()
    clock.pass_s(0.5)
    assert heartbeats.stuck() == (Stuck("inference driveway", "", 5.5, 5),)
    assert str(heartbeats.stuck()[0]) == "inference driveway has been stuck for 5.5 s (allowed: 5 s)"


def test_progress_keeps_a_stage_alive_and_frees_a_stuck_one(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("inference", 5)
    for _ in range(10):
        clock.pass_s(4)
        beat.progress()
        assert heartbeats.stuck() == ()
    clock.pass_s(6)
    assert heartbeats.stuck()
    beat.progress()
    assert heartbeats.stuck() == ()


def test_waiting_knowingly_has_no_deadline_until_work_goes_on(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("publisher", 5)
    beat.waiting("the broker is away")
    clock.pass_s(30 * 24 * 3600)
    assert heartbeats.stuck() == ()
    beat.progress()
    clock.pass_s(6)
    assert len(heartbeats.stuck()) == 1


def test_a_call_that_hangs_while_retrying_is_stuck(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("capture", 5)
    beat.waiting("camera gone")
    clock.pass_s(1000)
    beat.enter("open /dev/video0", deadline_s=20)
    clock.pass_s(20)
    assert heartbeats.stuck() == ()
    clock.pass_s(1)
    assert str(heartbeats.stuck()[0]) == "capture has been stuck in open /dev/video0 for 21.0 s (allowed: 20 s)"


def test_entering_without_a_deadline_has_the_stage_s_own(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("capture", 5)
    beat.enter("read", deadline_s=50)
    beat.enter("read")
    clock.pass_s(6)
    assert heartbeats.stuck() == (Stuck("capture", "read", 6, 5),)


def test_a_stage_that_keeps_its_own_beat_is_watched_until_it_ends(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    last_beat_s = [clock.now_s]
    heartbeats.watch("capture", 5, lambda: last_beat_s[0])
    clock.pass_s(5)
    assert heartbeats.stuck() == ()
    clock.pass_s(1)
    assert heartbeats.stuck() == (Stuck("capture", "", 6, 5),)
    last_beat_s[0] = clock.now_s
    assert heartbeats.stuck() == ()
    last_beat_s[0] = math.inf
    clock.pass_s(1000)
    assert heartbeats.stuck() == ()


def test_only_the_stuck_are_named_and_the_released_are_forgotten(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    heartbeats.register("b", 5)
    heartbeats.register("a", 5)
    heartbeats.register("patient", 60)
    clock.pass_s(10)
    assert [stuck.name for stuck in heartbeats.stuck()] == ["b", "a"]
    assert len(heartbeats.stuck(clock.now_s + 51)) == 3
    heartbeats.release("b")
    heartbeats.release("b")
    assert [stuck.name for stuck in heartbeats.stuck()] == ["a"]


def test_a_name_is_registered_once(clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    heartbeats.register("capture", 5)
    with pytest.raises(ValueError, match="'capture' is registered already"):
        heartbeats.register("capture", 5)
    heartbeats.release("capture")
    heartbeats.register("capture", 5)


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["progress", "enter", "waiting"])), max_size=40))
def test_stuck_exactly_when_the_last_word_was_not_waiting_and_is_too_old(steps: list[tuple[float, str]]) -> None:
    clock = HandClock(0)
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("stage", 5)
    last, since_s = "progress", 0.0
    for pause_s, step in steps:
        clock.pass_s(pause_s)
        assert bool(heartbeats.stuck()) == (last != "waiting" and clock.now_s - since_s > 5)
        if step == "progress":
            beat.progress()
        elif step == "enter":
            beat.enter("call")
        else:
            beat.waiting("away")
        last, since_s = step, clock.now_s


def test_a_beat_costs_about_a_microsecond() -> None:
    beat = Heartbeats(SystemClock()).register("stage", 5)

    def microseconds() -> float:
        start_s = time.perf_counter()
        for _ in range(1000):
            beat.progress()
        return (time.perf_counter() - start_s) * 1e3

    assert min(microseconds() for _ in range(20)) < 5  # 0.2 µs on a PC; the bound is for busy machines
