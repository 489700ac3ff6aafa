from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from broker_process import Subscriber, wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config
from paho.mqtt import publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker_process import Broker

BASE = "edge-classifierd/porch"
EVENTS = f"{BASE}/driveway/event"


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    listening = Subscriber(broker.port)
    yield listening
    listening.close()


def payloads(subscriber: Subscriber, topic: str) -> list[bytes]:
    return [payload for heard, payload, _ in list(subscriber.messages) if heard == topic]


def values(subscriber: Subscriber, topic: str) -> list[bytes]:
    """The values of a state, without repeats: states are published again after each connection."""
    return [payload for payload, _ in groupby(payloads(subscriber, topic))]


def events(subscriber: Subscriber) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in payloads(subscriber, EVENTS)]


def types(subscriber: Subscriber) -> list[str]:
    return [event["type"] for event in events(subscriber)]


def say(broker: Broker, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
    publish.single(f"{BASE}/{topic}", payload, qos=1, retain=retain, hostname="127.0.0.1", port=broker.port)


def test_a_photograph_becomes_events_on_the_broker(
    broker: Broker, subscriber: Subscriber, tmp_path: Path, repository: Path
) -> None:
    folder = photographs(tmp_path / "photos", "coffee", "cat", "cat", "coffee")
    source = {"type": "folder", "path": str(folder), "fps": 5}
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(folder, CAT, source=source))
    with Daemon(config) as daemon:
        assert daemon.process.wait(20) == 0, daemon.said
    wait_until(lambda: payloads(subscriber, f"{BASE}/status")[-1:] == [b"offline"])
    detected, cleared = events(subscriber)
    assert (detected["type"], detected["watch"], detected["seq"]) == ("detected", "cat", 1)
    assert "cat" in detected["label"]
    assert detected["confidence"] > 0.5
    assert detected["active_s"] is None
    assert len(detected["top"]) == 5
    assert (cleared["type"], cleared["seq"]) == ("cleared", 2)
    between = datetime.fromisoformat(cleared["time"]) - datetime.fromisoformat(detected["time"])
    assert cleared["active_s"] == pytest.approx(between.total_seconds(), abs=0.01)
    assert cleared["active_s"] > 0
    assert values(subscriber, f"{BASE}/status") == [b"online", b"offline"]
    assert values(subscriber, f"{BASE}/driveway/cat/state") == [b"OFF", b"ON", b"OFF"]
    assert values(subscriber, f"{BASE}/driveway/status") == [b"offline", b"online", b"offline"]
    schema = json.loads((repository / "docs" / "event.schema.json").read_text())
    for event in (detected, cleared):
        jsonschema.validate(event, schema)
    assert not [topic for topic, _, retained in subscriber.messages if retained and topic.endswith("/event")]
    state = json.loads(payloads(subscriber, f"{BASE}/driveway/state")[0])
    jsonschema.validate(state, json.loads((repository / "docs" / "state.schema.json").read_text()))
    (jpeg,) = payloads(subscriber, f"{BASE}/driveway/image")
    assert jpeg[:2] == b"\xff\xd8"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_says_offline_and_ends_with_code_0_within_2_seconds(
    number: signal.Signals, broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: types(subscriber) == ["detected"])
        code, lasted_s = daemon.end(number)
        assert code == 0, daemon.said
        assert lasted_s < 2.0
    wait_until(lambda: values(subscriber, f"{BASE}/status") == [b"online", b"offline"])
    assert types(subscriber) == ["detected"]


def test_it_ends_within_2_seconds_while_a_camera_does_not_answer_yet(broker: Broker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = {"type": "stream", "url": f"rtsp://127.0.0.1:{silent.getsockname()[1]}/"}
        config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(tmp_path, source=source))
        with Daemon(config) as daemon:
            wait_until(lambda: "running driveway" in daemon.said)
            time.sleep(0.2)
            code, lasted_s = daemon.end()
    assert (code, lasted_s < 2.0) == (0, True), (lasted_s, daemon.said)


