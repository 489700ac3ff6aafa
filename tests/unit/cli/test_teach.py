"""The command `teach`: what it prints, and an archive from one state directory to another."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from moving_pictures import encoded
from taught_versions import add_version
from typer.testing import CliRunner

from edge_classifierd.cli.main import app
from edge_classifierd.clock import SystemClock
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    store = TeachingStore(folder, SystemClock())
    store.create("birds", "garden")
    robin = store.add_class("birds", "robin").id
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        picture = encoded(av.VideoFrame.from_ndarray(noise, format="rgb24"))
        store.add_picture("birds", class_id=robin if number else None, picture=picture, source="upload")
    store.close()
    return folder


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["teach", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_list_and_show_print_classes_and_what_is_missing(state: Path) -> None:
    assert run("list", "--state", str(state)) == (0, "birds: unknown 0, robin 2, 1 to sort\n", "")
    code, shown, _ = run("show", "birds", "--state", str(state))
    assert code == 0
    assert "robin: 2 pictures, 1 recording. At least 5 pictures are needed" in shown
    assert "to train: Record at least 2 classes" in shown
    _, document, _ = run("show", "birds", "--state", str(state), "--json")
    assert json.loads(document)["classes"][1]["pictures"] == 2


def test_an_export_is_imported_elsewhere(state: Path, tmp_path: Path) -> None:
    zipped, other = tmp_path / "birds.zip", tmp_path / "other"
    other.mkdir()
    assert run("export", "birds", "-o", str(zipped), "--state", str(state))[:2] == (0, f"{zipped}\n")
    assert run("import", str(zipped), "--name", "fowl", "--state", str(other))[:2] == (
        0,
        "fowl: 2 classes, 3 pictures\n",
    )
    assert run("list", "--state", str(other))[1] == "fowl: unknown 0, robin 2, 1 to sort\n"
    assert not list(tmp_path.glob(".*"))


def test_an_import_counts_what_it_left_out_and_names_classes_without_pictures(state: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("wren/1.jpg", encoded(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        made.writestr("wren/2.jpg", b"damaged")
        made.writestr("tit/1.heic", b"\0\0\0\x18ftypheic")
    code, out, error = run("import", str(tmp_path / "x.zip"), "--name", "x", "--state", str(state))
    assert (code, out) == (0, "x: 3 classes, 1 picture\n")
    assert "no pictures are in tit; convert or replace those that were left out" in error


def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(state: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        (("show", "cats"), "cats: there is no taught model of this name"),
        (("export", "cats", "-o", str(tmp_path / "x.zip")), "cats: there is no taught model of this name"),
        (("export", "birds", "-o", "-"), "--output -: an archive is not written to standard output; give the name"),
        (("import", str(tmp_path / "none.zip"), "--name", "x"), "No such file"),
        (("import", str(tmp_path / "none.zip"), "--name", "birds"), "there is a taught model of this name already"),
    ):
        code, out, error = run(*arguments, "--state", str(state))
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert sentence in error
    assert run("list", "--state", str(tmp_path / "none"))[0] == 2
    assert not (tmp_path / "x.zip").exists()


def test_a_state_without_models_gives_a_hint(tmp_path: Path) -> None:
    code, out, error = run("list", "--state", str(tmp_path))
    assert (code, out) == (0, "")
    assert "no models are taught here yet" in error


def test_a_version_is_put_in_use_and_rolled_back(state: Path) -> None:
    for version in (1, 2):
        add_version(state, "birds", version)
    where = ("--state", str(state))
    assert run("use", "birds", "1", *where) == (0, "birds: version 1 is in use\n", "")
    assert run("use", "birds", "2", *where)[1] == "birds: version 2 is in use, before it 1\n"
    assert "version 2 (in use): not measured\nversion 1: not measured\n" in run("show", "birds", *where)[1]
    assert run("rollback", "birds", *where)[1] == "birds: version 1 is in use, before it 2\n"
    assert "version 1 (in use)" in run("show", "birds", *where)[1]


def test_a_version_that_does_not_exist_is_refused(state: Path) -> None:
    where = ("--state", str(state))
    code, _, reason = run("use", "birds", "4", *where)
    assert (code, "birds: has no versions; train it first" in reason) == (2, True)
    add_version(state, "birds", 1)
    code, _, reason = run("use", "birds", "4", *where)
    assert (code, "birds: has no version 4; it has 1" in reason) == (2, True)
    assert "no version was in use before" in run("rollback", "birds", *where)[2]
