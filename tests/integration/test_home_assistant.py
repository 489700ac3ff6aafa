"""Discovery and the recipes name topics and fields that a running daemon publishes or subscribes to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import jsonschema
import pytest
import yaml
from broker_process import Broker, Subscriber, wait_until
from cat_film import film
from client_scene import publish as publish_message
from client_scene import retained
from daemon_process import Daemon, a_pipeline, photographs, write_config
from home_assistant_schema import check_message, topics_read
from paho.mqtt import publish
from paho.mqtt.client import topic_matches_sub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes"
BASE = "edge-classifierd/porch"
DEVICE = "homeassistant/device/edge-classifierd_porch/config"
DOG = {"name": "dog", "labels": ["*cat*"], "threshold": 0.5, "release": 0.3, "device_class": "presence"}


@dataclass
class Run:
    """The messages of a daemon, recorded by a subscriber."""

    broker: Broker
    messages: list[tuple[str, bytes]]
    entities: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def said(self) -> dict[str, list[bytes]]:
        """Return the payloads by topic."""
        found: dict[str, list[bytes]] = {}
        for topic, payload in self.messages:
            if payload:
                found.setdefault(topic, []).append(payload)
        return found

    def received(self, topic: str) -> bool:
        """Whether the daemon subscribes to a filter that matches this topic, read from the broker's log."""
        filters = re.findall(r"^\d+: edge-classifierd-porch-\S+ \d (\S+)$", self.broker.log.read_text(), re.MULTILINE)
        return any(topic_matches_sub(one, topic) for one in filters)

    def documents(self, pattern: str) -> list[dict[str, Any]]:
        """Return the JSON published on the topics that a filter matches."""
        return [
            json.loads(payload)
            for topic, payloads in self.said.items()
            if topic_matches_sub(pattern, topic)
            for payload in payloads
        ]

    @property
    def entity_ids(self) -> set[str]:
        """Return the ids that Home Assistant makes of the names of device and entities."""
        return {f"{platform}.{_slug('Porch ' + config['name'])}" for platform, config in self.entities}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def complete(heard: list[tuple[str, bytes]]) -> bool:
    """Whether a running device has published all its topics."""
    said: dict[str, list[bytes]] = {}
    for topic, payload in heard:
        said.setdefault(topic.removeprefix(f"{BASE}/"), []).append(payload)
    events = {json.loads(payload)["type"] for payload in said.get("driveway/event", [])}
    labels = {json.loads(payload)["label"] for payload in said.get("driveway/state", [])}
    counts = [json.loads(payload)["count_today"] for payload in said.get("driveway/dog/stats", [])]
    figures = [json.loads(payload)["pipelines"].get("driveway") for payload in said.get("health", [])]
    return (
        events == {"detected", "cleared"}
        and labels >= {"Egyptian cat", "espresso"}
        and any(counts)
        and any(one and one["inference_ms"]["p50"] and one["fps"] for one in figures)
        and {"garden/image", "garden/motion"} <= set(said)
    )


def live(folder: Path, **home_assistant: Any) -> Iterator[Run]:
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker").start()
    subscriber = Subscriber(broker.port)
    photos = photographs(folder / "photos", "cat", "coffee")
    slowly = {"type": "folder", "path": str(photos), "fps": 2, "loop": True}  # each state is said, none is left out
    scene = {"type": "stream", "url": str(film(folder / "cat.mkv")), "loop": True}
    pipelines = [
        a_pipeline(photos, DOG, source=slowly),
        a_pipeline(photos, name="garden", source=scene, motion={"enabled": True}),
    ]
    config = write_config(
        folder / "c.yaml",
        broker.port,
        *pipelines,
        device={"id": "porch", "name": "Porch"},
        mqtt={"host": "127.0.0.1", "port": broker.port, "home_assistant": home_assistant},
    )
    try:
        with Daemon(config) as daemon:
            wait_until(lambda: subscriber.last(f"{BASE}/garden/status") == b"online", 60)
            publish.single(f"{BASE}/garden/snapshot/set", "PRESS", qos=1, hostname="127.0.0.1", port=broker.port)
            wait_until(lambda: complete([(topic, payload) for topic, payload, _ in list(subscriber.messages)]), 90)
            heard = [(topic, payload) for topic, payload, _ in list(subscriber.messages)]
            run = Run(broker, heard)
            for topic, payload in heard:
                if topic.startswith("homeassistant/") and payload:
                    run.entities += check_message(topic, json.loads(payload))
            yield run
            daemon.end()
    finally:
        subscriber.close()
        broker.stop()


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