def test_what_needs_a_restart_is_said_with_each_reload_until_it_is_undone(broker: Broker, tmp_path: Path) -> None:
    folder, file = photographs(tmp_path / "p", "coffee"), tmp_path / "c.yaml"
    sentence = "changes of `outbox` take effect with the next restart"

    def reload(daemon: Daemon, **sections: Any) -> None:
        reloads = daemon.said.count(": reloaded;")
        write_config(file, broker.port, a_pipeline(folder), **sections)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.said.count(": reloaded;") == reloads + 1)

    with Daemon(write_config(file, broker.port, a_pipeline(folder))) as daemon:
        wait_until(lambda: "first frame classified" in daemon.said)
        reload(daemon)
        assert "with the next restart" not in daemon.said
        for times in (1, 2):
            reload(daemon, outbox={"max_events": 5000})
            assert daemon.said.count(sentence) == times
        reload(daemon)
        assert daemon.said.count("with the next restart") == 2
        assert "0 of 1 pipelines changed" in daemon.said
        assert daemon.end()[0] == 0, daemon.said


def test_it_ends_within_2_seconds_when_the_broker_is_away(make_broker: Callable[..., Broker], tmp_path: Path) -> None:
    broker = make_broker(start=False)
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: "first frame classified" in daemon.said)
        code, lasted_s = daemon.end()
        assert (code, lasted_s < 2.0) == (0, True), daemon.said


def test_events_made_before_the_broker_is_there_arrive_with_it(
    make_broker: Callable[..., Broker], tmp_path: Path
) -> None:
    broker = make_broker(start=False)
    folder = photographs(tmp_path / "p", "cat", "coffee")
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(folder, CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: "first frame classified" in daemon.said)
        time.sleep(1.5)
        daemon.process.send_signal(signal.SIGSTOP)  # the subscriber must find the broker first
        broker.start()
        subscriber = Subscriber(broker.port)
        daemon.process.send_signal(signal.SIGCONT)
        wait_until(lambda: len(subscriber.first) >= 4, 20)
        subscriber.close()
        daemon.end()
    assert list(subscriber.first)[:4] == [1, 2, 3, 4]


def test_the_last_will_speaks_for_a_killed_daemon_and_its_watch_goes_on_after_it(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: types(subscriber) == ["detected"])
        time.sleep(0.5)
        daemon.end(signal.SIGKILL)
    wait_until(lambda: values(subscriber, f"{BASE}/status") == [b"online", b"offline"])
    (tmp_path / "p" / "000-cat.jpg").unlink()
    photographs(tmp_path / "p", "cat", "coffee", "coffee", "coffee")
    with Daemon(config) as daemon:
        wait_until(lambda: types(subscriber)[:2] == ["detected", "cleared"])
        daemon.end()
    assert events(subscriber)[1]["seq"] == events(subscriber)[0]["seq"] + 1
    assert events(subscriber)[1]["active_s"] > 0.5


def test_commands_are_obeyed_echoed_and_survive_a_restart(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: types(subscriber) == ["detected"])
        say(broker, "driveway/cat/threshold/set", "0.99")
        wait_until(lambda: values(subscriber, f"{BASE}/driveway/cat/threshold") == [b"0.5", b"0.99"])
        say(broker, "driveway/enabled/set", "OFF")
        wait_until(lambda: types(subscriber) == ["detected", "cleared"])
        wait_until(lambda: values(subscriber, f"{BASE}/driveway/enabled") == [b"ON", b"OFF"])
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1] == b"offline")
        daemon.end()
    wait_until(lambda: payloads(subscriber, f"{BASE}/status")[-1] == b"offline")  # the broker passes it on
    with Daemon(config) as daemon:
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/cat/threshold")[-1:] == [b"0.99"])
        wait_until(lambda: payloads(subscriber, f"{BASE}/status")[-1] == b"online")
        say(broker, "driveway/enabled/set", "ON")
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1] == b"online")
        time.sleep(0.6)
        daemon.end()
    assert types(subscriber) == ["detected", "cleared"], "0.99 is above the cat's confidence"
    with Daemon(config, "--forget-commands") as daemon:
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/cat/threshold")[-1:] == [b"0.5"])
        wait_until(lambda: len(events(subscriber)) == 3)
        daemon.end()


