from __future__ import annotations

import numpy as np
import pytest

from edge_classifierd.motion.disturbances import Disturbances


def textured(seed: int = 1) -> np.ndarray:
    """Cells with structure that is two to eight cells wide."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:90, 0:160].astype(np.float32)
    waves = [random.uniform(0.1, 0.5, 2) for _ in range(12)]
    return sum(12 * np.sin(a * x + b * y + seed) for a, b in waves).astype(np.float32) + 300  # type: ignore[no-any-return]


def shifted(mean: np.ndarray, dx: float, dy: float) -> np.ndarray:
    moved = (1 - dx) * mean + dx * np.roll(mean, 1, axis=1)
    result: np.ndarray = (1 - dy) * moved + dy * np.roll(moved, 1, axis=0)
    return result


@pytest.mark.parametrize(("dx", "dy"), [(0.25, 0.0), (0.0, 0.25), (0.2, 0.3)])
def test_most_of_a_shift_by_a_part_of_a_cell_is_removed(dx: float, dy: float) -> None:
    mean = textured()
    change = shifted(mean, dx, dy) - mean
    before = float(np.abs(change).mean())
    Disturbances(mean).remove(change)
    assert float(np.abs(change[2:-2, 2:-2]).mean()) < 0.35 * before


def test_a_thing_is_not_taken_for_a_shift_or_for_light() -> None:
    mean = textured()
    change = np.zeros_like(mean)
    change[30:45, 60:75] = 60
    Disturbances(mean).remove(change)
    assert change[30:45, 60:75].min() > 45
    change[30:45, 60:75] = 0
    assert np.abs(change).max() < 5
