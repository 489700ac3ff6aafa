"""What events say of the moment they come from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import yaml
from moving_pictures import picture

from edge_classifierd.config.load import load
from edge_classifierd.daemon.judge import Judge
from edge_classifierd.daemon.preflight import preflight
from edge_classifierd.frames.base import Frame
from edge_classifierd.inference.base import Inference

if TYPE_CHECKING:
    from pathlib import Path

CAT = 281
START = datetime(2026, 11, 21, 22, 26, tzinfo=UTC)


class Scene:
    """A judge of one watch, a runtime that changes, and a clock that is asked."""

    def __init__(self, folder: Path) -> None:
        config = folder / "config.yaml"
        watch = {"name": "cat", "labels": [CAT], "threshold": 0.6}
        one = {"name": "porch", "source": {"type": "v4l2"}, "watches": [watch]}
        config.write_text(yaml.safe_dump({"pipelines": [one]}))
        (plan,) = preflight(load(config))
        self.runtime = "tflite-runtime 2.14.0"
        self.asked = 0
        self.judge = Judge(plan, device="porch", runtime=lambda: self.runtime)

    def sees(self, at_s: float, cat: float) -> list[tuple[str, str, bool]]:
        confidences = np.zeros(1000, np.float32)
        confidences[CAT] = cat
        frame = Frame(picture(100), int(at_s), at_s, START + timedelta(seconds=at_s))
        verdict = self.judge.judge(frame, Inference(confidences, 1.0, "cpu"), clock_synchronised=self.ask)
        return [(draft.type, draft.model.runtime, draft.clock_synchronised) for draft in verdict.drafts]

    def ask(self) -> bool:
        self.asked += 1
        return self.asked > 1


def test_an_event_names_the_runtime_that_computed_it_and_not_the_one_at_the_start(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert scene.sees(0, cat=0.9) == [("detected", "tflite-runtime 2.14.0", False)]
    scene.runtime = "ai-edge-litert 2.3.0"
    assert scene.sees(1, cat=0.1) == [("cleared", "ai-edge-litert 2.3.0", True)]


def test_the_clock_is_asked_for_events_only(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for second in range(5):
        assert scene.sees(second, cat=0.3) == []
    assert scene.asked == 0
    scene.sees(5, cat=0.9)
    assert scene.asked == 1
