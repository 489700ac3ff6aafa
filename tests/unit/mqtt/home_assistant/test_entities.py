"""Entities: documented keys, and unique ids that do not change with names."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jinja2
import pytest
from home_assistant_schema import check_message, topics_read
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.config.sections.mqtt import HomeAssistantSection
from edge_classifierd.mqtt.home_assistant.entities import CameraFacts, DeviceFacts, WatchFacts, entities
from edge_classifierd.mqtt.home_assistant.messages import announcement, discovery_filters, vanished, without
from edge_classifierd.mqtt.topics import Topics

DOG = WatchFacts("big-dog", "presence")
FACTS = DeviceFacts(
    name="Porch",
    model="Raspberry Pi 5",
    version="1.2.3",
    cameras=(CameraFacts("driveway", (DOG, WatchFacts("any", None))), CameraFacts("back_yard", (DOG,))),
    has_temperature=True,
    has_throttling=True,
)
TOPICS = Topics("edge-classifierd", "porch")
NAMES = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True)


def configs(facts: DeviceFacts = FACTS, topics: Topics = TOPICS) -> dict[str, dict[str, Any]]:
    return {entity.config["unique_id"]: {"p": entity.platform, **entity.config} for entity in entities(facts, topics)}


def one(unique_id: str) -> dict[str, Any]:
    return configs()[f"edge-classifierd.porch.{unique_id}"]


@pytest.mark.parametrize("kind", ["device", "component"])
def test_messages_have_only_documented_keys(kind: str) -> None:
    messages = announcement(HomeAssistantSection(discovery=kind), FACTS, TOPICS)
    checked = [pair for topic, payload in messages.items() for pair in check_message(topic, payload)]
    assert len(messages) == (1 if kind == "device" else len(checked))
    assert Counter(platform for platform, _ in checked) == {
        "sensor": 5 + 2 * 5 + 3 * 2,
        "binary_sensor": 2 + 2 * 2 + 3,
        "event": 2,
        "image": 2,
        "switch": 2,
        "button": 1 + 2,
        "number": 3,
    }


def test_schema_refuses_undocumented_keys() -> None:
    (topic, payload), *_ = announcement(HomeAssistantSection(discovery="component"), FACTS, TOPICS).items()
    for wrong in ({"colour": "red"}, {"icon": "eye"}, {"state_topic": "a/#"}, {"unique_id": ""}):
        with pytest.raises(Exception, match=r"colour|eye|a/#|non-empty|too short"):
            check_message(topic, {**payload, **wrong})


def test_both_kinds_of_discovery_announce_the_same_entities() -> None:
    (device,) = announcement(HomeAssistantSection(discovery="device"), FACTS, TOPICS).values()
    components = announcement(HomeAssistantSection(discovery="component"), FACTS, TOPICS).values()
    of_device = {config["unique_id"] for config in device["cmps"].values()}
    assert of_device == {config["unique_id"] for config in components} == set(configs())


def test_new_name_changes_no_id_and_no_topic() -> None:
    renamed = announcement(HomeAssistantSection(), replace(FACTS, name="Front door", version="9"), TOPICS)
    (topic, before), (again, after) = *announcement(HomeAssistantSection(), FACTS, TOPICS).items(), *renamed.items()
    assert topic == again == "homeassistant/device/edge-classifierd_porch/config"
    assert before["cmps"] == after["cmps"]
    assert (before["dev"]["ids"], after["dev"]["name"]) == (after["dev"]["ids"], "Front door")


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=2, max_size=6, unique=True))
def test_unique_ids_never_collide(triples: list[tuple[str, str, str]]) -> None:
    found: list[str] = []
    keys: list[tuple[str, str]] = []
    for device in {device for device, _, _ in triples}:
        cameras: dict[str, set[str]] = {}
        for _, camera, watch in triples:
            cameras.setdefault(camera, set()).add(watch)
        facts = replace(
            FACTS,
            cameras=tuple(CameraFacts(c, tuple(WatchFacts(w, None) for w in sorted(ws))) for c, ws in cameras.items()),
        )
        for entity in entities(facts, Topics("edge-classifierd", device)):
            found.append(entity.config["unique_id"])
            keys.append((device, entity.key))
    assert len(set(found)) == len(found)
    assert len(set(keys)) == len(keys)


def test_names_are_readable() -> None:
    assert one("driveway.big-dog.active")["name"] == "driveway big dog"
    assert one("back_yard.big-dog.threshold")["name"] == "back yard big dog threshold"
    assert [one(path)["name"] for path in ("uptime", "driveway.fps")] == ["uptime", "driveway frames per second"]


def test_availability_of_diagnostics_and_of_other_entities() -> None:
    both = ["edge-classifierd/porch/status", "edge-classifierd/porch/driveway/status"]
    for unique_id, config in configs().items():
        topics = [one["topic"] for one in config["availability"]]
        commands_it = unique_id.endswith((".enabled", ".threshold"))
        if "entity_category" in config or commands_it:
            assert topics == both[:1], unique_id
        else:
            assert (topics[0], config["availability_mode"]) == (both[0], "all"), unique_id
            assert topics[1] in {both[1], both[1].replace("driveway", "back_yard")}
    assert [one["topic"] for one in one("driveway.big-dog.active")["availability"]] == both


def test_device_class_replaces_the_icon() -> None:
    assert (one("driveway.big-dog.active")["device_class"], "icon" in one("driveway.big-dog.active")) == (
        "presence",
        False,
    )
    assert "device_class" not in one("driveway.any.active")


def test_unknown_figures_of_the_board_have_no_entity() -> None:
    dumb = configs(replace(FACTS, has_temperature=False, has_throttling=False))
    assert set(configs()) - set(dumb) == {"edge-classifierd.porch.temperature", "edge-classifierd.porch.throttling"}


def test_diagnostics_expire_and_states_do_not() -> None:
    for config in configs().values():
        assert config.get("expire_after", 0) == (120 if config.get("state_topic") == TOPICS.health else 0)


def test_removed_entity_is_sent_with_its_platform_only() -> None:
    fewer = replace(FACTS, cameras=FACTS.cameras[:1])
    before, now = (next(iter(announcement(HomeAssistantSection(), facts, TOPICS).values())) for facts in (FACTS, fewer))
    gone = vanished(before, now)
    assert gone is not None
    payload = without(now, gone)
    removed = {key: config for key, config in payload["cmps"].items() if len(config) == 1}
    assert len(removed) == len(before["cmps"]) - len(now["cmps"])
    assert removed["back_yard_X_event"] == {"p": "event"}
    assert vanished(now, now) is None
    assert without(now, None) == now


def test_prefix_and_filters_of_announcements() -> None:
    for kind in ("device", "component"):
        section = HomeAssistantSection(prefix="my/ha", discovery=kind)
        for topic in announcement(section, FACTS, TOPICS):
            assert topic.startswith("my/ha/")
            levels = topic.split("/")
            assert any(
                len(levels) == len(wanted.split("/"))
                and all(w in {"+", level} for w, level in zip(wanted.split("/"), levels, strict=True))
                for wanted in discovery_filters("my/ha", "porch")
            )


def test_all_state_topics_are_below_the_device() -> None:
    for config in configs().values():
        assert all(topic.startswith("edge-classifierd/porch/") for topic in topics_read(config))


def test_order_is_fixed() -> None:
    orders = [[entity.key for entity in entities(FACTS, TOPICS)] for _ in range(3)]
    assert all(first == second for first, second in pairwise(orders))


def test_a_camera_with_the_motion_gate_has_a_motion_entity() -> None:
    with_gate = replace(FACTS, cameras=(CameraFacts("driveway", (DOG,), has_motion=True),))
    entity = configs(with_gate)["edge-classifierd.porch.driveway.motion"]
    assert (entity["p"], entity["device_class"]) == ("binary_sensor", "motion")
    assert entity["state_topic"] == "edge-classifierd/porch/driveway/motion"
    assert "edge-classifierd.porch.driveway.motion" not in configs()
    for topic, payload in announcement(HomeAssistantSection(), with_gate, TOPICS).items():
        check_message(topic, payload)


@pytest.mark.parametrize(
    ("status", "available", "camera"),
    [("online", "online", "online"), ("offline", "offline", "offline"), ("resting", "online", "None")],
)
def test_camera_at_rest_is_available_and_neither_connected_nor_disconnected(
    status: str, available: str, camera: str
) -> None:
    template = one("driveway.big-dog.active")["availability"][1]["value_template"]
    assert jinja2.Template(template).render(value=status) == available
    assert jinja2.Template(one("driveway.camera")["value_template"]).render(value=status) == camera


@pytest.mark.parametrize(
    ("picture", "problem"), [("ok", "OFF"), (None, "OFF"), ("frozen", "ON"), ("blank", "ON"), ("absent", "OFF")]
)
def test_problem_of_the_picture_comes_from_health(picture: str | None, problem: str) -> None:
    pipelines = {} if picture == "absent" else {"driveway": {"picture": picture}}
    template = one("driveway.picture")["value_template"]
    assert jinja2.Template(template).render(value_json={"pipelines": pipelines}) == problem


def test_a_title_changes_what_people_see_and_no_id() -> None:
    plain, titled = (
        entities(replace(FACTS, cameras=(CameraFacts("driveway", (watch,)),)), TOPICS)
        for watch in (WatchFacts("blue-tit", None), WatchFacts("blue-tit", None, "Blaumeise"))
    )
    names = {one.config["name"] for one in titled}
    assert {"driveway Blaumeise", "driveway Blaumeise threshold"} <= names
    assert not any("blue tit" in name for name in names)
    assert [one.config["unique_id"] for one in plain] == [one.config["unique_id"] for one in titled]
