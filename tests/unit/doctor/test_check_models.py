"""The checks of models and Edge TPUs."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from model_server import ModelServer
from stand_in import model_pair

from edge_classifierd.doctor import check_models
from edge_classifierd.doctor.running_daemon import RunningDaemon
from edge_classifierd.errors import MissingError
from edge_classifierd.health.health_file import ReportedHealth, ReportedPipeline
from edge_classifierd.inference.edgetpu.device_lock import BusyError
from edge_classifierd.inference.edgetpu.devices import Tpu
from edge_classifierd.pipeline.planning.plan import BlockedPlan
from edge_classifierd.pipeline.planning.validation import plan_pipelines

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.doctor.check_result import CheckResult
    from edge_classifierd.pipeline.planning.plan import Plan
from examination_scene import HERE, plan_for, write_config


@pytest.mark.parametrize(
    ("accelerator", "verdict", "words"),
    [
        ("usb:0", "ok", "the running daemon uses usb:0"),
        ("cpu", "warning", "uses the CPU (it is hot; cool it)"),
        (None, "warning", "not tested"),
        ("none runs", "failed", "in use by process 7"),
    ],
)
def test_an_edge_tpu_in_use_is_fine_when_the_daemon_computes_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str | None, verdict: str, words: str
) -> None:
    reasons = ("it is hot; cool it",) if accelerator == "cpu" else ()
    pipeline = ReportedPipeline(online=True, reasons=reasons, accelerator=accelerator, fps=5.0)
    running = RunningDaemon(7, ReportedHealth(9.0, True, True, (), {"porch": pipeline}))
    daemon = None if accelerator == "none runs" else running
    plan = plan_for(tmp_path, {"type": "v4l2"})
    compiled = cast("Plan", SimpleNamespace(section=plan.section, bundle=SimpleNamespace(edgetpu_compiled=True),
                                            cpu_bundle=None))  # fmt: skip

    def busy(*_: object) -> Any:
        raise BusyError("usb:0: in use by process 7; stop it")

    monkeypatch.setattr(check_models, "list_tpus", lambda _root: [Tpu("usb", 0, "1-1"), Tpu("usb", 1, "1-2")])
    monkeypatch.setattr(check_models, "claim", busy)
    (finding,) = check_models.check_model(compiled, tmp_path, daemon=daemon)
    assert finding.verdict == verdict
    assert words in finding.sentence


def test_a_compiled_model_is_tried_on_the_device_that_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_pair(tmp_path)
    tpu = Tpu("usb", 0, "1-1")
    tried: list[Tpu] = []

    class DeviceLock:
        closed = 0

        def close(self) -> None:
            DeviceLock.closed += 1

    def claim(one: Tpu, _root: Path) -> DeviceLock:
        tried.append(one)
        return DeviceLock()

    def broken(*_: object) -> Any:
        raise MissingError("libedgetpu.so.1: not found; install libedgetpu1-std")

    monkeypatch.setattr(check_models, "list_tpus", lambda _root: [tpu])
    monkeypatch.setattr(check_models, "claim", claim)
    monkeypatch.setattr(check_models, "open_tpu", broken)

    def check(**model: str) -> list[CheckResult]:
        model = {"path": str(tmp_path / "colours_edgetpu.tflite"), **model}
        return check_models.check_model(plan_for(tmp_path, {"type": "v4l2"}, model=model), HERE, daemon=None)

    twin = {"cpu_model": str(tmp_path / "colours.tflite")}
    assert [(one.name, one.verdict) for one in check(device="cpu", **twin)] == [("model porch (cpu_model)", "ok")]
    (elsewhere,) = check(device="usb:1")
    assert (elsewhere.verdict, elsewhere.missing) == ("failed", True)
    assert "none is plugged in (device usb:1)" in elsewhere.sentence
    assert "cpu_model" in elsewhere.remedy
    beside, waiting = check(device="usb:1", **twin)
    assert (beside.verdict, waiting.verdict, waiting.missing) == ("ok", "warning", False)
    assert not tried
    for device in ("auto", "usb:0", "edgetpu"):
        (finding,) = check(device=device)
        assert (finding.verdict, finding.missing, finding.remedy) == ("failed", True, "install libedgetpu1-std")
    assert (tried, DeviceLock.closed) == ([tpu] * 3, 3), "the device is free again for the daemon"


def test_an_edge_tpu_that_may_not_be_opened_names_its_node_and_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "sys/bus/usb/devices/1-1.2"
    device.mkdir(parents=True)
    for name, text in {"idVendor": "18d1", "idProduct": "9302", "devnum": "4", "busnum": "1"}.items():
        (device / name).write_text(text)
    node = tmp_path / "dev/bus/usb/001/004"
    node.parent.mkdir(parents=True)
    node.touch()
    assert check_models.check_tpus(tmp_path, wanted=True)[0].verdict == "ok"
    asked = []

    def access(path: Path, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    (finding,) = check_models.check_tpus(tmp_path, wanted=True)
    assert (finding.verdict, finding.sentence) == ("failed", f"{node}: permission denied")
    assert "plugdev" in finding.remedy
    assert asked == [(node, os.R_OK | os.W_OK)]
    (device / "devnum").write_text("x")
    assert check_models.check_tpus(tmp_path, wanted=True)[0].verdict == "ok"


def test_a_model_that_is_to_be_fetched_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path))
    with ModelServer() as server:
        server.files["/birds.tflite"] = bytes(1000)
        model = {"url": f"{server.url}/birds.tflite", "sha256": "ab" * 32}
        _, (plan,) = plan_pipelines(write_config(tmp_path, model=model))
        assert isinstance(plan, BlockedPlan)
        found = check_models.check_blocked_model(plan)
        assert (found.name, found.verdict) == ("model porch", "warning")
        assert found.sentence.endswith("/birds.tflite delivers it")
        del server.files["/birds.tflite"]
        found = check_models.check_blocked_model(plan)
        assert (found.verdict, found.remedy) == ("failed", "check `url` and the server")
    found = check_models.check_blocked_model(plan)
    assert "cannot be fetched (Connection refused)" in found.sentence
