"""Which pictures are nearly the same: a picture in both halves of a split makes a model look better than it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

_SIDE: Final = 16
BITS: Final = _SIDE * _SIDE
_BLOCK: Final = 2048


def difference_hash(picture: av.VideoFrame) -> NDArray[np.bool_]:
    """Shape (256,): whether each of 16 × 16 grey cells is darker than its right neighbour.

    The dHash of N. Krawetz ("Kind of Like That", 2013) at 16 × 16: size, compression, brightness and
    contrast hardly change it.
    """
    grey = picture.reformat(_SIDE + 1, _SIDE, "gray", interpolation="AREA", threads=1).to_ndarray()
    cells = grey.astype(np.int16)
    return np.asarray(cells[:, :-1] < cells[:, 1:]).reshape(-1)


def near_duplicates(hashes: NDArray[np.bool_], most: int) -> NDArray[np.intp]:
    """Pairs of positions, (pairs, 2), first < second, whose hashes (pictures, 256) differ in at most `most` bits."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    least = BITS - 2 * most  # equal bits less different ones
    pairs = []
    for start in range(0, len(signs), _BLOCK):
        first, second = np.nonzero(signs[start : start + _BLOCK] @ signs.T >= least)
        first = first + start
        pairs.append(np.stack((first, second), 1)[first < second])
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.intp)


def grouped(count: int, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each of `count` positions the smallest position that it is connected with by `pairs`."""
    parent = list(range(count))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for first, second in pairs.tolist():
        one, other = root(first), root(second)
        parent[max(one, other)] = min(one, other)
    return np.array([root(position) for position in range(count)], np.intp)
