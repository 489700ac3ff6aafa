"""The reporter: what it restores after a restart, and in which order it reports a frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from moving_pictures import picture

from edge_classifierd.clock import TimePoint
from edge_classifierd.config.loading.load import load
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.frames.base import Frame
from edge_classifierd.inference.base import Inference
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.pipeline.reporter import Reporter
from edge_classifierd.pipeline.saved_state import ActiveWatch, SavedState, SavedWatches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from edge_classifierd.events.schema import Event, EventDraft

CAT = 281


class World:
    """A clock, the state directory, and a sink that records its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 1000.0
        self.boot = "first"
        self.sure = True
        self.wall = datetime(2026, 11, 21, 22, 26, tzinfo=UTC)
        self.calls: list[str] = []
        self.detected: list[str] = []
        self.drafts: list[EventDraft] = []
        self.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4})
        self.outbox = Outbox(folder / "outbox.sqlite3", topic=lambda event: event.pipeline, clock=self)
        self.saved_state = SavedState(self.outbox, folder / "state.json", self)
        self.label = self.plan.bundle.labels.display[CAT]

    def configure(self, *watches: dict[str, Any], **model: Any) -> None:
        config = self.folder / "config.yaml"
        one = {"name": "porch", "source": {"type": "v4l2"}, "model": model, "watches": list(watches)}
        config.write_text(yaml.safe_dump({"pipelines": [one]}))
        (self.plan,) = preflight(load(config))

    def reporter(self) -> Reporter:
        return Reporter(
            self.plan,
            device="porch",
            runtime=lambda: "ai-edge-litert 2.3.0",
            sink=self,
            saved_state=self.saved_state,
            clock=self,
        )

    def shows(self, reporter: Reporter, cat: float, index: int = CAT) -> None:
        confidences = np.zeros(1000, np.float32)
        confidences[index] = cat
        reporter.report(Frame(picture(100), 1, self.now_s, self.wall), Inference(confidences, 1.0, "cpu"))

    def restart(self, *, away_s: float = 0.0, step_s: float = 0.0, boot: str = "first", sure: bool = True) -> None:
        """Let time pass, step the wall clock; another boot begins a new monotonic clock."""
        self.pass_time(away_s)
        self.wall += timedelta(seconds=step_s)
        if boot != self.boot:
            self.boot, self.now_s = boot, 3.0
        self.sure = sure

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return self.wall

    def synchronised(self) -> bool:
        return self.sure

    def store_events(self, drafts: Sequence[EventDraft], state: Mapping[str, str | None]) -> tuple[Event, ...]:
        assert not self.calls, "events are stored before anything is published"
        events = self.outbox.append(drafts, state)
        self.drafts.extend(drafts)
        self.calls.append("events")
        self.detected = [event.event_id for event in events if event.type == "detected"]
        return events

    def publish_watches(self, _plan: Any, active: frozenset[str]) -> None:
        self.calls.append(f"watches {sorted(active)}")

    def publish_state(self, _plan: Any, state: Any) -> None:
        self.calls.append(f"state {state.active}")

    def publish_status(self, _plan: Any, *, online: bool) -> None:
        raise AssertionError(f"published by the capture: {online}")

    def publish_picture(self, _plan: Any, _frame: Frame, event_ids: Sequence[str] = ()) -> None:
        assert list(event_ids) == self.detected, "a picture is stored for the detections of its frame"
        self.detected = []
        self.calls.append("picture")

    def take(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    monkeypatch.setattr("edge_classifierd.clock.boot_id", lambda: made.boot)
    yield made
    made.outbox.close()


def test_events_of_a_frame_are_stored_first_and_its_state_is_published_last(world: World) -> None:
    reporter = world.reporter()
    reporter.start("cpu")
    assert world.take() == ["watches []"]
    world.shows(reporter, cat=0.9)
    assert world.take() == ["events", "watches ['cat']", "picture", "state ('cat',)"]
    world.shows(reporter, cat=0.9)
    assert world.take() == []
    reporter.request_picture()
    world.shows(reporter, cat=0.9)
    assert world.take() == ["picture"]
    world.pass_time(5)
    world.shows(reporter, cat=0.1)
    assert world.take() == ["events", "watches []", "state ()"]
    assert [(draft.type, draft.active_s) for draft in world.drafts] == [("detected", None), ("cleared", 5.0)]


YEARS_S = 10 * 365 * 86400.0


@pytest.mark.parametrize(
    ("restart", "lasted_s"),
    [
        ({"away_s": 60}, 70),
        ({"away_s": 60, "step_s": YEARS_S}, 70),
        ({"away_s": 60, "step_s": -YEARS_S}, 70),
        ({"away_s": 60, "boot": "another"}, 70),
        ({"away_s": 60, "boot": "another", "step_s": -86400.0}, None),
        ({"away_s": 60, "boot": "another", "step_s": YEARS_S, "sure": False}, None),
        ({"away_s": 60, "boot": "", "sure": False}, None),
    ],
)
def test_a_watch_that_was_on_is_restored_without_an_event_and_its_duration_is_true_or_unknown(
    world: World, restart: dict[str, Any], lasted_s: float | None
) -> None:
    first = world.reporter()
    world.shows(first, cat=0.9)
    world.pass_time(6)
    world.restart(**restart)
    world.take()
    again = world.reporter()
    again.start("cpu")
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    world.pass_time(4)
    world.shows(again, cat=0.1)
    assert [(draft.type, draft.active_s) for draft in world.drafts[1:]] == [("cleared", lasted_s)]


def test_an_unknown_duration_stays_unknown_over_a_second_restart_and_ends_with_the_watch(world: World) -> None:
    first = world.reporter()
    world.shows(first, cat=0.9)
    world.restart(boot="another", sure=False)
    second = world.reporter()
    second.start("cpu")
    world.take()
    second.change_plan(world.plan, "cpu")  # stores what is on again
    world.restart(away_s=5)
    third = world.reporter()
    third.start("cpu")
    for cat in (0.1, 0.9, 0.1):
        world.take()
        world.pass_time(4)
        world.shows(third, cat=cat)
    assert [draft.active_s for draft in world.drafts if draft.type == "cleared"] == [None, 4.0]


def test_events_of_an_earlier_reporter_are_not_repeated_by_the_next_one(world: World) -> None:
    first, again = world.reporter(), world.reporter()
    world.shows(first, cat=0.9)
    world.take()
    again.start("cpu")
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    third = world.reporter()
    world.shows(again, cat=0.1)
    world.take()
    third.start("cpu")
    world.shows(third, cat=0.1)
    assert world.take() == ["watches []", "state ()"]


@pytest.mark.parametrize(
    ("watch", "remembered"),
    [
        ("dog", {}),
        ("dog", {"index": CAT}),
        ("cat", {"label": "a label of another model"}),
        ("cat", {"index": CAT, "model": "of another model"}),
        ("cat", {"index": 1000}),
        ("cat", {"index": -1}),
    ],
)
def test_a_watch_that_no_longer_exists_is_cleared(world: World, watch: str, remembered: dict[str, Any]) -> None:
    of_this_model = {"model": world.plan.bundle.sha256} if "index" in remembered else {}
    known = {"label": world.label, "since": world.wall - timedelta(days=1), **of_this_model, **remembered}
    world.saved_state.set_watches("porch", SavedWatches({watch: ActiveWatch(**known)}, saved_at=TimePoint.now(world)))
    world.reporter().start("cpu")
    assert world.take() == ["events", "watches []"]
    told = [(draft.type, draft.watch, draft.label, draft.active_s, draft.top) for draft in world.drafts]
    assert told == [("cleared", watch, known["label"], 86400.0, ())]
    assert world.saved_state.watches("porch").active == {}
    world.reporter().start("cpu")
    assert world.take() == ["watches []"]


def test_a_watch_continues_with_other_labels_of_the_same_model(world: World) -> None:
    first = world.reporter()
    world.shows(first, cat=0.9)
    labels = world.folder / "labels.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(1000)))
    world.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4}, labels=str(labels))
    world.take()
    again = world.reporter()
    again.start("cpu")
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    world.shows(again, cat=0.1)
    told = [(draft.type, draft.label) for draft in world.drafts]
    assert told == [("detected", world.label), ("cleared", "class 281")]


