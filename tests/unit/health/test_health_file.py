"""The file with the daemon's health: where it is written, who may read it, and what is read from it."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_classifierd.clock import SystemClock, process_age_s
from edge_classifierd.health.board import BoardState
from edge_classifierd.health.health_file import HealthFile, possible_paths, read_health
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.health.report import Health, MqttHealth, OutboxHealth, PipelineHealth, encode


@pytest.fixture(autouse=True)
def _without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


def a_document() -> bytes:
    metrics = PipelineMetrics(SystemClock())
    metrics.set_accelerator("usb:0")
    figures = metrics.snapshot()
    return encode(
        Health(
            version="1",
            time=datetime(2026, 11, 28, tzinfo=UTC),
            uptime_s=12.5,
            clock_synchronised=True,
            pipelines=(
                PipelineHealth("door", "online", None, figures),
                PipelineHealth("yard", "offline", "/dev/video9: no such device; connect it", figures),
            ),
            outbox=OutboxHealth(0, 0, 0, durable=False, durable_reason="disk full", oldest_age_s=None),
            board=BoardState(None, None, None, None, None, None, None),
            mqtt=MqttHealth(None, 0),
        )
    )


def test_what_the_daemon_wrote_is_read(tmp_path: Path) -> None:
    HealthFile(tmp_path).write(a_document())
    health = read_health(tmp_path / "health.json")
    assert (health.uptime_s, health.connected, health.durable) == (12.5, False, False)
    assert health.pipelines["door"].online
    assert health.pipelines["door"].accelerator == "usb:0"
    assert not health.pipelines["yard"].online
    assert health.pipelines["yard"].reasons == ("/dev/video9: no such device; connect it",)
    assert "events would not survive a loss of power: disk full" in health.reasons


@pytest.mark.parametrize("umask", [0o077, 0o022])
def test_it_is_for_the_services_group(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        HealthFile(tmp_path).write(b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "health.json").stat().st_mode) == 0o640


def test_it_lies_in_systemds_runtime_directory_else_in_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    for folder in (state, run):
        folder.mkdir()
    HealthFile(state).write(b"{}")
    assert (state / "health.json").exists()
    assert possible_paths(state) == (state / "health.json",)
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{run}:/run/other")
    HealthFile(state).write(b"{}")
    assert (run / "health.json").exists()
    assert possible_paths(state) == (run / "health.json", state / "health.json")
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    of_the_service = possible_paths(Path("/var/lib/edge-classifierd"))
    assert str(of_the_service[0]) == "/run/edge-classifierd/health.json", "for a doctor outside the service"


def test_a_file_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = HealthFile(tmp_path / "gone")
    file.write(b"{}")
    file.write(b"{}")
    assert len(caplog.records) == 1
    (tmp_path / "gone").mkdir()
    file.write(b"{}")
    (tmp_path / "gone" / "health.json").unlink()
    (tmp_path / "gone").rmdir()
    file.write(b"{}")
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "change", [{"uptime_s": None}, {"mqtt": None}, {"pipelines": []}, {"pipelines": {"a": {}}}, {"reasons": 7}]
)
def test_a_document_that_is_no_health_is_a_value_error(tmp_path: Path, change: dict[str, object]) -> None:
    file = tmp_path / "health.json"
    file.write_text(json.dumps({**json.loads(a_document()), **change}))
    with pytest.raises(ValueError, match=r"\w"):
        read_health(file)
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"\w"):
        read_health(file)


def test_the_age_of_another_process_is_known() -> None:
    assert process_age_s(1) >= process_age_s(os.getpid()) > 0
    assert process_age_s(2**30) == 0.0
