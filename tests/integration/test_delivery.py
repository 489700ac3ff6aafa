"""No event is lost and none is numbered twice: broker restarts, cuts, crashes of either side."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import free_port

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
LONG = os.environ.get("EDGE_CLASSIFIERD_LONG") == "1"


class Driver:
    """The daemon in miniature, in a process of its own."""

    def __init__(self, directory: Path, port: int, protocol: str = "5", host: str = "127.0.0.1") -> None:
        self.journal = directory / "journal"
        self.inside: list[str] = []
        """Words before the command: where it runs."""
        self._arguments = ["--host", host, "--port", str(port), "--outbox", str(directory / "outbox.sqlite3")]
        self._arguments += ["--journal", str(self.journal), "--protocol", protocol]
        self._log = directory / "driver.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, events: int = 0, rate: float = 200.0) -> None:
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
        command = [*self.inside, sys.executable, str(HERE / "delivery_driver.py"), *self._arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--events", str(events), "--rate", str(rate)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"READY\n", self._log.read_text()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        started = time.monotonic()
        assert self._end(signal.SIGTERM) == 0, self._log.read_text()[-3000:]
        assert time.monotonic() - started < 4

    def _end(self, number: int) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(number)
        code = self._process.wait(10)
        self._process.stdout.close()
        self._process = None
        return code

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def journaled(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for line in self.journal.read_text().splitlines():
            seq, event_id = line.split()
            assert int(seq) not in found, f"seq {seq} was given twice"
            found[int(seq)] = event_id
        return found


@pytest.fixture
def make_driver(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def make(port: int, protocol: str = "5", host: str = "127.0.0.1") -> Driver:
        made.append(Driver(tmp_path, port, protocol, host))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_for_all(subscriber: Any, driver: Driver, *, but: Callable[[], set[int]] = set) -> None:
    """Until every journaled event came, `but` those; then check order, identity and bytes."""
    deadline = time.monotonic() + 40
    while missing := set(driver.journaled()) - set(subscriber.first) - but():
        assert time.monotonic() < deadline, f"missing {len(missing)}: {sorted(missing)[:20]}"
        time.sleep(0.05)
    seqs = list(subscriber.first)
    assert seqs == sorted(seqs), "first arrivals are not in order"
    assert subscriber.clashes == []
    assert subscriber.differing == 0, "a repeated event had other bytes"
    for seq, event_id in driver.journaled().items():
        assert subscriber.first.get(seq, event_id) == event_id


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_no_event_is_missing_after_cuts_and_broker_restarts(  # noqa: PLR0917 - fixtures
    broker: Any, subscribe: Any, make_proxy: Any, make_driver: Any, dice: random.Random, protocol: str
) -> None:
    cycles = (100 if LONG else 8) // (1 if protocol == "5" else 2) * (1 if not LONG else 2)
    proxy = make_proxy(broker.port)
    subscriber = subscribe(broker.port)
    driver = make_driver(proxy.port, protocol)
    driver.start(events=1_000_000, rate=200)
    for cycle in range(cycles):
        time.sleep(dice.uniform(0.05, 0.8))
        how = ["reset", "restart", "half-close", "swallow"][cycle % 4]
        if how == "restart":
            broker.restart()
        else:
            proxy.cut(how)
    time.sleep(0.5)
    driver.stop()
    driver.start()
    wait_for_all(subscriber, driver)
    seqs = set(subscriber.first)
    assert seqs == set(range(1, max(seqs) + 1)), "the numbers have a gap"
    assert len(seqs) > 100
    print(f"{protocol}: {cycles} cycles, {len(seqs)} events, {subscriber.repeats} repeats")


@pytest.mark.timeout(1200)
def test_what_a_killed_broker_had_not_acknowledged_arrives_after_its_return(
    broker: Any, subscribe: Any, make_proxy: Any, make_driver: Any, dice: random.Random
) -> None:
    proxy = make_proxy(broker.port)
    subscriber = subscribe(broker.port)
    driver = make_driver(proxy.port)
    driver.start(events=1_000_000, rate=200)
    acknowledged_before_kill: set[int] = set()
    for _ in range(50 if LONG else 3):
        time.sleep(dice.uniform(0.3, 1.0))
        proxy.admitting = False
        subscriber.subscribed.clear()
        broker.kill()
        acknowledged_before_kill |= proxy.acknowledged
        broker.start()
        assert subscriber.subscribed.wait(20)  # what it misses before that is not the daemon's affair
        proxy.admitting = True
    time.sleep(0.5)
    driver.stop()
    driver.start()
    wait_for_all(subscriber, driver, but=lambda: acknowledged_before_kill)
    lost_by_broker = set(driver.journaled()) - set(subscriber.first)
    events = len(driver.journaled())
    print(f"{events} events, {subscriber.repeats} repeats, {len(lost_by_broker)} acknowledged and lost")


@pytest.mark.timeout(1200)
def test_a_killed_daemon_loses_nothing_and_never_reuses_a_number(
    broker: Any, subscribe: Any, make_driver: Any, dice: random.Random
) -> None:
    subscriber = subscribe(broker.port)
    driver = make_driver(broker.port)
    for _ in range(100 if LONG else 5):
        driver.start(events=1_000_000, rate=200)
        time.sleep(dice.uniform(0.05, 0.6))
        driver.kill()
    driver.start()
    wait_for_all(subscriber, driver)
    seqs = set(subscriber.first)
    assert seqs == set(range(1, max(seqs) + 1)), "the numbers have a gap"
    print(f"{len(seqs)} events, {subscriber.repeats} repeats")


@pytest.mark.timeout(300)
def test_a_backlog_from_before_the_broker_was_up_arrives_in_order(
    make_broker: Any, subscribe: Any, make_driver: Any
) -> None:
    events = 10_000 if LONG else 1_500
    broker = make_broker(start=False)
    driver = make_driver(broker.port)
    driver.start(events=events, rate=1000)
    deadline = time.monotonic() + 60
    while not driver.journal.exists() or len(driver.journaled()) < events:
        assert time.monotonic() < deadline, "appending needs no broker"
        time.sleep(0.1)
    driver.kill()  # the subscriber must be there before the publisher
    broker.start()
    subscriber = subscribe(broker.port)
    driver.start()
    wait_for_all(subscriber, driver)
    assert list(subscriber.first) == list(range(1, events + 1))


class Cable:
    """A network namespace on a pair of virtual Ethernet ends, whose near end can be pulled."""

    ours, theirs = "10.231.7.1", "10.231.7.2"

    def __init__(self) -> None:
        self.name = f"ec{os.getpid() % 100000}"
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self.name, "type", "veth", "peer", "name", "far", "netns", self.name)
        self._ip("addr", "add", f"{self.ours}/30", "dev", self.name)
        self._ip("-n", self.name, "addr", "add", f"{self.theirs}/30", "dev", "far")
        self._ip("-n", self.name, "link", "set", "far", "up")
        self.plug()

    def plug(self) -> None:
        self._ip("link", "set", self.name, "up")

    def pull(self) -> None:
        self._ip("link", "set", self.name, "down")

    def close(self) -> None:
        self._ip("link", "del", self.name)
        self._ip("netns", "del", self.name)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making a network namespace needs root and the command `ip`")
    try:
        made = Cable()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode()[:100]}")
    yield made
    made.close()


@pytest.mark.timeout(1200)
def test_no_event_is_missing_after_the_cable_was_pulled(
    make_broker: Any, subscribe: Any, make_driver: Any, dice: random.Random, cable: Cable
) -> None:
    port = free_port()
    broker = make_broker(f"allow_anonymous true\nlistener {port} {cable.ours}")
    subscriber = subscribe(broker.port)
    driver = make_driver(port, host=cable.ours)
    driver.inside = ["ip", "netns", "exec", cable.name]
    cycles = 40 if LONG else 4
    events = 400 * cycles  # as many as are made in about the time that the cycles take
    driver.start(events=events, rate=200.0)
    for _ in range(cycles):
        time.sleep(dice.uniform(0.3, 1.5))
        cable.pull()
        time.sleep(dice.uniform(0.1, 2.5))
        cable.plug()
    while len(driver.journaled()) < events:
        time.sleep(0.1)
    wait_for_all(subscriber, driver)
    driver.stop()
    wait_for_all(subscriber, driver)