@pytest.fixture(scope="module")
def porch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from live(tmp_path_factory.mktemp("recipes"))


class _Loader(yaml.SafeLoader):
    """Loads YAML with Home Assistant's `!input`."""


_Loader.add_constructor("!input", lambda loader, node: f"!input {loader.construct_scalar(node)}")


def recipe(name: str) -> Any:
    return yaml.load((RECIPES / name).read_text(), _Loader)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a document."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(
    "name", ["home-assistant-automations.yaml", "home-assistant-card.yaml", "home-assistant-blueprint.yaml"]
)
def test_recipes_of_home_assistant_load_and_name_existing_entities(porch: Run, name: str) -> None:
    document = recipe(name)
    named = {
        entity
        for text in texts(document)
        for entity in re.findall(r"\b(?:event|image|sensor|binary_sensor|number|switch|button)\.porch_\w+", text)
    }
    assert named <= porch.entity_ids, named - porch.entity_ids
    assert named or name.endswith("blueprint.yaml")
    for text in texts(document):
        if "{{" in text:
            jinja2.Environment(autoescape=False).parse(text)


def test_recipes_of_home_assistant_use_attributes_of_events(porch: Run) -> None:
    events = porch.documents(f"{BASE}/driveway/event")
    for name in ("home-assistant-automations.yaml", "home-assistant-blueprint.yaml"):
        read = set(re.findall(r"to_state\.attributes\.(\w+)", (RECIPES / name).read_text())) - {"event_type"}
        assert {"label", "confidence", "watch"} <= read
        assert all(read <= set(event) for event in events)


def test_blueprint_uses_all_its_inputs() -> None:
    document = recipe("home-assistant-blueprint.yaml")
    asked = set(document["blueprint"]["input"])
    del document["blueprint"]
    used = {text.removeprefix("!input ") for text in texts(document) if text.startswith("!input ")}
    assert asked == used


def test_flow_of_node_red_is_complete_and_names_existing_topics(porch: Run) -> None:
    nodes = json.loads((RECIPES / "node-red-flow.json").read_text())
    by_id = {node["id"]: node for node in nodes}
    assert len(by_id) == len(nodes)
    for node in nodes:
        assert all(target in by_id for port in node.get("wires", []) for target in port), node["name"]
        assert by_id[node["broker"]]["type"] == "mqtt-broker" if node["type"].startswith("mqtt ") else True
        if node["type"] not in {"tab", "mqtt-broker"}:
            assert by_id[node["z"]]["type"] == "tab"
        if node["type"] == "mqtt in":
            assert any(topic_matches_sub(node["topic"], topic) for topic in porch.said), node["topic"]
        if node["type"] == "mqtt out":
            assert porch.received(node["topic"])
    named = {path for node in nodes for text in texts(node) for path in re.findall(r"(?<![\w.])payload\.(\w+)", text)}
    assert {"type", "event_id", "active_s"} <= named
    assert all(named <= set(event) for event in porch.documents(f"{BASE}/driveway/event"))


def json_path(document: Any, path: str) -> Any:
    for level in path.split("."):
        document = document[level]
    return document


