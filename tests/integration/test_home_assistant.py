"""Discovery names topics and fields that a running daemon publishes or subscribes to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import jsonschema
import pytest
from broker_process import Broker, Subscriber, wait_until
from client_scene import publish as publish_message
from client_scene import retained
from daemon_process import Daemon, a_pipeline, photographs, write_config
from home_assistant_scene import BASE, DOG, Run, live
from home_assistant_schema import topics_read
from paho.mqtt import publish
from paho.mqtt.client import topic_matches_sub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "homeassistant/device/edge-classifierd_porch/config"


@pytest.fixture(scope="module", params=["device", "component"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from live(tmp_path_factory.mktemp(request.param), discovery=request.param)


def test_every_topic_in_discovery_is_published_or_subscribed_to(run: Run) -> None:
    assert len(run.entities) > 30
    for platform, config in run.entities:
        silent = topics_read(config) - set(run.said)
        assert not silent, f"{platform} {config['name']} reads {silent}"
        if "command_topic" in config:
            assert run.received(config["command_topic"]), config["command_topic"]
    assert run.received("homeassistant/status")
    assert not run.received("homeassistant/elsewhere")


def test_first_figures_are_published_at_once(run: Run) -> None:
    known = [
        health["uptime_s"]
        for health in run.documents(f"{BASE}/health")
        if all(one["fps"] and one["inference_ms"]["p50"] for one in health["pipelines"].values())
    ]
    assert min(known) < 25


def test_device_that_is_online_receives_commands(run: Run) -> None:
    log = run.broker.log.read_text()
    asked = re.search(r"Received SUBSCRIBE from edge-classifierd-porch-", log)
    online = re.search(rf"Received PUBLISH from edge-classifierd-porch-\S+ \(.*'{BASE}/status'", log)
    assert asked is not None
    assert online is not None
    assert asked.start() < online.start()


def render(template: str, payload: bytes) -> str:
    """Render a template as Home Assistant does, except that an undefined value is an error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    names: dict[str, Any] = {"value": payload.decode()}
    with contextlib.suppress(ValueError):  # Home Assistant leaves `value_json` undefined then
        names["value_json"] = json.loads(payload)
    return environment.from_string(template).render(names)


def test_every_template_renders_with_every_payload(run: Run) -> None:
    rendered: dict[str, set[str]] = {}
    for platform, config in run.entities:
        for key, topic in (("value_template", "state_topic"), ("json_attributes_template", "json_attributes_topic")):
            for payload in run.said.get(config.get(topic, ""), []) if key in config else []:
                text = render(config[key], payload)
                if key.startswith("json") or platform == "event":
                    assert isinstance(json.loads(text), dict)
                rendered.setdefault(config["name"], set()).add(text)
                if platform == "event":
                    assert json.loads(text)["event_type"] in config["event_types"]
                    assert json.loads(payload).items() <= json.loads(text).items()
    assert rendered["degraded"] <= {"ON", "OFF", '{"reasons": []}'}
    assert {"Egyptian cat", "espresso"} <= rendered["driveway label"]
    assert {"94.3"} <= rendered["driveway confidence"]
    assert "cpu" in rendered["driveway accelerator"]
    assert any(float(text) > 0 for text in rendered["driveway inference time"] - {"None"})
    assert any(text.isdigit() and int(text) > 0 for text in rendered["driveway dog count today"])
    assert any(text.startswith("20") for text in rendered["driveway dog last seen"])


def test_stats_are_as_documented(run: Run) -> None:
    schema = json.loads((ROOT / "docs" / "stats.schema.json").read_text())
    documents = run.documents(f"{BASE}/+/+/stats")
    assert {document["count_today"] for document in documents} >= {0, 1}
    for document in documents:
        jsonschema.validate(document, schema)


