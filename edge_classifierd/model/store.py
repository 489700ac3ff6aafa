"""The models that were fetched from addresses: files in the state directory, and which model ran in which pipeline."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from edge_classifierd.errors import FetchError, ModelError, RefusedFetchError, printable, shortened
from edge_classifierd.state_file import StateFile, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

FOLDER: Final = "fetched"
"""The folder of the fetched models in the state directory."""
_RECORD: Final = "ran.json"
_VERSION: Final = "models that ran, version 1"
_REMEMBERED: Final = 2
"""Models that are remembered for a pipeline: the one that runs, and the one before it for a way back."""
_SPARE_BYTES: Final = 64_000_000
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model file at an address."""

    url: str
    sha256: str
    """Of the file, in lower case."""

    @property
    def name(self) -> str:
        """The file's name in the address without its ending, as health and events show it."""
        last = printable(unquote(urlsplit(self.url).path).rpartition("/")[2]).removesuffix(".tflite")
        return shortened(last, 100) or "model"

    @property
    def title(self) -> str:
        """`birds (3f2a91c4)`."""
        return f"{self.name} ({self.sha256[:8]})"

    @property
    def shown(self) -> str:
        """The address without the account and the query, which may contain secrets."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class NotFetchedError(ModelError):
    """The file of a model is not on this device yet, or not intact any more."""


def fetched_file(state: Path, model: RemoteModel) -> Path:
    """Return the file of a fetched model; its content is not verified. Raises NotFetchedError."""
    file = state / FOLDER / f"{model.sha256}.tflite"
    try:
        if file.is_file():
            return file
    except OSError as error:
        raise NotFetchedError(f"{file}: cannot be read: {error.strerror}") from error
    raise NotFetchedError(f"{model.shown}: is not on this device yet; the daemon fetches it")


class FetchedModels:
    """Fetches models and removes those that are not used any more. Any thread; at most one calls `fetch`.

    A file has its name, the SHA-256 of its content, only when it is complete, verified and on the disk.
    """

    def __init__(self, state: Path) -> None:
        """`state` is the state directory."""
        self._folder = state / FOLDER
        self._lock = threading.Lock()
        self._record = StateFile(
            self._folder / _RECORD, _VERSION, "a pipeline waits for the model of its configuration at the next start"
        )
        self._ran: dict[str, tuple[RemoteModel, ...]] = self._record.read(_parse, {})

    def ran(self, pipeline: str) -> tuple[RemoteModel, ...]:
        """Return the last models that are known to have run in a pipeline, the newest first."""
        with self._lock:
            return self._ran.get(pipeline, ())

    def record(self, pipeline: str, model: RemoteModel) -> None:
        """Record that a model runs in a pipeline."""
        with self._lock:
            before = self._ran.get(pipeline, ())
            if before[:1] == (model,):
                return
            others = tuple(one for one in before if one.sha256 != model.sha256)
            self._ran[pipeline] = (model, *others)[:_REMEMBERED]
            self._write()

    def prune(self, wanted: Collection[RemoteModel], pipelines: Collection[str]) -> None:
        """Remove the files that are neither wanted nor have run in one of the `pipelines`; forget other pipelines."""
        with self._lock:
            if gone := self._ran.keys() - set(pipelines):
                for name in gone:
                    del self._ran[name]
                self._write()
            used = {one.sha256 for one in wanted} | {one.sha256 for ran in self._ran.values() for one in ran}
        _remove_others(self._folder, used)

    def fetch(self, model: RemoteModel, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Make sure that the file of a model is there and intact; download it if it is not.

        Raises:
            FetchError: It cannot be fetched now; RefusedFetchError: and most likely not soon either.
        """
        file, part = self._folder / f"{model.sha256}.tflite", self._folder / f".{model.sha256}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if file.exists():
                if _sha256(file) == model.sha256:
                    return
                file.unlink()
            self._download(model, part, cancelled)
            part.replace(file)
            sync_directory(self._folder)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
            raise FetchError(
                f"{model.shown}: cannot be stored in {self._folder} ({error.strerror or error}); check the disk"
            ) from error

    def _download(self, model: RemoteModel, part: Path, cancelled: Callable[[], bool]) -> None:
        # Here, because most configurations fetch nothing: TLS takes megabytes.
        from edge_classifierd.model.download import Wanted, download  # noqa: PLC0415

        wanted = Wanted(
            model.url,
            spare_bytes=_SPARE_BYTES,
            remedy="check `url` and the server",
            resumes="it continues",
            shown=model.shown,
        )
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "r+b", buffering=0) as opened:
            resumed = opened.seek(0, os.SEEK_END) > 0
            download(wanted, opened, cancelled=cancelled)
            found = _sha256(part)
            if found != model.sha256 and resumed:  # the part may be of an earlier file at this address
                opened.truncate(0)
                download(wanted, opened, cancelled=cancelled)
                found = _sha256(part)
            if found != model.sha256:
                part.unlink()
                raise RefusedFetchError(
                    f"{model.shown}: has the SHA-256 {found[:8]}…, not {model.sha256[:8]}…; correct `sha256`, or the "
                    "file on the server"
                )
            os.fsync(opened.fileno())

    def _write(self) -> None:
        document = {name: [[one.url, one.sha256] for one in ran] for name, ran in sorted(self._ran.items())}
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._record.write(document, durably=True)


def _parse(document: dict[str, list[list[str]]]) -> dict[str, tuple[RemoteModel, ...]]:
    ran = {}
    for name, models in document.items():
        if not all(isinstance(url, str) and _SHA256.fullmatch(sha256) for url, sha256 in models):
            raise ValueError("holds something that is no model")
        ran[str(name)] = tuple(RemoteModel(url, sha256) for url, sha256 in models)[:_REMEMBERED]
    return ran


def _remove_others(folder: Path, used: Iterable[str]) -> None:
    """Remove the models and partial files of other hashes."""
    kept = {name for sha256 in used for name in (f"{sha256}.tflite", f".{sha256}.part")}
    with contextlib.suppress(OSError):
        for file in [*folder.glob("*.tflite"), *folder.glob(".*.part")]:
            if file.name not in kept:
                file.unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
