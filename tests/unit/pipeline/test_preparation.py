"""Several threads prepare frames at the same time, and each follows changes of the pipeline's region."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from moving_pictures import picture

from edge_classifierd.config.loading.load import load
from edge_classifierd.frames.base import Frame
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.pipeline.preparation import make_prepare
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from pathlib import Path

    import av

    from edge_classifierd.frames.base import Needs
    from edge_classifierd.pipeline.planning.plan import Plan

_TOGETHER = 2


class Meeting(Frame):
    """A frame whose preparation waits until another thread prepares one, too."""

    barrier = threading.Barrier(_TOGETHER)

    def for_model(self, needs: Needs) -> av.VideoFrame:
        self.barrier.wait(5)
        return super().for_model(needs)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"pipelines": [{"name": "porch", "source": {"type": "v4l2"}}]}))
    (plan,) = preflight(load(config))
    return plan


def frames() -> list[Frame]:
    """Different frames, so large that two threads scale theirs at the same time."""
    large = [picture(level, noise=True).reformat(1920, 1080) for level in range(20, 220, 10)]
    return [Meeting(one, number, 0.0, datetime.now(UTC)) for number, one in enumerate(large)]


def prepared(plan: Plan, frame: Frame) -> bytes:
    return plan.preprocessor()(frame.picture).tobytes()


def test_two_threads_prepare_different_frames_at_the_same_time(plan: Plan) -> None:
    prepare = make_prepare(lambda: plan)
    shown = frames()
    with ThreadPoolExecutor(_TOGETHER) as threads:
        tensors = list(threads.map(prepare, shown))
    assert [tensor.tobytes() for tensor in tensors] == [prepared(plan, frame) for frame in shown]
    assert not any(np.shares_memory(tensors[0], other) for other in tensors[1:])


def test_every_thread_follows_a_new_region(plan: Plan) -> None:
    current = [plan]
    prepare = make_prepare(lambda: current[0])
    with ThreadPoolExecutor(_TOGETHER) as threads:
        list(threads.map(prepare, frames()))
        current[0] = plan.with_region(Region(0.5, 0.5, 0.5, 0.5))
        shown = frames()
        tensors = list(threads.map(prepare, shown))
    assert [tensor.tobytes() for tensor in tensors] == [prepared(current[0], frame) for frame in shown]
    assert prepared(plan, shown[0]) != prepared(current[0], shown[0])
