"""The line: frames from a capture go through the classifier, one by one or side by side, and come out in order."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from edge_classifierd.errors import EdgeClassifierError, InferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.heartbeat import Beat, Heartbeats
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.preprocess import Tensor

    Prepare = Callable[[Frame], Tensor]
    Read = Callable[[], Inference]

T = TypeVar("T")

STUCK_AFTER_S: Final = 15.0
"""An inference that takes longer hangs."""
_LOOK_AGAIN_S: Final = 0.5
_MOST_WAITING: Final = 2


@dataclass(frozen=True, slots=True)
class Classified:
    """A frame and what the classifier made of it, or why it could not."""

    frame: Frame
    outcome: Inference | InferenceError


class MakeCapture(Protocol):
    """Makes the capture of a pipeline, not started, that does this with every frame in its thread."""

    def __call__(self, prepare: Callable[[Frame], T], /) -> Capture[T]:
        """Once for each line."""


class Workers(Protocol):
    """Used by the pipeline's thread, except `wake`."""

    @property
    def capture(self) -> Capture[Any]:
        """Where its frames come from; whoever made the line starts and stops it."""

    @property
    def finished(self) -> bool:
        """True when the source has ended and everything of it was handed over."""

    def work(self, timeout_s: float) -> bool:
        """Have frames handed over, for as long as one takes or up to `timeout_s` when none comes.

        False when none came in this thread: look whether it is `finished`. Raises what ended the capture, an inference
        or the handing over unexpectedly: a bug.
        """

    def wake(self) -> None:
        """Have a `work` that waits return before its time, where it can; any thread."""

    def stop(self, timeout_s: float) -> bool:
        """Hand over no more frames, once the capture was told to stop; False when an inference is stuck."""


def make_line(
    make_capture: MakeCapture,
    make_prepare: Callable[[], Prepare],
    classifier: SharedClassifier,
    hand_over: Callable[[Classified], None],
    *,
    name: str,
    beat: Beat,
    heartbeats: Heartbeats,
) -> Workers:
    """The line of a pipeline of that name; `beat` is the pipeline's thread's.

    `make_prepare` makes what turns a frame into the input tensor, one for each thread that does so. `hand_over` is
    called with one frame after the other in the order of capture, not always by the same thread.
    """
    if classifier.lanes == 1:
        return _OneByOne(
            make_capture(make_prepare()), classifier, hand_over, name=name, beat=beat, heartbeats=heartbeats
        )
    capture = make_capture(lambda frame: frame)
    return _SideBySide(capture, make_prepare, classifier, hand_over, name=name, heartbeats=heartbeats)


class _OneByOne:
    """Classifies in the thread that works, while the capture's prepares the next frame and another hands over the last.

    That one also reads the output, so that the classifier waits for nothing but the taking of a frame: what comes
    between two inferences runs with cold caches and costs ten times what it costs warm.
    At most two frames wait to be handed over.
    """

    def __init__(
        self,
        capture: Capture[Tensor],
        classifier: SharedClassifier,
        hand_over: Callable[[Classified], None],
        *,
        name: str,
        beat: Beat,
        heartbeats: Heartbeats,
    ) -> None:
        self.capture = capture
        self._classifier = classifier
        self._hand_over = hand_over
        self._beat = beat
        self._heartbeats = heartbeats
        self._stopping = threading.Event()
        self._results: SimpleQueue[tuple[Frame, Read] | None] = SimpleQueue()  # None: the end
        self._classified = 0  # written by the thread that works
        self._handed_over = 0  # by the one that hands over
        self._moved = threading.Event()
        self._bug: BaseException | None = None
        judge_beat = heartbeats.register(f"judge-{name}", STUCK_AFTER_S)
        self._thread = threading.Thread(target=self._run, args=(judge_beat,), name=f"judge-{name}", daemon=True)
        _start([self._thread], heartbeats, self._stopping)

    @property
    def finished(self) -> bool:
        return self.capture.finished and self._classified == self._handed_over

    def work(self, timeout_s: float) -> bool:
        if self._bug is not None:
            raise self._bug
        if self._classified - self._handed_over >= _MOST_WAITING:
            self._wait_for_fewer_than(_MOST_WAITING, timeout_s)
            return False
        captured = self.capture.take(timeout_s)
        if captured is None:
            if self.capture.finished:
                self._wait_for_fewer_than(1, timeout_s)
            return False
        self._beat.enter("classify")
        try:
            read = self._classifier.run(captured.prepared)
        except InferenceError as error:
            read = partial(_fail, error)
        self._classified += 1
        self._results.put((captured.frame, read))
        return True

    def wake(self) -> None:
        """The next frame does, and where none comes the wait is short."""

    def stop(self, timeout_s: float) -> bool:
        self._stopping.set()
        self._results.put(None)
        self._thread.join(timeout_s)
        self._heartbeats.release(self._thread.name)
        return not self._thread.is_alive()

    def _wait_for_fewer_than(self, most: int, timeout_s: float) -> None:
        self._moved.clear()
        if self._classified - self._handed_over >= most and self._bug is None:
            self._moved.wait(timeout_s)

    # From here on: the thread that hands over.

    def _run(self, beat: Beat) -> None:
        try:
            while not self._stopping.is_set():
                beat.progress()
                try:
                    result = self._results.get(timeout=_LOOK_AGAIN_S)
                except Empty:
                    continue
                if result is None:
                    return
                beat.enter("judge")
                self._hand_over(_classified(*result))
                self._handed_over += 1
                self._moved.set()
        except BaseException as error:  # noqa: BLE001 - a bug: handed to the pipeline, which raises it in `work`
            self._bug = error
        finally:
            beat.waiting("ended")
            self._moved.set()


