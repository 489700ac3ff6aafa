"""What the README shows is true: its configuration loads, its event fits the schema, what it links to is there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import jsonschema
import pytest

from edge_classifierd.config.loading.load import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)


def test_each_configuration_of_the_readme_is_accepted(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    configurations = blocks(readme, "yaml")
    assert configurations
    for number, text in enumerate(configurations):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        load(path)


def test_the_event_of_the_readme_fits_the_schema(readme: str, repository: Path) -> None:
    schema = json.loads((repository / "docs/event.schema.json").read_text(encoding="utf-8"))
    (event,) = blocks(readme, "json")
    jsonschema.validate(json.loads(event), schema, format_checker=jsonschema.FormatChecker())


def test_the_readme_stays_short(readme: str) -> None:
    assert readme.count("\n") <= 150


def test_every_link_of_the_readme_leads_to_a_file(readme: str, repository: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in target]
    assert targets
    assert [target for target in targets if not (repository / target).is_file()] == []


def test_pictures_of_the_readme_are_small(repository: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in (repository / "docs/images").iterdir()}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > 60_000} == {}
