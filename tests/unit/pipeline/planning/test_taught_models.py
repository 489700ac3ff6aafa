from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import av
import pytest
from taught_versions import add_version

from edge_classifierd.config.loading.load import load
from edge_classifierd.errors import ConfigurationError
from edge_classifierd.learning.train import TrainingPlan
from edge_classifierd.pipeline.planning.plan import BlockedPlan, Change, Plan, compare
from edge_classifierd.pipeline.planning.taught_models import own_watch_titles
from edge_classifierd.pipeline.planning.validation import (
    plan_one_pipeline,
    plan_with_models,
    preflight,
    unusable_models,
)
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.config.loading.load import Document

HEAD = "pipelines:\n  - name: a\n    source: {type: folder, path: photos}\n"
TAUGHT = HEAD + "    model: {taught: birds}\n"
OWN = [("blue-tit", (0,), 0.7, 0.466667), ("robin", (1,), 0.6, 0.4)]


@pytest.fixture
def state(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photos").mkdir()
    shutil.copy(repository / "edge_classifierd" / "demo_photos" / "cat.jpg", tmp_path / "photos")
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path))
    return tmp_path


def document(state: Path, text: str) -> Document:
    (state / "config.yaml").write_text(text)
    return load(state / "config.yaml")


def rules(plan: object) -> list[tuple[str, tuple[int, ...] | None, float, float]]:
    assert isinstance(plan, Plan), plan
    return [(one.name, one.indices, one.threshold, one.release) for one in plan.rules]


def problems(state: Path, text: str) -> list[tuple[str, str, bool]]:
    with pytest.raises(ConfigurationError) as caught:
        preflight(document(state, text))
    return [(one.key, one.message, one.temporary) for one in caught.value.problems]


def test_without_watches_each_class_but_unknown_is_watched(state: Path) -> None:
    add_version(state, "birds", 1)
    add_version(state, "birds", 2).use("birds", 1)
    (plan,) = preflight(document(state, TAUGHT))
    assert rules(plan) == OWN
    assert plan.bundle.name == "birds-1"
    assert plan.taught is not None
    assert (plan.taught.name, plan.taught.version) == ("birds", 1)


@pytest.mark.parametrize("commanded", [None, "birds"])
def test_pictures_are_cropped_as_in_the_training(state: Path, commanded: str | None) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    fitted = (TAUGHT if commanded is None else HEAD) + "    fit: letterbox\n    crop_fraction: 0.8\n"
    found = document(state, fitted)
    plan = plan_one_pipeline(found, "a", commanded)
    assert isinstance(plan, Plan)
    picture = av.VideoFrame(640, 480, "yuv420p")
    seen = plan.preprocessor().seen(picture.width, picture.height)
    assert seen == Preprocessor(plan.bundle.input, plan.bundle.normalisation, fit=TrainingPlan.fit).seen(640, 480)
    plan.bundle.path.write_bytes(b"damaged")
    assert [problem.key for problem in unusable_models(found, (plan,))] == ["pipelines[0].model.taught"]


def test_configured_watches_stay(state: Path) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    watches = "    watches: [{name: tit, labels: [blue tit], threshold: 0.9}]\n"
    (plan,) = preflight(document(state, TAUGHT + watches))
    assert rules(plan) == [("tit", (0,), 0.9, 0.6)]


