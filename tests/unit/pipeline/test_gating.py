"""The motion gate of a pipeline: what it lets through, publishes and counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from grey_scenes import Scenes

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.frames.base import Frame
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.pipeline.gating import PipelineGate, gate_settings, make_gate
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.pipeline.planning.plan import Plan


def planned(folder: Path, source: dict[str, Any] | None = None, region: Any = None, **motion: Any) -> Plan:
    config = folder / "config.yaml"
    one = {"name": "porch", "source": source or {"type": "v4l2"}, "region": region, "motion": motion}
    config.write_text(yaml.safe_dump({"pipelines": [one]}))
    (plan,) = preflight(load(config))
    return plan


class Gated:
    """A gate with the frames of a scene, ten per second; a sink that records what is published."""

    def __init__(self, folder: Path, **motion: Any) -> None:
        self.scenes = Scenes()
        self.published: list[bool] = []
        self.asleep = 0
        self.metrics = PipelineMetrics(SystemClock())
        plan = planned(folder, enabled=True, **motion)
        self.gate = PipelineGate(plan, self.metrics, self, on_asleep=self._on_asleep)  # type: ignore[arg-type]
        self.count = 0
        self.admitted = [self.offer() for _ in range(30)]

    def publish_motion(self, _plan: Plan, *, moving: bool) -> None:
        self.published.append(moving)

    def offer(self, scene: NDArray[np.float64] | None = None) -> Frame | None:
        self.count += 1
        return self.gate.admit(Frame(self.scenes.frame(scene), self.count, self.count / 10, datetime.now(UTC)))

    def _on_asleep(self) -> None:
        self.asleep += 1


def test_a_still_scene_is_classified_once_and_the_other_frames_are_counted(tmp_path: Path) -> None:
    gated = Gated(tmp_path)
    assert gated.admitted[0] is not None
    assert gated.admitted[1:] == [None] * 29
    assert gated.metrics.snapshot().gated == 29
    assert gated.published == [False]
    assert gated.asleep == 0


def test_motion_is_published_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    gated = Gated(tmp_path, hold="1s")
    thing = gated.scenes.with_thing(40, 30)
    assert [gated.offer(thing) is not None for _ in range(5)] == [True] * 5
    assert gated.published == [False, True]
    for _ in range(30):
        gated.offer()
    assert gated.published == [False, True, False]
    assert gated.asleep == 1


def test_an_admitted_frame_is_aimed_at_what_moves(tmp_path: Path) -> None:
    gated = Gated(tmp_path, follow=True)
    frame = gated.offer(gated.scenes.with_thing(40, 30, 16))
    assert frame is not None
    aimed = gated.gate.aim(frame)
    assert aimed.focus is not None
    assert aimed.focus.box.x == pytest.approx(40 / 160, abs=0.01)
    assert aimed.picture is frame.picture


def test_without_follow_nothing_is_aimed_at(tmp_path: Path) -> None:
    gated = Gated(tmp_path)
    frame = gated.offer(gated.scenes.with_thing(40, 30, 16))
    assert frame is not None
    assert gated.gate.aim(frame) is frame


def test_there_is_no_gate_unless_it_is_enabled(tmp_path: Path) -> None:
    metrics = PipelineMetrics(SystemClock())
    sink: Any = None
    assert make_gate(planned(tmp_path, sensitivity="high"), metrics, sink, lambda: None) is None
    assert make_gate(planned(tmp_path, enabled=True), metrics, sink, lambda: None) is not None


def test_the_section_gives_the_settings_of_the_gate(tmp_path: Path) -> None:
    ignore = [{"x": 0.5, "width": 0.5}]
    plan = planned(tmp_path, enabled="on", sensitivity="low", smallest=0.1, ignore=ignore, hold="5s", refresh="1m")
    settings = gate_settings(plan)
    assert (settings.sensitivity, settings.smallest) == ("low", 0.1)
    assert (settings.hold_s, settings.refresh_s, settings.follow) == (5.0, 60.0, False)
    assert settings.ignore == (Region(0.5, 0.0, 0.5, 1.0),)


def test_settings_are_fractions_of_what_a_camera_that_cuts_its_pictures_delivers(tmp_path: Path) -> None:
    source = {"type": "picamera2", "region_in_camera": True}
    region = {"x": 0.5, "y": 0.0, "width": 0.5, "height": 0.5}
    ignore = [{"x": 0.5, "y": 0.25, "width": 0.25, "height": 0.25}]
    plan = planned(tmp_path, source, region, enabled=True, smallest=0.02, ignore=ignore)
    settings = gate_settings(plan)
    assert settings.smallest == pytest.approx(0.04)
    assert settings.ignore == (Region(0.0, 0.5, 0.5, 0.5),)
