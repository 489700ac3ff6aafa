"""Several instances of a model on the CPU."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest

from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.cpu_pool import CpuPool, share_threads
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import bundled_model_path, load_bundle


class Member(Classifier):
    runtime = "r 1"
    accelerator = "cpu"

    def __init__(self, together: threading.Barrier) -> None:
        self.closed = False
        self._together = together
        self._free = threading.Lock()

    def classify(self, _tensor: Any) -> Inference:
        assert self._free.acquire(blocking=False), "one at a time"
        try:
            self._together.wait(5)
        finally:
            self._free.release()
        return Inference(np.zeros(3, np.float32), 1.0, "cpu")

    def close(self) -> None:
        self.closed = True


def test_all_members_work_at_once_each_on_one_frame() -> None:
    together = threading.Barrier(3)
    members = [Member(together) for _ in range(3)]
    crew = CpuPool(cast("Any", members))
    assert crew.lanes == 3
    threads = [threading.Thread(target=lambda: [crew.classify(np.zeros(1)) for _ in range(4)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    crew.close()
    assert all(member.closed for member in members)


def test_a_member_that_fails_is_used_again() -> None:
    class Failing(Member):
        def classify(self, _tensor: Any) -> Inference:
            raise RuntimeError("failed")

    crew = CpuPool(cast("Any", [Failing(threading.Barrier(1))]))
    for _ in range(3):
        try:
            crew.classify(np.zeros(1))
        except RuntimeError:
            continue
        raise AssertionError("it answered")


@pytest.mark.parametrize(
    ("threads", "instances", "model_bytes", "shares"),
    [
        (1, None, 1, (1,)),
        (2, None, 1, (1, 1)),
        (3, None, 1, (2, 1)),
        (4, None, 16_000_000, (2, 2)),
        (4, None, 16_000_001, (4,)),
        (4, 1, 1, (4,)),
        (4, 4, 100_000_000, (1, 1, 1, 1)),
        (5, 3, 1, (2, 2, 1)),
        (1, 3, 1, (1, 1, 1)),
    ],
)
def test_the_threads_are_shared_out(
    threads: int, instances: int | None, model_bytes: int, shares: tuple[int, ...]
) -> None:
    assert share_threads(threads, instances, model_bytes) == shares


def test_instances_score_as_one_does() -> None:
    bundle = load_bundle(bundled_model_path())
    tensor = np.random.default_rng(1).integers(-128, 128, bundle.input.shape, np.int8)
    one = make_classifier(bundle, threads=1)
    two = make_classifier(bundle, threads=2, instances=None)
    assert isinstance(two, CpuPool)
    assert two.lanes == 2
    expected = one.classify(tensor).confidences
    for _ in range(4):
        np.testing.assert_array_equal(two.classify(tensor).confidences, expected)
    read = two.run(tensor)
    for _ in range(2):
        two.run(np.zeros_like(tensor))  # before the output of the first is read
    np.testing.assert_array_equal(read().confidences, expected)
