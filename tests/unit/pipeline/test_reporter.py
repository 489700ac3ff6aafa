"""The teller: what it takes up after a restart, and in which order it tells of a frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from moving_pictures import picture

from edge_classifierd.config.loading.load import load
from edge_classifierd.frames.base import Frame
from edge_classifierd.inference.base import Inference
from edge_classifierd.pipeline.reporter import Reporter
from edge_classifierd.pipeline.saved_state import ActiveWatch, SavedState
from edge_classifierd.pipeline.validation import preflight

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_classifierd.events.schema import EventDraft

CAT = 281


class World:
    """A clock, the state directory, and an outlet that writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 1000.0
        self.wall = datetime(2026, 11, 21, 22, 26, tzinfo=UTC)
        self.told: list[str] = []
        self.drafts: list[EventDraft] = []
        self.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4})
        self.memory = SavedState(folder / "state.json")
        self.label = self.plan.bundle.labels.display[CAT]

    def configure(self, *watches: dict[str, Any], **model: Any) -> None:
        config = self.folder / "config.yaml"
        one = {"name": "porch", "source": {"type": "v4l2"}, "model": model, "watches": list(watches)}
        config.write_text(yaml.safe_dump({"pipelines": [one]}))
        (self.plan,) = preflight(load(config))

    def teller(self) -> Reporter:
        return Reporter(
            self.plan,
            device="porch",
            runtime=lambda: "ai-edge-litert 2.3.0",
            outlet=self,
            memory=self.memory,
            clock=self,
        )

    def shows(self, teller: Reporter, cat: float, index: int = CAT) -> None:
        confidences = np.zeros(1000, np.float32)
        confidences[index] = cat
        teller.judged(Frame(picture(100), 1, self.now_s, self.wall), Inference(confidences, 1.0, "cpu"))

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return self.wall

    def synchronised(self) -> bool:
        return True

    def events(self, drafts: Sequence[EventDraft]) -> None:
        assert not self.told, "events are durable before anything is acted on"
        was_on = bool(self.memory.pipeline("porch").active)
        assert was_on is (drafts[0].type == "cleared"), "and before anything is remembered"
        self.drafts.extend(drafts)
        self.told.append("events")

    def watches(self, _plan: Any, active: frozenset[str]) -> None:
        self.told.append(f"watches {sorted(active)}")

    def state(self, _plan: Any, state: Any) -> None:
        self.told.append(f"state {state.active}")

    def status(self, _plan: Any, *, online: bool) -> None:
        raise AssertionError(f"the capture's to say: {online}")

    def picture(self, _plan: Any, _frame: Frame) -> None:
        self.told.append("picture")

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_frame_is_told_events_first_and_its_state_last(world: World) -> None:
    teller = world.teller()
    teller.begin("cpu")
    assert world.take() == ["watches []"]
    world.shows(teller, cat=0.9)
    assert world.take() == ["events", "watches ['cat']", "picture", "state ('cat',)"]
    world.shows(teller, cat=0.9)
    assert world.take() == []
    teller.want_picture()
    world.shows(teller, cat=0.9)
    assert world.take() == ["picture"]
    world.pass_time(5)
    world.shows(teller, cat=0.1)
    assert world.take() == ["events", "watches []", "state ()"]
    assert [(draft.type, draft.active_s) for draft in world.drafts] == [("detected", None), ("cleared", 5.0)]


@pytest.mark.parametrize(("away_s", "lasted_s"), [(60, 70), (-86400, 4)])
def test_a_watch_that_was_on_is_taken_up_without_an_event_also_by_a_clock_that_was_set_back(
    world: World, away_s: float, lasted_s: float
) -> None:
    first = world.teller()
    world.shows(first, cat=0.9)
    world.pass_time(6)
    world.wall += timedelta(seconds=away_s)
    world.now_s = 3.0  # another boot
    world.take()
    again = world.teller()
    again.begin("cpu")
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    world.pass_time(4)
    world.shows(again, cat=0.1)
    assert [(draft.type, draft.active_s) for draft in world.drafts[1:]] == [("cleared", lasted_s)]