def test_published_topics_are_the_documented_ones(run: Run) -> None:
    page = (ROOT / "docs" / "mqtt.md").read_text()
    documented = {
        re.sub(r"<[^>]+>", "+", line.split("`")[1].replace("<base>", BASE))
        for line in page.splitlines()
        if line.startswith("| `<base>/")
    }
    said = {topic for topic in run.said if topic.startswith(BASE)}
    for topic in said:
        assert any(topic_matches_sub(one, topic) for one in documented), f"{topic} is not documented"
    for one in documented:
        if one.endswith("/set"):
            assert run.received(one.replace("+", "x")), f"nobody listens to {one}"
        else:
            assert any(topic_matches_sub(one, topic) for topic in said), f"{one} is never said"


# The recipes are for the device porch, its pipeline driveway and its watch dog.


def test_watch_removed_by_a_reload_is_removed_before_its_topics(
    broker: Broker, subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    subscriber = subscribe(broker.port)
    photos = photographs(tmp_path / "p", "cat")
    cup = {"name": "cup", "labels": ["cup"]}
    file = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photos, DOG, cup))
    with Daemon(file) as daemon:
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/cup/state") == b"OFF")
        wait_until(lambda: subscriber.last(DEVICE) is not None)
        write_config(file, broker.port, a_pipeline(photos, DOG))
        publish.single(f"{BASE}/reload/set", "PRESS", qos=1, hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/cup/state") == b"", 60)
        daemon.end()
    order = [topic for topic, payload, _ in subscriber.messages if payload == b"" or topic == DEVICE]
    assert order[:2] == [DEVICE, DEVICE]
    assert {topic.rsplit("/", 1)[1] for topic in order[2:]} == {"state", "stats", "threshold"}
    removing = json.loads([payload for topic, payload, _ in subscriber.messages if topic == DEVICE][1])
    assert removing["cmps"]["driveway_X_cup_X_active"] == {"p": "binary_sensor"}


def test_purge_removes_the_announcement_and_is_refused_while_the_daemon_runs(
    broker: Broker, subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    subscriber = subscribe(broker.port)
    file = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "cat"), DOG))

    def purge(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_classifierd", "discovery", "purge", "--config", str(file), *arguments]
        environment = {**os.environ, "EDGE_CLASSIFIERD_STATE": str(state)}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    state = tmp_path / "state"
    publish_message(broker.port, f"{BASE}/driveway/foreign", "of another program", "-r")
    with Daemon(file) as daemon:
        wait_until(lambda: subscriber.last(DEVICE) is not None)
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/image") is not None)
        refused = purge()
        assert (refused.returncode, "porch is online" in refused.stderr) == (1, True), refused
        daemon.end()
    assert subscriber.last(DEVICE) != b""
    done = purge("--json")
    assert json.loads(done.stdout) == {"device": "porch", "purged": [DEVICE]}, done
    wait_until(lambda: subscriber.last(DEVICE) == b"")
    assert purge("--json").stdout == '{"device": "porch", "purged": []}\n'
    purged = json.loads(purge("--states", "--json").stdout)["purged"]
    assert f"{BASE}/driveway/image" in purged
    wait_until(lambda: subscriber.last(f"{BASE}/driveway/image") == b"")
    assert retained(broker.port) == [(f"{BASE}/driveway/foreign", b"of another program")]
    publish_message(broker.port, f"{BASE}/driveway/cat/state", "ON", "-r")
    state = tmp_path / "absent"
    searched = purge("--states", "--json")
    assert json.loads(searched.stdout)["purged"] == [f"{BASE}/driveway/cat/state"]
    assert "searching the broker" in searched.stderr
    assert retained(broker.port) == [(f"{BASE}/driveway/foreign", b"of another program")]
    broker.stop()
    start_s = time.monotonic()
    gone = purge("--wait", "1")
    assert (gone.returncode, "no connection within 1 s" in gone.stderr) == (1, True), gone
    assert time.monotonic() - start_s < 30
