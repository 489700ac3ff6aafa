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
