"""The package as others get it: built from a clean copy, installed into an empty environment, run from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MODELS = {"efficientnet_lite0_int8.tflite", "efficientnet_lite2_int8.tflite"}

# The first run fetches the run-time packages.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def run(*command: str | Path, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    # Nothing of the checkout may leak in.
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def distributions(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    source = folder / "source"
    # Only what a build needs, so that nothing left over from an earlier one slips in.
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source / name)
    (source / "models").mkdir()
    for name in MODELS:
        shutil.copy(repository / "models" / name, source / "models" / name)
    shutil.copytree(
        repository / "edge_classifierd", source / "edge_classifierd", ignore=shutil.ignore_patterns("__pycache__")
    )
    run(sys.executable, "-m", "build", "--outdir", folder, source, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (wheel,) = distributions.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that holds the wheel, what it depends on, and nothing else."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", environment, cwd=environment)
    pip = (environment / "bin/python", "-m", "pip", "--disable-pip-version-check", "--no-input")
    run(*pip, "install", "--quiet", "--no-compile", "--prefer-binary", f"{wheel}[demo]", cwd=environment)
    run(*pip, "check", cwd=environment)
    return environment / "bin"


def test_wheel_carries_modules_models_and_photographs_and_nothing_else(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        path.relative_to(repository).as_posix()
        for path in (repository / "edge_classifierd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == modules | {
        f"edge_classifierd/models/{name}" for name in MODELS
    }


def test_source_distribution_carries_the_models(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        assert {path.rpartition("/")[2] for path in members.getnames() if path.endswith(".tflite")} == MODELS


def test_installed_command_line_says_what_it_can(installed: Path, tmp_path: Path) -> None:
    help_text = run(installed / "edge-classifierd", "--help", cwd=tmp_path).stdout
    assert all(command in help_text for command in ("run", "check", "classify", "listen", "demo"))


def test_installed_command_line_classifies_a_photograph(installed: Path, repository: Path, tmp_path: Path) -> None:
    photo = repository / "edge_classifierd/demo_photos/coffee.jpg"
    result = json.loads(run(installed / "edge-classifierd", "classify", "--json", photo, cwd=tmp_path).stdout)
    assert result["top"][0]["label"].startswith("espresso")
    accurate = run(installed / "edge-classifierd", "models", "info", "--bundled", "accurate", "--json", cwd=tmp_path)
    assert json.loads(accurate.stdout)["metadata"]["name"] == "efficientnet_lite2_int8"


def test_demo_runs_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    demo = run(installed / "edge-classifierd", "demo", "--json", "--for", "10", cwd=tmp_path, timeout=90)
    types = {json.loads(line).get("type") for line in demo.stdout.splitlines()}
    assert {"detected", "cleared"} <= types
