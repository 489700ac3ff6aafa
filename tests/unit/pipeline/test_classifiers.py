"""A classifier that pipelines share: one of them at a time, unless it can do several."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest

from edge_classifierd.inference.base import Inference
from edge_classifierd.pipeline.classifiers import SharedClassifier

SCORES = np.ones(1, np.float32)
TENSOR = np.zeros((1, 1, 1, 3), np.uint8)


class Meeting:
    """A classifier in which two threads wait for each other, and which notes whether they met."""

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
def test_threads_meet_in_a_classifier_only_when_it_has_lanes_for_them(classifier: Meeting, meet: bool) -> None:
    shared = SharedClassifier(cast("Any", classifier))
    threads = [threading.Thread(target=shared.classify, args=(TENSOR,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert classifier.met is meet
