from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_classifierd.daemon.supervisor import WINDOW_S, Supervisor
from edge_classifierd.errors import ModelError

if TYPE_CHECKING:
    import pytest


class StillClock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class Failing:
    """A pipeline as the supervisor sees it."""

    name = "driveway"

    def __init__(self, failure: BaseException | None) -> None:
        self.failure = failure
        self.started = self.stopped = False

    def start(self) -> None:
        self.started = True

    def stop(self, _timeout_s: float) -> bool:
        self.stopped = True
        return True


BUG = ZeroDivisionError("bug")


class Supervised:
    """A supervisor whose pipeline fails with each of `failures` in turn."""

    def __init__(self, *failures: BaseException | None) -> None:
        self.clock = StillClock()
        self.made = [Failing(failure) for failure in failures]
        coming = iter(self.made)
        self.pipelines: dict[str, Any] = {"driveway": next(coming)}
        self.supervisor = Supervisor(lambda _failed: next(coming), self.clock)  # type: ignore[arg-type, return-value]
        self.supervisor._random = Middle()  # type: ignore[assignment]

    def tick(self) -> None:
        self.supervisor.tick(self.pipelines)

    @property
    def starts(self) -> int:
        return sum(one.started for one in self.made)

    @property
    def pause_s(self) -> float:
        return self.supervisor._due_s["driveway"] - self.clock.now_s


def test_a_failed_pipeline_is_started_again_after_a_pause_and_its_bug_keeps_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Supervised(BUG, None)
    failed = scene.pipelines["driveway"]
    scene.tick()
    assert scene.pipelines["driveway"] is failed
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "failed unexpectedly (ZeroDivisionError: bug); this is a bug" in record.getMessage()
    scene.clock.now_s = 0.6
    scene.tick()
    assert failed.stopped
    assert scene.pipelines["driveway"].started
    scene.tick()
    assert scene.starts == 1


def test_a_repeated_failure_is_retried_without_end_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Supervised(*[BUG] * 100)
    for _ in range(50):
        scene.tick()
        assert scene.pause_s <= 30
        scene.clock.now_s += 30
        scene.tick()
    assert scene.starts == 50
    assert len(caplog.records) == 1


def test_an_expected_failure_is_logged_as_one_sentence_and_so_is_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing, damaged = ModelError("m.tflite: no such file"), ModelError("m.tflite: is damaged")
    scene = Supervised(missing, missing, damaged, RuntimeError("can't start new thread"), None)
    for _ in range(4):
        scene.tick()
        scene.clock.now_s += 30
        scene.tick()
    again = "(trying again until it works)"
    more = "no more threads can be started; configure fewer pipelines, or raise TasksMax of the service"
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [
        (f"driveway: m.tflite: no such file {again}", None),
        (f"driveway: m.tflite: is damaged {again}", None),
        (f"driveway: {more} {again}", None),
    ]


def test_the_pause_grows_with_recent_failures() -> None:
    scene = Supervised(*[BUG] * 20)
    pauses = []
    for _ in range(8):
        scene.tick()
        pauses.append(scene.pause_s)
        scene.clock.now_s += 31
        scene.tick()
    assert pauses == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]
    scene.clock.now_s += WINDOW_S
    scene.tick()
    assert scene.pause_s == 0.375


def test_no_pipeline_starts_before_its_pause_is_over() -> None:
    scene = Supervised(BUG, None)
    failed = scene.pipelines["driveway"]
    for scene.clock.now_s in (0.0, 0.1, 0.37):
        scene.tick()
        assert scene.pipelines["driveway"] is failed
        assert not failed.stopped
    scene.clock.now_s = 0.375
    scene.tick()
    assert scene.pipelines["driveway"] is not failed


def test_a_pipeline_that_a_reload_replaced_begins_with_a_short_pause() -> None:
    scene = Supervised(*[BUG] * 12)
    for _ in range(5):
        scene.tick()
        scene.clock.now_s += 20
        scene.tick()
    scene.supervisor.forget("driveway")
    scene.tick()
    assert scene.pause_s == 0.375
    scene.supervisor.forget("driveway")
    scene.supervisor.forget("never heard of")
    assert not scene.supervisor._due_s


class Middle:
    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (0.5, 1.0)
        return 0.75
