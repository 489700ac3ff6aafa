"""Replays a recording: finds the events that a configuration would have made, as fast as the machine can."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.clock import TimePoint
from edge_classifierd.errors import InferenceError, UsageError
from edge_classifierd.events.schema import encode, number
from edge_classifierd.frames.base import Frame
from edge_classifierd.motion.gate import MotionGate
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.gating import gate_settings
from edge_classifierd.preprocess import Preprocessor, View
from edge_classifierd.replay.recording import Recording, play, recording_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.replay.recording import RecordedPicture

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Start time of every recording, so that the time of an event is the time since the start."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pipeline of one configuration."""

    config: str
    """The configuration's path, as the user gave it."""
    device: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class ReplayedEvent:
    """An event that would have been made, and its place in the recording."""

    config: str
    at_s: float
    frame: str
    draft: EventDraft
    seq: int

    def document(self) -> dict[str, Any]:
        """Return the event with its place as JSON types."""
        event = json.loads(encode(number(self.draft, seq=self.seq, event_id=f"replay-{self.seq}")))
        return {"config": self.config, "at_s": round(self.at_s, 3), "frame": self.frame, **event}


@dataclass(slots=True)
class Summary:
    """Counts of a replay, updated while it runs."""

    frames: int = 0
    damaged: list[str] = field(default_factory=list)
    """A sentence for each picture that could not be decoded, at most 100."""
    gated: int = 0
    """Frames that the motion gate would have left out."""
    failed: int = 0
    """Frames whose inference failed."""
    recorded_s: float = 0.0
    """Total length of the recordings."""
    took_s: float = 0.0

    @property
    def speed(self) -> float:
        """Return the length of the recordings divided by the time of the replay."""
        return self.recorded_s / self.took_s if self.took_s else 0.0


def replay(
    candidates: Sequence[Candidate], recording: Recording | None, *, fps: float | None, upright: bool, summary: Summary
) -> Iterator[ReplayedEvent]:
    """Run the candidates over the recording, or each over its own source, and yield the events in order.

    Candidates with the same pictures and the same model share the inference.

    Args:
        candidates: The pipelines to replay.
        recording: The recording for all of them; None: the source of each pipeline.
        fps: Rate of a folder, or the rate that a video is thinned out to.
        upright: Whether the pictures are already turned and cropped.
        summary: Updated while the replay runs.

    Raises:
        UsageError: A pipeline has a live source and there is no recording.
        SourceError, ModelError, MissingError: The recording or a model cannot be used.
    """
    groups: dict[tuple[object, ...], list[Candidate]] = {}
    recordings: dict[tuple[object, ...], tuple[Recording, View]] = {}
    for candidate in candidates:
        section = candidate.plan.section
        played = recording or recording_of(section.source, fps)
        if played is None:
            raise UsageError(
                f"{candidate.config}: {section.name} has a live source; give a folder or a video to replay"
            )
        view = View() if upright else candidate.plan.view
        key: tuple[object, ...] = (
            played,
            view,
            section.fit,
            section.crop_fraction,
            section.motion.model_dump_json(),
            candidate.plan.bundle.sha256,
            candidate.plan.bundle.output_position,
            candidate.plan.bundle.output_kind,
            section.model.model_dump_json(exclude={"labels", "locale"}),
        )
        groups.setdefault(key, []).append(candidate)
        recordings[key] = (played, view)
    classifiers = Classifiers()
    start_s = time.monotonic()
    try:
        for key, group in groups.items():
            classifier = classifiers.get(group[0].plan)
            yield from _replay_group(group, *recordings[key], classifier, summary)
            summary.took_s = time.monotonic() - start_s
    finally:
        summary.took_s = time.monotonic() - start_s
        classifiers.close()


def _replay_group(
    group: Sequence[Candidate], recording: Recording, view: View, classifier: SharedClassifier, summary: Summary
) -> Iterator[ReplayedEvent]:
    plan = group[0].plan
    builders = [
        (one, EventBuilder(one.plan, device=one.device, runtime=lambda: classifier.runtime), _Numbers())
        for one in group
    ]

    def make_preprocessor() -> Preprocessor:
        section, bundle = plan.section, plan.bundle
        return Preprocessor(
            bundle.input, bundle.normalisation, fit=section.fit, crop_fraction=section.crop_fraction, view=view
        )

    gate = MotionGate(gate_settings(plan), view) if plan.section.motion.enabled else None
    previous_s = last_s = 0.0
    frame_name = ""
    for position, picture in enumerate(play(recording, make_preprocessor, gate)):
        previous_s, last_s, frame_name = last_s, picture.at_s, picture.name
        inference = _classified(picture, classifier, summary)
        now = TimePoint(EPOCH + timedelta(seconds=picture.at_s), picture.at_s, "", synchronised=False)
        frame = _frame(position, picture)
        for candidate, builder, numbers in builders:
            drafts = builder.settle(now, accelerator=classifier.accelerator) if picture.fell_asleep else ()
            if inference is not None:
                drafts += builder.observe(frame, inference, clock_synchronised=lambda: False).drafts
            for draft in drafts:
                yield ReplayedEvent(candidate.config, picture.at_s, picture.name, draft, numbers.next())
    end_s = last_s + max(0.0, last_s - previous_s)
    summary.recorded_s += end_s
    for candidate, builder, numbers in builders:
        end = TimePoint(EPOCH + timedelta(seconds=end_s), end_s, "", synchronised=False)
        for draft in builder.clear(end, accelerator=classifier.accelerator):
            yield ReplayedEvent(candidate.config, end_s, frame_name, draft, numbers.next())


def _classified(picture: RecordedPicture, classifier: SharedClassifier, summary: Summary) -> Inference | None:
    if picture.gated:
        summary.frames += 1
        summary.gated += 1
        return None
    if picture.tensor is None:
        if len(summary.damaged) < 100:
            summary.damaged.append(picture.error)
        return None
    try:
        inference = classifier.classify(picture.tensor)
    except InferenceError:
        summary.failed += 1
        return None
    summary.frames += 1
    return inference


def _frame(position: int, picture: RecordedPicture) -> Frame:
    """Return a frame without its picture: the event builder uses only the times."""
    at = EPOCH + timedelta(seconds=picture.at_s)
    return Frame(None, position, picture.at_s, at, picture.name, focus=picture.focus)  # type: ignore[arg-type]


class _Numbers:
    """Numbers the events of a candidate from 1."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last
