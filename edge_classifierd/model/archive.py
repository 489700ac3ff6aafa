"""The zip archive appended to a `.tflite`, which holds label files and metadata."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Final

from edge_classifierd.errors import ModelError, shortened

SET_LABELS: Final = "set `model.labels` (--labels on the command line) to a file with one label a line"
_MAX_FILE_BYTES: Final = 16_000_000
_MAX_DIRECTORY_BYTES: Final = 1_000_000
_COMPRESSIONS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # LZMA could take much memory
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


class Archive:
    """The files appended to a model; empty when there is no archive."""

    def __init__(self, data: bytes) -> None:
        self._zip: zipfile.ZipFile | None = None
        end = data.rfind(b"PK\x05\x06", max(0, len(data) - 66_000))  # a comment of at most 64 KiB may follow
        if end >= 0:
            if int.from_bytes(data[end + 12 : end + 16], "little") > _MAX_DIRECTORY_BYTES:
                raise ModelError(f"carries a zip archive of too many files; {SET_LABELS}")
            try:
                self._zip = zipfile.ZipFile(io.BytesIO(data))
            except _DAMAGED as error:
                raise ModelError(f"carries a damaged zip archive: {error}; copy or download it again") from error

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files in the order of the archive, without folders."""
        if self._zip is None:
            return ()
        names = (entry.filename for entry in self._zip.infolist())
        return tuple(name for name in names if name and not name.endswith("/"))  # is_dir() fails for an empty name

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises ModelError when it is missing, damaged or larger than 16 MB."""
        shown = shortened(name, 100)
        if self._zip is None:
            raise ModelError(f"names a file `{shown}` in its metadata but carries no archive; {SET_LABELS}")
        try:
            if self._zip.getinfo(name).compress_type not in _COMPRESSIONS:
                raise ModelError(f"carries a file `{shown}` in an unusual compression; {SET_LABELS}")
            with self._zip.open(name) as file:
                content = file.read(_MAX_FILE_BYTES + 1)
        except KeyError as error:
            raise ModelError(f"names a file `{shown}` in its metadata that is not there; {SET_LABELS}") from error
        except _DAMAGED as error:
            raise ModelError(f"carries a damaged file `{shown}`: {error}; copy or download it again") from error
        if len(content) > _MAX_FILE_BYTES:
            raise ModelError(f"carries a file `{shown}` of more than {_MAX_FILE_BYTES // 1_000_000} MB; {SET_LABELS}")
        return content
