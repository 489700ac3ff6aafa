"""A recording through configurations, by a clock of its own."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from moving_pictures import write_video
from PIL import Image

from edge_classifierd.config.loading.load import load
from edge_classifierd.errors import InferenceError, SourceError, UsageError
from edge_classifierd.events.schema import decode, dump
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.preprocess import Preprocessor
from edge_classifierd.replay.recording import Recording, play
from edge_classifierd.replay.replay import Candidate, ReplayedEvent, Summary, replay

if TYPE_CHECKING:
    from collections.abc import Callable

PHOTOS = Path(__file__).resolve().parents[3] / "edge_classifierd" / "demo_photos"
CAT = {"name": "cat", "labels": ["*cat*"], "threshold": 0.5, "release": 0.3}


def photographs(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for position, name in enumerate(names):
        shutil.copy(PHOTOS / f"{name}.jpg", folder / f"{position:03}-{name}.jpg")
    return folder


def candidate(file: Path, source: dict[str, Any], *watches: dict[str, Any], **keys: Any) -> Candidate:
    one = {"name": "porch", "source": source, "model": {"threads": 1}, "watches": list(watches), **keys}
    file.write_text(yaml.safe_dump({"device": {"id": "porch"}, "pipelines": [one]}))
    (plan,) = preflight(load(file))
    return Candidate(file.name, "porch", plan)


def run(
    candidates: list[Candidate], recording: Recording | None = None, **options: Any
) -> tuple[list[ReplayedEvent], Summary]:
    summary = Summary()
    given = {"fps": None, "upright": False, **options}
    return list(replay(candidates, recording, summary=summary, **given)), summary


def brief(told: list[ReplayedEvent]) -> list[tuple[float, str, str]]:
    return [(round(one.at_s, 2), one.draft.watch, one.draft.type.value) for one in told]


def test_events_come_at_the_recordings_own_times_and_the_end_clears_what_is_on(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p", "coffee", "cat", "cat", "coffee", "cat")
    told, summary = run([candidate(tmp_path / "a.yaml", {"type": "folder", "path": "p", "fps": 2}, CAT)])
    times = [0.5, 1.5, 2.0, 2.5]
    assert brief(told) == [(at_s, "cat", kind) for at_s, kind in zip(times, ["detected", "cleared"] * 2, strict=True)]
    assert [one.frame for one in told][:2] == ["001-cat.jpg", "003-coffee.jpg"]
    assert told[1].draft.active_s == pytest.approx(1.0)
    assert [one.seq for one in told] == [1, 2, 3, 4]
    assert (summary.frames, summary.recorded_s) == (5, 2.5)
    assert summary.took_s > 0
    documents = [one.document() for one in told]
    assert [one["time"][17:] for one in documents] == ["00.500Z", "01.500Z", "02.000Z", "02.500Z"]
    assert folder.is_dir()


def test_confirmation_and_cooldown_follow_the_virtual_clock(tmp_path: Path) -> None:
    photographs(tmp_path / "p", *["cat", "cat", "coffee", "coffee"] * 3)
    watch = {**CAT, "confirm": 2, "cooldown": "4s"}
    source = {"type": "folder", "path": "p"}
    slow, _ = run([candidate(tmp_path / "a.yaml", source, watch)], fps=0.2)
    quick, _ = run([candidate(tmp_path / "b.yaml", source, watch)], fps=5)
    assert [kind for _, _, kind in brief(slow)].count("detected") == 3  # 5 s apart: the cooldown is over each time
    assert [kind for _, _, kind in brief(quick)].count("detected") == 1


def test_two_configurations_over_the_same_pictures_share_the_inference(tmp_path: Path) -> None:
    photographs(tmp_path / "p", "cat", "coffee")
    source = {"type": "folder", "path": "p"}
    pair = [
        candidate(tmp_path / "a.yaml", source, CAT),
        candidate(tmp_path / "b.yaml", source, {**CAT, "threshold": 0.9999}),
    ]
    told, summary = run(pair)
    assert {one.config for one in told} == {"a.yaml"}
    assert summary.frames == 2
    changes: list[dict[str, Any]] = [
        {"fit": "stretch"}, {"crop_fraction": 0.8}, {"source": {**source, "rotation": 90}}
    ]  # fmt: skip
    for apart in changes:
        told, summary = run([pair[0], candidate(tmp_path / "c.yaml", apart.pop("source", source), CAT, **apart)])
        first, second = ([one.draft.confidence for one in told if one.config == name] for name in ("a.yaml", "c.yaml"))
        assert first != second, apart
        assert summary.frames == 4
        assert summary.recorded_s == pytest.approx(0.8)
    assert Summary(recorded_s=60, took_s=3).speed == 20
    assert Summary().speed == 0


def test_what_is_named_is_replayed_instead_of_the_configured_source(tmp_path: Path) -> None:
    photographs(tmp_path / "p", "coffee")
    other = photographs(tmp_path / "other", "coffee", "cat")
    told, _ = run([candidate(tmp_path / "a.yaml", {"type": "folder", "path": "p"}, CAT)], Recording(other, 3))
    assert told[0].frame == "001-cat.jpg"
    assert told[0].document()["at_s"] == 0.333


def test_folders_below_are_named_with_their_path_at_five_pictures_a_second(tmp_path: Path) -> None:
    photographs(tmp_path / "p", "coffee")
    photographs(tmp_path / "p" / "sub", "cat")
    source = {"type": "folder", "path": "p", "recursive": True}
    told, summary = run([candidate(tmp_path / "a.yaml", source, CAT)])
    assert (told[0].frame, summary.frames) == ("sub/000-cat.jpg", 2)
    alone, summary = run([candidate(tmp_path / "b.yaml", {**source, "recursive": False}, CAT)])
    assert (alone, summary.frames) == ([], 1)
    told, _ = run([candidate(tmp_path / "c.yaml", {"type": "v4l2"}, CAT)], Recording(tmp_path / "p", recursive=True))
    assert told[0].at_s == pytest.approx(0.2)


def test_a_configured_file_is_a_recording_and_an_address_is_not(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [0] * 25, fps=25)
    _, summary = run([candidate(tmp_path / "a.yaml", {"type": "stream", "url": str(video)}, CAT)], fps=5)
    assert summary.frames == 5
    with pytest.raises(UsageError, match="live source"):
        run([candidate(tmp_path / "b.yaml", {"type": "stream", "url": "rtsp://camera.local/s"}, CAT)])


def test_an_inference_that_fails_costs_its_frame_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path / "p", "cat", "cat", "coffee")
    real, calls = SharedClassifier.classify, iter([True, False, False])

    def classify(self: SharedClassifier, *tensors: Any, **more: Any) -> Any:
        if next(calls):
            raise InferenceError("the accelerator did not answer")
        return real(self, *tensors, **more)

    monkeypatch.setattr(SharedClassifier, "classify", classify)
    told, summary = run([candidate(tmp_path / "a.yaml", {"type": "folder", "path": "p", "fps": 1}, CAT)])
    assert (summary.failed, summary.frames) == (1, 2)
    assert brief(told)[0] == (1.0, "cat", "detected")


def test_an_event_has_the_form_that_subscribers_know(tmp_path: Path) -> None:
    photographs(tmp_path / "p", "cat")
    told, _ = run([candidate(tmp_path / "a.yaml", {"type": "folder", "path": "p"}, CAT)])
    document = told[0].document()
    assert (document["config"], document["at_s"], document["frame"]) == ("a.yaml", 0.0, "000-cat.jpg")
    assert decode(dump(document)).watch == "cat"


def test_damaged_pictures_are_told_and_keep_their_place_in_time(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p", "coffee", "coffee", "cat")
    (folder / "001-coffee.jpg").write_bytes(b"\xff\xd8 no picture")
    told, summary = run([candidate(tmp_path / "a.yaml", {"type": "folder", "path": "p", "fps": 1}, CAT)])
    assert brief(told)[0] == (2.0, "cat", "detected")
    assert summary.frames == 2
    assert len(summary.damaged) == 1
    assert "001-coffee.jpg" in summary.damaged[0]
    for number in range(130):
        (folder / f"{number + 3:03}.jpg").write_bytes(b"no picture")
    _, summary = run([candidate(tmp_path / "a.yaml", {"type": "folder", "path": "p"}, CAT)])
    assert len(summary.damaged) == 100


def test_a_live_source_wants_a_recording_and_takes_one(tmp_path: Path) -> None:
    live = candidate(tmp_path / "a.yaml", {"type": "v4l2", "rotation": 180}, CAT)
    with pytest.raises(UsageError, match="live source; give a folder or a video"):
        run([live])
    folder = photographs(tmp_path / "p", "cat")
    told, _ = run([live], Recording(folder), upright=True)
    assert brief(told)[0] == (0.0, "cat", "detected")
    turned, _ = run([live], Recording(folder))
    assert [one.draft.confidence for one in turned] != [one.draft.confidence for one in told]
    with pytest.raises(UsageError, match="no such folder or video"):
        run([live], Recording(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="contains no pictures"):
        run([live], Recording(tmp_path / "empty"))


@pytest.fixture
def preprocessor(tmp_path: Path) -> Callable[[], Preprocessor]:
    plan = candidate(tmp_path / "x.yaml", {"type": "v4l2"}).plan
    return lambda: Preprocessor(plan.bundle.input, plan.bundle.normalisation)


def test_a_video_keeps_its_times_and_can_be_thinned_out(
    tmp_path: Path, preprocessor: Callable[[], Preprocessor]
) -> None:
    video = write_video(tmp_path / "v.avi", [10 * level for level in range(25)], fps=25)
    every = list(play(Recording(video), preprocessor))
    assert [round(moment.at_s, 2) for moment in every] == [round(i / 25, 2) for i in range(25)]
    some = list(play(Recording(video, fps=5), preprocessor))
    assert [round(moment.at_s, 2) for moment in some] == [0.0, 0.2, 0.4, 0.6, 0.8]
    # Frames do not fall on a tenth of a second each: the grid must not drift.
    assert len(list(play(Recording(video, fps=10), preprocessor))) == 10
    late = write_video(tmp_path / "v.ts", [0] * 25, codec="mpeg2video", fps=25)  # its clock does not begin at 0
    assert [round(moment.at_s, 2) for moment in play(Recording(late), preprocessor)][:2] == [0.0, 0.04]
    levels = [float(np.asarray(moment.tensor, np.float64).mean()) for moment in every]
    assert levels == sorted(levels)


def test_each_decoding_thread_makes_one_preprocessor(tmp_path: Path, preprocessor: Callable[[], Preprocessor]) -> None:
    made: list[Preprocessor] = []

    def make() -> Preprocessor:
        made.append(preprocessor())
        return made[-1]

    assert len(list(play(Recording(photographs(tmp_path / "p", *["cat"] * 6)), make))) == 6
    assert 1 <= len(made) <= 2


def test_leaving_a_recording_early_ends_its_threads(tmp_path: Path, preprocessor: Callable[[], Preprocessor]) -> None:
    video = write_video(tmp_path / "v.avi", [0] * 50)
    for path in (video, photographs(tmp_path / "p", *["cat"] * 12)):
        moments = play(Recording(path), preprocessor)
        next(moments)
        moments.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def filmed(folder: Path, *shown: tuple[str | None, int]) -> Recording:
    """A folder with ten pictures per second of a scene; each part shows a photograph in it, or none."""
    folder.mkdir()
    random = np.random.default_rng(1)
    empty = read_image(PHOTOS / "coffee.jpg").reformat(320, 180, "rgb24").to_ndarray()
    number = 0
    for name, count in shown:
        scene = empty.copy()
        if name is not None:
            scene[40:140, 180:280] = read_image(PHOTOS / f"{name}.jpg").reformat(100, 100, "rgb24").to_ndarray()
        for _ in range(count):
            noisy = (scene + random.normal(0, 3, scene.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{number:03}.jpg", quality=95)
            number += 1
    return Recording(folder, fps=10)


def test_the_motion_gate_leaves_out_what_it_would_have_left_out(tmp_path: Path) -> None:
    recording = filmed(tmp_path / "p", (None, 35), ("cat", 15), (None, 40))
    camera = {"type": "v4l2"}
    motion = {"enabled": True, "follow": True, "hold": "1s"}
    gated, summary = run([candidate(tmp_path / "a.yaml", camera, CAT, motion=motion)], recording)
    assert summary.frames == 90
    assert 34 + 25 <= summary.gated <= 34 + 33
    (detected, _), (cleared, _) = [(one.draft, one.at_s) for one in gated]
    assert (detected.type, cleared.type) == ("detected", "cleared")
    assert detected.box is not None
    assert detected.box.x == pytest.approx(180 / 320, abs=0.03)
    assert gated[0].at_s == pytest.approx(3.5, abs=0.25)
    assert gated[1].at_s == pytest.approx(5.0, abs=0.8)
    whole, summary = run([candidate(tmp_path / "b.yaml", camera, CAT)], recording)
    assert (whole, summary.gated) == ([], 0)


def test_a_watch_that_was_fading_is_cleared_when_the_gate_sleeps(tmp_path: Path) -> None:
    recording = filmed(tmp_path / "p", (None, 30), ("cat", 25), (None, 30))
    motion = {"enabled": True, "follow": True, "hold": "500ms"}
    found, _ = run([candidate(tmp_path / "a.yaml", {"type": "v4l2"}, {**CAT, "confirm": 15}, motion=motion)], recording)
    assert [one.draft.type for one in found] == ["detected", "cleared"]
    assert found[1].at_s < 7.5
