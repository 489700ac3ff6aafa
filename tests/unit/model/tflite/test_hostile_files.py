"""Small files that claim to hold much: their tables share lists and texts, so that a megabyte stands for many."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import flatbuffers
import pytest
import tflite_builder as tflite

from edge_classifierd.errors import ModelError
from edge_classifierd.model.archive import Archive
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.embedding import Embedding
from edge_classifierd.model.tflite.graph import Graph, Operator, Quantisation, Tensor
from edge_classifierd.model.tflite.head import last_layer
from edge_classifierd.model.tflite.metadata import read_metadata
from edge_classifierd.model.tflite.signature import read_signature
from edge_classifierd.model.tflite.writer import _integers, _offsets, _table, _vector

if TYPE_CHECKING:
    from pathlib import Path

MANY = 65_536


class File:
    """A `.tflite` of one tensor in one graph, any of which may be listed often."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)
        self.tensor_fields: dict[int, tuple[str, int]] = {}
        self.graph_fields: dict[int, tuple[str, int]] = {}
        self.codes: list[int] = []
        self.buffers: list[int] = []

    def packed(self, *, tensors: int = 1, graphs: int = 1) -> bytes:
        made = self.builder
        shape = _integers(made, (1, 8, 8, 3))
        tensor = _table(made, {0: ("offset", shape), 1: ("int8", 3)} | self.tensor_fields)
        listed = _offsets(made, [tensor] * tensors)
        graph = _table(made, {0: ("offset", listed)} | self.graph_fields)
        model = {
            0: ("uint32", 3),
            1: ("offset", _offsets(made, self.codes)),
            2: ("offset", _offsets(made, [graph] * graphs)),
            4: ("offset", _offsets(made, self.buffers or [_table(made, {})])),
        }
        made.Finish(_table(made, model), b"TFL3")
        return bytes(made.Output())


def refused_soon(data: bytes, reason: str, most_megabytes: int = 150) -> None:
    """Refused for that reason; what it costs is bounded (the time by the suite's own limit)."""
    assert len(data) < 2_000_000
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=reason):
            read_signature(data)
        assert tracemalloc.get_traced_memory()[1] < most_megabytes * 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("tensors", "graphs"), [(MANY, MANY), (1, MANY)])
def test_graphs_that_share_their_tensors_are_not_gone_through_one_by_one(tensors: int, graphs: int) -> None:
    refused_soon(File().packed(tensors=tensors, graphs=graphs), "more than 1,000,000 references")


@pytest.mark.timeout(30)
def test_graphs_that_share_their_ends_are_not_gone_through_one_by_one() -> None:
    file = File()
    ends = _integers(file.builder, [0] * MANY)
    file.graph_fields = {1: ("offset", ends), 2: ("offset", ends)}
    refused_soon(file.packed(graphs=1000), "more than 1,000,000 references")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("field", [2, 3])
def test_tensors_that_share_their_scales_are_not_gone_through_one_by_one(field: int) -> None:
    file = File()
    prepend = file.builder.PrependFloat32 if field == 2 else file.builder.PrependInt64
    values = _vector(file.builder, 4 if field == 2 else 8, [0] * MANY, prepend)
    file.tensor_fields = {4: ("offset", _table(file.builder, {field: ("offset", values)}))}
    refused_soon(file.packed(tensors=MANY), "more than 1,000,000 references")


def test_operators_that_share_a_long_name_do_not_fill_memory() -> None:
    file = File()
    name = file.builder.CreateString("x" * 16_000)
    file.codes = [_table(file.builder, {0: ("int8", 32), 1: ("offset", name)})] * MANY
    refused_soon(file.packed(), "has 0 inputs")


def test_buffers_that_share_their_bytes_are_not_copied() -> None:
    file = File()
    data = file.builder.CreateString("x" * 1_000_000)
    file.buffers = [_table(file.builder, {0: ("offset", data)})] * 10
    refused_soon(file.packed(), "has 0 inputs", most_megabytes=1)


