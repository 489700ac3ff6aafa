"""Groups look-alikes, so that one key labels many pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LOOK_ALIKE_BITS: Final = 40
"""Of 256: up to here two pictures with the same guess are of one group."""


def group_of(bits: NDArray[np.intp], others: Sequence[tuple[str, str | None]], guess: str | None) -> str | None:
    """Return the group of the most similar picture with the same guess; None when no picture is similar enough.

    Args:
        bits: In how many bits the hash of each other picture differs, shape (others,).
        others: Group and guess of each.
        guess: The guess for the new picture.
    """
    same = np.array([label == guess for _, label in others], np.bool_)
    near = np.where(same, bits, LOOK_ALIKE_BITS + 1)
    if not len(near) or near.min() > LOOK_ALIKE_BITS:
        return None
    return others[int(near.argmin())][0]
