"""A machine with one stand-in Edge TPU, and classifiers on it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from failover_fakes import DEADLINE_S
from stand_in import Machine, build_delegate, model_pair

from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
from edge_classifierd.inference.edgetpu.devices import ROOT
from edge_classifierd.inference.factory import make_classifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_classifierd.model.bundle import ModelBundle


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelBundle, ModelBundle]:
    return model_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with one stick, at port 1-1."""
    made = Machine(tmp_path / "root")
    made.add("1-1")
    monkeypatch.setenv(ROOT, str(made.root))
    return made


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    """A file: the stand-in misbehaves while it exists."""
    return tmp_path / "fault"


@pytest.fixture
def start(
    library: Path, pair: tuple[ModelBundle, ModelBundle], fault: Path, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(device: str = "usb:0", *, fallback: bool = True, mode: str = "ok", count: int = 1, **settings: Any) -> Any:
        options = {"mode": mode, "while": str(fault), "journal": str(tmp_path / "journal"), **settings.pop("also", {})}
        edgetpu = EdgeTpuSettings(
            **{"library": str(library), "deadline_s": DEADLINE_S, "load_deadline_s": 2.0, "count": count, **settings},
            options=options,
        )
        made.append(make_classifier(pair[0], device, cpu_bundle=pair[1] if fallback else None, edgetpu=edgetpu))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("edgetpu")] == []
