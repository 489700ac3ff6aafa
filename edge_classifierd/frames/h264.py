"""Finds frames that are missing in an H.264 stream, by the frame numbers in its slice headers (ITU-T H.264, 7.3).

FFmpeg replaces a missing reference frame by a copy of the one before and does not report it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLICE, _IDR, _PARAMETERS = 1, 5, 7
_HIGH_PROFILES: Final = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
_HEAD_BYTES: Final = 24  # of a slice: enough for the fields that are read
_START_CODE: Final = re.compile(b"\0\0\1")


class FrameNumbers:
    """Follows the frame numbers of one stream."""

    def __init__(self, extradata: bytes | None) -> None:
        """`extradata` is the codec's: parameter sets with start codes, an avcC record (ISO/IEC 14496-15), or None."""
        self._length_bytes = 0  # 0: start codes
        self._number_bits = 0
        self._chroma_planes = False
        self._gaps_allowed = False
        self._previous: int | None = None
        if extradata and extradata[0] == 1 and len(extradata) > 8:
            self._length_bytes = (extradata[4] & 3) + 1
            self._read_parameters(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])
        elif extradata:
            self.missing_before(extradata)

    def missing_before(self, packet: bytes) -> bool:
        """Return whether reference frames are missing between the previous packet and this one."""
        try:
            for nal in self._nals(packet):
                kind = nal[0] & 0x1F
                if kind == _PARAMETERS:
                    self._read_parameters(nal)
                elif kind in {_SLICE, _IDR} and self._number_bits:
                    return self._missing_before_slice(nal)
        except (IndexError, ValueError):  # damaged; the decoder reports that
            pass
        return False

    def _missing_before_slice(self, nal: bytes) -> bool:
        bits = _Bits(nal[1:_HEAD_BYTES])
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.exponential()
        if self._chroma_planes:
            bits.read(2)
        number = bits.read(self._number_bits)
        previous, reference = self._previous, bool(nal[0] & 0x60)
        if reference or previous is None:
            self._previous = number
        if nal[0] & 0x1F == _IDR or previous is None or self._gaps_allowed:
            return False
        return number not in {previous, (previous + 1) % (1 << self._number_bits)}

    def _read_parameters(self, nal: bytes) -> None:
        """Read a sequence parameter set (7.3.2.1.1) as far as `gaps_in_frame_num_value_allowed_flag`."""
        bits = _Bits(nal[1:512])
        profile = bits.read(8)
        bits.read(16)
        bits.exponential()
        self._chroma_planes = False
        if profile in _HIGH_PROFILES:
            chroma = bits.exponential()
            self._chroma_planes = chroma == 3 and bool(bits.read(1))
            bits.exponential()
            bits.exponential()
            bits.read(1)
            if bits.read(1):
                for number in range(8 if chroma != 3 else 12):
                    if bits.read(1):
                        bits.scaling_list(16 if number < 6 else 64)
        number_bits = bits.exponential() + 4
        order = bits.exponential()
        if order == 0:
            bits.exponential()
        elif order == 1:
            bits.read(1)
            for _ in range(2):
                bits.exponential()
            for _ in range(bits.exponential()):
                bits.exponential()
        bits.exponential()
        self._gaps_allowed = bool(bits.read(1))
        self._number_bits = number_bits if number_bits <= 16 else 0

    def _nals(self, packet: bytes) -> Iterator[bytes]:
        if not self._length_bytes:
            starts = [found.end() for found in _START_CODE.finditer(packet)]
            for at, start in enumerate(starts):
                yield packet[start : starts[at + 1] - 3 if at + 1 < len(starts) else None]
            return
        at = 0
        while at + self._length_bytes < len(packet):
            length = int.from_bytes(packet[at : at + self._length_bytes], "big")
            at += self._length_bytes
            if length:
                yield packet[at : at + length]
            at += length


class _Bits:
    """The bits of a NAL unit, without its emulation prevention bytes (7.4.1)."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._bits = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """Return the next `count` bits. Raises ValueError at the end."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the data ends early")
        return self._bits >> self._left & ((1 << count) - 1)

    def exponential(self) -> int:
        """Return an unsigned Exp-Golomb number (9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def scaling_list(self, size: int) -> None:
        """Skip a scaling list (7.3.2.1.1.1)."""
        last = following = 8
        for _ in range(size):
            if following:
                code = self.exponential()
                following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
            last = following or last
