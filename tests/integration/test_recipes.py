"""The recipes of the documentation name topics, fields and entities that a running daemon has."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pytest
import yaml
from broker_process import Subscriber, wait_until
from home_assistant_scene import BASE, Run, live
from paho.mqtt.client import topic_matches_sub

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes"


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
