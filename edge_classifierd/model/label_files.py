"""Label files: plain lists, numbered lists, CSV tables, JSON, YAML and pbtxt."""

from __future__ import annotations

import codecs
import csv
import io
import re
from typing import Final

from edge_classifierd.errors import ModelError, shortened
from edge_classifierd.model.label_documents import labels_in, read_document, read_pbtxt
from edge_classifierd.model.labels import BACKGROUND

_MAX_BYTES: Final = 16_000_000
_MAX_INDEX: Final = 200_000
_MAX_LINES: Final = 2 * _MAX_INDEX
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # all but tab and line feed
_NUMBERED: Final = re.compile(r"(\d{1,7})(\s*[:=\t,;]\s*|\s+)(\S.*)")
_QUOTED: Final = re.compile(r"""(["'])(.*)\1,?""")
_SYNSET: Final = re.compile(r"n\d{8}[\s,]+(\S.*)")
_PBTXT: Final = re.compile(r"\s*item\s*:?\s*\{")
_DOCUMENTS: Final = frozenset({"json", "yaml", "yml"})
LABEL_ENDINGS: Final = (".txt", ".csv", ".json", ".yaml", ".yml", ".pbtxt")
_INDEX_COLUMNS: Final = ("class_index", "index", "class_id", "label_id", "id", "class", "number")
_LABEL_COLUMNS: Final = ("label", "name", "class_name", "label_name", "display_name", "class")
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_labels(content: bytes, file: str, classes: int) -> tuple[str, ...]:
    """Return the labels in `content`, in the order of the model's `classes` outputs.

    The ending of `file` decides the format: .csv, .json, .yaml, .yml, .pbtxt; everything else is text with one label a
    line, numbered or not, unless it begins like JSON or pbtxt. `file` also stands in messages. The result may have more
    or fewer labels than `classes`. Raises ModelError.
    """
    ending = file.lower().rpartition(".")[2]
    file = shortened(file, 100)
    text = _decode(content, file)
    if ending == "csv":
        labels = _from_table(text, file)
    elif ending == "pbtxt" or _PBTXT.match(text):
        labels = _indexed(read_pbtxt(text), file, classes)
    elif ending in _DOCUMENTS:
        labels = _indexed(labels_in(read_document(text, file)) or [], file, classes)
    else:
        labels = _from_literal(text, file, classes) or _from_text(text, file, classes)
    if not labels:
        raise ModelError(f"{file}: contains no label; write one label a line")
    return labels


def align(labels: tuple[str, ...], classes: int) -> tuple[str, ...] | None:
    """Return the labels of exactly `classes` outputs, None when the counts do not fit.

    TensorFlow's ImageNet models have 1,001 outputs with `background` first, others 1,000; label files of the other
    kind are adapted.
    """
    if len(labels) == classes:
        return labels
    if len(labels) == classes + 1 and labels[0].casefold() == BACKGROUND:
        return labels[1:]
    if (len(labels), classes) == (1000, 1001):
        return (BACKGROUND, *labels)
    return None


def _decode(content: bytes, file: str) -> str:
    if len(content) > _MAX_BYTES:
        raise ModelError(f"{file}: is larger than {_MAX_BYTES // 1_000_000} MB; write one short label a line")
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        raise ModelError(f"{file}: is not a text file; a label file has one label a line")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > _MAX_LINES:
        raise ModelError(f"{file}: has more than {_MAX_LINES} lines; a label file has one label a line")
    return _CONTROLS.sub(" ", text)  # a label is printed on terminals


def _from_literal(text: str, file: str, classes: int) -> tuple[str, ...]:
    """Return the labels of a text that begins like a JSON list or map, such as `{0: 'tench', 1: …}`; else none."""
    if not text.lstrip().startswith(("{", "[")):
        return ()
    try:
        return _indexed(labels_in(read_document(text, file)) or [], file, classes)
    except ModelError:
        return ()


def _from_text(text: str, file: str, classes: int) -> tuple[str, ...]:
    lines = [line.strip() for line in text.split("\n")]
    filled = [line for line in lines if line]
    if len(filled) == 1 and filled[0].count(",") == classes - 1 > 0:
        filled = lines = [label.strip() for label in filled[0].split(",")]
    labels = _from_numbered(filled, file, classes) or _from_lines(lines, classes)
    for pattern, group in ((_QUOTED, 2), (_SYNSET, 1)):
        matches = [pattern.fullmatch(label) for label in labels]
        if labels and all(matches):
            labels = tuple(match[group] for match in matches if match)
    return labels


