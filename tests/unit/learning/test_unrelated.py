from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawn_pictures import drawn, folders, write
from typer import Typer
from typer.testing import CliRunner

from edge_classifierd.cli import train as train_command
from edge_classifierd.frames.image import read_image
from edge_classifierd.learning.learnt_pictures import learnt_by, picture_hash
from edge_classifierd.learning.thresholds import WatchedClasses, strict_sweeps
from edge_classifierd.learning.train import TrainingPlan, train
from edge_classifierd.learning.training_set import UNKNOWN
from edge_classifierd.learning.unrelated import BUILT_IN, count_false_alarms, pictures_to_learn, pictures_to_measure
from edge_classifierd.model.bundle import bundled_model_path

if TYPE_CHECKING:
    from pathlib import Path

app = Typer()
app.command("train")(train_command.command)


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*(str(one) for one in arguments), "--augment", "0"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("pictures"), 8)


def test_built_in_pictures_are_small_readable_and_never_in_both_sets(repository: Path) -> None:
    learn, measure = pictures_to_learn(), pictures_to_measure()
    assert len(learn) + len(measure) >= 100
    assert not {picture_hash(path) for path in learn} & {picture_hash(path) for path in measure}
    assert sum(path.stat().st_size for path in (*learn, *measure)) < 1_000_000
    readme = (repository / "edge_classifierd/learning/unrelated_pictures/README.md").read_text()
    for path in (*learn, *measure):
        frame = read_image(path)
        assert max(frame.width, frame.height) <= 224
        if path.name.startswith("drawn_"):
            assert f"`{path.parent.name}/{path.name}`" in readme


def test_unknown_is_learnt_from_built_in_pictures_when_there_is_no_such_class(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.tflite"
    result = command(pictures, "-o", output, "--json")
    assert result.exit_code == 0, result.output
    assert "there is no class `unknown`: it is learnt from built-in pictures" in result.stderr
    document = json.loads(result.stdout)
    assert document["classes"] == ["cross", "disc", "stripes", UNKNOWN]
    assert document["built_in_unknown"] == len(pictures_to_learn())
    assert document["images_learnt"] + document["images_held_out"] == 24
    assert len(learnt_by(output)) == document["images_learnt"]
    (alarms,) = document["false_alarms"]
    assert alarms["pictures_of"] == BUILT_IN
    assert alarms["images"] == len(pictures_to_measure())
    assert set(alarms["per_class"]) == {"cross", "disc", "stripes"}
    assert alarms["any_class"] <= 0.1 * alarms["images"]
    assert [one["watch"] for one in document["watches"]] == ["cross", "disc", "stripes"]
    assert all(one["threshold"] is not None for one in document["watches"])


def test_no_unknown_switches_the_built_in_class_off_but_not_the_measurement(pictures: Path, tmp_path: Path) -> None:
    result = command(pictures, "-o", tmp_path / "m.tflite", "--no-unknown", "--holdout", 0, "--json")
    document = json.loads(result.stdout)
    assert document["classes"] == ["cross", "disc", "stripes"]
    assert "every picture, whatever it shows, gets one of the classes" in result.stderr
    assert document["built_in_unknown"] == 0
    assert document["evaluation"] is None
    assert document["false_alarms"][0]["images"] == len(pictures_to_measure())


def test_false_alarms_are_measured_on_held_out_pictures_of_unknown(pictures: Path, tmp_path: Path) -> None:
    source, background, report = tmp_path / "set", tmp_path / "background", tmp_path / "r.html"
    for shape in ("disc", "cross"):
        shutil.copytree(pictures / shape, source / shape)
    shutil.copytree(pictures / "stripes", background)
    result = command(source, "-o", tmp_path / "m.tflite", "--unknown", background, "--holdout", 0.5, "--report", report)
    assert result.exit_code == 0, result.output
    assert "there is no class `unknown`" not in result.output
    assert "of 4 held-out pictures of `unknown`" in result.stdout
    assert f"of {len(pictures_to_measure())} {BUILT_IN}" in result.stdout
    assert "expect more false alarms from real objects" in result.stdout
    page = report.read_text()
    assert "False alarms on 4 held-out pictures of `unknown`" in page
    assert f"False alarms on {len(pictures_to_measure())} {BUILT_IN}" in page
    assert "Balanced accuracy" in page


def test_a_false_alarm_is_an_unrelated_picture_that_reaches_the_threshold_of_a_class() -> None:
    own = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]] * 10, np.float32)
    watches = [WatchedClasses("a", (0,)), WatchedClasses("b", (1,))]
    sweeps = strict_sweeps(watches, own, [(0,), (1,)] * 10)
    assert [sweep.threshold for sweep in sweeps] == [0.8, 0.8]
    unrelated = np.array([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7], [0.1, 0.85, 0.05], [0.85, 0.1, 0.05]], np.float32)
    alarms = count_false_alarms("streets", unrelated, watches, sweeps)
    assert (alarms.pictures, alarms.any_class) == (4, 3)
    assert [(one.name, one.threshold, one.count) for one in alarms.per_class] == [("a", 0.8, 2), ("b", 0.8, 1)]