def test_a_watch_stored_by_an_earlier_version_continues(world: World) -> None:
    world.saved_state.set_watches("porch", SavedWatches({"cat": ActiveWatch(world.label, world.wall)}))
    world.reporter().start("cpu")
    assert world.take() == ["watches ['cat']"]


def test_of_two_classes_with_one_name_the_detected_one_continues(world: World) -> None:
    world.configure()
    _bird, machine = (index for index, label in enumerate(world.plan.bundle.labels.display) if label == "crane")
    first = world.reporter()
    world.shows(first, 0.9, index=machine)
    world.take()
    again = world.reporter()
    again.start("cpu")
    world.shows(again, 0.9, index=machine)
    assert world.take() == ["watches ['any']", "state ('any',)"]


@pytest.mark.parametrize(("remembered", "threshold"), [(0.75, 0.75), (1.0, 1.0), (0.0, 0.6), (7.0, 0.6), (-1.0, 0.6)])
def test_a_stored_threshold_is_used_if_it_is_valid(world: World, remembered: float, threshold: float) -> None:
    world.saved_state.set_threshold("porch", "cat", remembered)
    world.saved_state.set_threshold("porch", "dog", 0.5)
    assert world.reporter().thresholds() == {"cat": threshold}


@pytest.mark.parametrize(("away_s", "quiet_s"), [(20, 10), (40, 0)])
@pytest.mark.parametrize("restart", [{}, {"step_s": YEARS_S}, {"step_s": -YEARS_S}, {"boot": "another"}], ids=str)
def test_a_cooldown_continues_over_a_restart(
    world: World, restart: dict[str, Any], away_s: float, quiet_s: float
) -> None:
    world.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4, "cooldown": 30})
    first = world.reporter()
    world.shows(first, cat=0.9)
    world.take()
    world.shows(first, cat=0.1)
    world.take()
    world.restart(away_s=away_s, **restart)
    again = world.reporter()
    again.start("cpu")
    if quiet_s:
        world.pass_time(quiet_s - 1)
        world.shows(again, cat=0.9)
        assert len(world.drafts) == 2
        world.pass_time(1)
    world.take()
    world.shows(again, cat=0.9)
    assert [draft.type for draft in world.drafts] == ["detected", "cleared", "detected"]


