"""Checks the camera of a pipeline: it opens, it delivers frames, and the picture is usable."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from edge_classifierd.doctor.check_result import CheckResult, from_sentence
from edge_classifierd.doctor.picture_quality import PictureQuality, measure
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.camera import Camera, CaptureStatus
from edge_classifierd.frames.capture import Capture
from edge_classifierd.frames.factory import make_source
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.sources import Source
    from edge_classifierd.doctor.running_daemon import RunningDaemon
    from edge_classifierd.frames.base import Frame, FrameSource
    from edge_classifierd.pipeline.planning.plan import Plan

_FIRST_FRAME_S: Final = 15.0
_WATCHED_S: Final = 2.0
"""Cameras set their exposure in the first second, so the last picture is assessed."""
_DARK, _BRIGHT, _FLAT, _BLURRED = 10.0, 245.0, 3.0, 20.0
EXCLUSIVE: Final = frozenset({"v4l2", "picamera2"})
"""Types of source that only one process can read."""


def check_pipeline_camera(
    plan: Plan,
    clock: Clock,
    *,
    daemon: RunningDaemon | None = None,
    make: Callable[[Source, Clock, Region], FrameSource] = make_source,
) -> CheckResult:
    """Return the result for a pipeline's camera. Takes up to 2 s when the camera works.

    Beside a running daemon its reported health is used: a camera that only one process can read is not opened, and any
    other only when the daemon gets frames from it.
    """
    name = f"camera {plan.section.name}"
    source = plan.section.source
    watched = source.type == "folder" and source.watch
    if daemon is not None:
        reported = _reported(name, plan.section.name, daemon)
        if source.type in EXCLUSIVE or reported.verdict == "failed":
            return reported
    if watched:  # read an existing picture, and delete nothing
        below = source.type == "folder" and source.includes_below
        source = source.model_copy(update={"watch": False, "after": "keep", "recursive": below})
    section = plan.section
    region = plan.region if section.camera is None else Region()
    camera = Camera(make(source, clock, region), name=section.name, clock=clock, stall_timeout_s=_FIRST_FRAME_S)
    capture: Capture[None] = Capture(camera, lambda _frame: None, name=section.name)
    camera.attach(capture)
    capture.start()
    try:
        frame, count, seconds = _latest(capture, still=source.type == "folder")
    finally:
        stopped = capture.stop(2.0)
    if frame is None and watched and "holds no pictures" in capture.last_error:
        return CheckResult(name, "ok", "the folder is empty and waits for pictures")
    if frame is None:
        sentence = capture.last_error or f"no frame within {_FIRST_FRAME_S:.0f} s; check the camera"
        return from_sentence(name, sentence, missing=_is_absent(sentence))
    try:
        figures = measure(frame.picture, plan.view)
    except SourceError as error:
        return from_sentence(name, str(error))
    rate = "" if source.type == "folder" or count < 2 else f" at {(count - 1) / seconds:.1f} fps"
    seen = f"{figures.width}x{figures.height}{rate}, brightness {figures.brightness:.0f} of 255, "
    seen += f"sharpness {figures.sharpness:.0f}"
    if not stopped:
        return CheckResult(name, "warning", f"{seen}, but it cannot be closed", "unplug it and plug it in again")
    defect, remedy = _defect(figures)
    return CheckResult(name, "warning" if defect else "ok", f"{seen}{defect}", remedy)


def _latest(capture: Capture[None], *, still: bool) -> tuple[Frame | None, int, float]:
    """Return the last frame of 2 s, the number of frames, and the seconds from the first to the last."""
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


def _defect(figures: PictureQuality) -> tuple[str, str]:
    if figures.brightness < _DARK:
        return ": the picture is black", "take the lens cap off, or give it light"
    if figures.brightness > _BRIGHT:
        return ": the picture is white", "shade the camera, or shorten its exposure"
    if figures.contrast < _FLAT:
        return ": the picture has no contrast", "check whether something covers the lens"
    if figures.sharpness < _BLURRED:
        return ": the picture is blurred", "turn the lens until the sharpness is at its maximum"
    return "", ""


def _reported(  # noqa: PLR0911 - one return a state
    name: str, pipeline: str, daemon: RunningDaemon
) -> CheckResult:
    """Return the result from the health that the running daemon reported."""
    if daemon.health is None:
        said = "in use by the running daemon, which does not report its health: not tested"
        return CheckResult(name, "warning", said, "see the line `daemon`, or stop the daemon to test the camera")
    reported = daemon.health.pipelines.get(pipeline)
    if reported is None:
        said = "the running daemon has not loaded this pipeline yet"
        return CheckResult(name, "warning", said, "`sudo systemctl reload edge-classifierd`")
    if reported.online and reported.picture in {"frozen", "blank"} and reported.reasons:
        return from_sentence(name, reported.reasons[0], "warning")
    if reported.online:
        rate = "frames" if reported.fps is None else f"{reported.fps:.1f} frames a second"
        return CheckResult(name, "ok", f"the running daemon gets {rate} from it")
    if reported.resting:
        said = "the running daemon keeps it closed: outside its `active` times, or while a model is trained"
        return CheckResult(name, "ok", said)
    if reported.reasons:
        return from_sentence(name, reported.reasons[0], missing=_is_absent(reported.reasons[0]))
    said = "the running daemon takes no frames from it: it was switched off, has ended, or is still starting"
    return CheckResult(name, "warning", said)


def _is_absent(sentence: str) -> bool:
    """Return whether the camera or its library is missing."""
    return any(words in sentence for words in ("no such device", "not installed", "no camera", "no such camera"))
