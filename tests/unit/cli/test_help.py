"""The help texts: readable in a terminal of 80 columns, and of any other width down to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from edge_classifierd.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator


def _commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))


COMMANDS = list(_commands(get_command(app)))


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_fits_80_columns_and_shows_no_type_of_a_flag(
    path: tuple[str, ...], columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert get_command(app).main([*path, "--help"], "edge-classifierd", standalone_mode=False) in {0, None}
    usage, _, text = capsys.readouterr().out.partition("\n")
    assert usage.startswith("Usage: edge-classifierd")
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert text.isascii()  # click writes UTF-8 also to a terminal without it
    assert "bool" not in text
    assert "..." not in text, "a summary is cut short"


def test_every_command_is_found() -> None:
    assert {("run",), ("models", "list"), ("discovery", "purge")} <= set(COMMANDS)
