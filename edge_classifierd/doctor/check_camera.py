"""The doctor's look through each pipeline's camera: does it open and deliver, and can anything be seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from edge_classifierd.doctor.check_result import CheckResult, from_sentence
from edge_classifierd.doctor.picture_quality import PictureQuality, appraise
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.capture import Capture, CaptureStatus
from edge_classifierd.frames.factory import make_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.sources import Source
    from edge_classifierd.frames.base import Frame, FrameSource
    from edge_classifierd.pipeline.plan import Plan
    from edge_classifierd.preprocess import Region

_FIRST_FRAME_S: Final = 15.0
_WATCHED_S: Final = 2.0
"""Cameras set their exposure in the first second; the latest picture counts."""
_DARK, _BRIGHT, _FLAT, _BLURRED = 10.0, 245.0, 3.0, 20.0
EXCLUSIVE: Final = frozenset({"v4l2", "picamera2"})
"""Types of source that only one process can read."""


def look_through(
    plan: Plan,
    clock: Clock,
    *,
    daemon_has_it: bool,
    reported: bytes | None = None,
    make: Callable[[Source, Clock, Region], FrameSource] = make_source,
) -> CheckResult:
    """One finding for a pipeline's camera; takes up to 2 s when it works.

    `daemon_has_it`: the daemon runs. A camera that only one process can use is then left alone, and `reported`, what
    the broker keeps of the pipeline's status, is passed on.
    """
    name = f"camera {plan.section.name}"
    source = plan.section.source
    if daemon_has_it and source.type in EXCLUSIVE:
        return _daemons_word(name, reported)
    capture: Capture[None] = Capture(
        make(source, clock, plan.region),
        lambda _frame: None,
        name=plan.section.name,
        clock=clock,
        stall_timeout_s=_FIRST_FRAME_S,
    )
    capture.start()
    try:
        frame, count, seconds = _latest(capture, still=source.type == "folder")
    finally:
        stopped = capture.stop(2.0)
    if frame is None:
        sentence = capture.last_error or f"no frame within {_FIRST_FRAME_S:.0f} s; check the camera"
        return from_sentence(name, sentence, missing=_is_absent(sentence))
    try:
        figures = appraise(frame.picture, plan.view)
    except SourceError as error:
        return from_sentence(name, str(error))
    rate = "" if source.type == "folder" or count < 2 else f" at {(count - 1) / seconds:.1f} fps"
    seen = f"{figures.width}x{figures.height}{rate}, brightness {figures.brightness:.0f} of 255, "
    seen += f"sharpness {figures.sharpness:.0f}"
    if not stopped:
        return CheckResult(name, "warning", f"{seen}, but it does not close", "unplug it and plug it in again")
    complaint, remedy = _complaint(figures)
    return CheckResult(name, "warning" if complaint else "ok", f"{seen}{complaint}", remedy)


def _latest(capture: Capture[None], *, still: bool) -> tuple[Frame | None, int, float]:
    """The last frame of a short look, how many came, and the seconds from the first to the last."""
    deadline_s = time.monotonic() + _FIRST_FRAME_S
    first_s = last_s = 0.0
    frame, count = None, 0
    while time.monotonic() < deadline_s and not capture.finished and capture.status is not CaptureStatus.RETRYING:
        captured = capture.take(0.25)
        if captured is None:
            continue
        frame, count, last_s = captured.frame, count + 1, time.monotonic()
        if count == 1:
            first_s = last_s
            deadline_s = first_s + _WATCHED_S
        if still:
            break
    return frame, count, max(1e-6, last_s - first_s)


def _complaint(figures: PictureQuality) -> tuple[str, str]:
    if figures.brightness < _DARK:
        return ": the picture is black", "take the lens cap off, or give it light"
    if figures.brightness > _BRIGHT:
        return ": the picture is white", "shade the camera, or shorten its exposure"
    if figures.contrast < _FLAT:
        return ": nothing can be told apart in the picture", "see whether something covers the lens"
    if figures.sharpness < _BLURRED:
        return ": the picture is blurred", "turn the lens until the figure is at its greatest"
    return "", ""


def _daemons_word(name: str, reported: bytes | None) -> CheckResult:
    if reported == b"online":
        return CheckResult(name, "ok", "in use by the running daemon, which gets frames from it")
    if reported == b"offline":
        said = "the running daemon gets no frames from it"
        return CheckResult(name, "failed", said, "see the daemon's log for the reason")
    return CheckResult(name, "ok", "in use by the running daemon, not looked through", "stop the daemon for a look")


def _is_absent(sentence: str) -> bool:
    """Whether the camera, or the library it needs, is not there at all."""
    return any(words in sentence for words in ("no such device", "not installed", "no camera", "no such camera"))
