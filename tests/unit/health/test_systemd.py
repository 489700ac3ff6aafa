from __future__ import annotations

import itertools
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.health.systemd import Notifier, Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from health_clock import HandClock


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        try:
            while True:
                messages.append(self.socket.recv(65536).decode())
        except BlockingIOError:
            return messages


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    yield manager
    manager.socket.close()


def notifier(address: str, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": address, **more})


def test_each_message_is_as_systemd_reads_it(manager: Manager, address: str) -> None:
    told = notifier(address)
    assert told.active
    assert told.ready("2 pipelines")
    assert told.status("3 pipelines, 9.8 fps, broker reconnecting")
    assert told.watchdog()
    assert told.stopping("flushing")
    assert told.stopping()
    assert told.watchdog_trigger()
    assert manager.heard() == [
        "READY=1\nSTATUS=2 pipelines",
        "STATUS=3 pipelines, 9.8 fps, broker reconnecting",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=flushing",
        "STOPPING=1",
        "WATCHDOG=trigger",
    ]


def test_a_reload_carries_the_kernel_s_monotonic_time(manager: Manager, address: str) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier(address).reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    (message,) = manager.heard()
    first, _, microseconds = message.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(microseconds) <= after


def test_abstract_sockets_are_spoken_to() -> None:
    name = f"edge-classifierd-test-{os.getpid()}"
    manager = Manager("\0" + name)
    try:
        assert notifier("@" + name).ready()
        assert manager.heard() == ["READY=1"]
    finally:
        manager.socket.close()


def test_the_process_s_own_environment_is_the_default(
    manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    told = Notifier()
    assert told.watchdog_interval_s == 30
    assert told.ready()
    assert manager.heard() == ["READY=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_nothing_happens_without_a_service_manager(environment: dict[str, str]) -> None:
    silent = Notifier(environment)
    assert not silent.active
    assert not silent.ready()
    assert not silent.status("all well")
    assert not silent.watchdog()
    assert not silent.reloading()
    assert not silent.stopping()


def test_status_is_one_line_and_only_sent_when_it_changes(manager: Manager, address: str) -> None:
    told = notifier(address)
    for text in ("all well", "all well", "bad\nWATCHDOG=trigger\r\n", "all well"):
        assert told.status(text)
    assert manager.heard() == ["STATUS=all well", "STATUS=bad WATCHDOG=trigger", "STATUS=all well"]


def test_a_manager_that_is_gone_is_said_once_and_again_when_it_is_back(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = notifier(address)
    with caplog.at_level("DEBUG"):
        for _ in range(5):
            assert not told.watchdog()
        assert not told.status("unheard")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        manager = Manager(address)
        assert told.status("unheard")  # was not remembered as sent
        assert told.watchdog()
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert manager.heard() == ["STATUS=unheard", "WATCHDOG=1"]
    manager.socket.close()


def test_a_manager_that_does_not_listen_holds_nobody_up(manager: Manager, address: str) -> None:
    told = notifier(address)
    start_s = time.monotonic()
    results = []
    while not results or results[-1]:
        results.append(told.watchdog())
        assert len(results) < 10_000
    assert time.monotonic() - start_s < 5
    assert manager.heard() == ["WATCHDOG=1"] * (len(results) - 1)


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval_is_this_process_s_own(environment: dict[str, str], interval_s: float | None) -> None:
    assert Notifier(environment).watchdog_interval_s == interval_s


def test_watchdog_is_fed_at_a_third_of_its_interval(manager: Manager, address: str, clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    watchdog = Watchdog(heartbeats, notifier(address, WATCHDOG_USEC="30000000"), clock)
    assert watchdog.period_s == 10
    fed_at_s = []
    for second in range(61):
        watchdog.tick()
        fed_at_s += [second] * len(manager.heard())
        clock.pass_s(1)
    assert fed_at_s[0] == 0
    pauses_s = [later - earlier for earlier, later in itertools.pairwise(fed_at_s)]
    assert max(pauses_s) <= 10
    assert min(pauses_s) >= 9


def test_watchdog_is_fed_by_every_tick_of_a_loop_as_slow_as_its_period(
    manager: Manager, address: str, clock: HandClock
) -> None:
    watchdog = Watchdog(Heartbeats(clock), notifier(address, WATCHDOG_USEC="30000000"), clock)
    for _ in range(10):
        watchdog.tick()
        clock.pass_s(9.999)
    assert manager.heard() == ["WATCHDOG=1"] * 10


def test_a_stuck_stage_starves_the_watchdog_then_calls_it(
    manager: Manager, address: str, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("inference driveway", 8)
    watchdog = Watchdog(heartbeats, notifier(address, WATCHDOG_USEC="30000000"), clock)
    beat.enter("invoke")
    silent_from_s = clock.now_s
    triggered_after_s = None
    with caplog.at_level("INFO"):
        while triggered_after_s is None and clock.now_s < silent_from_s + 100:
            stuck = watchdog.tick()
            silent_s = clock.now_s - silent_from_s
            assert bool(stuck) == (silent_s > 8)
            for message in manager.heard():
                if silent_s > 8:
                    assert message == "WATCHDOG=trigger"
                    triggered_after_s = silent_s
                else:
                    assert message == "WATCHDOG=1"
            clock.pass_s(1)
    assert triggered_after_s is not None
    assert triggered_after_s <= 30  # within the watchdog's interval, counted from the hang
    assert [record.getMessage() for record in caplog.records] == [
        "inference driveway has been stuck in invoke for 9.0 s (allowed: 8 s); the watchdog is not fed"
    ]


def test_a_stage_that_goes_on_in_time_is_fed_again(
    manager: Manager, address: str, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("inference", 8)
    watchdog = Watchdog(heartbeats, notifier(address, WATCHDOG_USEC="30000000"), clock)
    with caplog.at_level("INFO"):
        for pause_s in (9, 9, 9):  # too slow each time, never for a whole period after it was found out
            clock.pass_s(pause_s)
            assert watchdog.tick()
            beat.progress()
            assert not watchdog.tick()
    assert manager.heard() == ["WATCHDOG=1"] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"] * 3


def test_the_broker_away_for_a_month_is_no_reason_to_starve(manager: Manager, address: str, clock: HandClock) -> None:
    heartbeats = Heartbeats(clock)
    heartbeats.register("publisher", 8).waiting("the broker is away")
    watchdog = Watchdog(heartbeats, notifier(address, WATCHDOG_USEC="30000000"), clock)
    for _ in range(100):
        clock.pass_s(30 * 24 * 3600 / 100)
        assert watchdog.tick() == ()
        assert manager.heard() == ["WATCHDOG=1"]


def test_without_a_watchdog_the_stuck_are_still_found(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    heartbeats = Heartbeats(clock)
    heartbeats.register("inference", 8)
    watchdog = Watchdog(heartbeats, Notifier({}), clock)
    assert watchdog.period_s is None
    assert watchdog.tick() == ()
    clock.pass_s(9)
    for _ in range(3):
        assert [stuck.name for stuck in watchdog.tick()] == ["inference"]
        clock.pass_s(100)
    assert len(caplog.records) == 1
