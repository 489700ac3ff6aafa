"""The benchmark's figures and what it says of them."""

from __future__ import annotations

import dataclasses
import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from edge_classifierd import benchmark
from edge_classifierd.benchmark import Measurement, Stages, _heat, measure, measure_here
from edge_classifierd.errors import InferenceError, ModelError
from edge_classifierd.health.board import BoardState, Throttling
from edge_classifierd.health.metrics import Percentiles
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import bundled_model_path

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.inference.base import Classifier

SMALL = Percentiles(0.5, 0.6, 0.7)
COOL = BoardState(None, 45.0, Throttling.from_bits(0), 50.0, 2000.0, 0.1, None)


def a_measurement(p50: float, p95: float, **changes: object) -> Measurement:
    made = Measurement(
        model="tiny", threads=2, accelerator="cpu", runtime="r 1", load_ms=1, first_ms=2, runs=100, bare_ms=0.5,
        inference=SMALL, stages=Stages(SMALL, SMALL, SMALL, SMALL, Percentiles(p50, p95, p95 + 1), SMALL), memory_mb=10,
        drift=0.01, variation=0.1, temperature_c=None, heat=None,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_the_verdict_names_the_frames_that_are_in_time() -> None:
    assert "keeps up with 30 fps: 95 of 100 frames take at most 20.0 of 33.3 ms" in a_measurement(10, 20).verdict(30)
    assert "mostly keeps up" in a_measurement(20, 40).verdict(30)
    assert "does not keep up with 30 fps: it does 20.0, 50.0 ms a frame" in a_measurement(50, 60).verdict(30)
    assert [a_measurement(20, p95).meets(30) for p95 in (33.3, 33.4)] == [True, False]


@pytest.mark.parametrize(("drift", "variation", "steady"), [(0.0, 0.1, True), (-0.2, 0.1, False), (0.0, 0.5, False)])
def test_figures_that_vary_much_are_marked(drift: float, variation: float, steady: bool) -> None:
    measured = a_measurement(10, 20, drift=drift, variation=variation)
    assert measured.steady is steady
    assert ("vary much" in measured.verdict(30)) is not steady


def test_a_board_that_slows_down_or_warms_up_is_noticed() -> None:
    assert _heat(COOL, COOL) is None
    for slowed in (1 << 1, 1 << 2, 1 << 3):  # frequency capped, throttled, soft temperature limit
        throttling = Throttling.from_bits(slowed)
        assert "lowered its clock" in str(_heat(COOL, dataclasses.replace(COOL, throttling=throttling)))
    assert "warmed by 5 °C" in str(_heat(COOL, dataclasses.replace(COOL, temperature_c=50.0)))
    assert _heat(COOL, dataclasses.replace(COOL, temperature_c=49.9)) is None
    assert "supply voltage" in str(_heat(COOL, dataclasses.replace(COOL, throttling=Throttling.from_bits(1))))
    assert "warmed by 15 °C to 60 °C" in str(_heat(COOL, dataclasses.replace(COOL, temperature_c=60.0)))
    untold = dataclasses.replace(COOL, temperature_c=None, throttling=None)
    assert _heat(untold, untold) is None


def test_the_parts_of_a_frame_add_up_and_the_bare_loop_runs_beside() -> None:
    measured = measure_here(bundled_model_path(), None, 1, 0.6, "cpu")
    stages = measured.stages
    parts = [stages.prepare.p50, stages.inference.p50, stages.scores.p50, stages.decide.p50]
    assert min(parts) > 0
    assert stages.scores.p50 < stages.inference.p50  # the runtime's time is not counted twice
    # Of the same order is all that a busy machine allows to ask; bench/ measures.
    assert stages.whole.p50 / 5 < sum(parts) < 5 * stages.whole.p50
    assert measured.bare_ms is not None
    assert measured.bare_ms / 10 < measured.inference.p50 < 10 * measured.bare_ms
    assert measured.inference.p50 <= measured.inference.p95 <= measured.inference.p99
    assert measured.runs >= 4
    assert measured.memory_mb < 200


def test_the_second_half_is_compared_with_the_first_and_the_threads_are_the_wanted_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def noted(bundle: Any, device: str, threads: int, **more: Any) -> Classifier:
        made.append(threads)
        return make_classifier(bundle, device, threads, **more)

    monkeypatch.setattr(benchmark, "make_classifier", noted)
    monkeypatch.setattr(benchmark, "_in_turns", lambda *_: ([1.0] * 10 + [2.0] * 10, []))
    measured = measure_here(bundled_model_path(), None, 2, 0.0, "cpu")
    assert measured.drift == pytest.approx(1.0)
    assert measured.variation == pytest.approx(0.5 / 1.5)
    assert measured.bare_ms is None
    assert made == [2]


def test_labels_of_ones_own_are_those_that_are_measured_with(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(ModelError, match=r"labels\.txt"):
        measure_here(bundled_model_path(), tmp_path / "labels.txt", 1, 0.1, "cpu")


def test_a_measuring_process_that_is_killed_is_one_sentence() -> None:
    before = set(multiprocessing.active_children())

    def kill() -> None:
        end_s = time.monotonic() + 20
        while not (children := set(multiprocessing.active_children()) - before) and time.monotonic() < end_s:
            time.sleep(0.01)
        for child in children:
            child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(InferenceError, match="was killed, perhaps because memory ran out"):
        measure(bundled_model_path(), None, 1, seconds=20, device="cpu")
    killer.join(20)
