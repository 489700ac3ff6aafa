from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from processes import commands
from training_scene import MODEL, pictures, wait

from edge_classifierd.clock import SystemClock
from edge_classifierd.learning.dataset import read_dataset
from edge_classifierd.learning.predict import Trial, try_out
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.taught import MODEL_FILE
from edge_classifierd.teaching.training.trainer import Trainer, TrainingRefusedError, TrainingState
from edge_classifierd.teaching.training.versions import REPORT_FILE, Versions

if TYPE_CHECKING:
    from edge_classifierd.teaching.records import TrainingPictures


@dataclasses.dataclass
class Trained:
    state: Path
    pictures: TrainingPictures
    states: list[TrainingState]
    versions: Versions


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two versions; the first was in use when the second was trained."""
    state = tmp_path_factory.mktemp("state")
    drawn, states, versions = pictures(state), [], Versions(state)
    trainer = Trainer(versions, SystemClock(), states.append)
    for version in (1, 2):
        trainer.start(drawn)
        assert wait(trainer).stage == "finished", trainer.state()
        if version == 1:
            versions.use(MODEL, 1)
    return Trained(state, drawn, states, versions)


def test_a_version_is_a_model_with_its_result_and_report(trained: Trained) -> None:
    assert [one.version for one in trained.versions.results(MODEL)] == [2, 1]
    result = trained.versions.result(MODEL, 1)
    assert [(one.slug, one.name, one.unknown) for one in result.classes] == [
        ("round-thing", "round thing", False),
        ("stripes", "stripes", False),
        ("unknown", "unknown", True),
    ]
    assert set(result.thresholds) == {"round-thing", "stripes"}
    assert result.learnt_from == 24
    assert result.estimate
    assert result.unknown is not None
    assert result.unknown.pictures == 4
    bundle = load_bundle(trained.versions.file(MODEL, 1, MODEL_FILE))
    assert (bundle.sha256, bundle.size) == (result.sha256, result.bytes)
    assert bundle.labels.names == tuple(one.name for one in result.classes)
    assert f"{MODEL}, version 1" in trained.versions.file(MODEL, 1, REPORT_FILE).read_text()
    assert [one.name for one in trained.versions.file(MODEL, 1, MODEL_FILE).parents[1].iterdir()] != []


def test_the_result_equals_eval_on_the_pictures_held_out(trained: Trained, tmp_path: Path) -> None:
    for one in trained.pictures.classes:
        (tmp_path / one.name).mkdir()
        for picture in one.held_out:
            shutil.copy(picture.path, tmp_path / one.name)
    bundle = load_bundle(trained.versions.file(MODEL, 1, MODEL_FILE))
    again = try_out(Trial(bundle), read_dataset(tmp_path), lambda _done, _of: None)
    held_out = trained.versions.result(MODEL, 1).held_out
    assert held_out is not None
    assert (held_out.pictures, held_out.right / held_out.pictures) == (again.images, again.top1)
    assert held_out.balanced == pytest.approx(again.balanced_accuracy, abs=1e-12)
    assert {one.name: one.right / one.pictures for one in held_out.per_class} == {
        one.name: one.recall for one in again.per_class
    }
    assert again.learnt == 0


def test_the_version_in_use_is_measured_on_the_same_pictures(trained: Trained) -> None:
    first, second = (trained.versions.result(MODEL, number) for number in (1, 2))
    assert first.against is None
    assert second.against is not None
    assert (second.against.version, second.against.held_out) == (1, dataclasses.replace(first.held_out, suspicious=()))  # type: ignore[type-var]
    assert second.against.unknown == first.unknown
    assert not second.worse
    assert "On the same pictures version 1 had" in " ".join(second.sentences)
    assert first.held_out is not None
    assert first.sentences[0].startswith("Of 12 pictures that it had never seen, ")


def test_the_progress_passes_all_stages_in_order(trained: Trained) -> None:
    first = [one for one in trained.states if one.version == 1]
    stages = list(dict.fromkeys(one.stage for one in first))
    assert stages == ["looking", "copies", "learning", "measuring", "finished"]
    assert max(one.done for one in first if one.stage == "looking") == 36
    assert any(one.seconds_left for one in first)
    assert len({one.id for one in trained.states}) == 2


def test_a_cancelled_training_ends_within_a_second_and_leaves_nothing(tmp_path: Path) -> None:
    drawn = pictures(tmp_path)
    trainer = Trainer(Versions(tmp_path), SystemClock())
    trainer.start(drawn)
    until_reading(trainer)
    child = children()[0]
    with pytest.raises(TrainingRefusedError, match="shapes is being trained") as refused:
        trainer.start(drawn)
    assert refused.value.code == "busy"
    began_s = time.monotonic()
    trainer.cancel()
    assert wait(trainer).stage == "cancelled"
    assert time.monotonic() - began_s < 1
    assert not Path(f"/proc/{child}").exists()
    assert list((tmp_path / "taught" / MODEL / "versions").iterdir()) == []


def test_a_killed_child_is_explained_and_costs_nothing_else(tmp_path: Path) -> None:
    drawn = pictures(tmp_path)
    trainer = Trainer(Versions(tmp_path), SystemClock())
    trainer.start(drawn)
    until_reading(trainer)
    os.kill(children()[0], signal.SIGKILL)
    ended = wait(trainer)
    assert ended.stage == "failed"
    assert "killed, most likely by the kernel for want of memory; the pictures are untouched" in str(ended.failure)
    assert list((tmp_path / "taught" / MODEL / "versions").iterdir()) == []


def test_the_child_makes_its_temporary_files_where_a_kill_removes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, temporary = pictures(tmp_path), tmp_path / "temporary"
    temporary.mkdir()
    os.utime(temporary, (0, 0))  # each file that is made in it changes this time
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # of this process
    trainer = Trainer(Versions(tmp_path), SystemClock())
    trainer.start(drawn)
    assert wait(trainer).stage == "finished"
    assert temporary.stat().st_mtime == 0


def test_the_child_yields_to_all_others_and_is_the_first_to_be_ended(tmp_path: Path) -> None:
    trainer = Trainer(Versions(tmp_path), SystemClock())
    trainer.start(pictures(tmp_path))
    until_reading(trainer)
    child = Path(f"/proc/{children()[0]}")
    assert (child / "stat").read_text().rpartition(")")[2].split()[16] == "19"
    assert (child / "oom_score_adj").read_text().strip() == "1000"
    assert os.getpgid(int(child.name)) == int(child.name)
    assert trainer.close(5)


def test_too_little_memory_and_missing_pictures_are_refused(tmp_path: Path) -> None:
    drawn = pictures(tmp_path)
    trainer = Trainer(Versions(tmp_path), SystemClock(), available=lambda: 200_000_000)
    with pytest.raises(TrainingRefusedError, match="needs 350 MB of memory and 200 MB are available") as refused:
        trainer.start(drawn)
    assert refused.value.code == "memory"
    with pytest.raises(TrainingRefusedError, match="record robin") as refused:
        trainer.start(drawn, missing="record robin")
    assert refused.value.code == "missing"


def test_a_class_without_readable_pictures_fails_with_a_sentence(tmp_path: Path) -> None:
    drawn = pictures(tmp_path)
    for picture in drawn.classes[0].learn:
        picture.path.write_bytes(b"no picture")
    trainer = Trainer(Versions(tmp_path), SystemClock())
    trainer.start(drawn)
    assert "the class `round thing` has no readable picture to learn from" in str(wait(trainer).failure)


def test_what_an_interrupted_training_left_is_removed(tmp_path: Path) -> None:
    folder = Versions(tmp_path).make_folder(MODEL, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    (folder / "model.tflite").write_bytes(b"half")
    assert Versions(tmp_path).results(MODEL) == ()
    Trainer(Versions(tmp_path), SystemClock())
    assert list(folder.parent.iterdir()) == []


def until_reading(trainer: Trainer) -> None:
    deadline_s = time.monotonic() + 60
    while (state := trainer.state()) is None or not state.done:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def children() -> list[int]:
    ours = {b"edge_classifierd.teaching.training.child", b"%d" % os.getpid()}
    return [process for process, words in commands() if ours <= set(words)]
