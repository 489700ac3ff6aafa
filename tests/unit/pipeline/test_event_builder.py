"""What events say of the moment they come from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from moving_pictures import picture

from edge_classifierd.clock import TimePoint
from edge_classifierd.config.loading.load import load
from edge_classifierd.events.schema import EventBox
from edge_classifierd.frames.base import Frame
from edge_classifierd.inference.base import Inference
from edge_classifierd.motion.gate import Focus
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.pipeline.event_builder import FrameResult
    from edge_classifierd.pipeline.planning.plan import Plan

CAT = 281
START = datetime(2026, 11, 21, 22, 26, tzinfo=UTC)


class Scene:
    """The builder of a pipeline with one watch, a runtime that changes, and a clock that counts its calls."""

    def __init__(self, folder: Path, **keys: object) -> None:
        self.folder = folder
        self.runtime = "tflite-runtime 2.14.0"
        self.asked = 0
        self.builder = EventBuilder(self.plan(**keys), device="porch", runtime=lambda: self.runtime)

    def plan(self, **keys: object) -> Plan:
        config = self.folder / "config.yaml"
        watches = [{"name": "cat", "labels": [CAT], "threshold": 0.6}]
        one = {"name": "porch", "source": {"type": "v4l2"}, "watches": watches, **keys}
        config.write_text(yaml.safe_dump({"pipelines": [one]}))
        (plan,) = preflight(load(config))
        return plan

    def change_plan(self, at_s: float, **keys: object) -> None:
        at = START + timedelta(seconds=at_s)
        self.builder.change_plan(self.plan(**keys), TimePoint(at, at_s, "", synchronised=True), accelerator="cpu")

    def since(self, at_s: float, cat: float) -> float | None:
        """Since when the state holds that the frame leads to, if it is said."""
        self.drafts(at_s, cat)
        state = self.builder.changed_state(START + timedelta(seconds=at_s))
        return None if state is None else (state.since - START).total_seconds()

    def sees(self, at_s: float, cat: float) -> list[tuple[str, str, bool]]:
        return [(one.type, one.model.runtime, one.clock_synchronised) for one in self.drafts(at_s, cat)]

    def drafts(self, at_s: float, cat: float, other: float = 0.0) -> tuple[EventDraft, ...]:
        return self.result(at_s, cat, other).drafts

    def result(self, at_s: float, cat: float, other: float = 0.0, focus: Focus | None = None) -> FrameResult:
        confidences = np.zeros(1000, np.float32)
        confidences[[CAT, 7]] = cat, other
        frame = Frame(picture(100), int(at_s), at_s, START + timedelta(seconds=at_s), focus=focus)
        return self.builder.observe(frame, Inference(confidences, 1.0, "cpu"), clock_synchronised=self.ask)

    def ask(self) -> bool:
        self.asked += 1
        return self.asked > 1


def test_an_event_names_the_runtime_that_computed_it_and_not_the_one_at_the_start(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert scene.sees(0, cat=0.9) == [("detected", "tflite-runtime 2.14.0", False)]
    scene.runtime = "ai-edge-litert 2.3.0"
    assert scene.sees(1, cat=0.1) == [("cleared", "ai-edge-litert 2.3.0", True)]


def test_the_clock_is_read_for_events_only(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for second in range(5):
        assert scene.sees(second, cat=0.3) == []
    assert scene.asked == 0
    scene.sees(5, cat=0.9)
    assert scene.asked == 1


def test_since_moves_with_the_label_and_the_watches_and_not_with_the_confidence(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert scene.since(0, 0.2) == 0
    assert scene.since(1, 0.4) == 0
    assert scene.since(2, 0.41) is None, "nobody cares"
    assert scene.since(3, 0.9) == 3, "the watch is on"
    assert scene.since(4, 0.7) == 3
    assert scene.since(5, 0.1) == 5


def test_since_stays_over_a_reload_that_leaves_the_label_and_the_watches_as_they_are(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert scene.since(0, 0.9) == 0
    cat, dog = ({"name": name, "labels": [index], "threshold": 0.7} for name, index in [("cat", CAT), ("dog", 7)])
    scene.change_plan(1, top_k=2, watches=[dog, cat])
    assert scene.since(2, 0.9) == 0, "said again: its list is another"
    assert scene.since(3, 0.9) is None
    scene.change_plan(4, watches=[dog])
    assert scene.since(5, 0.9) == 5


def test_a_class_that_may_not_be_reported_is_neither_ranked_nor_compared(tmp_path: Path) -> None:
    scene = Scene(tmp_path, allow=[CAT, "tabby*"], top_k=5, ambiguity_margin=0.2)
    (draft,) = scene.drafts(0, cat=0.7, other=0.9)
    assert [one.index for one in draft.top] == [CAT]
    alone = Scene(tmp_path, allow=[CAT], top_k=5, ambiguity_margin=0.65)
    (draft,) = alone.drafts(0, cat=0.7, other=0.9)
    assert [one.index for one in draft.top] == [CAT]
    rarely = Scene(tmp_path, allow=[CAT], ambiguity_margin=0.9)
    assert rarely.drafts(0, cat=0.7, other=0.9) == ()


def focus(x: float, *, ends_round: bool) -> Focus:
    return Focus(Region(x, 0.5, 0.1, 0.2), Region(x, 0.4, 0.25, 0.25), ends_round=ends_round)


def test_of_several_things_the_strongest_of_the_round_decides_and_its_box_is_in_the_event(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    first = scene.result(1, cat=0.9, focus=focus(0.1, ends_round=False))
    assert (first.drafts, first.decided) == ((), False)
    second = scene.result(2, cat=0.1, other=0.3, focus=focus(0.7, ends_round=True))
    (draft,) = second.drafts
    assert draft.box == EventBox(0.1, 0.5, 0.1, 0.2)
    assert draft.time == START + timedelta(seconds=1)
    assert draft.top[0].index == CAT
    assert second.detected is not None
    assert second.detected.captured_s == 1
    state = scene.builder.changed_state(START)
    assert state is not None
    assert state.confidence == pytest.approx(0.9)


def test_a_watch_stays_on_while_one_thing_of_the_round_shows_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.drafts(0, cat=0.9)
    for second in range(1, 6, 2):
        assert scene.result(second, cat=0.0, focus=focus(0.1, ends_round=False)).drafts == ()
        assert scene.result(second + 1, cat=0.8, focus=focus(0.5, ends_round=True)).drafts == ()
    assert [draft.type for draft in scene.drafts(9, cat=0.0)] == ["cleared"]


def test_the_whole_region_has_no_box(tmp_path: Path) -> None:
    (draft,) = Scene(tmp_path).drafts(0, cat=0.9)
    assert draft.box is None


def test_the_box_is_a_fraction_of_the_whole_frame_even_if_the_camera_cuts_it(tmp_path: Path) -> None:
    source = {"type": "picamera2", "region_in_camera": True}
    region = {"x": 0.5, "y": 0.0, "width": 0.5, "height": 0.5}
    scene = Scene(tmp_path, source=source, region=region)
    (draft,) = scene.result(1, cat=0.9, focus=focus(0.2, ends_round=True)).drafts
    assert draft.box == EventBox(0.6, 0.25, 0.05, 0.1)
