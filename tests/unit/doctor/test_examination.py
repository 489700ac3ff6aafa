"""The examination as a whole: its order, and what the configuration names."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from edge_classifierd.clock import SystemClock
from edge_classifierd.doctor import check_broker, check_models, examination
from edge_classifierd.doctor.check_result import CheckResult
from edge_classifierd.doctor.examination import examine
from edge_classifierd.doctor.running_daemon import RunningDaemon
from edge_classifierd.errors import Problem
from edge_classifierd.health.health_file import ReportedHealth, ReportedPipeline
from edge_classifierd.inference.edgetpu.devices import Tpu
from edge_classifierd.pipeline.planning.validation import prepare

if TYPE_CHECKING:
    import os

    from edge_classifierd.pipeline.planning.plan import Plan
from examination_scene import HERE, write_config


def test_a_machine_without_a_configuration_is_looked_at_with_a_warning(state: Path, tmp_path: Path) -> None:
    first, *others = examine(tmp_path / "none.yaml", SystemClock(), optional=True)
    assert (first.name, first.verdict) == ("configuration", "warning")
    assert "doctor --suggest" in first.remedy
    names = [finding.name for finding in others]
    assert {"runtime", "edge tpu", "groups", "clock", "watchdog", "disk"} <= set(names)
    assert not {"broker", "outbox", "camera porch"} & set(names)
    assert str(state.parent) in next(finding.sentence for finding in others if finding.name == "disk")


def test_every_mistake_and_every_doubt_about_a_configuration_is_a_line(
    state: Path,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = write_config(tmp_path, fit="sqeeze", crop_fraction=7)
    failed = [one for one in examine(config, SystemClock()) if one.name == "configuration"]
    assert [one.verdict for one in failed] == ["failed", "failed"]
    write_config(tmp_path, snapshot={"enabled": False})
    monkeypatch.setattr(examination, "visit_broker", lambda *_: check_broker.BrokerVisit())
    document, plans = prepare(config)
    doubt = Problem(str(config), 3, 5, "mqtt.password", "stands in the file")
    monkeypatch.setattr(examination, "plan_pipelines", lambda _: (replace(document, warnings=(doubt,)), plans))
    ok, doubted = [one for one in examine(config, SystemClock()) if one.name == "configuration"]
    assert (ok.verdict, doubted.verdict) == ("ok", "warning")
    assert "stands in the file" in doubted.sentence


def test_a_configuration_that_was_named_must_be_there(state: Path, tmp_path: Path) -> None:  # noqa: ARG001
    first, *_ = examine(tmp_path / "none.yaml", SystemClock())
    assert (first.name, first.verdict) == ("configuration", "failed")
    assert "`edge-classifierd doctor --suggest`" in first.remedy


def test_a_configuration_that_this_account_may_not_see_fails_in_a_sentence(
    state: Path,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, real = write_config(tmp_path), Path.stat

    def stat(path: Path, **how: Any) -> os.stat_result:
        if path == config:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    first, *_ = examine(config, SystemClock(), optional=True)
    assert "not there" not in first.sentence
    assert first.remedy == "use sudo, or let the account that runs this read it"


def test_what_the_configuration_names_is_looked_at_one_by_one(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = CheckResult("broker", "ok", "logged in")
    asked = []

    def check(plan: Plan, root: Path, **how: RunningDaemon | None) -> list[CheckResult]:
        asked.append(how)
        return check_models.check_model(plan, root, **how)  # type: ignore[arg-type]

    gone = ReportedPipeline(online=False, reasons=("it is gone; connect it",), accelerator=None, fps=None)
    daemon = RunningDaemon(4711, ReportedHealth(9.0, True, True, ("porch: it is gone", "hot"), {"porch": gone}))
    monkeypatch.setattr(examination, "check_model", check)
    monkeypatch.setattr(examination, "visit_broker", lambda *_: check_broker.BrokerVisit([met], b"offline"))
    monkeypatch.setattr(examination, "find_daemon", lambda outbox, at: daemon if outbox.parent == at == state else None)
    results = list(examine(write_config(tmp_path), SystemClock()))
    findings = {finding.name: finding for finding in results}
    assert findings["configuration"].sentence.endswith("config.yaml: 1 pipeline")
    assert "process 4711" in findings["outbox"].sentence
    assert (findings["camera porch"].verdict, findings["camera porch"].sentence) == ("failed", "it is gone")
    assert findings["model porch"].verdict == "ok"
    assert findings["broker"] is met
    assert "and no model needs one" in findings["edge tpu"].sentence
    connected, hot = [finding for finding in results if finding.name == "daemon"]
    assert (connected.verdict, hot.verdict, hot.sentence) == ("ok", "warning", "hot")
    assert asked == [{"daemon": daemon}]
    monkeypatch.setattr(examination, "find_daemon", lambda *_: None)
    asked.clear()
    findings = {finding.name: finding for finding in examine(write_config(tmp_path), SystemClock())}
    assert "/dev/video97" in findings["camera porch"].sentence
    assert findings["camera porch"].missing
    assert findings["daemon"].verdict == "unused"
    assert asked == [{"daemon": None}]


def test_a_damaged_model_and_an_absent_folder_fail_by_themselves_and_the_rest_is_tested(
    state: Path,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    config = write_config(tmp_path)
    document = yaml.safe_load(config.read_text())
    (tmp_path / "damaged.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    shutil.copy(Path(__file__).parents[3] / "edge_classifierd/demo_photos/cat.jpg", tmp_path)
    folder = {"type": "folder", "path": str(tmp_path)}
    document["pipelines"] = [
        {"name": "damaged", "source": folder, "model": {"path": "damaged.tflite"}},
        {"name": "absent", "source": {**folder, "path": "not-there"}},
        {"name": "works", "source": folder},
    ]
    config.write_text(yaml.safe_dump(document))
    findings = {finding.name: finding for finding in examine(config, SystemClock())}
    assert findings["configuration"].verdict == "ok", "the file is right"
    assert (findings["model damaged"].verdict, "damaged.tflite" in findings["model damaged"].sentence) == (
        "failed",
        True,
    )
    assert (findings["camera absent"].verdict, "not-there" in findings["camera absent"].sentence) == ("failed", True)
    assert [findings[name].verdict for name in ("model absent", "model works", "camera works")] == ["ok"] * 3


def test_without_a_runtime_no_model_is_tried_in_this_process(
    state: Path,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = CheckResult("runtime", "failed", "illegal instruction", missing=True)
    monkeypatch.setattr(examination, "check_runtime", lambda: broken)
    monkeypatch.setattr(examination, "check_model", None)
    findings = {finding.name: finding for finding in examine(write_config(tmp_path), SystemClock())}
    assert (findings["model porch"].verdict, findings["runtime"]) == ("failed", broken)


@pytest.mark.parametrize(
    ("source", "compiled", "tpus", "groups"),
    [
        ("folder", False, [], []),
        ("v4l2", False, [], ["video"]),
        ("picamera2", False, [], ["video", "render"]),
        ("folder", True, [Tpu("usb", 0, "1-1")], ["plugdev"]),
        ("folder", True, [Tpu("pci", 0, "apex_0")], []),
        ("folder", False, [Tpu("usb", 0, "1-1")], []),
    ],
)
def test_only_the_groups_that_something_needs_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, source: str, compiled: bool, tpus: list[Tpu], groups: list[str]
) -> None:
    monkeypatch.setattr(examination, "list_tpus", lambda _root: tpus)
    plan = SimpleNamespace(
        section=SimpleNamespace(source=SimpleNamespace(type=source)), bundle=SimpleNamespace(edgetpu_compiled=compiled)
    )
    assert examination._groups((cast("Plan", plan),), HERE) == groups