def test_a_cooldown_begins_again_when_the_time_since_is_unknown(world: World) -> None:
    world.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4, "cooldown": 30})
    first = world.reporter()
    for cat in (0.9, 0.1):
        world.shows(first, cat=cat)
        world.take()
    world.restart(boot="another", step_s=YEARS_S, sure=False)
    again = world.reporter()
    again.start("cpu")
    world.pass_time(29)
    world.shows(again, cat=0.9)
    assert len(world.drafts) == 2


def test_a_watch_that_is_cleared_because_the_model_is_another_cools_down_first(world: World) -> None:
    world.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4, "cooldown": 30})
    world.saved_state.set_watches("porch", SavedWatches({"cat": ActiveWatch(world.label, world.wall, CAT, "another")}))
    reporter = world.reporter()
    reporter.start("cpu")
    world.pass_time(29)
    world.shows(reporter, cat=0.9)
    assert [draft.type for draft in world.drafts] == ["cleared"]
    assert list(world.saved_state.watches("porch").quiet_until) == ["cat"]


def test_clear_clears_active_watches_and_publishes_an_empty_state(world: World) -> None:
    reporter = world.reporter()
    world.shows(reporter, cat=0.9)
    world.take()
    reporter.clear("cpu")
    assert world.take() == ["events", "watches []", "state ()"]
    assert world.saved_state.watches("porch").active == {}
    reporter.clear("cpu")
    assert world.take() == []