class _SideBySide:
    """As many threads as the classifier has lanes take frames in turn and hand over what they made of them, in order.

    Each prepares its frame itself, and whichever is done with the frame whose turn it is hands it over and those after
    it that waited for it: no thread but theirs interrupts an inference on a machine whose cores are all at work, and no
    frame is prepared that a newer one replaces. On two cores that is worth some percent more frames. The next frame is
    asked for just before an inference: the capture thread, woken earlier, would want Python's lock that this one needs.
    At most twice as many frames as there are lanes are on their way, so that a judge that is held up (a slow disk)
    holds up the line instead of filling the memory.
    """

    def __init__(
        self,
        capture: Capture[Frame],
        make_prepare: Callable[[], Prepare],
        classifier: SharedClassifier,
        hand_over: Callable[[Classified], None],
        *,
        name: str,
        heartbeats: Heartbeats,
    ) -> None:
        self.capture = capture
        self._make_prepare = make_prepare
        self._classifier = classifier
        self._hand_over = hand_over
        self._heartbeats = heartbeats
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._intake = threading.Lock()  # to take a frame and its number is one act
        self._next_in = 0
        self._room = 2 * classifier.lanes
        self._order = threading.Lock()  # over all that follows; on the way of every frame, where a Condition does more
        self._moved_on = threading.Condition(self._order)
        self._waits_for_room = False
        self._next_out = 0
        self._done: dict[int, Classified | None] = {}  # None: could not be prepared
        self._handing_over = False
        self._bug: BaseException | None = None
        self._running = classifier.lanes
        names = [f"infer-{name}-{lane}" for lane in range(classifier.lanes)]
        beats = [heartbeats.register(each, STUCK_AFTER_S) for each in names]
        self._threads = [
            threading.Thread(target=self._run, args=(beat,), name=each, daemon=True)
            for each, beat in zip(names, beats, strict=True)
        ]
        _start(self._threads, heartbeats, self._stopping)

    @property
    def finished(self) -> bool:
        return self.capture.finished and not self._running

    def work(self, timeout_s: float) -> bool:
        self._awake.wait(timeout_s)
        self._awake.clear()
        if self._bug is not None:
            raise self._bug
        return False

    def wake(self) -> None:
        self._awake.set()

    def stop(self, timeout_s: float) -> bool:
        self._stopping.set()
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            self._heartbeats.release(thread.name)
        return not any(thread.is_alive() for thread in self._threads)

    # From here on: the lanes' threads.

    def _run(self, beat: Beat) -> None:
        try:
            prepare = self._make_prepare()
            while not self._stopping.is_set() and self._one(beat, prepare):
                pass
        except BaseException as error:  # noqa: BLE001 - a bug: handed to the pipeline, which raises it in `work`
            self._bug = self._bug or error
            self._stopping.set()
        finally:
            beat.waiting("ended")
            with self._order:
                self._running -= 1
            self._awake.set()

    def _one(self, beat: Beat, prepare: Prepare) -> bool:
        """Classify one frame if one comes; False when none ever will."""
        beat.waiting("its turn")  # which others may take before it, again and again while there is little to do
        with self._intake:
            beat.progress()
            if self._next_in - self._next_out >= self._room and not self._made_room():
                return True
            captured = self.capture.take(_LOOK_AGAIN_S, ask=False)
            if captured is None:
                return not self.capture.finished
            number = self._next_in
            self._next_in += 1
        beat.enter("classify")
        try:
            tensor = prepare(captured.frame)
        except EdgeClassifierError as error:
            self.capture.skip(error)
            classified = None
        else:
            self.capture.ask()
            classified = _classified(captured.frame, partial(self._classifier.classify, tensor))
        beat.enter("judge")
        self._done_with(number, classified)
        return True

    def _made_room(self) -> bool:
        """Wait a little for frames to be handed over; whoever has the intake."""
        with self._order:
            self._waits_for_room = True
            made = self._moved_on.wait_for(lambda: self._next_in - self._next_out < self._room, _LOOK_AGAIN_S)
            self._waits_for_room = False
            return made

    def _done_with(self, number: int, classified: Classified | None) -> None:
        """Hand over every frame whose turn it is; another thread that does so already takes this one along."""
        with self._order:
            self._done[number] = classified
            if self._handing_over:
                return
            self._handing_over = True
        while not self._stopping.is_set():
            with self._order:
                if self._next_out not in self._done:
                    self._handing_over = False
                    return
                following = self._done.pop(self._next_out)
                self._next_out += 1
                if self._waits_for_room:
                    self._moved_on.notify()
            if following is not None:
                self._hand_over(following)


def _start(threads: Sequence[threading.Thread], heartbeats: Heartbeats, stopping: threading.Event) -> None:
    """Start all; when there are no more threads, end those that run and raise RuntimeError."""
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        stopping.set()
        for thread in threads:
            heartbeats.release(thread.name)  # a thread and its heartbeat have one name
        raise


def _classified(frame: Frame, read: Read) -> Classified:
    try:
        return Classified(frame, read())
    except InferenceError as error:
        return Classified(frame, error)


def _fail(error: InferenceError) -> Inference:
    raise error
