"""Trains taught models, one at a time, in a child process of the lowest priority."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import tempfile
import threading
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Final, Literal

from edge_classifierd.clock import timestamp
from edge_classifierd.errors import EdgeClassifierError, failure_sentence
from edge_classifierd.events.ulid import UlidGenerator
from edge_classifierd.teaching.records import TrainingPictures, checked_model_name
from edge_classifierd.teaching.training.child_plan import (
    ChildAnswer,
    ChildFailure,
    ChildFinished,
    ChildPlan,
    ChildProgress,
    decode_answer,
    encode_plan,
)
from edge_classifierd.teaching.training.child_process import ChildWork, kill, start_child, unexpected_end
from edge_classifierd.teaching.training.memory import available_memory_bytes, kills_for_memory

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.teaching.training.child_plan import ExtractorName
    from edge_classifierd.teaching.training.versions import Versions

_log = logging.getLogger(__name__)

TrainingStage = Literal["looking", "copies", "learning", "measuring", "finished", "failed", "cancelled"]
_STAGES: Final[dict[str, TrainingStage]] = {
    "reading pictures": "looking",
    "reading varied copies": "copies",
    "reading built-in pictures": "copies",
    "learning": "learning",
    "measuring": "measuring",
}
# What share of the whole time has passed at the beginning and at the end of each stage.
_SHARES: Final = {"looking": (0.0, 0.2), "copies": (0.2, 0.75), "learning": (0.75, 0.9), "measuring": (0.9, 1.0)}
_LEAST_SHARE: Final = 0.02
"""Before this share has passed nothing is said about the time that is left."""
_NEEDED_BYTES: Final = 350_000_000
"""What a training of 1,000 pictures takes, and 100 MB for the others."""
_MOST_LINE_BYTES: Final = 1 << 16
_STEP_S: Final = 1.0
_MOST_ERROR_BYTES: Final = 4000
_ENDED: Final = frozenset({"finished", "failed", "cancelled"})


class TrainingRefusedError(EdgeClassifierError):
    """A training cannot begin now."""

    def __init__(self, code: Literal["busy", "missing", "memory"], sentence: str) -> None:
        """`code`: another training runs, pictures are missing, or there is too little memory."""
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A training at one moment."""

    id: str
    model: str
    version: int
    """The number that its version gets."""
    stage: TrainingStage
    done: int = 0
    of: int = 0
    seconds_left: float | None = None
    """An estimate; None while nothing is known."""
    waiting_for: str | None = None
    """Why it is slow, one sentence."""
    failure: str | None = None
    """Why it has failed, one sentence."""

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.stage not in _ENDED


