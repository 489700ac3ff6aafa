"""The teller: what it takes up after a restart, and in which order it tells of a frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from moving_pictures import picture

from edge_classifierd.config.load import load
from edge_classifierd.daemon.memory import ActiveWatch, Memory
from edge_classifierd.daemon.preflight import preflight
from edge_classifierd.daemon.teller import Teller
from edge_classifierd.frames.base import Frame
from edge_classifierd.inference.base import Inference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_classifierd.events.schema import EventDraft

CAT = 281


class World:
    """A clock, the state directory, and an outlet that writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.wall = datetime(2026, 11, 21, 22, 26, tzinfo=UTC)
        self.told: list[str] = []
        self.drafts: list[EventDraft] = []
        config = folder / "config.yaml"
        watch = {"name": "cat", "labels": [CAT], "threshold": 0.6, "release": 0.4}
        one = {"name": "porch", "source": {"type": "v4l2"}, "watches": [watch]}
        config.write_text(yaml.safe_dump({"pipelines": [one]}))
        (self.plan,) = preflight(load(config))
        self.memory = Memory(folder / "state.json")
        self.label = self.plan.bundle.labels.display[CAT]

    def teller(self) -> Teller:
        return Teller(
            self.plan,
            device="porch",
            runtime=lambda: "ai-edge-litert 2.3.0",
            outlet=self,
            memory=self.memory,
            clock=self,
        )

    def shows(self, teller: Teller, cat: float) -> None:
        confidences = np.zeros(1000, np.float32)
        confidences[CAT] = cat
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
    teller.begin()
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
    again.begin()
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    world.pass_time(4)
    world.shows(again, cat=0.1)
    assert [(draft.type, draft.active_s) for draft in world.drafts[1:]] == [("cleared", lasted_s)]


def test_what_an_earlier_teller_tells_until_the_next_one_begins_is_not_told_again(world: World) -> None:
    first, again = world.teller(), world.teller()
    world.shows(first, cat=0.9)
    world.take()
    again.begin()
    world.shows(again, cat=0.9)
    assert world.take() == ["watches ['cat']", "state ('cat',)"]
    third = world.teller()
    world.shows(again, cat=0.1)
    world.take()
    third.begin()
    world.shows(third, cat=0.1)
    assert world.take() == ["watches []", "state ()"]


def test_what_is_no_longer_there_is_not_taken_up(world: World) -> None:
    long_ago = world.wall - timedelta(days=1)
    another = {"cat": ActiveWatch("a label of another model", long_ago), "dog": ActiveWatch(world.label, long_ago)}
    world.memory.set_active("porch", another)
    world.teller().begin()
    assert world.take() == ["watches []"]


@pytest.mark.parametrize(("remembered", "threshold"), [(0.75, 0.75), (1.0, 1.0), (0.0, 0.6), (7.0, 0.6), (-1.0, 0.6)])
def test_a_remembered_threshold_holds_if_it_is_one(world: World, remembered: float, threshold: float) -> None:
    world.memory.set_threshold("porch", "cat", remembered)
    world.memory.set_threshold("porch", "dog", 0.5)
    assert world.teller().thresholds() == {"cat": threshold}


def test_the_end_clears_what_is_on_and_says_that_nothing_is_seen(world: World) -> None:
    teller = world.teller()
    world.shows(teller, cat=0.9)
    world.take()
    teller.end("cpu")
    assert world.take() == ["events", "watches []", "state ()"]
    assert world.memory.pipeline("porch").active == ()
    teller.end("cpu")
    assert world.take() == []