def test_what_an_earlier_teller_tells_until_the_next_one_begins_is_not_told_again(world: World) -> None:
    first, again = world.teller(), world.teller()
    world.shows(first, cat=0.9)
    world.take()
    again.begin("cpu")
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    third = world.teller()
    world.shows(again, cat=0.1)
    world.take()
    third.begin("cpu")
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
def test_what_is_no_longer_there_is_cleared(world: World, watch: str, remembered: dict[str, Any]) -> None:
    of_this_model = {"model": world.plan.bundle.sha256} if "index" in remembered else {}
    known = {"label": world.label, "since": world.wall - timedelta(days=1), **of_this_model, **remembered}
    world.memory.set_active("porch", {watch: ActiveWatch(**known)})
    world.teller().begin("cpu")
    assert world.take() == ["events", "watches []"]
    told = [(draft.type, draft.watch, draft.label, draft.active_s, draft.top) for draft in world.drafts]
    assert told == [("cleared", watch, known["label"], 86400.0, ())]
    assert world.memory.pipeline("porch").active == ()
    world.teller().begin("cpu")
    assert world.take() == ["watches []"]


def test_a_watch_goes_on_under_other_labels_of_the_same_model(world: World) -> None:
    first = world.teller()
    world.shows(first, cat=0.9)
    labels = world.folder / "labels.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(1000)))
    world.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4}, labels=str(labels))
    world.take()
    again = world.teller()
    again.begin("cpu")
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    world.shows(again, cat=0.1)
    told = [(draft.type, draft.label) for draft in world.drafts]
    assert told == [("detected", world.label), ("cleared", "class 281")]


def test_a_watch_goes_on_as_an_earlier_version_remembered_it(world: World) -> None:
    world.memory.set_active("porch", {"cat": ActiveWatch(world.label, world.wall)})
    world.teller().begin("cpu")
    assert world.take() == ["watches ['cat']"]


def test_of_two_classes_with_one_name_the_one_that_was_seen_goes_on(world: World) -> None:
    world.configure()
    _bird, machine = (index for index, label in enumerate(world.plan.bundle.labels.display) if label == "crane")
    first = world.teller()
    world.shows(first, 0.9, index=machine)
    world.take()
    again = world.teller()
    again.begin("cpu")
    world.shows(again, 0.9, index=machine)
    assert world.take() == ["watches ['any']", "state ('any',)"]


@pytest.mark.parametrize(("remembered", "threshold"), [(0.75, 0.75), (1.0, 1.0), (0.0, 0.6), (7.0, 0.6), (-1.0, 0.6)])
def test_a_remembered_threshold_holds_if_it_is_one(world: World, remembered: float, threshold: float) -> None:
    world.memory.set_threshold("porch", "cat", remembered)
    world.memory.set_threshold("porch", "dog", 0.5)
    assert world.teller().thresholds() == {"cat": threshold}


@pytest.mark.parametrize(("away_s", "quiet_s"), [(20, 10), (40, 0), (-86400, 30)])
def test_a_cooldown_goes_on_over_a_restart_and_is_no_longer_than_a_whole_one(
    world: World, away_s: float, quiet_s: float
) -> None:
    world.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4, "cooldown": 30})
    first = world.teller()
    world.shows(first, cat=0.9)
    world.take()
    world.shows(first, cat=0.1)
    world.take()
    world.wall += timedelta(seconds=away_s)
    world.now_s = 3.0  # another boot
    again = world.teller()
    again.begin("cpu")
    if quiet_s:
        world.pass_time(quiet_s - 1)
        world.shows(again, cat=0.9)
        assert len(world.drafts) == 2
        world.pass_time(1)
    world.take()
    world.shows(again, cat=0.9)
    assert [draft.type for draft in world.drafts] == ["detected", "cleared", "detected"]


def test_a_watch_that_is_cleared_because_the_model_is_another_cools_down_first(world: World) -> None:
    world.configure({"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4, "cooldown": 30})
    world.memory.set_active("porch", {"cat": ActiveWatch(world.label, world.wall, CAT, "another")})
    teller = world.teller()
    teller.begin("cpu")
    world.pass_time(29)
    world.shows(teller, cat=0.9)
    assert [draft.type for draft in world.drafts] == ["cleared"]
    assert [watch for watch, _until in world.memory.pipeline("porch").quiet_until] == ["cat"]


def test_the_end_clears_what_is_on_and_says_that_nothing_is_seen(world: World) -> None:
    teller = world.teller()
    world.shows(teller, cat=0.9)
    world.take()
    teller.end("cpu")
    assert world.take() == ["events", "watches []", "state ()"]
    assert world.memory.pipeline("porch").active == ()
    teller.end("cpu")
    assert world.take() == []
