"""Collects frames for training: one folder per label, with the scores in a comment of each JPEG."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.clock import timestamp
from edge_classifierd.frames.jpeg import encode_jpeg
from edge_classifierd.inference.scores import top_k
from edge_classifierd.pipeline.image_store import ImageStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge_classifierd.config.sections.pipeline import CollectReason, CollectSection
    from edge_classifierd.decision.types import WatchState
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.pipeline.event_builder import FrameResult
    from edge_classifierd.pipeline.planning.plan import Plan

_MAX_WIDTH, _QUALITY = 1024, 90
_COMMENT: Final = b"\xff\xfe"
_LONGEST: Final = 65_533
_NO_LABEL: Final = "unlabelled"


class Collector:
    """Collects the frames of one pipeline; used by one thread at a time, after the events of a frame are stored."""

    def __init__(self) -> None:
        self._store: tuple[CollectSection, ImageStore] | None = None
        self._latest_s: dict[CollectReason, float] = {}

    def consider(self, plan: Plan, result: FrameResult, watches: Mapping[str, WatchState]) -> None:
        """Store the part of the frame that was classified when there is a reason that is due.

        Of several things in a scene the strongest is stored. A disk that does not take it costs the picture only.
        """
        if result.strongest is None:
            return
        frame, inference = result.strongest
        section = plan.section.collect
        reasons = [
            reason
            for reason in _reasons(plan, result, watches)
            if reason in section.when
            and frame.captured_s - self._latest_s.get(reason, float("-inf")) >= section.interval
        ]
        if not reasons:
            return
        self._latest_s.update(dict.fromkeys(reasons, frame.captured_s))
        view = plan.view if frame.focus is None else replace(plan.view, region=frame.focus.square)
        jpeg = encode_jpeg(frame.picture, view, max_width=_MAX_WIDTH, quality=_QUALITY)
        label = plan.bundle.labels.display[result.best.index] if result.best is not None else _NO_LABEL
        name = f"{folder_name(label)}/{frame.captured_at.strftime('%Y-%m-%d_%H-%M-%S-%f')}"
        note = {
            "pipeline": plan.section.name,
            "time": timestamp(frame.captured_at),
            "reasons": reasons,
            "top": _top(plan, inference),
            "watches": {name: round(state.confidence, 4) for name, state in list(watches.items())[:64]},
            "model": {"name": plan.bundle.name, "sha256": plan.bundle.sha256},
        }
        self._image_store(plan).add(name, with_note(jpeg, note))

    def _image_store(self, plan: Plan) -> ImageStore:
        """Return the image store; a new one when a reload has changed its bounds."""
        section = plan.section.collect
        if self._store is None or self._store[0] != section:
            folder = section.path / plan.section.name
            self._store = (section, ImageStore(folder, max_files=section.max_files, max_bytes=section.max_bytes))
        return self._store[1]


def folder_name(label: str) -> str:
    """Return the label as the name of a folder, without the characters that file systems do not take."""
    safe = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "_", label).strip(" .")
    return safe.encode("utf-8", "replace")[:120].decode("utf-8", "ignore") or _NO_LABEL


def with_note(jpeg: bytes, note: Mapping[str, Any]) -> bytes:
    """Return the JPEG with a JSON document as its comment (`exiftool -Comment` and `identify -format %c` show it).

    Other comments are removed: programs show the last one, and FFmpeg's encoder writes its own name.
    """
    text = json.dumps(note, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")[:_LONGEST]
    kept, end = [], 2
    for start, end in _segments(jpeg):
        if jpeg[start : start + 2] != _COMMENT:
            kept.append(jpeg[start:end])
    return jpeg[:2] + _COMMENT + (len(text) + 2).to_bytes(2, "big") + text + b"".join(kept) + jpeg[end:]


def read_note(jpeg: bytes) -> dict[str, Any] | None:
    """Return the document that `with_note` wrote; None when there is none, or another program's comment."""
    comment = next((at for at in _segments(jpeg) if jpeg[at[0] : at[0] + 2] == _COMMENT), None)
    if comment is None:
        return None
    try:
        note = json.loads(jpeg[comment[0] + 4 : comment[1]])
    except ValueError:
        return None
    return note if isinstance(note, dict) else None


def _segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each marker segment before the scan."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] not in {b"\xda", b""}:
        end = at + 2 + max(2, int.from_bytes(jpeg[at + 2 : at + 4], "big"))
        yield at, end
        at = end


def _reasons(plan: Plan, result: FrameResult, watches: Mapping[str, WatchState]) -> Iterator[CollectReason]:
    if any(draft.type == "detected" for draft in result.drafts):
        yield "detected"
    if result.ambiguous:
        yield "ambiguous"
    releases = {rule.name: rule.release for rule in plan.rules}
    if any(releases[name] <= state.confidence < state.threshold for name, state in watches.items()):
        yield "uncertain"


def _top(plan: Plan, inference: Inference) -> list[dict[str, int | str | float]]:
    """Return the best of all classes, those that may not be reported as well: useful for sorting by hand."""
    display, confidences = plan.bundle.labels.display, inference.confidences
    return [
        {"index": index, "label": display[index], "confidence": round(float(confidences[index]), 4)}
        for index in top_k(confidences, plan.section.top_k).tolist()
    ]