def test_renamed_classes_are_shown_with_their_new_names(state: Path) -> None:
    versions = add_version(state, "birds", 1)
    versions.use("birds", 1)
    versions.rename_classes("birds", {"robin": "Rotkehlchen"})
    (plan,) = preflight(document(state, TAUGHT))
    assert plan.bundle.labels.display == ("blue tit", "Rotkehlchen", "unknown")
    assert rules(plan) == OWN, "the names of the watches never change"
    assert own_watch_titles(plan)["robin"] == "Rotkehlchen"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda _: None, "taught model birds: there is no such model"),
        (lambda state: add_version(state, "birds", 1), "taught model birds: no version is in use yet"),
        (
            lambda state: add_version(state, "birds", 1).use("birds", 1).file.write_bytes(b"x"),
            "versions/1/model.tflite: is not a TensorFlow Lite model",
        ),
    ],
)
def test_a_model_that_cannot_be_used_now_is_waited_for(state: Path, prepare: object, message: str) -> None:
    prepare(state)  # type: ignore[operator]
    ((key, found, temporary),) = problems(state, TAUGHT)
    assert (key, temporary) == ("pipelines[0].model.taught", True)
    assert message in found
    plan = plan_one_pipeline(document(state, TAUGHT), "a", None)
    assert isinstance(plan, BlockedPlan)
    assert plan.rules == ()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("path: x.tflite", "`path` names a file; remove one of the two"),
        ("cpu_model: x.tflite", "`cpu_model` names a file; remove one of the two"),
        ("bundled: fast", "`taught` names one; remove one of the two"),
        ("labels: x.txt", "a taught model contains its own; remove this key"),
        ("output: 1", "a taught model contains its own; remove this key"),
    ],
)
def test_a_taught_model_excludes_other_models_and_their_options(state: Path, keys: str, message: str) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    ((_, found, temporary),) = problems(state, HEAD + f"    model: {{taught: birds, {keys}}}\n")
    assert message in found
    assert not temporary


def test_a_name_that_is_a_path_is_a_mistake(state: Path) -> None:
    ((_, found, _),) = problems(state, HEAD + "    model: {taught: ../birds}\n")
    assert "the name of a taught model: 1 to 32 of the characters a-z, 0-9 and -" in found


def test_a_commanded_model_keeps_the_watches_whose_labels_it_has(state: Path) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    keys = '    allow: ["*cat*", robin]\n    deny: ["*dog*"]\n'
    one = "{name: cat, labels: [tabby]}"
    both = "{name: bird, labels: [robin, blue tit]}"
    mixed = "{name: mixed, labels: [robin, tabby]}"
    text = HEAD + "    model: {threads: 3}\n"
    kept = plan_one_pipeline(document(state, text + f"    watches: [{one}, {both}, {mixed}]\n"), "a", "birds")
    assert rules(kept) == [("bird", (0, 1), 0.6, 0.4)]
    assert kept.section.model.threads == 3
    own = plan_one_pipeline(document(state, text + keys + f"    watches: [{one}]\n"), "a", "birds")
    assert rules(own) == OWN
    assert isinstance(own, Plan)
    assert own.section.allow == ("robin",)
    assert own.section.deny == ()


def test_only_commanded_pipelines_change_and_a_missing_model_blocks_its_own(state: Path) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    text = HEAD + "  - name: b\n    source: {type: folder, path: photos}\n"
    found = document(state, text)
    configured = preflight(found)
    plans = plan_with_models(found, configured, {"b": "birds", "gone": "birds"})
    assert plans[0] is configured[0]
    assert rules(plans[1]) == OWN
    blocked = plan_with_models(found, configured, {"a": "fish"})[0]
    assert isinstance(blocked, BlockedPlan)
    assert "taught model fish: there is no such model" in blocked.reason
    add_version(state, "fish", 1).use("fish", 1)
    assert rules(blocked.again()) == OWN


def test_another_version_restarts_and_the_same_does_not(state: Path) -> None:
    add_version(state, "birds", 1)
    versions = add_version(state, "birds", 2, threshold=0.8)
    versions.use("birds", 1)
    found = document(state, TAUGHT)
    first, again = (plan_one_pipeline(found, "a", None) for _ in range(2))
    assert isinstance(first, Plan)
    assert isinstance(again, Plan)
    assert compare(first, again) is Change.NONE
    versions.use("birds", 2)
    second = plan_one_pipeline(found, "a", None)
    assert isinstance(second, Plan)
    assert compare(first, second) is Change.RESTART
    assert rules(second)[0] == ("blue-tit", (0,), 0.8, 0.533333)


def test_a_version_with_the_same_file_is_taken_over_without_a_restart(state: Path) -> None:
    add_version(state, "birds", 1).use("birds", 1)
    (before,) = preflight(document(state, TAUGHT))
    assert isinstance(before, Plan)
    assert before.taught is not None
    after = dataclasses.replace(before, taught=dataclasses.replace(before.taught, version=2))
    assert compare(before, after) is Change.WATCHES
