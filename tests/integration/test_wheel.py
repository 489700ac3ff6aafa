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

from edge_classifierd import __version__

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "edge_classifierd"
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


def build(repository: Path, folder: Path) -> Path:
    """Build the source distribution in `folder`, and the wheel from it. The copy's files have the time of now."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"):
        shutil.copyfile(repository / name, source / name)
    for name in ("edge_classifierd", "models", "tests"):
        shutil.copytree(repository / name, source / name, copy_function=shutil.copyfile)
    # What lies about in a checkout.
    (source / "edge_classifierd/__pycache__").mkdir(exist_ok=True)
    (source / "edge_classifierd/__pycache__/left.cpython-313.pyc").touch()
    run(sys.executable, "-m", "build", "--outdir", folder, source, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def distributions(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    return build(repository, tmp_path_factory.mktemp("distributions"))


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


@pytest.fixture(scope="module")
def carried(repository: Path) -> set[str]:
    """What both distributions carry of the package, with the bundled models and their licence."""
    modules = {
        path.relative_to(repository).as_posix()
        for path in (repository / "edge_classifierd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return modules | {f"models/{name}" for name in (*MODELS, "README.md")}


def test_wheel_carries_modules_models_and_photographs_and_nothing_else(wheel: Path, carried: set[str]) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    expected = {f"{PACKAGE}/{name}" if name.startswith("models/") else name for name in carried}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_source_distribution_carries_the_same_and_what_a_build_needs(distributions: Path, carried: set[str]) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        names = {name.partition("/")[2] for name in members.getnames()}
    assert names == carried | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO", ".gitignore"}


def test_a_second_build_is_equal_byte_for_byte(repository: Path, distributions: Path, tmp_path: Path) -> None:
    again = build(repository, tmp_path)
    built = [path.name for path in again.glob("*.*")]
    assert sorted(path.rpartition(".")[2] for path in built) == ["gz", "whl"]
    assert [name for name in built if (again / name).read_bytes() != (distributions / name).read_bytes()] == []


def test_the_version_is_the_same_everywhere(installed: Path, wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.startswith(f"{PACKAGE}-{__version__}-")
    assert run(installed / "edge-classifierd", "--version", cwd=tmp_path).stdout == f"edge-classifierd {__version__}\n"
    metadata = "import importlib.metadata; print(importlib.metadata.version('edge-classifierd'))"
    assert run(installed / "python", "-c", metadata, cwd=tmp_path).stdout == f"{__version__}\n"


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
