from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_classifierd.motion.shapes import MAX_BOXES, CellBox, find_boxes, neighbours


def mask(*places: tuple[int, int, int, int]) -> np.ndarray:
    """Cells moved in rectangles of left, top, right, bottom."""
    cells = np.zeros((60, 100), np.bool_)
    for left, top, right, bottom in places:
        cells[top:bottom, left:right] = True
    return cells


def bounds(box: CellBox) -> tuple[int, int, int, int]:
    return box.left, box.top, box.right, box.bottom


def test_two_things_have_two_boxes_the_heaviest_first() -> None:
    small, large = find_boxes(mask((10, 10, 18, 18), (50, 12, 70, 30)), least=5)[::-1]
    assert bounds(large)[0] >= 50
    assert bounds(small)[2] <= 18
    assert large.cells > small.cells


def test_things_behind_one_another_in_one_direction_are_cut_in_the_other() -> None:
    found = find_boxes(mask((10, 5, 20, 15), (12, 30, 40, 40), (30, 5, 40, 15)), least=5)
    assert len(found) == 3


def test_single_cells_and_thin_lines_are_no_things() -> None:
    cells = mask((10, 10, 11, 30), (40, 20, 60, 21))
    cells[50, 80] = True
    assert find_boxes(cells, least=1) == ()


def test_a_thing_is_solid_when_a_cell_moved_with_all_its_neighbours() -> None:
    (solid,) = find_boxes(mask((10, 10, 15, 15)), least=1)
    (small,) = find_boxes(mask((10, 10, 13, 13)), least=1)
    (hollow,) = find_boxes(mask((10, 10, 12, 30)), least=1)
    assert solid.solid
    assert not small.solid
    assert not hollow.solid


def test_smaller_groups_than_the_least_are_left_out() -> None:
    assert len(find_boxes(mask((10, 10, 15, 15), (40, 10, 60, 30)), least=30)) == 1


@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_boxes_cover_every_dense_cell_once(cells: np.ndarray) -> None:
    dense = (neighbours(cells) >= 5) & cells
    found = find_boxes(cells, least=1)
    covered = np.zeros(cells.shape, int)
    for box in found:
        covered[box.top : box.bottom, box.left : box.right] += 1
        assert box.cells == np.count_nonzero(dense[box.top : box.bottom, box.left : box.right]) > 0
    assert covered.max(initial=0) <= 1
    assert len(found) <= MAX_BOXES
    if len(found) < MAX_BOXES:
        assert (covered[dense] == 1).all()
