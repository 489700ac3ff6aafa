"""Pictures kept to teach from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from hypothesis import given
from hypothesis import strategies as st
from moving_pictures import encoded, picture

from edge_classifierd.config.loading.load import load
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.base import Inference
from edge_classifierd.motion.gate import Focus
from edge_classifierd.pipeline.collector import Collector, folder_name, read_note, with_note
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.planning.plan import Change, compare
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from edge_classifierd.pipeline.planning.plan import Plan

CAT, DOG = 281, 207
START = datetime(2026, 11, 21, 22, 26, tzinfo=UTC)


def plan_for(folder: Path, *, rotation: int = 0, release: float = 0.4, threshold: float = 0.6, **collect: Any) -> Plan:
    config = folder / "config.yaml"
    one = {
        "name": "porch",
        "source": {"type": "v4l2", "rotation": rotation},
        "ambiguity_margin": 0.1,
        "watches": [{"name": "cat", "labels": [CAT], "threshold": threshold, "release": release}],
        "collect": {"enabled": True, "path": str(folder / "kept"), "interval": 10, **collect},
    }
    config.write_text(yaml.safe_dump({"pipelines": [one]}))
    (plan,) = preflight(load(config))
    return plan


class Run:
    """Frames through a real judge and the collector, as the teller does it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.builder = EventBuilder(plan, device="porch", runtime=lambda: "r 1")
        self.collector = Collector()
        self.kept = plan.section.collect.path / "porch"

    def frame(self, at_s: float, cat: float, dog: float = 0.0, focus: Focus | None = None) -> None:
        confidences = np.zeros(1000, np.float32)
        confidences[CAT], confidences[DOG] = cat, dog
        inference = Inference(confidences, 1.0, "cpu")
        at = START + timedelta(seconds=at_s)
        frame = Frame(picture(100, noise=True), int(at_s), at_s, at, focus=focus)
        result = self.builder.observe(frame, inference, clock_synchronised=lambda: True)
        self.collector.consider(self.plan, result, self.builder.policy.states())

    def notes(self) -> list[dict[str, Any]]:
        files = sorted(self.kept.rglob("*.jpg"), key=lambda file: file.name)
        notes = [read_note(file.read_bytes()) for file in files]
        assert all(note is not None for note in notes)
        return [note for note in notes if note is not None]


def test_each_reason_keeps_its_frame_and_the_note_says_which(tmp_path: Path) -> None:
    run = Run(plan_for(tmp_path))
    run.frame(0, cat=0.05, dog=0.9)  # nothing to learn from
    run.frame(1, cat=0.9)
    run.frame(2, cat=0.5)
    run.frame(3, cat=0.3, dog=0.35)
    assert [note["reasons"] for note in run.notes()] == [["detected"], ["uncertain"], ["ambiguous"]]
    first = run.notes()[0]
    assert first["top"][0] == {"index": CAT, "label": "tabby, tabby cat", "confidence": 0.9}
    assert len(first["top"]) == run.plan.section.top_k > 1
    assert first["watches"] == {"cat": 0.9}
    assert first["time"] == "2026-11-21T22:26:01.000Z"
    assert {folder.name for folder in run.kept.iterdir()} == {"tabby, tabby cat", "golden retriever"}


def test_uncertain_is_from_release_to_just_below_the_threshold(tmp_path: Path) -> None:
    run = Run(plan_for(tmp_path, release=0.25, threshold=0.75, when=["uncertain"], interval=0))
    for at_s, cat in enumerate([0.2421875, 0.25, 0.7421875, 0.75]):
        run.frame(at_s, cat=cat)
    assert [note["watches"]["cat"] for note in run.notes()] == [0.25, 0.7422]


def test_stored_pictures_are_upright(tmp_path: Path) -> None:
    run = Run(plan_for(tmp_path, rotation=90))
    run.frame(0, cat=0.5)
    (file,) = run.kept.rglob("*.jpg")
    kept = read_image(file)
    assert (kept.width, kept.height) == (picture(0).height, picture(0).width)


def test_only_the_wanted_reasons_count_and_only_one_in_an_interval(tmp_path: Path) -> None:
    run = Run(plan_for(tmp_path, when=["uncertain"]))
    run.frame(0, cat=0.9)
    for at_s in range(1, 22):
        run.frame(at_s, cat=0.5)
    assert [note["time"][17:19] for note in run.notes()] == ["01", "11", "21"]


