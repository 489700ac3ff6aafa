"""`doctor` against a real broker, beside a real daemon and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from broker_process import wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.doctor.check_broker import visit_broker
from edge_classifierd.doctor.running_daemon import daemon_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_process import Broker, Subscriber

NOBODY_LISTENS = 9  # discard


def doctor(config: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-m", "edge_classifierd", "doctor", "--config", str(config), "--json", *arguments],
        capture_output=True,
        timeout=110,
        check=False,
        env={**os.environ, "EDGE_CLASSIFIERD_STATE": str(config.parent / "state"), **environment},
    )
    assert done.stdout, done.stderr.decode()
    first: dict[str, dict[str, Any]] = {}  # a check may give more results, each with a further reason
    for finding in json.loads(done.stdout)["findings"]:
        first.setdefault(finding["name"], finding)
    return done.returncode, first


def test_everything_is_fine_on_a_machine_with_a_broker(tmp_path: Path, broker: Broker) -> None:
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    code, findings = doctor(config)
    assert code == 0, findings
    assert "came back in" in findings["round trip"]["sentence"]
    assert findings["camera driveway"]["verdict"] == "ok"
    assert findings["model driveway"]["verdict"] == "ok"
    assert (findings["daemon"]["verdict"], findings["edge tpu"]["verdict"]) == ("unused", "unused")


def test_a_running_daemon_is_seen_and_goes_on_undisturbed(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    counter = subscribe(broker.port)
    photos = photographs(tmp_path / "p", "cat", "coffee")
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(photos, CAT))
    with Daemon(config) as daemon:
        wait_until(lambda: len(counter.first) >= 2, what="events")
        code, findings = doctor(config)
        assert code == 0, findings
        assert str(daemon.process.pid) in findings["outbox"]["sentence"]
        assert "is connected to the broker" in findings["daemon"]["sentence"]
        assert "which can write it" in findings["outbox"]["sentence"]
        before = len(counter.first)
        wait_until(lambda: len(counter.first) >= before + 2, what="events go on")
        said = daemon.said
        daemon.end()
    assert "took over" not in said
    assert said.count(": connected (") == 1
    statuses = [payload for topic, payload, retained in counter.messages if topic == "edge-classifierd/porch/status"]
    assert statuses[-1] == b"offline"
    assert b"offline" not in statuses[:-1]
    # Nothing of the doctor's own stays on the broker.
    own = [topic for topic, _, _ in counter.messages if topic.endswith("/doctor")]
    assert own
    counter.close()
    later = subscribe(broker.port, "edge-classifierd/porch/#")
    wait_until(lambda: later.messages, what="retained messages")
    time.sleep(0.3)
    assert not [topic for topic, _, _ in later.messages if topic.endswith("/doctor")]


def test_a_refused_login_is_one_failed_line_with_the_remedy_and_no_secret(
    tmp_path: Path, make_broker: Callable[..., Broker]
) -> None:
    broker = make_broker("allow_anonymous false")
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    login = "host: 127.0.0.1\n  username: edge\n  password: s3cret"
    config.write_text(config.read_text().replace("host: 127.0.0.1", login))
    code, findings = doctor(config)
    assert code == 1
    assert findings["broker"]["verdict"] == "failed"
    assert "mqtt.password" in findings["broker"]["remedy"]
    assert "s3cret" not in json.dumps(findings)


def test_what_the_broker_keeps_of_the_device_is_heard_and_a_large_house_does_not_drown_it(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    client = subscribe(broker.port, "none")._client
    kept = {"porch/status": b"online", "porch/driveway/status": b"offline", "porch/garden/status": b"online"}
    for topic, payload in kept.items():
        client.publish(f"edge-classifierd/{topic}", payload, 1, retain=True)
    for number in range(1200):
        last = client.publish(f"homeassistant/device/lamp{number}/config", b"{}", 1, retain=True)
    last.wait_for_publish(30)
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    config.write_text(config.read_text().replace("mqtt:", "mqtt:\n  username: edge\n  password: s3cret"))
    visit = visit_broker(load(config).configuration, SystemClock())
    assert "logged in as edge (MQTT 5)" in visit.results[0].sentence
    assert visit.status == b"online"
    assert [finding.verdict for finding in visit.results] == ["ok"] * 3
    assert "other devices (" in visit.results[-1].sentence


def test_home_assistant_is_seen_by_its_retained_status(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    subscriber = subscribe(broker.port)
    subscriber._client.publish("homeassistant/status", b"online", 1, retain=True).wait_for_publish(10)
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), CAT))
    _, findings = doctor(config)
    assert "online" in findings["home assistant"]["sentence"]
    subscriber._client.publish("homeassistant/status", b"", 1, retain=True).wait_for_publish(10)
    own = b'{"state_topic": "edge-classifierd/porch/driveway/state"}'
    subscriber._client.publish("homeassistant/device/porch/config", own, 1, retain=True).wait_for_publish(10)
    _, findings = doctor(config)
    assert findings["home assistant"]["verdict"] == "warning"
    subscriber._client.publish("homeassistant/device/lamp/config", b"{}", 1, retain=True).wait_for_publish(10)
    _, findings = doctor(config)
    assert "other devices (1)" in findings["home assistant"]["sentence"]


def test_a_wrong_configuration_fails_and_the_machine_is_looked_at_all_the_same(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("pipelines: [{name: a}]\n")
    code, findings = doctor(config)
    assert code == 1
    assert "source" in findings["configuration"]["sentence"]
    assert findings["runtime"]["verdict"] == "ok"
    assert "clock" in findings


def test_beside_a_running_daemon_a_missing_camera_fails_also_when_the_broker_is_down(tmp_path: Path) -> None:
    gone = {"type": "v4l2", "device": str(tmp_path / "no-camera")}
    pipelines = [
        a_pipeline(tmp_path, CAT, name="door", source=gone),
        a_pipeline(photographs(tmp_path / "p", "cat"), CAT, name="yard"),
    ]
    config = write_config(tmp_path / "config.yaml", NOBODY_LISTENS, *pipelines)
    (tmp_path / "run").mkdir()
    with Daemon(config, RUNTIME_DIRECTORY=str(tmp_path / "run")):
        wait_until((tmp_path / "run" / "health.json").exists, what="health")
        code, findings = doctor(config, RUNTIME_DIRECTORY=str(tmp_path / "run"))
    assert code == 3, "a camera is missing"
    assert "no such device" in findings["camera door"]["sentence"]
    verdicts = {name: finding["verdict"] for name, finding in findings.items()}
    assert [verdicts[name] for name in ("camera door", "broker", "daemon")] == ["failed"] * 3
    assert [verdicts[name] for name in ("camera yard", "outbox", "model door")] == ["ok"] * 3


def test_a_daemon_that_reports_nothing_is_not_called_ok(tmp_path: Path, broker: Broker) -> None:
    gone = {"type": "v4l2", "device": str(tmp_path / "no-camera")}
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(tmp_path, CAT, source=gone))
    with Daemon(config, RUNTIME_DIRECTORY=str(tmp_path / "not-there")):
        wait_until(lambda: daemon_on(tmp_path / "state" / "outbox.sqlite3"), what="a daemon")
        _, findings = doctor(config)
    verdicts = {findings[name]["verdict"] for name in ("camera driveway", "daemon", "outbox")}
    assert verdicts == {"warning"}


def test_the_summary_says_what_works_what_does_not_and_what_to_run_next(tmp_path: Path) -> None:
    pipeline = a_pipeline(photographs(tmp_path / "p", "cat"), CAT)
    config = write_config(tmp_path / "config.yaml", NOBODY_LISTENS, pipeline)
    done = subprocess.run(
        [sys.executable, "-m", "edge_classifierd", "doctor", "--summary", "--config", str(config)],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
        env={**os.environ, "EDGE_CLASSIFIERD_STATE": str(tmp_path / "state"), "COLUMNS": "80"},
    )
    assert done.returncode == 1, done.stderr
    works, others = done.stdout.split("Not used:")
    assert works.startswith("Works:\n  model driveway: ")
    assert "  camera driveway: " in works
    assert "Does not work:\n  broker: 127.0.0.1:9: " in others
    assert done.stdout.endswith(f"\nNext: sudoedit {config} && sudo systemctl restart edge-classifierd\n")