class Trainer:
    """Runs at most one training. Any thread may call its methods."""

    def __init__(
        self,
        versions: Versions,
        clock: Clock,
        on_change: Callable[[TrainingState], None] = lambda _state: None,
        *,
        available: Callable[[], int | None] = available_memory_bytes,
    ) -> None:
        """Remove what an interrupted training left; nothing is started.

        Args:
            versions: Where the result becomes a version.
            clock: The clock.
            on_change: Called with each new state, in the training's own thread.
            available: Returns how many bytes of memory can be had.
        """
        self._versions = versions
        self._clock = clock
        self._on_change = on_change
        self._available = available
        self._ulids = UlidGenerator(clock)
        self._lock = threading.Lock()
        self._state: TrainingState | None = None
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._cancelled = False
        versions.remove_unfinished()

    def start(self, pictures: TrainingPictures, extractor: ExtractorName = "fast", *, missing: str = "") -> str:
        """Start a training and return its id.

        Args:
            pictures: What is learnt, as `TeachingStore.training_set` returns it.
            extractor: The bundled model to learn from.
            missing: What the pictures lack, as `TaughtModel.missing` says; empty when they suffice.

        Raises:
            TrainingRefusedError: Another training runs, pictures are missing, or there is too little memory.
        """
        checked_model_name(pictures.model)
        if missing:
            raise TrainingRefusedError("missing", missing)
        with self._lock:
            if self._state is not None and self._state.runs:
                raise TrainingRefusedError("busy", f"{self._state.model} is being trained; wait for it or cancel it")
            available = self._available()
            if available is not None and available < _NEEDED_BYTES:
                raise TrainingRefusedError(
                    "memory",
                    f"a training needs {_NEEDED_BYTES / 1e6:.0f} MB of memory and {available / 1e6:.0f} MB are "
                    "available; stop other programs",
                )
            training = self._ulids.new()
            version = self._versions.next_number(pictures.model)
            self._state = TrainingState(training, pictures.model, version, "looking")
            self._cancelled = False
            thread = threading.Thread(target=self._run, args=(pictures, extractor), name="training", daemon=True)
            self._thread = thread
            thread.start()
        return training

    def state(self) -> TrainingState | None:
        """Return the state of the last training; None before the first."""
        with self._lock:
            return self._state

    def cancel(self) -> None:
        """End the training that runs, if any; returns at once. It leaves nothing."""
        with self._lock:
            self._cancelled = True
            child = self._child
        if child is not None:
            kill(child)

    def close(self, timeout_s: float = 1.0) -> bool:
        """End the training and join its thread. Return False when it is stuck in a call."""
        self.cancel()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    # The methods below run in the training's thread.

    def _run(self, pictures: TrainingPictures, extractor: ExtractorName) -> None:
        state = self._state
        assert state is not None
        self._change(state)
        folder: Path | None = None
        try:
            folder = self._versions.make_folder(state.model, state.id)
            plan = ChildPlan(
                model=state.model,
                version=state.version,
                made=timestamp(self._clock.utc()),
                extractor=extractor,
                folder=folder,
                classes=tuple(one for one in pictures.classes if one.learn or one.held_out),
                estimate=pictures.estimate,
                in_use=self._versions.in_use(state.model),
            )
            failure = self._train(plan)
            if failure is None and not self._cancelled:
                self._versions.add(state.model, folder, state.version)
        except OSError as error:
            failure = f"{error.filename or state.model}: {error.strerror or error}; check the disk"
        except Exception as error:  # noqa: BLE001 - a bug here must not end the daemon
            _log.exception("the training of %s failed", state.model)
            failure = failure_sentence(error)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._end(failure)

    def _end(self, failure: str | None) -> None:
        state = self._state
        assert state is not None
        ended = replace(state, seconds_left=None, waiting_for=None)
        if failure is None and not self._cancelled:
            _log.info("%s: version %d is trained", state.model, state.version)
            self._change(replace(ended, stage="finished", done=1, of=1))
        elif self._cancelled:
            _log.info("%s: the training was cancelled", state.model)
            self._change(replace(ended, stage="cancelled"))
        else:
            _log.warning("%s: the training failed: %s", state.model, failure)
            self._change(replace(ended, stage="failed", failure=failure))

    def _train(self, plan: ChildPlan) -> str | None:
        """Run the child to its end. Return why it has no version, one sentence."""
        kills = kills_for_memory()
        with tempfile.TemporaryFile() as messages:
            with self._lock:
                self._child = child = start_child(messages)
                if self._cancelled:
                    kill(child)
            assert child.stdin is not None
            assert child.stdout is not None
            with child.stdin as plan_to, child.stdout as answers:
                try:
                    with contextlib.suppress(BrokenPipeError):
                        plan_to.write(encode_plan(plan))
                        plan_to.close()
                    last = self._follow(child, answers)
                    code = child.wait()
                finally:
                    kill(child)
                    child.wait()
                    with self._lock:
                        self._child = None
            if isinstance(last, ChildFinished) and code == 0:
                return None
            if isinstance(last, ChildFailure):
                return last.sentence
            messages.seek(0)
            return unexpected_end(code, kills, messages.read(_MOST_ERROR_BYTES).decode(errors="replace"))

    def _follow(self, child: subprocess.Popen[bytes], answers: IO[bytes]) -> ChildAnswer | None:
        """Read the child's answers until it closes them; return the last one."""
        descriptor, began_s, rest = answers.fileno(), self._clock.monotonic(), b""
        last: ChildAnswer | None = None
        work = ChildWork(child.pid, self._clock)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while True:
            if poll.poll(_STEP_S * 1000):
                content = os.read(descriptor, _MOST_LINE_BYTES)
                if not content:
                    return last
                *lines, rest = (rest + content)[-_MOST_LINE_BYTES:].split(b"\n")
                read = [one for one in map(decode_answer, lines) if one is not None]
                last = read[-1] if read else last
            if isinstance(last, ChildProgress):
                self._report(last, began_s, waits=work.waits())

    def _report(self, progress: ChildProgress, began_s: float, *, waits: bool) -> None:
        state = self._state
        assert state is not None
        stage = _STAGES.get(progress.stage, state.stage)
        begin, end = _SHARES.get(stage, (0.0, 1.0))
        share = begin + (end - begin) * min(1.0, progress.done / max(progress.of, 1))
        passed_s = self._clock.monotonic() - began_s
        left_s = None if share < _LEAST_SHARE else round(passed_s * (1 - share) / share, 1)
        why = "the device is busy with its cameras" if waits else None
        self._change(
            replace(state, stage=stage, done=progress.done, of=progress.of, seconds_left=left_s, waiting_for=why)
        )

    def _change(self, state: TrainingState) -> None:
        with self._lock:
            self._state = state
        try:
            self._on_change(state)
        except Exception:  # noqa: BLE001 - a bug of the observer must not affect the training
            _log.exception("the progress of a training cannot be shown; the training continues")
