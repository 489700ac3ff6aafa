from __future__ import annotations

from typing import Any

import pytest

from edge_classifierd.daemon.supervisor import BUDGET, GaveUpError, Supervisor


class StillClock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class Metrics:
    restarts = 0

    def restarted(self) -> None:
        self.restarts += 1


class Failing:
    """A pipeline as the supervisor sees it."""

    name = "driveway"

    def __init__(self, failure: BaseException | None, metrics: Metrics) -> None:
        self.failure = failure
        self.metrics = metrics
        self.started = self.stopped = False

    def start(self) -> None:
        self.started = True

    def stop(self, _timeout_s: float) -> bool:
        self.stopped = True
        return True


def supervised(*failures: BaseException | None) -> tuple[Supervisor, StillClock, dict[str, Any], Metrics]:
    clock, metrics = StillClock(), Metrics()
    coming = iter([Failing(failure, metrics) for failure in failures])
    pipelines: dict[str, Any] = {"driveway": next(coming)}
    return Supervisor(lambda _failed: next(coming), clock), clock, pipelines, metrics  # type: ignore[arg-type, return-value]


def test_a_failed_pipeline_is_started_again_after_a_pause_and_its_bug_keeps_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor, clock, pipelines, metrics = supervised(ZeroDivisionError("bug"), None)
    failed = pipelines["driveway"]
    supervisor.tick(pipelines)
    assert pipelines["driveway"] is failed
    assert caplog.records[0].exc_info is not None
    clock.now_s = 0.6
    supervisor.tick(pipelines)
    assert failed.stopped
    assert pipelines["driveway"].started
    assert metrics.restarts == 1
    supervisor.tick(pipelines)
    assert metrics.restarts == 1


def test_one_that_fails_too_often_ends_the_process() -> None:
    supervisor, clock, pipelines, metrics = supervised(*[ZeroDivisionError("bug")] * (BUDGET + 2))
    def go_on() -> None:
        for _ in range(100):
            supervisor.tick(pipelines)
            clock.now_s += 5

    with pytest.raises(GaveUpError, match="driveway: failed 6 times within"):
        go_on()
    assert metrics.restarts == BUDGET


def test_failures_far_apart_are_forgiven() -> None:
    supervisor, clock, pipelines, metrics = supervised(*[ZeroDivisionError("bug")] * 20, None)
    for _ in range(20):
        supervisor.tick(pipelines)
        clock.now_s += 300
        supervisor.tick(pipelines)
    assert metrics.restarts == 20


def test_the_pause_before_a_new_start_grows_with_the_failures_and_is_short_again_when_those_are_long_ago() -> None:
    supervisor, clock, pipelines, _ = supervised(*[ZeroDivisionError("bug")] * 12)
    supervisor._random = Middle()  # type: ignore[assignment]
    pauses = []
    for _ in range(BUDGET):
        supervisor.tick(pipelines)
        pauses.append(supervisor._due_s["driveway"] - clock.now_s)
        clock.now_s += 31
        supervisor.tick(pipelines)
    assert pauses == [0.375, 0.75, 1.5, 3.0, 6.0]
    clock.now_s += 600
    supervisor.tick(pipelines)
    assert supervisor._due_s["driveway"] - clock.now_s == 0.375


def test_nothing_is_started_before_its_time() -> None:
    supervisor, clock, pipelines, metrics = supervised(ZeroDivisionError("bug"), None)
    supervisor._random = Middle()  # type: ignore[assignment]
    failed = pipelines["driveway"]
    for clock.now_s in (0.0, 0.1, 0.37):
        supervisor.tick(pipelines)
        assert pipelines["driveway"] is failed
        assert not failed.stopped
    clock.now_s = 0.375
    supervisor.tick(pipelines)
    assert pipelines["driveway"] is not failed
    assert metrics.restarts == 1


def test_a_pipeline_that_a_reload_replaced_begins_with_a_full_budget() -> None:
    supervisor, clock, pipelines, _ = supervised(*[ZeroDivisionError("bug")] * (2 * BUDGET + 2))
    for _ in range(2):
        for _ in range(BUDGET):
            supervisor.tick(pipelines)
            clock.now_s += 20
            supervisor.tick(pipelines)
        supervisor.forget("driveway")
    supervisor.tick(pipelines)
    supervisor.forget("driveway")
    supervisor.forget("never heard of")
    assert not supervisor._due_s


def test_giving_up_says_what_failed_how_often_and_keeps_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    bug = ZeroDivisionError("division by zero")
    supervisor, clock, pipelines, _ = supervised(*[bug] * (BUDGET + 2))

    def go_on() -> None:
        for _ in range(20):
            supervisor.tick(pipelines)
            clock.now_s += 20

    with pytest.raises(GaveUpError) as caught:
        go_on()
    assert str(caught.value) == (
        "driveway: failed 6 times within 200 s; the last time with ZeroDivisionError: division by zero; "
        "please report this with the log"
    )
    assert caught.value.__cause__ is bug
    assert caplog.text.count("failed unexpectedly; this is a bug") == BUDGET + 1


class Middle:
    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (0.5, 1.0)
        return 0.75