def test_a_class_with_few_pictures_gets_nearly_the_threshold_of_all_classes_together() -> None:
    scores = np.zeros((41, 3), np.float32)
    scores[:40, 0], scores[40, 1] = 0.8, 0.1
    watches = [WatchedClasses("many", (0,)), WatchedClasses("one", (1,))]
    many, one = strict_sweeps(watches, scores, [(0,)] * 40 + [(1,)])
    assert many.threshold == 0.8
    assert one.threshold is not None
    assert 0.7 < one.threshold < 0.8


def test_a_model_that_lowers_the_scores_of_other_objects_gets_lower_thresholds() -> None:
    scores = np.linspace(0.3, 1, 101, dtype=np.float32)[:, None]
    targets, watch = [(0,)] * 101, WatchedClasses("a", (0,))
    (strict,) = strict_sweeps([watch], scores, targets)
    (lenient,) = strict_sweeps([watch], scores, targets, lenient=True)
    assert (strict.threshold, lenient.threshold) == (0.55, 0.5)


def test_forty_pictures_against_three_are_balanced_and_reported(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "set" / "disc" / f"{number}.jpg", drawn("disc", number))
    for number in range(3):
        write(tmp_path / "set" / "cross" / f"{number}.jpg", drawn("cross", number))
    plan = TrainingPlan(tmp_path / "set", bundled_model_path(), tmp_path / "m.tflite", holdout=0.34, augment=0)
    training = train(plan)
    assert any("`disc` has 40 pictures and `cross` 3: both have the same weight" in one for one in training.warnings)
    assert training.evaluation is not None
    recalls = {score.name: score.recall for score in training.evaluation.per_class}
    assert training.evaluation.balanced_accuracy == pytest.approx((recalls["disc"] + recalls["cross"]) / 2)


def test_heic_pictures_are_counted_with_the_remedy(pictures: Path, tmp_path: Path) -> None:
    heic = b"\0\0\0\x18ftypheic" + bytes(200)
    for shape in ("disc", "cross"):
        shutil.copytree(pictures / shape, tmp_path / "mixed" / shape)
        for number in range(3):
            for folder in ("mixed", "only"):
                path = tmp_path / folder / shape / f"IMG_{number}.HEIC"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(heic)
        (tmp_path / "mixed" / shape / "0.jpg").rename(tmp_path / "mixed" / shape / "0.jfif")
    mixed = command(tmp_path / "mixed", "-o", tmp_path / "m.tflite", "--json")
    assert mixed.exit_code == 0, mixed.output
    assert "left out: 6 HEIC pictures" in mixed.stderr
    assert "convert them to JPEG" in mixed.stderr
    document = json.loads(mixed.stdout)
    assert document["images_learnt"] + document["images_held_out"] == 16
    only = command(tmp_path / "only", "-o", tmp_path / "m.tflite")
    assert only.exit_code == 2
    assert "none of the 6 pictures can be read: 6 HEIC pictures" in only.stderr
