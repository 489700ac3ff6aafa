"""`fleet` at a real broker: what people and programs see of the devices, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from broker_process import Subscriber, wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config
from paho.mqtt import publish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_process import Broker

SHA = "3f2a91c4" + 56 * "0"


def retain(broker: Broker, topic: str, payload: str) -> None:
    publish.single(f"edge-classifierd/{topic}", payload, qos=1, retain=True, hostname="127.0.0.1", port=broker.port)


def device(
    broker: Broker,
    name: str,
    *,
    status: str = "online",
    sha256: str = SHA,
    model: str = "birds",
    version: str = "1.0.0",
) -> None:
    pipeline = {"status": "online", "model": {"name": model, "sha256": sha256}, "accelerator": "usb:0", "fps": 9.6}
    health = {"version": version, "address": "192.168.1.9", "pipelines": {"garden": pipeline}, "reasons": []}
    retain(broker, f"{name}/status", status)
    retain(broker, f"{name}/health", json.dumps(health))


def fleet(broker: Broker, *options: str) -> subprocess.CompletedProcess[str]:
    where = ("--host", "127.0.0.1", "--port", str(broker.port))
    return subprocess.run(
        [sys.executable, "-m", "edge_classifierd", "fleet", *where, *options],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_devices_are_shown_and_what_is_wrong_is_the_exit_code(broker: Broker) -> None:
    device(broker, "porch")
    done = fleet(broker)
    assert done.returncode == 0, done.stderr
    _, own, pipeline, summary = done.stdout.splitlines()
    assert own.split() == ["porch", "online", "version", "1.0.0", "192.168.1.9"]
    assert pipeline.split() == ["garden", "online", "birds", "3f2a91c4", "usb:0", "9.6"]
    assert summary == "1 device, 1 online, all well"

    device(broker, "attic", status="offline")
    done = fleet(broker)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == ["attic: offline", "2 devices, 1 online, 1 with problems"]
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_json_has_all_devices_with_their_problems(broker: Broker) -> None:
    device(broker, "porch")
    retain(broker, "attic/health", "no\njson \u202e")
    done = fleet(broker, "--json")
    assert done.returncode == 1
    attic, porch = json.loads(done.stdout)["devices"]
    assert (porch["id"], porch["online"], porch["problems"]) == ("porch", True, [])
    assert porch["health"]["pipelines"][0]["model_sha256"] == SHA
    assert attic["health"] is None
    assert len(attic["problems"]) == 2


def test_twenty_devices_fit_the_width_of_a_terminal_and_other_versions_are_counted(broker: Broker) -> None:
    for number in range(1, 21):
        device(
            broker,
            f"device-{number:02}",
            status="offline" if number == 7 else "online",
            version="0.9.0" if number == 5 else "1.0.0",
            model="mobilenet_v2_1.0_224_inat_bird_quant_edgetpu",
        )
    done = fleet(broker)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 2 * 20 + 3
    assert max(map(len, lines)) <= 80
    assert all(SHA[:8] in line for line in lines if "mobilenet" in line)
    assert lines[-3:] == [
        "device-07: offline",
        "versions: 1.0.0 (19), 0.9.0 (1)",
        "20 devices, 19 online, 1 with problems",
    ]


def test_a_broker_that_refuses_or_is_not_there_is_one_sentence(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker("allow_anonymous false")
    done = fleet(broker)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert "the broker refuses a login without user name" in sentence
    assert "check mqtt.username and mqtt.password" in sentence
    broker.stop()
    done = fleet(broker)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert "connection refused" in sentence


def test_nothing_below_the_base_topic_is_a_failure(broker: Broker) -> None:
    done = fleet(broker)
    assert done.returncode == 1
    assert "no device was found below `edge-classifierd/`" in done.stderr


def test_devices_of_a_broker_without_retained_messages_are_heard_after_a_while(broker: Broker) -> None:
    command = [sys.executable, "-m", "edge_classifierd", "fleet", "--host", "127.0.0.1", "--port", str(broker.port)]
    with subprocess.Popen([*command, "--for", "2"], stdout=subprocess.PIPE, text=True) as listening:
        while listening.poll() is None:
            health = json.dumps({"version": "1.0.0", "pipelines": {}, "reasons": []})
            publish.single("edge-classifierd/porch/health", health, hostname="127.0.0.1", port=broker.port)
        assert listening.stdout is not None
        assert listening.stdout.read().splitlines()[-1] == "1 device, 1 online, all well"
    assert listening.returncode == 0


def test_it_waits_until_a_model_has_reached_all(broker: Broker) -> None:
    device(broker, "porch")
    device(broker, "attic", sha256="ff" * 32)
    done = fleet(broker, "--expect", "birds=3f2a91", "--for", "1")
    assert done.returncode == 1
    assert "birds=3f2a91: attic/garden: has birds ffffffff" in done.stderr

    command = [sys.executable, "-m", "edge_classifierd", "fleet", "--host", "127.0.0.1", "--port", str(broker.port)]
    options = ("--expect", "birds=3f2a91", "--for", "40")
    waiting = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    device(broker, "attic")
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert out.endswith("2 devices, 2 online, all well\n")


@pytest.mark.parametrize("text", ["birds", "birds=xyz", "=3f2a91", "birds=3f2"])
def test_expected_model_that_is_none_is_refused(broker: Broker, text: str) -> None:
    done = fleet(broker, "--expect", text)
    assert done.returncode == 2
    assert "--expect" in done.stderr
    assert "SHA-256" in done.stderr


def test_a_real_daemon_is_read_completely(broker: Broker, tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", "cat")
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photos, CAT))
    listening = Subscriber(broker.port)
    with Daemon(config) as daemon:
        wait_until(
            lambda: any("health" in topic and b'"fps":null' not in body for topic, body, _ in listening.messages)
        )
        done = fleet(broker, "--json")
        (porch,) = json.loads(done.stdout)["devices"]
        daemon.end()
    listening.close()
    assert porch["id"] == "porch"
    known = porch["health"]
    assert all(known[key] is not None for key in ("version", "address", "time", "uptime_s", "waiting", "lost"))
    (pipeline,) = known["pipelines"]
    assert pipeline["name"] == "driveway"
    assert pipeline["model"] == "efficientnet_lite0_int8"
    assert pipeline["accelerator"] == "cpu"
    assert pipeline["fps"] > 0
