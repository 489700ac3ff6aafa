from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.errors import ModelError
from edge_classifierd.model.taught import IN_USE, LAST_GOOD, MODEL_FILE, taught_in_use
from edge_classifierd.teaching.records import NotTaughtError
from edge_classifierd.teaching.training.result import (
    ClassResult,
    HeldOutResult,
    TrainingResult,
    UnknownResult,
    VersionClass,
    VersionComparison,
    WrongPicture,
    decode_result,
    encode_result,
)
from edge_classifierd.teaching.training.versions import RESULT_FILE, VersionInUseError, Versions

if TYPE_CHECKING:
    from pathlib import Path

HELD_OUT = HeldOutResult(
    10,
    9,
    0.875,
    (ClassResult("A", "blue-tit", "blue tit", 6, 6), ClassResult("B", "unknown", "unknown", 4, 3)),
    (WrongPicture("P", "unknown", "blue-tit", 0.91),),
    (WrongPicture("Q", "blue-tit", "unknown", 0.85),),
)


def result(version: int, content: bytes = b"model") -> TrainingResult:
    return TrainingResult(
        version=version,
        made="2026-11-29T08:00:00.000Z",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        seconds=7.5,
        extractor="fast",
        learnt_from=30,
        estimate=False,
        classes=(VersionClass("A", "blue-tit", "blue tit", False), VersionClass("B", "unknown", "unknown", True)),
        held_out=HELD_OUT,
        unknown=UnknownResult(4, 1),
        against=VersionComparison(1, HELD_OUT, None),
        thresholds={"blue-tit": 0.7},
        sentences=("Of 10 pictures that it had never seen, 9 were right.",),
    )


def add(versions: Versions, number: int) -> None:
    folder = versions.make_folder("birds", f"t{number}")
    (folder / MODEL_FILE).write_bytes(b"model")
    (folder / RESULT_FILE).write_bytes(encode_result(result(number)))
    versions.add("birds", folder, number)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    for number in (1, 2, 3):
        add(made, number)
    return made


def test_a_result_is_the_same_after_it_was_stored() -> None:
    assert decode_result(encode_result(result(4))) == result(4)
    plain = dataclasses.replace(result(4), held_out=None, unknown=None, against=None)
    assert decode_result(encode_result(plain)) == plain


def test_the_version_in_use_is_read_with_its_classes_and_thresholds(versions: Versions, tmp_path: Path) -> None:
    assert versions.in_use("birds") is None
    in_use = versions.use("birds", 2)
    assert in_use == taught_in_use(tmp_path, "birds") == versions.in_use("birds")
    assert (in_use.title, in_use.file.read_bytes(), in_use.previous) == ("birds-2", b"model", None)
    assert [(one.slug, one.threshold) for one in in_use.labels] == [("blue-tit", 0.7), ("unknown", None)]


def test_rolling_back_returns_to_the_version_before_and_forth(versions: Versions) -> None:
    versions.use("birds", 2)
    with pytest.raises(NotTaughtError, match="no version was in use before"):
        versions.rollback("birds")
    versions.use("birds", 3)
    versions.use("birds", 3)
    assert (versions.rollback("birds").version, versions.rollback("birds").version) == (2, 3)


def test_a_damaged_model_is_not_put_in_use(versions: Versions) -> None:
    versions.use("birds", 1)
    versions.file("birds", 2, MODEL_FILE).write_bytes(b"other")
    with pytest.raises(ModelError, match="its SHA-256 is not that of the training"):
        versions.use("birds", 2)
    in_use = versions.in_use("birds")
    assert in_use is not None
    assert in_use.version == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 3}', b"\xff"])
def test_a_damaged_file_gives_the_last_good_version(versions: Versions, tmp_path: Path, damage: bytes) -> None:
    versions.use("birds", 1)
    versions.use("birds", 2)
    (tmp_path / "taught/birds" / IN_USE).write_bytes(damage)
    assert taught_in_use(tmp_path, "birds").version == 1
    (tmp_path / "taught/birds" / LAST_GOOD).unlink()
    with pytest.raises(ModelError, match=r"in-use\.json: is damaged .*put a version in use again"):
        taught_in_use(tmp_path, "birds")


def test_what_is_missing_is_said_with_the_remedy(versions: Versions, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="taught model fish: there is no such model"):
        taught_in_use(tmp_path, "fish")
    with pytest.raises(ModelError, match="no version is in use yet"):
        taught_in_use(tmp_path, "birds")
    with pytest.raises(NotTaughtError, match="has no version 9; it has 1, 2, 3"):
        versions.use("birds", 9)
    with pytest.raises(NotTaughtError, match="has no versions; train it first"):
        versions.use("fish", 1)
    with pytest.raises(ModelError, match="is no name of a taught model"):
        versions.use("../birds", 1)


def test_the_ten_newest_and_the_one_in_use_are_kept(versions: Versions) -> None:
    versions.use("birds", 1)
    versions.use("birds", 2)
    for number in range(4, 14):
        add(versions, number)
    assert [one.version for one in versions.results("birds")] == [*range(13, 3, -1), 2, 1]
    assert versions.next_number("birds") == 14


def test_a_version_in_use_is_not_deleted(versions: Versions) -> None:
    versions.use("birds", 2)
    with pytest.raises(VersionInUseError, match="version 2 is in use"):
        versions.delete("birds", 2)
    versions.delete("birds", 3)
    assert [one.version for one in versions.results("birds")] == [2, 1]


def test_renamed_classes_keep_their_slugs_in_all_versions(versions: Versions) -> None:
    versions.rename_classes("birds", {"blue-tit": "Blaumeise"})  # nothing is in use
    versions.use("birds", 2)
    versions.rename_classes("birds", {"blue-tit": "Blaumeise"})
    assert [(one.slug, one.name) for one in versions.use("birds", 3).labels] == [
        ("blue-tit", "Blaumeise"),
        ("unknown", "unknown"),
    ]


def test_processes_that_switch_at_the_same_time_leave_a_whole_file(versions: Versions, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=switch_often, args=(tmp_path, number)) for number in (1, 2)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        in_use = versions.in_use("birds")
        assert in_use is None or in_use.version in {1, 2}
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert taught_in_use(tmp_path, "birds").version in {1, 2}


def switch_often(state: Path, version: int) -> None:
    for _ in range(20):
        Versions(state).use("birds", version)