def test_the_oldest_are_removed_by_count_and_by_bytes(tmp_path: Path) -> None:
    run = Run(plan_for(tmp_path, max_files=3, interval=0))
    for at_s in range(6):
        run.frame(at_s, cat=0.5)
    assert [note["time"][17:19] for note in run.notes()] == ["03", "04", "05"]
    size = sum(file.stat().st_size for file in run.kept.rglob("*.jpg"))
    small = Run(plan_for(tmp_path, path=str(tmp_path / "small"), max_bytes=max(10_000, size), interval=0))
    for at_s in range(8):
        small.frame(at_s, cat=0.5)
    assert sum(file.stat().st_size for file in small.kept.rglob("*.jpg")) <= max(10_000, size)
    assert small.notes()


def test_a_disk_that_does_not_take_it_costs_the_picture_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "kept").write_text("in the way")
    run = Run(plan_for(tmp_path, interval=0))
    run.frame(0, cat=0.5)
    run.frame(1, cat=0.5)
    assert len(caplog.records) == 1
    assert "cannot store pictures" in caplog.text


def test_other_bounds_hold_after_a_reload_that_restarts_nothing(tmp_path: Path) -> None:
    run = Run(plan_for(tmp_path, interval=0))
    for at_s in range(4):
        run.frame(at_s, cat=0.5)
    before, run.plan = run.plan, plan_for(tmp_path, interval=0, max_files=2)
    assert compare(before, run.plan) is Change.WATCHES
    run.frame(4, cat=0.5)
    assert len(run.notes()) == 2


def test_of_several_things_the_part_that_shows_the_strongest_is_kept(tmp_path: Path) -> None:
    """It is what the model saw; the whole picture mostly shows something else."""
    run = Run(plan_for(tmp_path))
    whole = picture(100)
    left, right = (Region(x, 0.5, 0.25, 0.25 * whole.width / whole.height) for x in (0.0, 0.5))
    run.frame(1, cat=0.9, focus=Focus(left, left, ends_round=False))
    assert run.notes() == []
    run.frame(2, cat=0.1, focus=Focus(right, right, ends_round=True))
    (note,) = run.notes()
    assert note["top"][0]["confidence"] == 0.9
    assert note["time"].startswith("2026-11-21T22:26:01")
    (kept,) = run.kept.rglob("*.jpg")
    assert kept.parent.name == "tabby, tabby cat"
    cut = read_image(kept)
    assert (cut.width, cut.height) == (whole.width // 4, whole.width // 4)


@given(st.text(max_size=200))
def test_every_label_makes_one_folder(label: str) -> None:
    name = folder_name(label)
    assert name not in {"", ".", ".."}
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")
    assert len(name.encode()) <= 120


def test_ordinary_labels_stay_as_they_are() -> None:
    assert folder_name("tabby, tabby cat") == "tabby, tabby cat"
    assert folder_name("Passer domesticus (House Sparrow)") == "Passer domesticus (House Sparrow)"
    assert folder_name("a/b: ..") == "a_b_"


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=20) | st.floats(allow_nan=False), max_size=20))
def test_a_note_can_be_read_and_the_picture_stays_readable(note: dict[str, Any]) -> None:
    jpeg = encoded(picture(100))
    try:
        str(note).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which no label file can hold
    marked = with_note(jpeg, note)
    assert read_note(marked) == note
    assert read_note(jpeg) is None


def test_the_note_is_the_only_comment_or_programs_would_show_the_encoders() -> None:
    marked = with_note(encoded(picture(100)), {"top": []})
    assert marked.count(b"\xff\xfe") == 1
    assert b"Lavc" not in marked
    assert with_note(marked, {"top": [1]}) == with_note(encoded(picture(100)), {"top": [1]})


def test_a_note_that_is_too_long_for_a_jpeg_costs_the_note_only(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(with_note(encoded(picture(100)), {"top": "x" * 70_000}))
    assert read_note((tmp_path / "a.jpg").read_bytes()) is None
    assert read_image(tmp_path / "a.jpg").width == picture(100).width


def test_a_marked_picture_is_decoded_like_the_plain_one(tmp_path: Path) -> None:
    jpeg = encoded(picture(100, noise=True))
    (tmp_path / "a.jpg").write_bytes(jpeg)
    (tmp_path / "b.jpg").write_bytes(with_note(jpeg, {"top": ["x" * 3000]}))
    plain, marked = read_image(tmp_path / "a.jpg"), read_image(tmp_path / "b.jpg")
    assert (plain.to_ndarray() == marked.to_ndarray()).all()
