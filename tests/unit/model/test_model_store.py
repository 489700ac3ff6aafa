"""Fetching models from addresses, with a real server that misbehaves, and which files stay on the device."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

import pytest
from model_server import ModelServer

from edge_classifierd.errors import FetchError, RefusedFetchError
from edge_classifierd.model import download
from edge_classifierd.model.store import FetchedModels, NotFetchedError, RemoteModel, fetched_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as made:
        made.files["/birds.tflite"] = CONTENT
        yield made


def remote(server: ModelServer, content: bytes = CONTENT, path: str = "/birds.tflite") -> RemoteModel:
    return RemoteModel(server.url + path, hashlib.sha256(content).hexdigest())


def names(state: Path) -> list[str]:
    return sorted(file.name for file in (state / "fetched").iterdir())


def test_a_model_is_fetched_verified_and_not_fetched_again(server: ModelServer, tmp_path: Path) -> None:
    store, model = FetchedModels(tmp_path), remote(server)
    with pytest.raises(NotFetchedError, match=r"birds.tflite: is not on this device yet; the daemon fetches it"):
        fetched_file(tmp_path, model)
    store.fetch(model)
    assert fetched_file(tmp_path, model).read_bytes() == CONTENT
    store.fetch(model)
    assert len(server.requested) == 1
    assert names(tmp_path) == [f"{model.sha256}.tflite"]


def test_the_name_of_a_model_is_that_of_its_file() -> None:
    sha256 = "ab" * 32
    assert RemoteModel("https://a.example/x/birds-3.tflite?token=secret", sha256).name == "birds-3"
    assert RemoteModel("https://a.example/x/b%20%1b.tflite", sha256).name == "b \\x1b"
    assert RemoteModel("https://a.example/", sha256).name == "model"
    shown = RemoteModel("https://u:p@a.example/birds.tflite?token=secret", sha256)
    assert (shown.shown, shown.title) == ("https://a.example/birds.tflite", "birds (abababab)")


def test_a_damaged_file_is_fetched_again(server: ModelServer, tmp_path: Path) -> None:
    store, model = FetchedModels(tmp_path), remote(server)
    store.fetch(model)
    fetched_file(tmp_path, model).write_bytes(CONTENT[:-1] + b"!")
    store.fetch(model)
    assert fetched_file(tmp_path, model).read_bytes() == CONTENT
    assert len(server.requested) == 2


def test_another_content_is_refused_and_nothing_of_it_stays(server: ModelServer, tmp_path: Path) -> None:
    with pytest.raises(RefusedFetchError, match=r"has the SHA-256 \w{8}…, not \w{8}…; correct `sha256`"):
        FetchedModels(tmp_path).fetch(remote(server, b"another"))
    assert names(tmp_path) == []


def test_a_killed_fetch_continues_and_a_part_of_an_earlier_file_does_not_matter(
    server: ModelServer, tmp_path: Path
) -> None:
    store, model = FetchedModels(tmp_path), remote(server)
    part = tmp_path / "fetched" / f".{model.sha256}.part"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(CONTENT[:777])
    store.fetch(model)
    assert server.requested == [("/birds.tflite", "bytes=777-")]
    fetched_file(tmp_path, model).unlink()
    part.write_bytes(b"of an earlier file")
    store.fetch(model)
    assert fetched_file(tmp_path, model).read_bytes() == CONTENT
    assert server.requested[1:] == [("/birds.tflite", "bytes=18-"), ("/birds.tflite", None)]


def test_a_truncated_body_is_continued_and_one_that_never_ends_well_is_given_up(
    server: ModelServer, tmp_path: Path
) -> None:
    store, model = FetchedModels(tmp_path), remote(server)
    server.fault, server.cut_after = "cut", 40_000
    store.fetch(model)
    assert [wanted for _, wanted in server.requested] == [None, "bytes=40000-", "bytes=80000-"]
    fetched_file(tmp_path, model).unlink()
    server.cut_after = 0
    with pytest.raises(FetchError, match=r"cannot be fetched \(the connection was cut\)"):
        store.fetch(model)


@pytest.mark.parametrize("fault", ["drip", "mute"])
def test_a_server_that_sends_a_byte_at_a_time_is_given_up(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(download, "PACE_S", 0.2)
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.fault = fault  # type: ignore[assignment] # one of the two
    with pytest.raises(FetchError, match="it sends less than"):
        FetchedModels(tmp_path).fetch(remote(server))


def test_an_endless_body_is_ended(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 1_000_000)
    server.fault = "endless"
    with pytest.raises(RefusedFetchError, match=r"sends more than at most 1,000,000 bytes"):
        FetchedModels(tmp_path).fetch(remote(server))
    assert (tmp_path / "fetched" / f".{remote(server).sha256}.part").stat().st_size == 0


def test_space_for_the_outbox_stays_on_the_disk(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_classifierd.model.store._SPARE_BYTES", 10**15)
    with pytest.raises(FetchError, match=r"the disk has .* MB free and .* must stay free"):
        FetchedModels(tmp_path).fetch(remote(server))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("moved", "redirects more than 5 times"),
        ("large redirect", "redirects more than 5 times"),
        ("plain", "redirects to an address that is not https"),
        ("error", "the server answers 503"),
    ],
)
def test_redirects_are_bounded_and_stay_encrypted(
    server: ModelServer, tmp_path: Path, fault: str, sentence: str
) -> None:
    server.fault = fault  # type: ignore[assignment] # one of the four
    with pytest.raises(FetchError, match=sentence) as caught:
        FetchedModels(tmp_path).fetch(remote(server))
    assert isinstance(caught.value, RefusedFetchError) == (fault != "error")


def test_a_missing_file_and_a_missing_server_are_one_sentence_each(server: ModelServer, tmp_path: Path) -> None:
    store = FetchedModels(tmp_path)
    with pytest.raises(RefusedFetchError, match="404 not found; check `url` and the server"):
        store.fetch(remote(server, path="/fish.tflite"))
    with pytest.raises(FetchError, match=r"cannot be fetched \(Connection refused\); check `url`"):
        store.fetch(RemoteModel("http://127.0.0.1:1/birds.tflite", "ab" * 32))


def test_a_cancelled_fetch_keeps_what_has_come(server: ModelServer, tmp_path: Path) -> None:
    model, part = remote(server), tmp_path / "fetched" / f".{remote(server).sha256}.part"
    server.files["/birds.tflite"] = CONTENT * 20
    with pytest.raises(FetchError, match="cancelled"):
        FetchedModels(tmp_path).fetch(model, cancelled=lambda: part.exists() and part.stat().st_size > 100_000)
    assert 100_000 < part.stat().st_size < len(CONTENT) * 20


def test_proxies_come_from_the_environment(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://localhost:9/birds.tflite"] = CONTENT
    FetchedModels(tmp_path).fetch(RemoteModel("http://localhost:9/birds.tflite", remote(server).sha256))
    assert server.requested == [("http://localhost:9/birds.tflite", None)]


def test_what_is_wanted_or_has_run_stays_and_the_rest_goes(server: ModelServer, tmp_path: Path) -> None:
    store = FetchedModels(tmp_path)
    models = []
    for number in range(5):
        content = CONTENT + bytes([number])
        server.files[f"/birds-{number}.tflite"] = content
        models.append(remote(server, content, f"/birds-{number}.tflite"))
        store.fetch(models[-1])
    for model in models[:3]:
        store.record("garden", model)
    (tmp_path / "fetched" / f".{'0' * 64}.part").write_bytes(b"of a fetch that nobody continues")
    store.prune({models[3]}, ["garden"])
    assert names(tmp_path) == sorted([*(f"{one.sha256}.tflite" for one in models[1:4]), "ran.json"])
    assert FetchedModels(tmp_path).ran("garden") == (models[2], models[1])
    store.record("garden", models[1])  # back to the one before
    assert store.ran("garden") == (models[1], models[2])
    store.prune((), [])
    assert names(tmp_path) == ["ran.json"]
    assert FetchedModels(tmp_path).ran("garden") == ()


@pytest.mark.parametrize("content", ["", "[]", '{"models that ran, version 1": {"a": [["x", "y"]]}}', "{", "7"])
def test_a_damaged_record_is_set_aside(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "ran.json").write_text(content)
    store = FetchedModels(tmp_path)
    assert store.ran("a") == ()
    assert "set aside as ran.json.unreadable" in caplog.text
    store.record("a", RemoteModel("https://a.example/b.tflite", "ab" * 32))
    assert "b.tflite" in json.dumps(json.loads((tmp_path / "fetched" / "ran.json").read_text()))


def test_a_folder_that_cannot_be_written_is_one_sentence(server: ModelServer, tmp_path: Path) -> None:
    (tmp_path / "fetched").write_text("a file")
    with pytest.raises(FetchError, match=r"cannot be stored in .*; check the disk"):
        FetchedModels(tmp_path).fetch(remote(server))
    assert [file.name for file in tmp_path.iterdir()] == ["fetched"]
