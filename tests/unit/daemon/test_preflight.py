from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.config.load import load
from edge_classifierd.daemon.preflight import ANY_WATCH, preflight
from edge_classifierd.daemon.reload import Change, compare
from edge_classifierd.errors import ConfigurationError

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
