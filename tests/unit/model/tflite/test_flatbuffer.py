"""The reader of flatbuffers never leaves the file."""

from __future__ import annotations

import struct

import flatbuffers
import pytest

from edge_classifierd.model.tflite.flatbuffer import MalformedError, Table


def _table() -> bytes:
    """Fields: 0 an i32 of 7, 1 the text "label", 2 the integers 1 2 3, 3 absent."""
    builder = flatbuffers.Builder(64)
    text = builder.CreateString("label")
    builder.StartVector(4, 3, 4)
    for value in (3, 2, 1):
        builder.PrependInt32(value)
    numbers = builder.EndVector()
    builder.StartObject(4)
    builder.PrependInt32Slot(0, 7, 0)
    builder.PrependUOffsetTRelativeSlot(1, text, 0)
    builder.PrependUOffsetTRelativeSlot(2, numbers, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_fields_read_back_and_absent_ones_give_defaults() -> None:
    table = Table.root(_table())
    assert table.integer(0, "i") == 7
    assert table.text(1) == "label"
    assert table.integers(2) == (1, 2, 3)
    assert table.integers(2, first=2) == (1, 2)
    assert (table.has(2), table.has(3), table.has(99)) == (True, False, False)
    assert (table.integer(3, "i", 5), table.text(3), len(table.tables(3)), table.table(99)) == (5, None, 0, None)


@pytest.mark.parametrize("offset", [0x7FFFFFFF, 0xFFFFFFFF, 1 << 20])
def test_root_behind_the_end_is_malformed(offset: int) -> None:
    with pytest.raises(MalformedError):
        Table.root(struct.pack("<I", offset) + _table()[4:])


def test_layout_before_the_file_is_malformed_and_does_not_wrap_to_its_end() -> None:
    root = struct.pack("<Ii", 4, 12) + bytes(64)  # the table at 4 says that its layout starts at 4 - 12
    with pytest.raises(MalformedError, match="before the file"):
        Table.root(root)


@pytest.mark.parametrize("length", [4, 1 << 20, 0xFFFFFFFF])
def test_list_longer_than_the_file_is_malformed(length: int) -> None:
    whole = _table()
    stored = whole.index(struct.pack("<4I", 3, 1, 2, 3))
    with pytest.raises(MalformedError, match="longer than the file"):
        Table.root(whole[:stored] + struct.pack("<I", length) + whole[stored + 4 : stored + 16]).integers(2)


def test_index_outside_a_list_is_malformed_and_iteration_ends() -> None:
    tables = Table.root(_table()).tables(3)
    assert list(tables) == []
    for index in (-1, 0, 1):
        with pytest.raises(MalformedError, match="of a list with 0 entries"):
            tables[index]
