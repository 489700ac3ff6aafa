"""The versions of taught models: their results, and which one is in use."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import ModelError, UsageError
from edge_classifierd.model.taught import IN_USE, LAST_GOOD, MODEL_FILE, TaughtInUse, taught_folder, taught_in_use
from edge_classifierd.state_file import replace_file, sync_directory
from edge_classifierd.teaching.records import NotTaughtError
from edge_classifierd.teaching.training.result import TrainingResult, decode_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RESULT_FILE: Final = "result.json"
REPORT_FILE: Final = "report.html"
_MAKING: Final = ".making-"
_KEPT: Final = 10


class VersionInUseError(UsageError):
    """The version is in use and cannot be deleted."""


class Versions:
    """The versions of all taught models below the state directory.

    Any thread or process may have its own. A version is a folder that appears whole, by a rename; which one is in use
    is one file that is replaced as a whole. So a process that ends at any moment leaves the last good state.
    """

    def __init__(self, state: Path) -> None:
        """`state` is the state directory; nothing is read yet."""
        self._state = state

    def results(self, model: str) -> tuple[TrainingResult, ...]:
        """Return the results of all versions, the newest first; a damaged version is left out."""
        found = []
        for number in sorted(self._numbers(model), reverse=True):
            with contextlib.suppress(NotTaughtError):
                found.append(self.result(model, number))
        return tuple(found)

    def result(self, model: str, version: int) -> TrainingResult:
        """Return the result of one version. Raises NotTaughtError when there is none, or its file is damaged."""
        file = self._folder(model) / str(version) / RESULT_FILE
        try:
            return decode_result(file.read_bytes())
        except OSError as error:
            raise NotTaughtError(f"{model}: has no version {version}{self._known(model)}") from error
        except (ValueError, TypeError, LookupError) as error:
            raise NotTaughtError(f"{file}: is damaged ({error}); use another version or train again") from error

    def in_use(self, model: str) -> TaughtInUse | None:
        """Return which version is in use; None when none is, or the file with its number is damaged."""
        try:
            return taught_in_use(self._state, model)
        except ModelError:
            return None

    def file(self, model: str, version: int, name: str) -> Path:
        """Return a file of a version, `MODEL_FILE` or `REPORT_FILE`. Raises NotTaughtError when it does not exist."""
        file = self._folder(model) / str(version) / name
        if not file.is_file():
            raise NotTaughtError(f"{model}: version {version} has no {name}{self._known(model)}")
        return file

    def use(self, model: str, version: int) -> TaughtInUse:
        """Put a version in use, for all pipelines of the model; a running daemon takes it over within a second.

        Raises:
            NotTaughtError: There is no such version.
            ModelError: The file of the version is not the one that was trained.
        """
        with self._locked(model):
            result, file = self.result(model, version), self.file(model, version, MODEL_FILE)
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != result.sha256:
                raise ModelError(f"{file}: is damaged: its SHA-256 is not that of the training; use another version")
            before = self.in_use(model)
            previous = None if before is None else before.previous if before.version == version else before.version
            names = {} if before is None else {label.slug: label.name for label in before.labels}
            self._write_in_use(model, result, previous, names)
        return taught_in_use(self._state, model)

    def rollback(self, model: str) -> TaughtInUse:
        """Put the version in use that was in use before. Raises NotTaughtError when there is none."""
        before = self.in_use(model)
        if before is None or before.previous is None:
            raise NotTaughtError(f"{model}: no version was in use before; see `teach show {model}` and `teach use`")
        return self.use(model, before.previous)

    def delete(self, model: str, version: int) -> None:
        """Delete a version. Raises VersionInUseError, NotTaughtError."""
        with self._locked(model):
            self.result(model, version)
            before = self.in_use(model)
            if before is not None and before.version == version:
                raise VersionInUseError(f"{model}: version {version} is in use; use another one first")
            self._remove(self._folder(model) / str(version))

    def rename_classes(self, model: str, names: Mapping[str, str]) -> None:
        """Change what people see of classes, by slug. Does nothing while no version is in use."""
        with self._locked(model):
            before = self.in_use(model)
            if before is not None and any(names.get(one.slug, one.name) != one.name for one in before.labels):
                shown = {one.slug: names.get(one.slug, one.name) for one in before.labels}
                self._write_in_use(model, self.result(model, before.version), before.previous, shown)

    def next_number(self, model: str) -> int:
        """Return the number of the next version."""
        return max(self._numbers(model), default=0) + 1

    def make_folder(self, model: str, training: str) -> Path:
        """Create and return the temporary folder of a training. Raises OSError."""
        folder = self._folder(model) / f"{_MAKING}{training}"
        folder.mkdir(parents=True)
        return folder

    def add(self, model: str, folder: Path, version: int) -> None:
        """Make a version of a finished temporary folder, and delete old ones. Raises OSError."""
        for file in folder.iterdir():
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(folder)
        with self._locked(model):
            folder.rename(self._folder(model) / str(version))
            sync_directory(self._folder(model))
            in_use = self.in_use(model)
            kept = set() if in_use is None else {in_use.version, in_use.previous}
            for number in sorted(self._numbers(model), reverse=True)[_KEPT:]:
                if number not in kept:
                    self._remove(self._folder(model) / str(number))

    def remove_unfinished(self) -> None:
        """Remove what trainings left that did not end. Call it before the first training of a process."""
        for folder in self._state.glob(f"taught/*/versions/{_MAKING}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, model: str) -> Path:
        return taught_folder(self._state, model) / "versions"

    def _numbers(self, model: str) -> list[int]:
        try:
            names = [one.name for one in self._folder(model).iterdir()]
        except OSError:
            return []
        return [int(name) for name in names if name.isascii() and name.isdecimal()]

    def _known(self, model: str) -> str:
        numbers = sorted(self._numbers(model))
        return f"; it has {', '.join(map(str, numbers))}" if numbers else "; train it first"

    def _remove(self, folder: Path) -> None:
        """Remove a version's folder; it is renamed first, so that no half of it is ever taken for a version."""
        doomed = folder.with_name(f"{_MAKING}removed-{folder.name}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _write_in_use(self, model: str, result: TrainingResult, previous: int | None, names: Mapping[str, str]) -> None:
        folder = taught_folder(self._state, model)
        labels = [
            {
                "slug": one.slug,
                "name": names.get(one.slug, one.name),
                "unknown": one.unknown,
                "threshold": None if one.unknown else result.thresholds.get(one.slug),
            }
            for one in result.classes
        ]
        document = {"version": result.version, "sha256": result.sha256, "previous": previous, "labels": labels}
        content = json.dumps(document, ensure_ascii=False, indent=1).encode()
        with contextlib.suppress(ModelError, OSError):
            taught_in_use(self._state, model)  # only a good one becomes the last good one
            self._write(folder / LAST_GOOD, (folder / IN_USE).read_bytes())
        self._write(folder / IN_USE, content)

    def _write(self, file: Path, content: bytes) -> None:
        replace_file(file, content, durably=True)
        if os.geteuid() == 0:  # a command of root beside the daemon
            owner = self._state.stat()
            os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)

    @contextlib.contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        """Keep other processes from changing the versions of a model. Raises NotTaughtError without any."""
        try:
            descriptor = os.open(self._folder(model), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotTaughtError(f"{model}: has no versions; train it first") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