def test_a_reset_command_returns_to_the_configured_value_also_after_a_restart(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    folder = photographs(tmp_path / "p", "coffee")
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(folder, CAT))
    threshold, enabled = f"{BASE}/driveway/cat/threshold", f"{BASE}/driveway/enabled"
    with Daemon(config) as daemon:
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1:] == [b"online"])
        say(broker, "driveway/cat/threshold/set", "0.75")
        say(broker, "driveway/enabled/set", "OFF")
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1:] == [b"offline"])
        wait_until(lambda: payloads(subscriber, threshold)[-1:] == [b"0.75"])
        wait_until(lambda: payloads(subscriber, enabled)[-1:] == [b"OFF"])
        say(broker, "driveway/cat/threshold/set", "RESET")
        say(broker, "driveway/enabled/set", "RESET")
        wait_until(lambda: values(subscriber, threshold) == [b"0.5", b"0.75", b"0.5"])
        wait_until(lambda: values(subscriber, enabled) == [b"ON", b"OFF", b"ON"])
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1:] == [b"online"])
        retained = Subscriber(broker.port)
        wait_until(lambda: payloads(retained, threshold) == [b"0.5"])
        wait_until(lambda: payloads(retained, enabled) == [b"ON"])
        retained.close()
        daemon.end()
    write_config(config, broker.port, a_pipeline(folder, {**CAT, "threshold": 0.625}))
    with Daemon(config) as daemon:
        wait_until(lambda: payloads(subscriber, threshold)[-1:] == [b"0.625"])
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1:] == [b"online"])
        assert "by command over MQTT" not in daemon.said
        daemon.end()


def test_a_picture_can_be_asked_for(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p", "coffee")
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(folder, CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1:] == [b"online"])
        assert payloads(subscriber, f"{BASE}/driveway/image") == []
        say(broker, "driveway/snapshot/set", "PRESS")
        wait_until(lambda: len(payloads(subscriber, f"{BASE}/driveway/image")) == 1)
        daemon.end()


def test_garbage_on_the_command_topics_changes_nothing(broker: Broker, subscriber: Subscriber, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "coffee"), CAT))
    say(broker, "driveway/enabled/set", "OFF", retain=True)
    with Daemon(config) as daemon:
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1:] == [b"online"])
        topics = ("driveway/enabled/set", "driveway/cat/threshold/set", "driveway/dog/threshold/set", "x/enabled/set")
        for topic in topics:
            for payload in (b"", b"maybe", b"\xff\xfe", b"nan", b"-1", b"2", b"0", b"{}", b"x" * 100_000):
                if topic != "driveway/enabled/set" or payload != b"0":
                    say(broker, topic, payload)
        say(broker, "reload/set", "tomorrow")
        say(broker, "driveway/cat/threshold/set", "0.75")
        wait_until(lambda: values(subscriber, f"{BASE}/driveway/cat/threshold") == [b"0.5", b"0.75"])
        assert values(subscriber, f"{BASE}/driveway/enabled") == [b"ON"]
        assert "retained messages are not executed" in daemon.said
        assert "no watch 'dog'" in daemon.said
        assert "Traceback" not in daemon.said
        assert daemon.end()[0] == 0


