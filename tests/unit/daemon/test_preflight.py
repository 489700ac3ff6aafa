from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.config.load import load
from edge_classifierd.daemon.preflight import ANY_WATCH, preflight
from edge_classifierd.daemon.reload import Change, compare
from edge_classifierd.errors import ConfigurationError
from edge_classifierd.model.bundle import bundled_model_path

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.daemon.preflight import Plan

HEAD = "pipelines:\n  - name: a\n    source: {type: folder, path: photos}\n"


@pytest.fixture
def photos(tmp_path: Path, repository: Path) -> Path:
    (tmp_path / "photos").mkdir()
    shutil.copy(repository / "edge_classifierd" / "demo_photos" / "cat.jpg", tmp_path / "photos")
    return tmp_path


def plans(folder: Path, text: str) -> tuple[Plan, ...]:
    file = folder / "config.yaml"
    file.write_text(text)
    return preflight(load(file))


def problems(folder: Path, text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        plans(folder, text)
    return [(one.line, one.column, one.key, one.message) for one in caught.value.problems]


def test_without_watches_one_over_the_top_label_stands_in(photos: Path) -> None:
    (plan,) = plans(photos, HEAD)
    assert [(rule.name, rule.indices) for rule in plan.rules] == [(ANY_WATCH, None)]
    assert plan.allowed is None
    assert plan.bundle.name == "efficientnet_lite0_int8"


def test_globs_indices_and_ranges_become_classes(photos: Path) -> None:
    labels = '["*terrier*", 151, "207-208", Labrador retriever]'
    (plan,) = plans(photos, HEAD + f"    watches: [{{name: dog, labels: {labels}}}]\n")
    indices = plan.rules[0].indices
    assert indices is not None
    assert {151, 207, 208} <= set(indices)
    assert len(indices) > 20
    assert list(indices) == sorted(set(indices))


def test_every_mistake_is_told_at_once_with_its_place(photos: Path) -> None:
    found = problems(
        photos,
        HEAD
        + '    allow: ["*no such*"]\n'
        + "    watches:\n      - {name: dog, labels: [Labrador retreiver]}\n      - {name: x, labels: [1000]}\n"
        + "  - name: b\n    source: {type: folder, path: empty}\n    model: {path: gone.tflite}\n",
    )
    assert [(line, key) for line, _, key, _ in found] == [
        (4, "pipelines[0].allow[0]"),
        (6, "pipelines[0].watches[0].labels[0]"),
        (7, "pipelines[0].watches[1].labels[0]"),
        (9, "pipelines[1].source.path"),
        (10, "pipelines[1].model.path"),
    ]
    assert "did you mean `Labrador retriever`" in found[1][3]
    assert "indices 0 to 999" in found[2][3]


def test_a_folder_without_pictures_is_a_mistake(photos: Path) -> None:
    (photos / "photos" / "cat.jpg").rename(photos / "photos" / "cat.txt")
    ((line, _, key, message),) = problems(photos, HEAD)
    assert (line, key) == (3, "pipelines[0].source.path")
    assert "holds no pictures" in message


def test_allow_and_deny_narrow_what_is_reported_and_watched(photos: Path) -> None:
    lists = '    allow: ["281-285"]\n    deny: [283]\n    watches: [{name: cat, labels: ["280-285"]}]\n'
    (plan,) = plans(photos, HEAD + lists)
    assert plan.allowed is not None
    assert plan.allowed.nonzero()[0].tolist() == [281, 282, 284, 285]
    assert plan.rules[0].indices == (281, 282, 284, 285)
    found = problems(photos, HEAD + "    deny: [281]\n    watches: [{name: cat, labels: [281]}]\n")
    assert "leave none of these labels" in found[0][3]
    found = problems(photos, HEAD + '    deny: ["*"]\n')
    assert "leaves no label" in found[0][3]


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ("", Change.NONE),
        ("    watches: [{name: cat, labels: [281]}]\n", Change.WATCHES),
        ("    top_k: 3\n    deny: [1]\n", Change.WATCHES),
        ("    fit: letterbox\n", Change.RESTART),
        ("    model: {threads: 1}\n", Change.RESTART),
        ("    region: {x: 0.5}\n", Change.RESTART),
    ],
)
def test_a_reload_touches_the_camera_only_when_it_must(photos: Path, after: str, change: Change) -> None:
    (before,) = plans(photos, HEAD + "    model: {threads: 2}\n" * (1 if "threads" in after else 0))
    (wanted,) = plans(photos, HEAD + after)
    assert compare(before, wanted) is change
    assert compare(None, wanted) is Change.RESTART


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ("    snapshot: {quality: 50}\n", Change.WATCHES),
        ("    collect: {enabled: true, path: kept}\n", Change.WATCHES),
        ("    ambiguity_margin: 0.2\n", Change.WATCHES),
        ("    allow: [1]\n", Change.WATCHES),
        ("    watches: [{name: any, labels: [1]}]\n    fit: stretch\n", Change.RESTART),
        ("    crop_fraction: 0.9\n", Change.RESTART),
    ],
)
def test_of_several_changes_the_one_that_needs_most_decides(photos: Path, after: str, change: Change) -> None:
    (before,) = plans(photos, HEAD)
    (wanted,) = plans(photos, HEAD + after)
    assert compare(before, wanted) is change
    assert compare(wanted, before) is change


def test_another_camera_of_the_same_settings_is_another_camera(photos: Path) -> None:
    (before,) = plans(photos, "pipelines: [{name: a, source: {type: v4l2, device: /dev/video0}}]")
    (wanted,) = plans(photos, "pipelines: [{name: a, source: {type: v4l2, device: /dev/video2}}]")
    assert compare(before, wanted) is Change.RESTART


def test_a_model_or_labels_replaced_under_the_same_name_are_others(photos: Path) -> None:
    model, twin, labels = (photos / name for name in ("m.tflite", "t.tflite", "l.txt"))
    shutil.copy(bundled_model_path(), model)
    shutil.copy(bundled_model_path(), twin)
    labels.write_text("".join(f"label {number}\n" for number in range(1000)))
    text = HEAD + "    model: {path: m.tflite, labels: l.txt, cpu_model: t.tflite, device: cpu}\n"
    for replaced in (None, model, twin, labels):
        (before,) = plans(photos, text)
        if replaced == labels:
            labels.write_text(labels.read_text().replace("label 7\n", "seven\n"))
        elif replaced is not None:
            with replaced.open("ab") as file:
                file.write(b"\0")
        (wanted,) = plans(photos, text)
        assert compare(before, wanted) is (Change.NONE if replaced is None else Change.RESTART), replaced


def test_labels_are_checked_although_the_cpu_model_is_missing(photos: Path) -> None:
    found = problems(photos, HEAD + "    model: {cpu_model: gone.tflite}\n    watches: [{name: x, labels: [1000]}]\n")
    assert [key for _, _, key, _ in found] == ["pipelines[0].model.cpu_model", "pipelines[0].watches[0].labels[0]"]


def test_the_labels_are_blamed_for_what_is_wrong_with_them_and_the_model_for_the_rest(photos: Path) -> None:
    (photos / "few.txt").write_text("one\ntwo\n")
    for labels in ("gone.txt", "few.txt"):
        ((_, _, key, message),) = problems(photos, HEAD + f"    model: {{labels: {labels}}}\n")
        assert (key, labels in message) == ("pipelines[0].model.labels", True)
    ((_, _, key, _),) = problems(photos, HEAD + "    model: {path: gone.tflite, labels: few.txt}\n")
    assert key == "pipelines[0].model.path"
