"""Reads flatbuffers from untrusted files: every offset and length is checked against the file before use.

The `flatbuffers` package verifies nothing: a damaged file can make it loop, allocate memory or raise any exception.
This reader reads tables, vectors, strings and scalars, and raises only `MalformedError`.
Layout: https://flatbuffers.dev/internals/ (little-endian; a table starts with the signed distance back to its vtable).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Real models stay far below these; they bound the time and memory that a hostile file can take.
MAX_ELEMENTS: Final = 65_536
MAX_TEXT: Final = 16_384
MAX_NAME: Final = 1_024


class MalformedError(Exception):
    """The bytes are not a valid flatbuffer; the message gives the reason."""


class Table:
    """One table in `data`; fields are numbered as in the schema, an absent field gives its default."""

    __slots__ = ("_data", "_fields", "_position", "_vtable")

    def __init__(self, data: bytes | memoryview, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - int(_scalar(data, "i", position))
        size = int(_scalar(data, "H", self._vtable))
        if size < 4 or self._vtable + size > len(data):
            raise MalformedError("a table's layout points outside the file")
        self._fields = (size - 4) // 2

    @classmethod
    def root(cls, data: bytes | memoryview) -> Table:
        """Return the root table of a flatbuffer."""
        return cls(data, int(_scalar(data, "I", 0)))

    def has(self, field: int) -> bool:
        """Return whether the field is stored."""
        return self._place(field) is not None

    def integer(self, field: int, code: str, default: int = 0) -> int:
        """Return a scalar of the struct code `code` (b B h H i I q Q)."""
        place = self._place(field)
        return default if place is None else int(_scalar(self._data, code, place))

    def text(self, field: int, longest: int = MAX_NAME) -> str | None:
        """Return at most `longest` bytes of a string; bytes that are not UTF-8 are replaced."""
        place = self._place(field)
        if place is None:
            return None
        start, length = self._vector(place, 1)
        return bytes(self._data[start : start + min(length, longest)]).decode("utf-8", "replace")

    def raw(self, field: int) -> bytes | memoryview:
        """Return a vector of bytes, as a slice of the file."""
        place = self._place(field)
        if place is None:
            return b""
        start, length = self._vector(place, 1)
        return self._data[start : start + length]

    def size(self, field: int) -> int:
        """Return the length of a vector of bytes without copying it."""
        place = self._place(field)
        return 0 if place is None else self._vector(place, 1)[1]

    def integers(self, field: int, code: str = "i", first: int = MAX_ELEMENTS) -> tuple[int, ...]:
        """Return the `first` integers of a vector of the struct code `code`."""
        return tuple(int(value) for value in self._unpack(field, code, first))

    def floats(self, field: int) -> tuple[float, ...]:
        """Return a vector of 32-bit floats."""
        return tuple(float(value) for value in self._unpack(field, "f", MAX_ELEMENTS))

    def table(self, field: int) -> Table | None:
        """Return the table that the field refers to."""
        place = self._place(field)
        return None if place is None else Table(self._data, self._follow(place))

    def tables(self, field: int) -> TableVector:
        """Return a vector of tables; each is read when it is used."""
        place = self._place(field)
        if place is None:
            return TableVector(self._data, 0, 0)
        start, length = self._vector(place, 4)
        _check_count(length)
        return TableVector(self._data, start, length)

    def stored(self) -> dict[int, tuple[int, bytes]]:
        """Return the position in the file of each stored field, and its bytes up to the next field or the end.

        For copying a table of scalars of unknown schema: the bytes are the value and its padding.
        """
        end = self._position + int(_scalar(self._data, "H", self._vtable + 2))
        if end > len(self._data):
            raise MalformedError("a table is longer than the file")
        places = {field: place for field in range(self._fields) if (place := self._place(field)) is not None}
        ends = [*sorted(places.values()), end]
        return {
            field: (place, bytes(self._data[place : next((after for after in ends if after > place), place)]))
            for field, place in places.items()
        }

    def _unpack(self, field: int, code: str, first: int) -> tuple[int | float, ...]:
        place = self._place(field)
        if place is None:
            return ()
        start, length = self._vector(place, struct.calcsize("<" + code))
        _check_count(length)
        return struct.unpack_from(f"<{min(length, first)}{code}", self._data, start)

    def _place(self, field: int) -> int | None:
        if field >= self._fields:
            return None
        offset = int(_scalar(self._data, "H", self._vtable + 4 + 2 * field))
        return self._position + offset if offset else None

    def _follow(self, place: int) -> int:
        return place + int(_scalar(self._data, "I", place))

    def _vector(self, place: int, element_size: int) -> tuple[int, int]:
        at = self._follow(place)
        length = int(_scalar(self._data, "I", at))
        start = at + 4
        if start + length * element_size > len(self._data):
            raise MalformedError("a list is longer than the file")
        return start, length


class TableVector:
    """A vector of tables; an index outside it raises MalformedError, because all indices come from the file."""

    __slots__ = ("_data", "_length", "_start")

    def __init__(self, data: bytes | memoryview, start: int, length: int) -> None:
        self._data = data
        self._start = start
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Table]:
        return (self[index] for index in range(self._length))

    def __getitem__(self, index: int) -> Table:
        if not 0 <= index < self._length:
            raise MalformedError(f"entry {index} of a list with {self._length} entries does not exist")
        place = self._start + 4 * index
        return Table(self._data, place + int(_scalar(self._data, "I", place)))


def _check_count(length: int) -> None:
    if length > MAX_ELEMENTS:
        raise MalformedError(f"a list claims {length} entries")


def _scalar(data: bytes | memoryview, code: str, position: int) -> int | float:
    if position < 0:
        raise MalformedError("an offset points before the file")
    try:
        (value,) = struct.unpack_from("<" + code, data, position)
    except struct.error as error:
        raise MalformedError("an offset points behind the file's end") from error
    return value  # type: ignore[no-any-return]
