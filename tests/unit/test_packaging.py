"""The files of `packaging`: the known-good versions fit pyproject.toml, and the container's files fit each other."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

from edge_classifierd.config.loading.load import load

if TYPE_CHECKING:
    from pathlib import Path


def known(repository: Path, name: str) -> dict[str, str]:
    """The versions of a file of constraints. Each has a hash, as pip would refuse it otherwise."""
    text = (repository / f"packaging/constraints/{name}.txt").read_text()
    entries = re.findall(r"^([\w.-]+)==([^ ]+) .*\\\n(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"==", re.sub(r" ; .*", "", text)))
    return {name.replace("_", "-").lower(): version for name, version in entries}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_known_versions_are_what_pyproject_allows(repository: Path, machine: str, python: str) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    environment = {**default_environment(), "platform_machine": machine, "python_version": python}
    versions = known(repository, "service")
    assert "numpy" not in versions, "numpy is the system's"
    for text in (*project["dependencies"], *project["optional-dependencies"]["web"]):
        requirement = Requirement(text)
        if requirement.name != "numpy" and (requirement.marker is None or requirement.marker.evaluate(environment)):
            assert requirement.specifier.contains(versions[requirement.name.lower()]), text


def test_known_versions_build_the_wheel(repository: Path) -> None:
    (requirement,) = tomllib.loads((repository / "pyproject.toml").read_text())["build-system"]["requires"]
    assert Requirement(requirement).specifier.contains(known(repository, "build")["hatchling"])


def test_configuration_of_the_compose_file_is_accepted(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository / "packaging/container"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    for name in compose["services"]["edge-classifierd"]["secrets"]:
        (tmp_path / name).write_text("a long password\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    configuration = load(folder / "config.yaml").configuration
    assert configuration.mqtt.host == ("mosquitto",)
    assert configuration.web is not None
    assert configuration.web.listen.endswith(":8480"), "the port of the image's health check"


def test_compose_file_mounts_files_that_are_there(repository: Path) -> None:
    folder = repository / "packaging/container"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    mounts = [mount.split(":") for service in compose["services"].values() for mount in service["volumes"]]
    files = [source for source, *_ in mounts if source.startswith("./")]
    assert files
    assert all((folder / name).is_file() for name in files)
    assert {source for source, *_ in mounts} - set(files) == set(compose["volumes"])
    build = compose["services"]["edge-classifierd"]["build"]
    assert (folder / build["context"] / build["dockerfile"]).samefile(folder / "Containerfile")
