"""Checks that everything a `.tflite` refers to is there.

The runtimes do not check references: a wrong one ends the process, which Python cannot catch. So a file that is cut
short or changed is refused before a runtime reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.model.tflite.flatbuffer import MalformedError

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.flatbuffer import Table

_MAX_REFERENCES: Final = 1_000_000
_TABLE_COST: Final = 20  # reading a table takes as long as reading this many numbers
_NONE: Final = -1  # an operator's optional input that is left out
_MAX_TENSOR_BYTES: Final = 512_000_000
_ELEMENT_BYTES: Final = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1}  # by TensorType; others are not checked


def verify_references(model: Table, file_bytes: int) -> None:
    """Check every buffer, tensor and operator of `model` (a Model table). Raises MalformedError."""
    budget = _Budget()
    buffers = []
    for buffer in model.tables(4):
        offset, size = buffer.integer(1, "Q"), buffer.integer(2, "Q")
        if offset > 1 and offset + size > file_bytes:
            raise MalformedError("weights lie behind the file's end")
        buffers.append(size if offset > 1 else buffer.size(0))
    operator_codes = len(model.tables(1))
    for graph in model.tables(2):
        tensors = graph.tables(0)
        for tensor in tensors:
            _verify_tensor(tensor, buffers, budget)
        ends = graph.integers(1) + graph.integers(2)
        budget.spend(_TABLE_COST + len(ends))
        _verify_indices(ends, len(tensors))
        for operator in graph.tables(3):
            if operator.integer(0, "I") >= operator_codes:
                raise MalformedError("an operator has no code")
            used = operator.integers(1) + operator.integers(2) + operator.integers(8)
            budget.spend(_TABLE_COST + len(used))
            _verify_indices(used, len(tensors), least=_NONE)


class _Budget:
    """Limits the work: tables of a hostile file may share their lists and so have far more entries than it holds."""

    def __init__(self) -> None:
        self._left = _MAX_REFERENCES

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise MalformedError(f"it holds more than {_MAX_REFERENCES:,} references")


def _verify_tensor(tensor: Table, buffers: list[int], budget: _Budget) -> None:
    buffer = tensor.integer(2, "I")
    if buffer >= max(len(buffers), 1):  # buffer 0 means none
        raise MalformedError("a tensor's weights are missing")
    count = 1
    for side in tensor.integers(0, first=16):
        count *= max(side, 1)
    size = count * _ELEMENT_BYTES.get(tensor.integer(1, "b"), 0)
    if size > _MAX_TENSOR_BYTES:
        raise MalformedError(f"one of its tensors would take more than {_MAX_TENSOR_BYTES // 1_000_000} MB")
    sparse = tensor.has(6)
    if size and buffer and buffers[buffer] and buffers[buffer] < size and not sparse:
        raise MalformedError("a tensor has fewer weights than its shape needs")
    quantisation = tensor.table(4)
    scales = len(quantisation.floats(2)) + len(quantisation.integers(3, "q")) if quantisation else 0
    budget.spend(_TABLE_COST + scales)


def _verify_indices(indices: tuple[int, ...], tensors: int, least: int = 0) -> None:
    if indices and not (least <= min(indices) and max(indices) < tensors):
        raise MalformedError("an operator refers to a tensor that is not there")
