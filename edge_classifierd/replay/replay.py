"""Replay: what a configuration would have reported of a recording, told in seconds by a clock of its own."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.errors import InferenceError, UsageError
from edge_classifierd.events.schema import encode, number
from edge_classifierd.frames.base import Frame
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.preprocess import Preprocessor, View
from edge_classifierd.replay.recording import Recording, play, recording_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.plan import Plan
    from edge_classifierd.replay.recording import Moment

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A recording begins here, so that an event's time reads as the time from its beginning."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pipeline of one configuration."""

    config: str
    """The configuration's name, as the user gave it."""
    device: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Told:
    """An event that would have been made, and where in the recording."""

    config: str
    at_s: float
    frame: str
    draft: EventDraft
    seq: int

    def document(self) -> dict[str, Any]:
        """As JSON's own types: the event itself, and where it comes from."""
        event = json.loads(encode(number(self.draft, seq=self.seq, event_id=f"replay-{self.seq}")))
        return {"config": self.config, "at_s": round(self.at_s, 3), "frame": self.frame, **event}


@dataclass(slots=True)
class Summary:
    """What a replay came to; filled while it runs."""

    frames: int = 0
    damaged: list[str] = field(default_factory=list)
    """A sentence for each picture that could not be decoded, at most 100."""
    failed: int = 0
    """Frames whose inference failed."""
    recorded_s: float = 0.0
    """The recordings' own length, all of them together."""
    took_s: float = 0.0

    @property
    def speed(self) -> float:
        """How many times faster than the recording it went."""
        return self.recorded_s / self.took_s if self.took_s else 0.0


def replay(
    candidates: Sequence[Candidate], recording: Recording | None, *, fps: float | None, upright: bool, summary: Summary
) -> Iterator[Told]:
    """Run the candidates over the recording, else each over its own source; events come as the recording goes on.

    Candidates that see the same pictures through the same model share its work. `upright`: the recording is turned and
    cut already. Raises UsageError for a live source without a recording, and SourceError, ModelError, MissingError.
    """
    groups: dict[tuple[object, ...], list[Candidate]] = {}
    recordings: dict[tuple[object, ...], tuple[Recording, View]] = {}
    for candidate in candidates:
        section = candidate.plan.section
        played = recording or recording_of(section.source, fps)
        if played is None:
            raise UsageError(f"{candidate.config}: {section.name} has a live source; name a folder or video to replay")
        view = View() if upright else candidate.plan.view
        key: tuple[object, ...] = (
            played,
            view,
            section.fit,
            section.crop_fraction,
            candidate.plan.bundle.sha256,
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
) -> Iterator[Told]:
    plan = group[0].plan
    judges = [
        (one, EventBuilder(one.plan, device=one.device, runtime=lambda: classifier.runtime), _Numbers())
        for one in group
    ]

    def make_preprocessor() -> Preprocessor:
        section, bundle = plan.section, plan.bundle
        return Preprocessor(
            bundle.input, bundle.normalisation, fit=section.fit, crop_fraction=section.crop_fraction, view=view
        )

    previous_s = last_s = 0.0
    frame_name = ""
    for position, moment in enumerate(play(recording, make_preprocessor)):
        previous_s, last_s, frame_name = last_s, moment.at_s, moment.name
        inference = _classified(moment, classifier, summary)
        if inference is None:
            continue
        frame = _frame(position, moment)
        for candidate, judge, numbers in judges:
            verdict = judge.judge(frame, inference, clock_synchronised=lambda: False)
            for draft in verdict.drafts:
                yield Told(candidate.config, moment.at_s, moment.name, draft, numbers.next())
    end_s = last_s + max(0.0, last_s - previous_s)
    summary.recorded_s += end_s
    for candidate, judge, numbers in judges:
        drafts = judge.end(
            end_s, EPOCH + timedelta(seconds=end_s), accelerator=classifier.accelerator, clock_synchronised=False
        )
        for draft in drafts:
            yield Told(candidate.config, end_s, frame_name, draft, numbers.next())


def _classified(moment: Moment, classifier: SharedClassifier, summary: Summary) -> Inference | None:
    if moment.tensor is None:
        if len(summary.damaged) < 100:
            summary.damaged.append(moment.trouble)
        return None
    try:
        inference = classifier.classify(moment.tensor)
    except InferenceError:
        summary.failed += 1
        return None
    summary.frames += 1
    return inference


def _frame(position: int, moment: Moment) -> Frame:
    """The judge looks at the times only; the picture itself is long gone."""
    return Frame(None, position, moment.at_s, EPOCH + timedelta(seconds=moment.at_s), moment.name)  # type: ignore[arg-type]


class _Numbers:
    """Counts a candidate's events from 1."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last
