"""The doctor's checks, each on the real thing: files, locks, pictures, models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import yaml
from moving_pictures import encoded, picture, write_video
from stand_in import Machine, build_delegate, model_pair

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.doctor.check_camera import check_pipeline_camera
from edge_classifierd.doctor.check_machine import check_board, check_groups, check_outbox, check_watchdog
from edge_classifierd.doctor.check_models import check_model, check_tpus
from edge_classifierd.doctor.check_result import CheckResult, exit_code, from_sentence
from edge_classifierd.doctor.find_cameras import FoundCamera
from edge_classifierd.doctor.running_daemon import RunningDaemon, daemon_on, find_daemon
from edge_classifierd.doctor.suggested_configuration import suggest
from edge_classifierd.errors import ExitCode
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.health.board import BoardState, Throttling
from edge_classifierd.health.health_file import ReportedHealth, ReportedPipeline
from edge_classifierd.inference.edgetpu.devices import ROOT, Tpu
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.pipeline.planning.validation import preflight

if TYPE_CHECKING:
    from edge_classifierd.pipeline.planning.plan import Plan

CALM = BoardState(None, 50.0, Throttling.from_bits(0), 50.0, 2000.0, 0.1, 9000.0)


def plan_for(folder: Path, source: dict[str, object], **model: object) -> Plan:
    config = folder / "config.yaml"
    pipeline = {"name": "porch", "source": source, "model": {"threads": 1, **model}}
    config.write_text(yaml.safe_dump({"pipelines": [pipeline]}))
    (plan,) = preflight(load(config))
    return plan


def test_missing_hardware_outranks_failure_and_warnings_do_not_count() -> None:
    fine, warned = CheckResult("a", "ok", "x"), CheckResult("b", "warning", "x", missing=True)
    failed, missing = CheckResult("c", "failed", "x"), CheckResult("d", "failed", "x", missing=True)
    assert exit_code([fine, warned]) is ExitCode.OK
    assert exit_code([fine, failed]) is ExitCode.FAILED
    assert exit_code([missing, failed]) is ExitCode.MISSING


def test_the_remedy_is_taken_out_of_a_sentence() -> None:
    finding = from_sentence("camera", "/dev/video0: no such device (a; b); connect it")
    assert (finding.sentence, finding.remedy) == ("/dev/video0: no such device (a; b)", "connect it")
    assert from_sentence("x", "it broke").sentence == "it broke"
    assert str(finding) == "failed   camera: /dev/video0: no such device (a; b); connect it"


@pytest.mark.parametrize(("level", "verdict", "words"), [(0, "warning", "black"), (255, "warning", "white")])
def test_a_picture_that_shows_nothing_is_a_warning(tmp_path: Path, level: int, verdict: str, words: str) -> None:
    write_video(tmp_path / "v.avi", [level] * 5)
    finding = check_pipeline_camera(plan_for(tmp_path, {"type": "stream", "url": "v.avi"}), SystemClock())
    assert finding.verdict == verdict
    assert words in finding.sentence
    assert finding.remedy


def test_a_blurred_picture_is_a_warning_and_a_detailed_one_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    ramp = np.repeat(np.broadcast_to(np.linspace(0, 250, 160), (120, 160))[:, :, None], 3, axis=2).astype(np.uint8)
    (folder / "0.jpg").write_bytes(encoded(av.VideoFrame.from_ndarray(np.ascontiguousarray(ramp), format="rgb24")))
    plan = plan_for(tmp_path, {"type": "folder", "path": "pictures"})
    blurred = check_pipeline_camera(plan, SystemClock())
    assert blurred.verdict == "warning"
    assert "blurred" in blurred.sentence
    (folder / "0.jpg").write_bytes(encoded(picture(100, noise=True)))
    fine = check_pipeline_camera(plan, SystemClock())
    assert (fine.verdict, "fps" in fine.sentence) == ("ok", False), "a folder has no rate of its own"


def test_a_camera_that_is_not_there_is_missing_hardware(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"type": "v4l2", "device": "/dev/video99"})
    finding = check_pipeline_camera(plan, SystemClock())
    assert (finding.verdict, finding.missing) == ("failed", True)
    assert "/dev/video99" in finding.sentence


def a_health(*, connected: bool = True, durable: bool = True, **pipelines: ReportedPipeline) -> ReportedHealth:
    return ReportedHealth(60.0, connected, durable, (), pipelines)


@pytest.mark.parametrize(
    ("reported", "verdict", "words"),
    [
        (ReportedPipeline(online=True, reasons=(), accelerator="cpu", fps=9.84), "ok", "gets 9.8 frames a second"),
        (ReportedPipeline(online=True, reasons=(), accelerator=None, fps=None), "ok", "gets frames"),
        (ReportedPipeline(False, ("/dev/video0: no such device; connect it",), None, None), "failed", "no such device"),
        (ReportedPipeline(True, ("one even colour; check the lens",), "cpu", 9.8, "blank"), "warning", "even colour"),
        (ReportedPipeline(False, (), None, 0.0), "warning", "takes no frames"),
    ],
)
def test_a_running_daemons_camera_is_left_alone_and_its_report_counts(
    tmp_path: Path, reported: ReportedPipeline, verdict: str, words: str
) -> None:
    plan = plan_for(tmp_path, {"type": "v4l2"})
    daemon = RunningDaemon(7, a_health(porch=reported))
    finding = check_pipeline_camera(plan, SystemClock(), daemon=daemon, make=untouchable)
    assert (finding.verdict, finding.missing) == (verdict, "no such device" in words)
    assert words in finding.sentence


def test_a_camera_of_which_the_daemon_reports_nothing_is_not_ok(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"type": "v4l2"})
    silent = check_pipeline_camera(plan, SystemClock(), daemon=RunningDaemon(7, None), make=untouchable)
    assert silent.verdict == "warning"
    assert "not tested" in silent.sentence
    added = check_pipeline_camera(plan, SystemClock(), daemon=RunningDaemon(7, a_health()), make=untouchable)
    assert (added.verdict, "reload" in added.remedy) == ("warning", True)


def test_a_folder_that_only_the_daemon_cannot_read_fails(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[3] / "edge_classifierd/demo_photos/cat.jpg", tmp_path)
    plan = plan_for(tmp_path, {"type": "folder", "path": "."})
    works = ReportedPipeline(online=True, reasons=(), accelerator="cpu", fps=5.0)
    looked = check_pipeline_camera(plan, SystemClock(), daemon=RunningDaemon(7, a_health(porch=works)))
    assert "brightness" in looked.sentence, "any process may read a folder"
    hidden = ReportedPipeline(False, (f"{tmp_path}: permission denied; open it",), "cpu", 0.0)
    finding = check_pipeline_camera(plan, SystemClock(), daemon=RunningDaemon(7, a_health(porch=hidden)))
    assert (finding.verdict, finding.remedy) == ("failed", "open it")


def untouchable(*_: object) -> Any:
    raise AssertionError("the camera was opened")


def test_the_outbox_says_who_has_it_open_and_is_not_locked_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    assert daemon_on(path) is None
    outbox = Outbox(path, topic=lambda _: "t", clock=SystemClock())
    assert daemon_on(path) == os.getpid()
    daemon = find_daemon(path, tmp_path)
    assert daemon is not None
    untested = check_outbox(path, daemon)
    assert (untested.verdict, "in use by the running daemon" in untested.sentence) == ("warning", True)
    assert check_outbox(path, RunningDaemon(7, a_health())).verdict == "ok"
    assert check_outbox(path, RunningDaemon(7, a_health(durable=False))).verdict == "failed"
    outbox.close()
    assert daemon_on(path) is None
    finding = check_outbox(path, None)
    assert finding.verdict == "ok"
    assert "ms" in finding.sentence
    assert not list(tmp_path.glob(".doctor*"))


def test_an_outbox_whose_folder_is_no_folder_fails_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = check_outbox(Path("/proc/outbox.sqlite3"), None)
    assert finding.verdict == "failed"
    assert "outbox.path" in finding.remedy


def test_the_boards_limits_are_told() -> None:
    assert {finding.verdict for finding in check_board(CALM, Path("/"))} == {"ok"}
    board = BoardState(None, 84.0, Throttling.from_bits(0x50001), None, 40.0, None, 300.0)
    verdicts = {finding.name: finding.verdict for finding in check_board(board, Path("/"))}
    assert verdicts == {"disk": "warning", "memory": "failed", "temperature": "warning", "supply": "failed"}
    past = BoardState(None, None, Throttling.from_bits(0x10000), None, None, None, None)
    (supply,) = check_board(past, Path("/"))
    assert (supply.verdict, supply.remedy) == ("warning", "use a stronger power supply")


def test_groups_name_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = 65534
    monkeypatch.setattr(os, "geteuid", lambda: nobody)
    finding = check_groups(["video"])
    assert finding.verdict == "warning"
    assert "usermod -aG video nobody" in finding.remedy
    assert check_groups(["no-such-group"]).verdict == "unused"


@pytest.mark.parametrize(
    ("told", "verdict", "words"),
    [
        ("LoadState=loaded\nActiveState=active\nWatchdogUSec=30s\nNRestarts=0", "ok", "watchdog 30s"),
        ("LoadState=loaded\nActiveState=active\nWatchdogUSec=0\nNRestarts=0", "warning", "watchdog 0"),
        ("LoadState=loaded\nActiveState=active\nWatchdogUSec=30s\nNRestarts=7", "warning", "restarted 7 times"),
        ("LoadState=loaded\nActiveState=inactive\nWatchdogUSec=30s\nNRestarts=0", "warning", "is inactive"),
        ("LoadState=loaded\nActiveState=failed\nWatchdogUSec=30s\nNRestarts=0", "failed", "is failed"),
        ("LoadState=loaded\nActiveState=activating\nWatchdogUSec=30s\nNRestarts=9", "failed", "is activating"),
        ("LoadState=not-found\nActiveState=inactive", "unused", "not installed"),
        ("", "unused", "not installed"),
    ],
)
def test_the_watchdog_is_asked_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, verdict: str, words: str
) -> None:
    assert "systemd does not run here" in check_watchdog(tmp_path).sentence
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    stand_in = tmp_path / "systemctl"
    stand_in.write_text(f"#!/bin/sh\nprintf '%s\\n' '{told}'\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    finding = check_watchdog(tmp_path)
    assert finding.verdict == verdict
    assert words in finding.sentence


def test_the_bundled_model_runs_and_is_timed(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[3] / "edge_classifierd/demo_photos/cat.jpg", tmp_path)
    (finding,) = check_model(plan_for(tmp_path, {"type": "folder", "path": "."}), Path("/"), daemon=None)
    assert finding.verdict == "ok"
    assert "ms an inference" in finding.sentence


def test_a_compiled_model_without_an_edge_tpu_is_missing_hardware_or_a_warning_with_a_twin(
    tmp_path: Path, shared: Path
) -> None:
    models = shared / "data/coral"
    compiled = str(models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    source = {"type": "v4l2"}
    (alone,) = check_model(plan_for(tmp_path, source, path=compiled), tmp_path, daemon=None)
    assert (alone.verdict, alone.missing) == ("failed", True)
    twin = str(models / "mobilenet_v1_0.25_128_quant.tflite")
    plan = plan_for(tmp_path, source, path=compiled, cpu_model=twin)
    verdicts = [finding.verdict for finding in check_model(plan, tmp_path, daemon=None)]
    assert verdicts == ["ok", "warning"]


def test_a_model_on_an_edge_tpu_is_timed_there_and_its_runtime_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path / "root")
    machine.add("1-1")
    monkeypatch.setenv(ROOT, str(machine.root))
    compiled, _ = model_pair(tmp_path)
    edgetpu = {"library": str(build_delegate(tmp_path))}
    plan = plan_for(tmp_path, {"type": "v4l2"}, path=str(compiled.path), edgetpu=edgetpu)
    (finding,) = check_model(plan, machine.root, daemon=None)
    assert finding.verdict == "ok"
    assert finding.sentence.endswith(f"ms an inference (usb:0, {find_runtime()})")


def test_edge_tpus_are_listed_from_the_kernel(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/usb/devices/1-1.2"
    device.mkdir(parents=True)
    for name, text in {"idVendor": "18d1", "idProduct": "9302", "devnum": "4", "busnum": "1"}.items():
        (device / name).write_text(text)
    (finding,) = check_tpus(tmp_path, wanted=True)
    assert (finding.verdict, finding.name) == ("ok", "edge tpu usb:0")
    assert "1-1.2" in finding.sentence
    (none,) = check_tpus(tmp_path / "empty", wanted=False)
    assert (none.verdict, "no model needs one" in none.sentence) == ("unused", True)
    (absent,) = check_tpus(tmp_path / "empty", wanted=True)
    assert (absent.verdict, "docs/edge-tpu.md" in absent.remedy) == ("warning", True)


@pytest.mark.parametrize(
    "cameras",
    [
        (),
        (FoundCamera("picamera2", "0", "imx708"),),
        (FoundCamera("v4l2", "/dev/v4l/by-id/usb-a: b", "C525"), FoundCamera("v4l2", "/dev/video2", "C525")),
    ],
)
def test_a_suggested_configuration_loads_and_names_each_camera(
    tmp_path: Path, cameras: tuple[FoundCamera, ...]
) -> None:
    for tpus, broker in (((), None), ((Tpu("usb", 0, "1-1"),), "homeassistant.local")):
        text = suggest(cameras, tpus, broker)
        (tmp_path / "config.yaml").write_text(text)
        plans = preflight(load(tmp_path / "config.yaml"))
        assert len(plans) == max(1, len(cameras))
        assert load(tmp_path / "config.yaml").configuration.mqtt.host == (broker or "localhost",)
        assert ("models fetch" in text) == bool(tpus)
