"""A classifier that threads share: one of them at a time, unless it has several lanes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.shared import SharedClassifier

SCORES = np.ones(1, np.float32)
TENSOR = np.zeros((1, 1, 1, 3), np.uint8)


class Meeting(Classifier):
    """Records whether two calls run at the same time."""

    runtime = "r 1"
    accelerator = "cpu"

    def __init__(self) -> None:
        self._both = threading.Barrier(2)
        self.met = False

    def classify(self, _tensor: Any) -> Inference:
        try:
            self._both.wait(0.3)
            self.met = True
        except threading.BrokenBarrierError:
            pass
        return Inference(SCORES, 1.0, "cpu")

    def close(self) -> None:
        pass


class Wide(Meeting):
    lanes = 2


@pytest.mark.parametrize(("classifier", "meet"), [(Meeting(), False), (Wide(), True)])
def test_calls_run_at_the_same_time_only_where_there_are_lanes(classifier: Meeting, meet: bool) -> None:
    shared = SharedClassifier(classifier)
    threads = [threading.Thread(target=shared.classify, args=(TENSOR,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert classifier.met is meet
