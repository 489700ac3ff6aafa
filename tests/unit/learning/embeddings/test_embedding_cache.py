"""Embeddings are computed once for a picture and an extractor, whatever happens to the file that keeps them."""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawn_pictures import drawn, folders, write

from edge_classifierd.errors import UsageError
from edge_classifierd.learning import measure
from edge_classifierd.learning.embeddings import cache as embedding_cache
from edge_classifierd.learning.embeddings.cache import EmbeddingCache, key_of
from edge_classifierd.learning.embeddings.embed import Embedder, load_extractor
from edge_classifierd.learning.train import TrainingPlan, train
from edge_classifierd.model.bundle import bundled_model_path

if TYPE_CHECKING:
    from pathlib import Path

COPIES = 8


@pytest.fixture
def plan(tmp_path: Path) -> TrainingPlan:
    source = folders(tmp_path / "pictures", 3, ("disc", "stripes"))
    kept = tmp_path / "embeddings.sqlite"
    return TrainingPlan(
        source, bundled_model_path(), tmp_path / "m.tflite", holdout=0, add_unknown=False, embeddings=kept
    )


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each embedding that was computed."""
    counted: list[int] = []
    compute = Embedder._compute

    def count(embedder: Embedder, tensor: np.ndarray) -> np.ndarray:
        counted.append(1)
        return compute(embedder, tensor)

    monkeypatch.setattr(Embedder, "_compute", count)
    return counted


def forget(computed: list[int]) -> int:
    count = len(computed)
    computed.clear()
    return count


def test_a_second_training_computes_only_what_is_new_and_gives_the_same_bytes(
    plan: TrainingPlan, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for built_in in ("pictures_to_learn", "pictures_to_measure"):
        monkeypatch.setattr(measure, built_in, lambda: [plan.source / "disc" / "1.jpg"])
    first = train(plan)
    assert forget(computed) == len(first.learnt) * (1 + COPIES)
    assert train(plan).sha256 == first.sha256
    assert forget(computed) == 0
    write(plan.source / "disc" / "0.jpg", drawn("disc", 99))  # another picture in the same file
    second = train(plan)
    assert forget(computed) == 1 + COPIES
    assert second.sha256 != first.sha256
    assert train(dataclasses.replace(plan, embeddings=None)).sha256 == second.sha256, "what is kept is what is computed"


def test_another_extractor_has_other_keys() -> None:
    fast, accurate = (
        Embedder(load_extractor(bundled_model_path(name)), fit="crop", crop_fraction=1.0, threads=1)
        for name in ("fast", "accurate")
    )
    assert fast._computes != accurate._computes


def ones(path: Path, *names: str) -> int:
    """Ask for embeddings; return how many were computed."""
    computed = []

    def compute() -> np.ndarray:
        computed.append(1)
        return np.ones(2, np.float32)

    with EmbeddingCache(path) as cache:
        for name in names:
            assert cache.get(key_of(name.encode()), 2, compute).tolist() == [1, 1]
    return len(computed)


def test_a_damaged_file_costs_only_the_time(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.sqlite"
    path.write_bytes(b"no database" * 1000)
    assert ones(path, "a", "b") == 2
    assert not path.exists(), "the next training makes a new one"
    assert (ones(path, "a", "b"), ones(path, "a", "b")) == (2, 0)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    assert ones(path, "a", "b") == 2


def test_a_folder_that_is_not_there_costs_only_the_time(tmp_path: Path) -> None:
    assert [ones(tmp_path / "none" / "embeddings.sqlite", "a") for _ in range(2)] == [1, 1]


def test_what_is_not_used_is_removed_only_by_a_training_that_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.sqlite"

    def kept() -> set[bytes]:
        connection = sqlite3.connect(path)
        found = {key for (key,) in connection.execute("SELECT key FROM embeddings")}
        connection.close()
        return found

    def fail() -> None:
        with EmbeddingCache(path) as cache:
            cache.get(key_of(b"c"), 2, lambda: np.ones(2, np.float32))
            raise UsageError("a class has too few pictures")

    ones(path, "a", "b")
    with pytest.raises(UsageError):
        fail()
    assert kept() == {key_of(b"a"), key_of(b"b"), key_of(b"c")}
    ones(path, "a")
    assert kept() == {key_of(b"a")}


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_cache, "_MOST", 3)
    path = tmp_path / "embeddings.sqlite"
    assert [ones(path, *"abcde") for _ in range(2)] == [5, 2]


def test_an_embedding_of_another_length_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.sqlite"
    for columns in (2, 3):
        with EmbeddingCache(path) as cache:
            value = cache.get(key_of(b"a"), columns, lambda columns=columns: np.zeros(columns, np.float32))  # type: ignore[misc]
        assert value.shape == (columns,)