def test_channels_of_openhab_name_existing_topics_and_paths(porch: Run) -> None:
    text = (RECIPES / "openhab.things").read_text()
    channels = re.findall(r"Type (\w+)\s*: (\w+)\s+\"[^\"]*\"\s+\[ (.*) \]", text)
    assert len(channels) == text.count("Type ")
    for _, name, settings in channels:
        options = dict(re.findall(r'(\w+)="([^"]*)"', settings))
        if "stateTopic" in options:
            assert options["stateTopic"] in porch.said, name
        if "commandTopic" in options:
            assert porch.received(options["commandTopic"]), name
        if "transformationPattern" in options:
            for document in porch.documents(options["stateTopic"]):
                json_path(document, options["transformationPattern"].removeprefix("JSONPATH:$."))
    (available,) = re.findall(r'availabilityTopic="([^"]+)"', text)
    assert porch.said[available][0] == b"online"
    linked = set(re.findall(r"mqtt:topic:home:porch:(\w+)", (RECIPES / "openhab.items").read_text()))
    assert linked == {name for kind, name, _ in channels if kind != "trigger"}


def test_paths_of_telegraf_exist(porch: Run) -> None:
    configuration = tomllib.loads((RECIPES / "telegraf.conf").read_text())
    consumers = configuration["inputs"]["mqtt_consumer"]
    assert [consumer["name_override"] for consumer in consumers] == ["edge_event", "edge_state", "edge_health"]
    for consumer in consumers:
        (topic,) = consumer["topics"]
        documents = porch.documents(topic)
        assert documents, topic
        for parsing in consumer.get("topic_parsing", []):
            assert len(parsing["tags"].split("/")) == len(parsing["topic"].split("/"))
            assert parsing["topic"] == topic
        flat = {key: value for document in documents for key, value in flattened(document)}
        for pattern in consumer["fieldinclude"]:
            kept = {key: value for key, value in flat.items() if fnmatch(key, pattern)}
            assert kept, f"{pattern} matches nothing"
            # Telegraf's parser takes numbers; everything else must be named.
            for key, value in kept.items():
                plain = isinstance(value, int | float) and not isinstance(value, bool)
                assert value is None or plain != (key in consumer["json_string_fields"]), key
        assert set(consumer.get("tag_keys", [])) <= set(flat)
    moment = consumers[0]["json_time_key"]
    for event in porch.documents(f"{BASE}/+/event"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event[moment])


def flattened(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Return fields with the names that Telegraf's JSON parser gives them."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flattened(inner, (*path, str(key)))
    else:
        yield "_".join(path), value


def shell(porch: Run, call: str, timeout_s: float = 30) -> str:
    done = subprocess.run(
        ["sh", "-c", f'. "{RECIPES / "shell.sh"}"; {call}'],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "BROKER": "127.0.0.1", "PORT": str(porch.broker.port)},
    )
    return done.stdout + done.stderr


def test_shell_recipes_work(porch: Run, tmp_path: Path) -> None:
    missing = subprocess.run(["sh", "-c", "command -v jq mosquitto_sub"], capture_output=True, check=False).returncode
    if missing:
        pytest.skip("needs jq and mosquitto-clients")
    assert re.search(r"^20\S+Z porch/\w+ \w+: [\w ,]+ 0\.\d+$", shell(porch, "detections -C 4"), re.MULTILINE)
    assert re.search(r"^\w+ \d+(\.\d+)? s$", shell(porch, "stays -C 4"), re.MULTILINE)
    assert re.search(rf"^{BASE}/driveway/state \S.* 0\.\d+$", shell(porch, "now"), re.MULTILINE)
    assert "null" not in shell(porch, "reasons")
    shell(porch, f"picture porch driveway {tmp_path}/dog.jpg")
    jpeg = (tmp_path / "dog.jpg").read_bytes()
    assert (jpeg[:2], jpeg[-2:]) == (b"\xff\xd8", b"\xff\xd9")
    subscriber = Subscriber(porch.broker.port, f"{BASE}/driveway/dog/threshold")
    shell(porch, "threshold porch driveway dog 0.75")
    wait_until(lambda: subscriber.last(f"{BASE}/driveway/dog/threshold") == b"0.75")
    subscriber.close()


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
