"""The line: frames from a capture through the classifier, one by one or several side by side, out in their order."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from edge_classifierd.errors import InferenceError

if TYPE_CHECKING:
    from edge_classifierd.daemon.classifiers import SharedClassifier
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.heartbeat import Beat, Heartbeats
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.preprocess import Tensor

STUCK_AFTER_S: Final = 15.0
"""An inference that takes longer hangs."""
_LOOK_AGAIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Classified:
    """A frame and what the classifier made of it, or why it could not."""

    frame: Frame
    outcome: Inference | InferenceError


class Line(Protocol):
    """Used by the pipeline's thread."""

    @property
    def finished(self) -> bool:
        """True when the source has ended and everything of it was taken."""

    def take(self, timeout_s: float) -> Classified | None:
        """The next frame in the order of capture, waiting up to `timeout_s` for it; None when none came.

        Raises what ended the capture or an inference unexpectedly: a bug.
        """

    def stop(self, timeout_s: float) -> bool:
        """Take no more frames, once the capture was told to stop; False when an inference is stuck."""


def make_line(
    capture: Capture[Tensor], classifier: SharedClassifier, *, name: str, beat: Beat, heartbeats: Heartbeats
) -> Line:
    """The line of a pipeline of that name; `beat` is the pipeline's thread's."""
    if classifier.lanes == 1:
        return _OneByOne(capture, classifier, beat)
    return _SideBySide(capture, classifier, name, heartbeats)


class _OneByOne:
    """Classifies in the thread that takes: no other way is as quick with one classifier."""

    def __init__(self, capture: Capture[Tensor], classifier: SharedClassifier, beat: Beat) -> None:
        self._capture = capture
        self._classifier = classifier
        self._beat = beat

    @property
    def finished(self) -> bool:
        return self._capture.finished

    def take(self, timeout_s: float) -> Classified | None:
        captured = self._capture.take(timeout_s)
        if captured is None:
            return None
        self._beat.enter("classify")
        try:
            return Classified(captured.frame, self._classifier.classify(captured.prepared))
        except InferenceError as error:
            return Classified(captured.frame, error)

    def stop(self, timeout_s: float) -> bool:  # noqa: ARG002 - it is the pipeline's thread that classifies
        return True


class _SideBySide:
    """As many threads as the classifier has lanes take frames in turn; what they make of them waits for its turn.

    At most twice as many frames as there are lanes are on their way, so that a judge that is held up (a slow disk)
    holds up the line instead of filling the memory.
    """

    def __init__(
        self, capture: Capture[Tensor], classifier: SharedClassifier, name: str, heartbeats: Heartbeats
    ) -> None:
        self._capture = capture
        self._classifier = classifier
        self._heartbeats = heartbeats
        self._stopping = threading.Event()
        self._intake = threading.Lock()  # to take a frame and its number is one act
        self._next_in = 0
        self._room = threading.Semaphore(2 * classifier.lanes)
        self._changed = threading.Condition()  # over all that follows
        self._next_out = 0
        self._done: dict[int, Classified] = {}
        self._bug: BaseException | None = None
        self._running = classifier.lanes
        self._names = [f"infer-{name}-{lane}" for lane in range(classifier.lanes)]
        beats = [heartbeats.register(each, STUCK_AFTER_S) for each in self._names]
        for each, beat in zip(self._names, beats, strict=True):
            threading.Thread(target=self._run, args=(beat,), name=each, daemon=True).start()

    @property
    def finished(self) -> bool:
        with self._changed:
            return self._capture.finished and not self._running and not self._done

    def take(self, timeout_s: float) -> Classified | None:
        with self._changed:
            self._changed.wait_for(self._can_tell, timeout_s)
            classified = self._done.pop(self._next_out, None)
            if classified is None:
                if self._bug is not None:
                    raise self._bug
                return None
            self._next_out += 1
        self._room.release()
        return classified

    def stop(self, timeout_s: float) -> bool:
        self._stopping.set()
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._running, timeout_s)
        for name in self._names:
            self._heartbeats.release(name)
        return ended

    def _can_tell(self) -> bool:
        return self._next_out in self._done or not self._running

    # From here on: the lanes' threads.

    def _run(self, beat: Beat) -> None:
        try:
            while not self._stopping.is_set() and self._one(beat):
                pass
        except BaseException as error:  # noqa: BLE001 - a bug: handed to the pipeline, which raises it in `take`
            with self._changed:
                self._bug = self._bug or error
            self._stopping.set()
        finally:
            beat.waiting("ended")
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _one(self, beat: Beat) -> bool:
        """Classify one frame if one comes; False when none ever will."""
        beat.progress()
        if not self._room.acquire(timeout=_LOOK_AGAIN_S):
            return True
        beat.waiting("its turn")  # which others may take before it, again and again while there is little to do
        with self._intake:
            beat.progress()
            captured = self._capture.take(_LOOK_AGAIN_S)
            if captured is None:
                self._room.release()
                return not self._capture.finished
            number = self._next_in
            self._next_in += 1
        beat.enter("classify")
        try:
            classified = Classified(captured.frame, self._classifier.classify(captured.prepared))
        except InferenceError as error:
            classified = Classified(captured.frame, error)
        with self._changed:
            self._done[number] = classified
            if number == self._next_out:
                self._changed.notify_all()
        return True
