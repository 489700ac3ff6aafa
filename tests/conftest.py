"""What every test may use: the repository's root, the real data beside it, and one setting of hypothesis."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_ROOT = Path(__file__).resolve().parents[1]

# No deadlines: the machines that run this are slow and noisy. CI tries the same examples every time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return _ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and models beside the checkout, which is not part of the project."""
    folder = _ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the photographs and models in {folder}")
    return folder
