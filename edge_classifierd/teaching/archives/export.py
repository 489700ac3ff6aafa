"""Writes a taught model's pictures as a zip archive: `train/CLASS/`, `held-out/CLASS/`, `to-sort/` and `index.json`.

Unpacked, `train/` can be given to `edge-classifierd train` and `held-out/` to `edge-classifierd eval` as they are. The
pictures in the bin are left out. `index.json` holds what the folders do not tell: recordings, times, guesses, slugs.
"""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.clock import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.teaching.rows import ModelTransaction

INDEX: Final = "index.json"
FORMAT: Final = "edge-classifierd taught pictures"
TRAIN, HELD_OUT, SORT = "train", "held-out", "to-sort"
"""The folders of an archive."""
_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, tzinfo=UTC)
"""What a zip archive can hold as the time of a file."""


def entries(within: ModelTransaction) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the content of `index.json` and, for each file of the archive, the picture in it; sides are decided."""
    connection = within.connection
    pipeline = connection.execute("SELECT pipeline FROM models WHERE id = ?", (within.model,)).fetchone()[0]
    classes = connection.execute(
        "SELECT id, slug, name FROM classes WHERE model = ? AND removed_ms IS NULL ORDER BY id", (within.model,)
    ).fetchall()
    names = {class_id: name for class_id, _, name in classes}
    rows = connection.execute(
        "SELECT id, class, held_out, recording, source, captured_ms, guess, confidence FROM pictures"
        " WHERE model = ? AND binned_ms IS NULL ORDER BY id",
        (within.model,),
    )
    pictures, files = [], {}
    for picture, class_id, held_out, recording, source, captured_ms, guess, confidence in rows:
        folder = SORT if class_id is None else f"{HELD_OUT if held_out else TRAIN}/{names[class_id]}"
        file = f"{folder}/{picture}.jpg"
        files[file] = picture
        pictures.append(
            {
                "file": file,
                "recording": recording,
                "source": source,
                "captured": timestamp(datetime.fromtimestamp(captured_ms / 1000, UTC)),
                "guess": None if guess is None else {"label": guess, "confidence": confidence},
            }
        )
    document = {
        "format": FORMAT,
        "version": 1,
        "model": within.name,
        "pipeline": pipeline,
        "classes": [{"slug": slug, "name": name} for _, slug, name in classes],
        "pictures": pictures,
    }
    return document, files


def chunks(document: dict[str, Any], files: dict[str, str], folder: Path) -> Iterator[bytes]:
    """Yield the archive in parts of about a picture, uncompressed. Pictures removed meanwhile are left out.

    Args:
        document: The content of `index.json`.
        files: The picture in each file of the archive.
        folder: The folder of the model's pictures.
    """
    buffer = _Drained()
    written = []
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry in document["pictures"]:
            try:
                content = (folder / f"{files[entry['file']]}.jpg").read_bytes()
            except FileNotFoundError:
                continue
            written.append(entry)
            archive.writestr(_information(entry["file"], datetime.fromisoformat(entry["captured"])), content)
            yield buffer.drain()
        text = json.dumps({**document, "pictures": written}, ensure_ascii=False, indent=1)
        archive.writestr(_information(INDEX, _EARLIEST), text.encode())
    yield buffer.drain()


def _information(name: str, moment: datetime) -> zipfile.ZipInfo:
    time = min(max(moment, _EARLIEST), _LATEST)
    information = zipfile.ZipInfo(name, (time.year, time.month, time.day, time.hour, time.minute, time.second))
    information.external_attr = 0o644 << 16
    return information


class _Drained(io.RawIOBase):
    """A file that is written from its beginning to its end and hands out what was written since the last time."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:  # noqa: ANN401 - any buffer
        self._parts.append(bytes(content))
        return len(self._parts[-1])

    def drain(self) -> bytes:
        content = b"".join(self._parts)
        self._parts.clear()
        return content
