"""The doctor's order of things, and each line of its that no healthy machine shows."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from moving_pictures import encoded, picture, write_video
from pipelines_scene import Camera
from stand_in import model_pair

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.doctor import check_broker, check_camera, check_machine, check_models, examination
from edge_classifierd.doctor.check_broker import discovery_prefix
from edge_classifierd.doctor.check_camera import look_through
from edge_classifierd.doctor.check_machine import check_board, check_clock, check_groups, check_outbox, check_watchdog
from edge_classifierd.doctor.check_result import CheckResult
from edge_classifierd.doctor.examination import examine
from edge_classifierd.doctor.find_cameras import FoundCamera
from edge_classifierd.doctor.picture_quality import PictureQuality
from edge_classifierd.doctor.running_daemon import RunningDaemon
from edge_classifierd.doctor.suggested_configuration import find_broker, found_lines, suggest
from edge_classifierd.errors import MissingError, Problem
from edge_classifierd.frames.capture import Capture
from edge_classifierd.frames.factory import make_source
from edge_classifierd.health.board import BoardState, Throttling
from edge_classifierd.health.health_file import ReportedHealth, ReportedPipeline
from edge_classifierd.inference.edgetpu.device_lock import BusyError
from edge_classifierd.inference.edgetpu.devices import Tpu
from edge_classifierd.mqtt.message import Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.validation import preflight, prepare

if TYPE_CHECKING:
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.pipeline.plan import Plan

TOPICS = Topics("edge-classifierd", "porch")
HERE = Path("/")


def write_config(folder: Path, **pipeline: Any) -> Path:
    config = folder / "config.yaml"
    one = {"name": "porch", "source": {"type": "v4l2", "device": "/dev/video97"}, **pipeline}
    mqtt = {"host": "127.0.0.1", "port": 9}
    config.write_text(yaml.safe_dump({"device": {"id": "porch"}, "mqtt": mqtt, "pipelines": [one]}))
    return config


def plan_for(folder: Path, source: dict[str, Any], **keys: Any) -> Plan:
    (plan,) = preflight(load(write_config(folder, source=source, **keys)))
    return plan


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


# The order, and the configuration


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
    assert "and no model wants one" in findings["edge tpu"].sentence
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


# The machine


def test_an_outbox_that_belongs_to_another_account_says_whose_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object, **__: object) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", deny)
        hidden = check_outbox(tmp_path / "outbox.sqlite3", None)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", deny)
        closed = check_outbox(tmp_path / "outbox.sqlite3", None)
    (tmp_path / "outbox.sqlite3").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    foreign = check_outbox(tmp_path / "outbox.sqlite3", None)
    for finding in (hidden, closed, foreign):
        assert finding.verdict == "failed"
        assert "permission denied" in finding.sentence
        assert "daemon's account" in finding.remedy
    assert foreign.sentence.startswith(str(tmp_path / "outbox.sqlite3"))
    assert not list(tmp_path.glob(".doctor*"))


def test_an_outbox_whose_folder_is_still_to_be_made_is_fine_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the daemon will make it" in check_outbox(tmp_path / "a" / "b" / "outbox.sqlite3", None).sentence
    assert not (tmp_path / "a").exists()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) if mode == os.F_OK else False)
    finding = check_outbox(tmp_path / "a" / "b" / "outbox.sqlite3", None)
    assert (finding.verdict, finding.remedy) == ("failed", f"make it: `sudo mkdir -p {tmp_path}/a/b`")


def test_the_disk_is_waited_for_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", synced.append)
    assert "worst of 5" in check_outbox(tmp_path / "o", None).sentence
    assert len(synced) == 5


def test_a_daemon_that_cannot_be_told_is_another_process(tmp_path: Path) -> None:
    assert "(another process)" in check_outbox(tmp_path / "o", RunningDaemon(0, None)).sentence


@pytest.mark.parametrize(("times_ms", "verdict"), [([1.0, 500.0, 501.0], "ok"), ([1.0, 501.0, 502.0], "warning")])
def test_a_slow_card_is_judged_by_its_typical_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times_ms: list[float], verdict: str
) -> None:
    monkeypatch.setattr(check_machine, "_sync_times_ms", lambda _folder: times_ms)
    finding = check_outbox(tmp_path / "o", None)
    assert (finding.verdict, bool(finding.remedy)) == (verdict, verdict == "warning")
    assert f"{times_ms[1]:.1f} ms" in finding.sentence
    assert f"{times_ms[2]:.1f} ms" in finding.sentence


@pytest.mark.parametrize(
    ("figure", "value", "verdict", "said"),
    [
        ("disk_free_mb", 500.0, "ok", "500 MB free"),
        ("disk_free_mb", 499.0, "warning", "499 MB free"),
        ("disk_free_mb", 50.0, "warning", "50 MB free"),
        ("disk_free_mb", 49.0, "failed", "49 MB free"),
        ("disk_free_mb", 12_340.0, "ok", "12.3 GB free"),
        ("available_mb", 150.0, "ok", "150 MB"),
        ("available_mb", 149.0, "warning", "149 MB"),
        ("available_mb", 49.0, "failed", "49 MB"),
        ("temperature_c", 79.9, "ok", "80 °C"),
        ("temperature_c", 80.0, "warning", "80 °C"),
    ],
)
def test_a_figure_of_the_board_is_judged_at_its_limit(figure: str, value: float, verdict: str, said: str) -> None:
    nothing = BoardState(None, None, None, None, None, None, None)
    assert check_board(nothing, HERE) == []
    (finding,) = check_board(replace(nothing, **cast("Any", {figure: value})), HERE)
    assert (finding.verdict, bool(finding.remedy)) == (verdict, verdict != "ok")
    assert said in finding.sentence


@pytest.mark.parametrize(
    ("bits", "verdict", "sentence", "remedy"),
    [
        (0x0, "ok", "no under-voltage and no throttling since the start", ""),
        (0x1, "failed", "under voltage now", "use a stronger power supply"),
        (0x2, "failed", "frequency capped now", "cool the board or use a stronger supply"),
        (0x4, "failed", "throttled now", "cool the board or use a stronger supply"),
        (0x8, "failed", "soft temperature limit now", "cool the board"),
        (0x20008, "failed", "soft temperature limit now", "cool the board"),
        (0x30000, "warning", "under voltage and frequency capped since the start", "use a stronger power supply"),
    ],
)
def test_the_supply_is_told_in_words_the_present_first(bits: int, verdict: str, sentence: str, remedy: str) -> None:
    board = BoardState(None, None, Throttling.from_bits(bits), None, None, None, None)
    (finding,) = check_board(board, HERE)
    assert (finding.verdict, finding.sentence, finding.remedy) == (verdict, sentence, remedy)


def test_a_clock_that_nobody_sets_is_a_warning() -> None:
    for synchronised, verdict in ((True, "ok"), (False, "warning")):
        finding = check_clock(cast("Any", SimpleNamespace(synchronised=lambda synchronised=synchronised: synchronised)))
        assert (finding.verdict, "set-ntp" in finding.remedy) == (verdict, not synchronised)


def test_root_may_do_everything_and_asks_for_the_services_account(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts: dict[str, Any] = {}
    groups = {"video": 44, "plugdev": 46, "render": 105}
    names = {number: SimpleNamespace(gr_name=name) for name, number in groups.items()}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(check_machine.pwd, "getpwnam", accounts.__getitem__)  # type: ignore[attr-defined]
    monkeypatch.setattr(check_machine.grp, "getgrgid", names.__getitem__)  # type: ignore[attr-defined]
    monkeypatch.setattr(check_machine.grp, "getgrnam", groups.__getitem__)  # type: ignore[attr-defined]
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, 4_000_000])
    assert "no account edge-classifierd on this machine" in check_groups(["video"]).sentence
    accounts["edge-classifierd"] = SimpleNamespace(pw_name="edge-classifierd", pw_gid=44, pw_uid=999)
    assert check_groups(["video", "a-group-that-is-not-here"]).sentence == "edge-classifierd is in video"
    assert check_groups([]).sentence == "no device needs a group"
    finding = check_groups(["video", "plugdev", "render"])
    assert finding.verdict == "warning"
    assert finding.sentence == "edge-classifierd is not in plugdev and render"
    assert "usermod -aG plugdev,render edge-classifierd" in finding.remedy
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert check_groups(["plugdev"]).sentence == "edge-classifierd is not in plugdev", "the service's, not ours"

    def unknown(_: object) -> Any:
        raise KeyError

    for name in ("getpwnam", "getpwuid"):
        monkeypatch.setattr(check_machine.pwd, name, unknown)  # type: ignore[attr-defined]
    assert check_groups(["video"]).sentence.startswith("user 4711 runs this")


@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        ("exec sleep 5", "warning", "does not answer"),
        ("printf 'LoadState=loaded\nActiveState=failed\nWatchdogUSec=30s\n'", "failed", "is failed"),
        ("printf 'LoadState=loaded\nActiveState=active\nWatchdogUSec=infinity\n'", "warning", "watchdog infinity"),
        ("printf 'LoadState=loaded\nActiveState=active\nWatchdogUSec=30s\nNRestarts=x\n'", "ok", "restarted 0 times"),
    ],
)
def test_a_systemd_that_is_odd_does_not_stop_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, verdict: str, words: str
) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(check_machine, "_SYSTEMCTL_S", 1.0)
    finding = check_watchdog(tmp_path)
    assert finding.verdict == verdict
    assert words in finding.sentence
    assert bool(finding.remedy) is (verdict != "ok")


# The cameras


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"brightness": 10.0}, ""),
        ({"brightness": 9.9}, "black"),
        ({"brightness": 245.0}, ""),
        ({"brightness": 245.1}, "white"),
        ({"contrast": 3.0}, ""),
        ({"contrast": 2.9}, "nothing can be told apart"),
        ({"sharpness": 20.0}, ""),
        ({"sharpness": 19.9}, "blurred"),
        ({"brightness": 1.0, "contrast": 0.0, "sharpness": 0.0}, "black"),
    ],
)
def test_the_worst_of_a_picture_is_complained_of(changes: dict[str, float], words: str) -> None:
    figures: dict[str, Any] = {"width": 640, "height": 480, "brightness": 100.0, "contrast": 50.0, "sharpness": 200.0}
    complaint, remedy = check_camera._complaint(PictureQuality(**{**figures, **changes}))
    assert bool(complaint) == bool(remedy) == bool(words)
    assert words in complaint


def test_a_camera_is_watched_for_a_while_and_its_rate_told(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", [100] * 60, noise=True)
    plan = plan_for(tmp_path, {"type": "stream", "url": str(tmp_path / "v.avi")})
    finding = look_through(plan, SystemClock())
    assert "160x120 at " in finding.sentence
    half = plan_for(tmp_path, {"type": "stream", "url": str(tmp_path / "v.avi")}, region={"width": 0.5})
    assert "80x120 at " in look_through(half, SystemClock()).sentence
    assert finding.name == "camera porch"


@pytest.mark.parametrize(
    ("source", "watched_s"),
    [
        ({"type": "stream", "url": "v.avi"}, 20.0),  # is over before
        ({"type": "folder", "path": "pictures", "loop": True}, 20.0),  # one picture is enough
        ({"type": "v4l2"}, 0.5),  # goes on for ever
    ],
)
def test_a_look_takes_no_longer_than_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], watched_s: float
) -> None:
    write_video(tmp_path / "v.avi", [100] * 5, noise=True)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(encoded(picture(100, noise=True)))
    monkeypatch.setattr(check_camera, "_FIRST_FRAME_S", 25.0)
    monkeypatch.setattr(check_camera, "_WATCHED_S", watched_s)
    make: Any = (lambda *_: Camera("porch", live=True)) if source["type"] == "v4l2" else make_source
    start_s = time.monotonic()
    finding = look_through(plan_for(tmp_path, source), SystemClock(), make=make)
    assert time.monotonic() - start_s < 15
    assert finding.verdict == "ok"


def test_a_camera_that_says_nothing_fails_with_a_remedy_and_one_that_does_not_close_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute:
        last_error = ""
        finished = False
        status = None

        def __init__(self, *_: object, **__: object) -> None: ...

        def start(self) -> None: ...

        def take(self, _timeout_s: float) -> None: ...

        def stop(self, _timeout_s: float) -> bool:
            return False

    plan = plan_for(tmp_path, {"type": "v4l2", "device": "/dev/video97"})
    monkeypatch.setattr(check_camera, "_FIRST_FRAME_S", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(check_camera, "Capture", Mute)
        finding = look_through(plan, SystemClock())
        assert (finding.verdict, finding.missing, finding.remedy) == ("failed", False, "check the camera")
    write_video(tmp_path / "v.avi", [100] * 30, noise=True)
    plan = plan_for(tmp_path, {"type": "stream", "url": str(tmp_path / "v.avi")})
    stop = Capture.stop

    def stuck(capture: Any, timeout_s: float) -> bool:
        stop(capture, timeout_s)
        return False

    monkeypatch.setattr(Capture, "stop", stuck)
    finding = look_through(plan, SystemClock())
    assert (finding.verdict, finding.remedy) == ("warning", "unplug it and plug it in again")


# What computes


@pytest.mark.parametrize(
    ("accelerator", "verdict", "words"),
    [
        ("usb:0", "ok", "the running daemon computes on usb:0"),
        ("cpu", "warning", "computes on the processor (it is hot; cool it)"),
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


# The broker


class FakeSession:
    """A broker's answer to the round trip's message."""

    def __init__(
        self, heard: deque[Incoming], outcome: PublishOutcome | None, *, returns: bool, protocol: str = "5"
    ) -> None:
        self.endpoint = SimpleNamespace(protocol=protocol)
        self.message: Message | None = None
        self._answer = heard, outcome, returns

    def publish(self, message: Message) -> bool:
        heard, outcome, returns = self._answer
        self.message = message
        if outcome is not None and message.on_outcome is not None:
            message.on_outcome(outcome, "not authorized")
        if returns:
            heard.append(Incoming(message.topic, message.payload, retained=False))
        return True


@pytest.mark.parametrize(
    ("outcome", "returns", "protocol", "expected"),
    [
        (PublishOutcome.DELIVERED, True, "5", ("ok", "came back in")),
        (PublishOutcome.DELIVERED, False, "5", ("ok", "was acknowledged in")),
        (PublishOutcome.DELIVERED, False, "3.1.1", ("warning", "did not deliver it back")),
        (PublishOutcome.REFUSED, False, "5", ("failed", "does not take messages on t/doctor (not authorized)")),
        (None, False, "5", ("failed", "no acknowledgement")),
    ],
)
def test_a_message_there_and_back_says_what_the_account_may(
    monkeypatch: pytest.MonkeyPatch,
    outcome: PublishOutcome | None,
    returns: bool,
    protocol: str,
    expected: tuple[str, str],
) -> None:
    verdict, said = expected
    monkeypatch.setattr(check_broker, "_ANSWER_S", 0.05)
    monkeypatch.setattr(check_broker, "_ECHO_S", 0.05)
    heard: deque[Incoming] = deque([Incoming("t/doctor", b"of another doctor", retained=False)])
    session = FakeSession(heard, outcome, returns=returns, protocol=protocol)
    finding = check_broker._round_trip(cast("MqttClient", session), "t/doctor", heard)
    assert finding.verdict == verdict
    assert said in finding.sentence
    assert bool(finding.remedy) is (verdict != "ok")
    assert session.message is not None
    assert (session.message.retain, session.message.qos) == (False, 1)
    if outcome is PublishOutcome.REFUSED:
        assert finding.remedy == "let the account write t/# (its ACL)"


@pytest.mark.parametrize(
    ("prefix", "status", "configs", "verdict", "said"),
    [
        ("ha", b"online", [], "ok", "online on this broker (ha/status)"),
        (None, b"online", [], "ok", "online on this broker (homeassistant/status)"),
        (None, None, [], "unused", "discovery is switched off"),
        ("ha", b"offline", [b"{}"], "warning", "says offline on ha/status"),
        ("ha", None, [b"{}", b"{}", b"edge-classifierd/porch/x"], "ok", "other devices (2)"),
        ("ha", None, [b"edge-classifierd/porch/x"], "warning", "ha/status is silent"),
    ],
)
def test_home_assistant_is_told_by_what_the_broker_keeps(
    prefix: str | None, status: bytes | None, configs: list[bytes], verdict: str, said: str
) -> None:
    heard = deque([Incoming("edge-classifierd/porch/status", b"online", retained=True)])
    if status is not None:
        heard.append(Incoming(f"{prefix or 'homeassistant'}/status", status, retained=True))
    announced = deque(Incoming("ha/device/x/config", payload, retained=True) for payload in configs)
    finding = check_broker._home_assistant(prefix, TOPICS, heard, announced)
    assert finding.verdict == verdict
    assert said in finding.sentence
    assert bool(finding.remedy) is (verdict == "warning")


def test_what_the_broker_keeps_of_a_daemon_that_does_not_run_here() -> None:
    assert check_broker.check_absent_daemon(None).verdict == "unused"
    offline = check_broker.check_absent_daemon(b"offline")
    assert (offline.verdict, "the broker has it as offline" in offline.sentence) == ("unused", True)
    elsewhere = check_broker.check_absent_daemon(b"online")
    assert (elsewhere.verdict, "device.id" in elsewhere.remedy) == ("warning", True)
    anything = check_broker.check_absent_daemon(b"\xff" * 100)
    assert anything.sentence.count("�") == 20, "whoever may write there may write anything"


def test_discovery_may_be_off_or_elsewhere(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    text = config.read_text()
    found = []
    for section in ("{}", "{prefix: ha}", "{enabled: false}"):
        config.write_text(text.replace("  port: 9\n", f"  port: 9\n  home_assistant: {section}\n"))
        found.append(discovery_prefix(load(config).configuration))
    assert found == ["homeassistant", "ha", None]


def test_a_broker_that_is_not_there_is_one_failed_line(tmp_path: Path) -> None:
    start_s = time.monotonic()
    visit = check_broker.visit_broker(load(write_config(tmp_path)).configuration, SystemClock())
    assert time.monotonic() - start_s < 10, "the first refusal is enough"
    (finding,) = visit.findings
    assert (finding.name, finding.verdict) == ("broker", "failed")
    assert "127.0.0.1:9" in finding.sentence
    assert finding.remedy
    assert visit.status is None
    assert not [thread.name for thread in threading.enumerate() if "mqtt" in thread.name]


# The suggestion


@pytest.mark.parametrize("name", ["2024", "0x10", "On", "null", "1e3", "~", "Überwachung!", "", "a" * 80])
def test_a_camera_may_call_itself_whatever_it_likes(tmp_path: Path, name: str) -> None:
    cameras = [FoundCamera("v4l2", "/dev/video0", name), FoundCamera("v4l2", "/dev/video2", name)]
    (tmp_path / "config.yaml").write_text(suggest(cameras, (), "broker"))
    first, second = load(tmp_path / "config.yaml").configuration.pipelines
    assert second.name == f"{first.name}-2"
    assert [str(one.source.device) for one in (first, second)] == ["/dev/video0", "/dev/video2"]  # type: ignore[union-attr]


def test_the_second_camera_of_the_board_is_suggested_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(suggest([FoundCamera("picamera2", "1", "imx708")], (), None))
    (one,) = load(tmp_path / "config.yaml").configuration.pipelines
    assert (one.source.type, one.source.camera) == ("picamera2", 1)  # type: ignore[union-attr]


def test_the_first_broker_that_listens_is_suggested() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert find_broker(("no-such-host.invalid", "127.0.0.1", "127.0.0.2"), port) == "127.0.0.1"
    assert find_broker(("127.0.0.1",), port) is None


def test_what_was_found_and_what_stands_in_for_what_was_not() -> None:
    none = found_lines((), (), None)
    assert [line.partition(":")[0] for line in none] == ["no camera found", "no MQTT broker found"]
    assert "/dev/video0" in none[0]
    assert "mqtt.host" in none[1]
    found = found_lines([FoundCamera("picamera2", "0", "imx708")], [Tpu("usb", 0, "1-1")], "homeassistant.local")
    assert found == [
        "camera found: imx708 (picamera2 0)",
        "MQTT broker found: homeassistant.local",
        "Edge TPU found: usb:0",
    ]


def test_a_suggestion_without_a_broker_says_that_it_guesses() -> None:
    assert "host: localhost   # no broker was found: name yours" in suggest((), (), None)
    assert "host: homeassistant.local\n" in suggest((), (), "homeassistant.local")
    assert "usb:0" in suggest((), [Tpu("usb", 0, "1-1")], None)