def test_metadata_with_label_files_without_number_is_read_in_bounds() -> None:
    made = flatbuffers.Builder(1 << 16)
    file = _table(made, {0: ("offset", made.CreateString("x" * 16_000)), 2: ("int8", 2)})
    output = _table(made, {6: ("offset", _offsets(made, [file] * MANY))})
    graph = _table(made, {3: ("offset", _offsets(made, [output]))})
    made.Finish(_table(made, {3: ("offset", _offsets(made, [graph]))}), b"M001")
    files = read_metadata(bytes(made.Output()), 0).label_files
    assert sum(len(file.name) for file in files) < 2_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damaged_labels_in_any_compression_are_one_sentence(tmp_path: Path, method: int) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as made:
        made.writestr("labels.txt", random.Random(1).randbytes(2000))  # longer than what is damaged, packed too
    data = bytearray(archive.getvalue())
    data[48:80] = b"\xa5" * 32
    (tmp_path / "a.tflite").write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)) + bytes(data))
    with pytest.raises(ModelError, match=r"a\.tflite: carries .*`labels\.txt`.*; "):
        load_bundle(tmp_path / "a.tflite")


def test_a_bomb_in_the_archive_is_not_unpacked() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("labels.txt", bytes(100_000_000))
    with pytest.raises(ModelError, match="of more than 16 MB; "):
        Archive(archive.getvalue()).read("labels.txt")


def test_a_damaged_name_in_the_archive_stays_on_its_line() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("labels.txt", b"cat\n")
    with pytest.raises(ModelError, match=r"names a file `de\.txt\\x00\\nx` in its metadata that is not there; "):
        Archive(archive.getvalue()).read("de.txt\0\nx")


def test_a_directory_of_very_many_files_is_not_read() -> None:
    entry = struct.pack("<I6H3I5H2I", 0x02014B50, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    directory = entry * 30_000
    end = struct.pack("<I4H2IH", 0x06054B50, 0, 0, 30_000, 30_000, len(directory), 0, 0)
    with pytest.raises(ModelError, match="carries a zip archive of too many files; "):
        Archive(directory + end)


@pytest.mark.parametrize(
    "quantisation",
    [
        Quantisation((0.5, 0.5), (0, 0), 0),
        Quantisation((0.5,), (0, 0, 0, 0), 0),
        Quantisation((0.5, 0.5, 0.5), (0, 0), 0),
        Quantisation((0.5, 0.5, 0.5), (0, 0, 0), 7),
        Quantisation((0.5, 0.5, 0.5), (0, 0, 0), -1),
    ],
)
def test_scales_that_do_not_fit_a_last_layer_are_one_sentence(quantisation: Quantisation) -> None:
    embedding, graph = _last_layer(Tensor("w", (3, 2), 9, bytes(6), quantisation))
    with pytest.raises(ModelError, match="scales do not fit its shape; "):
        last_layer(graph, embedding)


def test_a_last_layer_has_as_many_weights_as_its_shape() -> None:
    embedding, graph = _last_layer(Tensor("w", (3, 2), 9, bytes([1]) * 8, Quantisation((0.5,), (0,), 0)))
    assert last_layer(graph, embedding)[0].tolist() == [[0.5, 0.5]] * 3


def _last_layer(weights: Tensor) -> tuple[Embedding, Graph]:
    layer = Operator(op.FULLY_CONNECTED, (0, 1), (2,))
    tensors = (Tensor("in", (1, 2), 0), weights, Tensor("out", (1, 3), 0))
    return Embedding(0, 2, layer, None, 0), Graph(tensors, (layer,), (0,), (2,))


def test_given_labels_are_enough_where_the_archive_is_damaged(tmp_path: Path) -> None:
    data = tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": b"a\nb\nc\n"})
    (tmp_path / "a.tflite").write_bytes(data.replace(b"PK\x01\x02", b"PK\x07\x07"))
    (tmp_path / "mine.txt").write_text("x\ny\nz\n")
    with pytest.raises(ModelError, match="carries a damaged zip archive"):
        load_bundle(tmp_path / "a.tflite")
    assert load_bundle(tmp_path / "a.tflite", tmp_path / "mine.txt").labels.names == ("x", "y", "z")


def test_a_file_without_a_name_is_skipped(tmp_path: Path) -> None:
    data = bytearray(tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"x": b"?", "labels.txt": b"a\nb\nc\n"}))
    entry = data.find(b"PK\x01\x02")
    data[entry + 28 : entry + 32] = b"\0\0\x01\0"  # the name's length 0, one byte of extra data in its place
    (tmp_path / "a.tflite").write_bytes(data)
    assert load_bundle(tmp_path / "a.tflite").labels.names == ("a", "b", "c")
