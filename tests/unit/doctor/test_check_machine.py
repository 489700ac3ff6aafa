"""The checks of the machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from examination_scene import HERE

from edge_classifierd.doctor import check_machine
from edge_classifierd.doctor.check_machine import check_board, check_clock, check_groups, check_outbox, check_watchdog
from edge_classifierd.doctor.running_daemon import RunningDaemon
from edge_classifierd.health.board import BoardState, Throttling


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