def _from_lines(lines: list[str], classes: int) -> tuple[str, ...]:
    """Return one label a line; a blank line counts as a class only where the number of classes requires it."""
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) == classes:
        return tuple(line or _unnamed(index) for index, line in enumerate(lines))
    return tuple(line for line in lines if line)


def _from_numbered(lines: list[str], file: str, classes: int) -> tuple[str, ...] | None:
    """Return the labels where each line is `index label`; None where labels only begin with numbers ("2 of hearts").

    Numbers that count up from 0 or 1 without a gap are indices. With gaps they are indices where a colon, an equals
    sign, a comma or a tab follows and the file has another number of lines than the model has classes.
    """
    pairs: list[tuple[int, str, bool]] = []
    for line in lines:
        found = _NUMBERED.fullmatch(line)
        if found is None:
            return None
        pairs.append((int(found[1]), found[3].strip(), bool(found[2].strip(" "))))
    if not pairs:
        return None
    consecutive = _first_index([number for number, _, _ in pairs]) in {0, 1}
    if not consecutive and (len(pairs) == classes or not all(marked for _, _, marked in pairs)):
        return None
    return _indexed([(number, label) for number, label, _ in pairs], file, classes)


def _first_index(numbers: list[int]) -> int | None:
    """Return the smallest of numbers without gap, else None."""
    start = min(numbers)
    return start if sorted(numbers) == list(range(start, start + len(numbers))) else None


def _indexed(pairs: list[tuple[int, str]], file: str, classes: int) -> tuple[str, ...]:
    """Return labels by their indices; indices from 1 are shifted where the number of classes requires it."""
    pairs = [(index, _CONTROLS.sub(" ", label).replace("\n", " ").strip()) for index, label in pairs]
    if pairs and len(pairs) == classes and _first_index([index for index, _ in pairs]) == 1:
        pairs = [(index - 1, label) for index, label in pairs]
    return _placed(pairs, file)


def _from_table(text: str, file: str) -> tuple[str, ...]:
    try:
        table = [[cell.replace("\n", " ").strip() for cell in row] for row in csv.reader(io.StringIO(text))]
    except csv.Error as error:
        raise ModelError(f"{file}: is not a CSV table: {error}") from error
    rows = [row for row in table if any(row)]
    if not rows:
        return ()
    header = [cell.casefold().replace(" ", "_") for cell in rows[0]]
    label_column = next((header.index(name) for name in _LABEL_COLUMNS if name in header), None)
    if label_column is not None:
        others = {name: column for column, name in enumerate(header) if column != label_column}
        index_column = next((others[name] for name in _INDEX_COLUMNS if name in others), None)
        rows = rows[1:]
    elif len(rows[0]) == 1:
        index_column, label_column = None, 0
    elif len(rows[0]) == 2 and rows[0][0].isdecimal():
        index_column, label_column = 0, 1
    else:
        raise ModelError(f"{file}: line 1 names no column `label`; start the table with the line `index,label`")
    width = max(label_column, index_column or 0) + 1
    short = next((number for number, row in enumerate(rows, 1) if len(row) < width), None)
    if short is not None:
        raise ModelError(f"{file}: row {short} has fewer than {width} columns")
    if index_column is None:
        return tuple(row[label_column] or _unnamed(index) for index, row in enumerate(rows))
    pairs: list[tuple[int, str]] = []
    for row in rows:
        if not (row[index_column].isascii() and row[index_column].isdecimal()):
            raise ModelError(f"{file}: `{row[index_column][:40]}` is not an index; indices are whole numbers from 0")
        pairs.append((int(row[index_column][:9]), row[label_column]))
    return _placed(pairs, file)


def _placed(pairs: list[tuple[int, str]], file: str) -> tuple[str, ...]:
    labels: dict[int, str] = {}
    for index, label in pairs:
        if index > _MAX_INDEX:
            raise ModelError(f"{file}: the index {index} is larger than any model's number of classes")
        if labels.setdefault(index, label) != label:
            raise ModelError(f"{file}: index {index} has two labels, `{labels[index][:60]}` and `{label[:60]}`")
    if not labels:
        return ()
    if min(labels) == 1:
        labels[0] = BACKGROUND
    return tuple(labels.get(index) or _unnamed(index) for index in range(max(labels) + 1))


def _unnamed(index: int) -> str:
    return f"class {index}"