def test_a_reload_changes_watches_without_a_restart_and_a_bad_one_changes_nothing(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    folder = photographs(tmp_path / "p", "cat")
    file = tmp_path / "c.yaml"
    config = write_config(file, broker.port, a_pipeline(folder, CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: types(subscriber) == ["detected"])
        write_config(file, broker.port, a_pipeline(folder, {**CAT, "treshold": 0.1}))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in daemon.said)
        assert "did you mean `threshold`" in daemon.said
        pet = {"name": "pet", "labels": ["*cat*", "*dog*"], "threshold": 0.5}
        write_config(file, broker.port, a_pipeline(folder, CAT, pet))
        say(broker, "reload/set", "PRESS")
        wait_until(lambda: len(events(subscriber)) == 2)
        assert [(event["type"], event["watch"]) for event in events(subscriber)] == [
            ("detected", "cat"),
            ("detected", "pet"),
        ]
        write_config(file, broker.port, a_pipeline(folder, pet))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(events(subscriber)) == 3)
        assert (events(subscriber)[2]["type"], events(subscriber)[2]["watch"]) == ("cleared", "cat")
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/cat/state")[-1] == b"")
        assert values(subscriber, f"{BASE}/driveway/status") == [b"offline", b"online"], "the camera was not touched"
        write_config(file, broker.port, a_pipeline(folder, pet), a_pipeline(folder, name="garden"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: payloads(subscriber, f"{BASE}/garden/status")[-1:] == [b"online"])
        write_config(file, broker.port, a_pipeline(folder, name="garden"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: payloads(subscriber, f"{BASE}/driveway/status")[-1:] == [b""])
        assert daemon.end()[0] == 0, daemon.said


def test_health_tells_the_truth(broker: Broker, subscriber: Subscriber, tmp_path: Path, repository: Path) -> None:
    folder = photographs(tmp_path / "p", "coffee")
    gone = {"type": "v4l2", "device": str(tmp_path / "video9")}
    config = write_config(
        tmp_path / "c.yaml", broker.port, a_pipeline(folder, CAT), a_pipeline(folder, name="porch", source=gone)
    )
    schema = json.loads((repository / "docs" / "health.schema.json").read_text())
    with Daemon(config) as daemon:
        wait_until(lambda: any(json.loads(one)["degraded"] for one in payloads(subscriber, f"{BASE}/health")))
        health = json.loads(payloads(subscriber, f"{BASE}/health")[-1])
        jsonschema.validate(health, schema)
        assert health["pipelines"]["driveway"]["status"] == "online"
        assert health["pipelines"]["porch"]["status"] == "offline"
        assert "video9" in health["reasons"][0]
        assert health["pipelines"]["driveway"]["model"]["name"]
        assert health["configuration_sha256"] == hashlib.sha256(config.read_bytes()).hexdigest()
        assert health["address"] == "127.0.0.1"
        assert health["outbox"]["durable"] is True
        assert daemon.end()[0] == 0, daemon.said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pipelines: [{name: a, source: {type: foldr, path: .}}]", "foldr"),
        ("pipelines: [{name: a, source: PHOTOS, watches: [{name: x, labels: [zebrra]}]}]", "zebra"),
        ("", "pipelines"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_configuration_ends_with_code_2_and_its_place(
    command: str, text: str, expected: str, tmp_path: Path
) -> None:
    photographs(tmp_path / "p", "cat")
    file = tmp_path / "c.yaml"
    file.write_text(text.replace("PHOTOS", "{type: folder, path: p}"))
    done = subprocess.run(
        [sys.executable, "-m", "edge_classifierd", command, "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"{file}:1:" in done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_each_event_is_a_line_on_a_terminal_and_at_debug_elsewhere(broker: Broker, tmp_path: Path) -> None:
    source = {"type": "folder", "path": str(photographs(tmp_path / "p", "cat", "coffee")), "fps": 5, "loop": False}
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(tmp_path / "p", CAT, source=source))
    detected, cleared = r" driveway/cat detected: .*cat.* \(\d+%\)", r" driveway/cat cleared after \d\.\d s: .*cat"
    for level, shown in (("info", False), ("debug", True)):
        with Daemon(config, "--log-level", level) as daemon:
            assert daemon.process.wait(60) == 0
            assert bool(re.search(rf"DEBUG  {detected}", daemon.said)) is shown
            daemon.log.unlink()
    terminal, stderr = pty.openpty()
    command = [sys.executable, "-m", "edge_classifierd", "run", "--config", str(config)]
    environment = {**os.environ, "EDGE_CLASSIFIERD_STATE": str(tmp_path / "state")}
    with subprocess.Popen(command, stderr=stderr, stdout=stderr, env=environment) as process:
        os.close(stderr)
        said = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while more := os.read(terminal, 4096):
                said += more
    os.close(terminal)
    assert process.returncode == 0
    assert re.search(rf"INFO   {detected}", said.decode())
    assert re.search(rf"INFO   {cleared}", said.decode())
