"""A draft is checked by its text alone: nothing that it names is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.config.loading.load import check_draft
from edge_classifierd.errors import ConfigurationError

if TYPE_CHECKING:
    from edge_classifierd.errors import Problem

GOOD = "pipelines: [{name: driveway, source: {type: v4l2}}]\n"


def problems(text: str) -> list[Problem]:
    return list(check_draft(text, "draft", Path("/etc/edge-classifierd")).found)


def test_a_good_draft_has_no_problems() -> None:
    assert problems(GOOD) == []
    assert len(check_draft(GOOD, "draft", Path("/")).rest.pipelines) == 1


def test_problems_have_their_place() -> None:
    found = problems(GOOD + "mqtt:\n  port: 99999\n  hots: x\n")
    assert [(one.line, one.column, one.key) for one in found] == [(3, 9, "mqtt.port"), (4, 3, "mqtt.hots")]


@pytest.mark.parametrize("tag", ["!file {}", "!env SECRET", "!credential secret"])
@pytest.mark.parametrize("key", ["port", "password", "base_topic", "client_id"])
def test_no_file_credential_or_variable_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str, key: str
) -> None:
    (tmp_path / "secret").write_text("top secret #\n")
    monkeypatch.setenv("SECRET", "top secret #")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setattr("edge_classifierd.config.loading.secrets.read_small_file", pytest.fail)
    value = tag.format(tmp_path / "secret")
    assert problems(GOOD + f"mqtt: {{username: u, {key}: {value}}}\n") == []
    assert problems(GOOD + f"mqtt: {{username: u, {key}: !file /does/not/exist}}\n") == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("- 1\n", "must be a mapping"),
        ("a: [", ""),
        ("a: \ud800\n", ""),
        ("x: &a [1]\n" + "y: [*a, *a]\n" * 3, ""),
        ("[" * 5000, ""),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, sentence: str) -> None:
    try:
        found: tuple[Problem, ...] = tuple(problems(text))
    except ConfigurationError as error:
        found = error.problems
    assert found
    assert sentence in " ".join(map(str, found))
