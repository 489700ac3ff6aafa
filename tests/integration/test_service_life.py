"""The daemon's life as systemd, the disk and the broker see it: readiness, reloads, what is written down, the end."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_process import wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config
from paho.mqtt import publish
from stand_in import model_pair

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from broker_process import Broker, Subscriber

BASE = "edge-classifierd/porch"


def next_of(manager: socket.socket, *kinds: str) -> str:
    """The next message of these kinds, without what it says beside."""
    while True:
        kind = manager.recv(4096).decode().partition("\n")[0]
        if kind in kinds:
            return kind


def reload(daemon: Daemon, said: str = ": reloaded;") -> None:
    before = daemon.said.count(said)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.said.count(said) == before + 1)


def test_systemd_hears_of_each_step_and_the_watchdog_is_fed(
    tmp_path: Path, broker: Broker, manager: socket.socket
) -> None:
    folder, file = photographs(tmp_path / "p", "coffee"), tmp_path / "c.yaml"
    write_config(file, broker.port, a_pipeline(folder))
    steps = ("READY=1", "RELOADING=1", "STOPPING=1")
    with Daemon(file, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1500000") as daemon:
        assert next_of(manager, *steps) == "READY=1"
        assert [next_of(manager, "WATCHDOG=1") for _ in range(2)] == ["WATCHDOG=1"] * 2
        reload(daemon)
        assert [next_of(manager, *steps) for _ in range(2)] == ["RELOADING=1", "READY=1"]
        file.write_text("nonsense")
        reload(daemon, "not reloaded; the previous configuration stays active")
        assert [next_of(manager, *steps) for _ in range(2)] == ["RELOADING=1", "READY=1"]
        assert daemon.end()[0] == 0, daemon.said
        assert next_of(manager, *steps) == "STOPPING=1"


def test_what_happened_is_written_down_while_the_daemon_runs(tmp_path: Path, broker: Broker) -> None:
    folder = photographs(tmp_path / "p", "cat")
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(folder, CAT))

    def stored(name: str) -> Any:
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "outbox.sqlite3")) as database:
            row = database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def copied() -> Any:
        file = tmp_path / "state" / "state.json"
        return json.loads(file.read_text())["pipelines, version 1"] if file.exists() else {}

    with Daemon(config) as daemon:
        wait_until(lambda: "first frame classified" in daemon.said)
        wait_until(lambda: stored("statistics/driveway/cat"), what="the daily count")
        assert stored("statistics/driveway/cat")["count"] == 1
        assert "cat" in stored("watches/driveway")["active"]
        wait_until(copied, what="the copy")
        assert "cat" in copied()["driveway"]["active"]
        wait_until((tmp_path / "state" / "discovery.json").exists, what="what Home Assistant was told")
        daemon.end(signal.SIGKILL)


def test_a_password_that_everybody_may_read_is_warned_of_at_the_start_and_at_a_reload(
    tmp_path: Path, broker: Broker
) -> None:
    folder, file = photographs(tmp_path / "p", "coffee"), tmp_path / "c.yaml"
    write_config(file, broker.port, a_pipeline(folder))
    file.write_text(file.read_text().replace("host:", "username: edge\n  password: s3cret\n  host:"))
    file.chmod(0o644)
    with Daemon(file) as daemon:
        wait_until(lambda: "first frame classified" in daemon.said)
        assert daemon.said.count("can read this password") == 1
        reload(daemon)
        assert daemon.said.count("can read this password") == 2
        assert "s3cret" not in daemon.said
        assert daemon.end()[0] == 0, daemon.said


def test_after_a_reload_new_watches_can_be_commanded_and_are_announced(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    subscriber = subscribe(broker.port)
    folder, file = photographs(tmp_path / "p", "coffee"), tmp_path / "c.yaml"
    with Daemon(write_config(file, broker.port, a_pipeline(folder, CAT))) as daemon:
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/cat/threshold") == b"0.5")
        pet = {"name": "pet", "labels": ["*dog*"], "threshold": 0.6}
        write_config(file, broker.port, a_pipeline(folder, pet))
        reload(daemon)
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/pet/threshold") == b"0.6")
        announced = "homeassistant/device/edge-classifierd_porch/config"
        wait_until(lambda: b"driveway/pet/state" in (subscriber.last(announced) or b""))
        publish.single(f"{BASE}/driveway/pet/threshold/set", "0.75", qos=1, hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/pet/threshold") == b"0.75")
        publish.single(f"{BASE}/driveway/cat/threshold/set", "0.75", qos=1, hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: "no watch 'cat'" in daemon.said)
        # Home Assistant that has just come is told everything again.
        states = sum(topic == f"{BASE}/driveway/enabled" for topic, _, _ in subscriber.messages)
        publish.single("homeassistant/status", "online", qos=1, hostname="127.0.0.1", port=broker.port)
        wait_until(
            lambda: sum(topic == f"{BASE}/driveway/enabled" for topic, _, _ in subscriber.messages) > states,
            what="the states again",
        )
        assert daemon.end()[0] == 0, daemon.said


def test_a_reload_to_a_model_that_needs_what_is_not_there_costs_its_own_pipeline_only(
    tmp_path: Path, broker: Broker
) -> None:
    model_pair(tmp_path)
    folder, file = photographs(tmp_path / "p", "coffee"), tmp_path / "c.yaml"
    other = a_pipeline(folder, name="other")
    both = write_config(file, broker.port, a_pipeline(folder), other)
    with Daemon(both, EDGE_CLASSIFIERD_ROOT=str(tmp_path)) as daemon:
        wait_until(lambda: daemon.said.count("first frame classified") == 2)
        needs_tpu = a_pipeline(folder, model={"path": str(tmp_path / "colours_edgetpu.tflite")})
        write_config(file, broker.port, needs_tpu, other)
        reload(daemon)
        assert "reloaded; 1 of 2 pipelines changed" in daemon.said
        wait_until(lambda: "none is plugged in" in daemon.said)
        write_config(file, broker.port, a_pipeline(folder), other)
        reload(daemon)
        wait_until(lambda: daemon.said.count("first frame classified") == 3)
        assert daemon.end()[0] == 0, daemon.said


def test_a_flood_of_reloads_is_a_few_and_never_keeps_a_signal_waiting(tmp_path: Path, broker: Broker) -> None:
    folder, file = photographs(tmp_path / "p", "coffee"), tmp_path / "c.yaml"
    source = {"type": "folder", "path": str(folder), "fps": 1, "loop": True}
    many = [a_pipeline(folder, CAT, name=f"p{number}", source=source) for number in range(6)]
    press = [{"topic": f"{BASE}/reload/set", "payload": "PRESS", "qos": 1}] * 35
    with Daemon(write_config(file, broker.port, *many)) as daemon:
        wait_until(lambda: daemon.said.count("first frame classified") == 6)
        publish.multiple(press, hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: ": reloaded;" in daemon.said)
        code, lasted_s = daemon.end()
        assert (code, lasted_s < 2.0) == (0, True), (lasted_s, daemon.said)
        assert daemon.said.count(": reloaded;") < 10
        assert "Traceback" not in daemon.said


def test_a_second_daemon_on_the_same_state_is_refused_and_changes_nothing(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    subscriber = subscribe(broker.port)
    folder, state = photographs(tmp_path / "p", "coffee"), tmp_path / "state"
    with Daemon(write_config(tmp_path / "c.yaml", broker.port, a_pipeline(folder, CAT))) as daemon:
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/cat/threshold") == b"0.5")
        publish.single(f"{BASE}/driveway/cat/threshold/set", "0.75", qos=1, hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/cat/threshold") == b"0.75")
        commanded = (state / "state.json").read_bytes()
        other = write_config(
            tmp_path / "other.yaml", broker.port, a_pipeline(folder, name="garden"), outbox={"path": "other.sqlite3"}
        )
        for file, elsewhere in ((tmp_path / "c.yaml", False), (other, False), (tmp_path / "c.yaml", True)):
            if elsewhere:  # the lock cannot be taken: the outbox's is met
                (state / "lock").unlink()
                (state / "lock").mkdir()
            with Daemon(file, "--forget-commands") as second:
                assert second.process.wait(20) == 1, second.said
        assert "another process uses this state directory" in other.with_suffix(".log").read_text()
        assert "another process has this outbox open" in daemon.said
        assert (state / "state.json").read_bytes() == commanded
        assert daemon.end()[0] == 0, daemon.said


def has_signal(daemon: Daemon, field: str, number: signal.Signals) -> bool:
    """Whether a line of the process's status (SigCgt: handled, SigBlk: blocked) contains the signal."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    numbers = next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:"))
    return bool(int(numbers, 16) >> (number - 1) & 1)


def test_a_signal_before_the_daemon_is_ready_to_serve_ends_it_with_code_0(tmp_path: Path, broker: Broker) -> None:
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "coffee")))
    for number in (signal.SIGTERM, signal.SIGINT):
        with Daemon(config) as daemon:
            wait_until(lambda daemon=daemon: has_signal(daemon, "SigCgt", signal.SIGTERM))
            assert daemon.end(number)[0] == 0, daemon.said
            assert daemon.said == ""


def test_a_reload_that_is_requested_while_the_daemon_is_loaded_waits_for_it(tmp_path: Path, broker: Broker) -> None:
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "coffee")))
    with Daemon(config) as daemon:
        wait_until(lambda: has_signal(daemon, "SigBlk", signal.SIGHUP))
        assert "running" not in daemon.said
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in daemon.said or daemon.process.poll() is not None)
        assert daemon.end()[0] == 0, daemon.said
