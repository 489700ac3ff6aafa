"""How far a GIF reaches: its blocks up to the end of the first image, as the GIF89a specification lays them out.

https://www.w3.org/Graphics/GIF/spec-gif89a.txt; FFmpeg's decoder fills up an image that is cut short without a word.
"""

from __future__ import annotations

from typing import Final

_EXTENSION: Final = 0x21
_IMAGE: Final = 0x2C


def first_image_is_whole(data: bytes) -> bool:
    """Whether the file has its first image with all its sub-blocks and their terminator; `data` is the whole file."""
    try:
        at = 13 + _colour_table_bytes(data[10])
        while data[at] == _EXTENSION:
            at = _after_sub_blocks(data, at + 2)
        if data[at] != _IMAGE:
            return False
        _after_sub_blocks(data, at + 10 + _colour_table_bytes(data[at + 9]) + 1)  # 1: the LZW minimum code size
    except IndexError:
        return False
    return True


def _colour_table_bytes(flags: int) -> int:
    """Sections 18 and 20: bit 7 says that there is a table, bits 0 to 2 how many colours it has."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    """Section 15: each begins with its size; size 0 is the terminator. Raises IndexError when they run out."""
    while size := data[at]:
        at += 1 + size
    return at + 1
