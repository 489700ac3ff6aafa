"""Discovery: announced whenever Home Assistant may not have it, and removed when entities are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discovery_scene import BIRTH, DEVICE, Scene, components, facts, removals

from edge_classifierd.mqtt.message import PublishOutcome
from edge_classifierd.mqtt.refusals import TOO_LARGE

if TYPE_CHECKING:
    import pytest


def test_announces_retained_with_every_connection(scene: Scene) -> None:
    scene.start(facts("dog"))
    (message,) = scene.network.sent
    assert (message.topic, message.retain, message.qos) == (DEVICE, True, 1)
    first = scene.network.take()
    scene.network.pass_time(60)
    assert scene.network.take() == []
    scene.network.disconnect()
    scene.network.connect()
    assert scene.network.take() == first


def test_announces_again_and_then_publishes_states_when_home_assistant_starts(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(0.5)
    assert [topic for topic, _ in scene.network.take()] == [DEVICE]
    scene.network.pass_time(1)
    assert [topic for topic, _ in scene.network.take()] == ["states"], "once Home Assistant has subscribed to them"
    scene.network.receive(BIRTH, b"offline")
    scene.network.receive(BIRTH, b"online", retained=True)
    scene.network.pass_time(10)
    assert scene.network.take() == []


def test_states_of_new_entities_are_published_once_more_after_home_assistant_has_subscribed(scene: Scene) -> None:
    discovery = scene.start(facts("dog"))
    assert scene.states_at_start == 1
    scene.network.disconnect()
    scene.network.connect()
    scene.network.pass_time(3)
    scene.start(facts("dog"))
    assert (scene.states_published, scene.states_at_start) == (0, 0), "Home Assistant has subscribed before"
    discovery = scene.start(facts("dog", "cat"))
    assert scene.states_at_start == 1
    discovery.announce(facts("bird"))
    scene.network.pass_time(0.25)
    scene.network.disconnect()
    scene.network.connect()
    scene.network.pass_time(1.5)
    assert scene.states_published == 1, "also when the connection was lost meanwhile"


def test_births_are_answered_at_most_every_two_seconds(scene: Scene) -> None:
    scene.start(facts("dog"))
    for _ in range(40):
        scene.network.receive(BIRTH, b"online")
        scene.network.pass_time(0.25)
    scene.network.pass_time(3)
    assert 4 <= scene.states_published <= 6


def test_other_prefix_is_used_and_both_birth_topics_are_subscribed(scene: Scene) -> None:
    scene.start(facts("dog"), prefix="my/ha")
    assert [topic for topic, _ in scene.network.take()] == ["my/ha/device/edge-classifierd_porch/config"]
    assert set(scene.network.handlers) == {BIRTH, "my/ha/status"}
    scene.network.receive("my/ha/status", b"online")
    scene.network.pass_time(2)
    assert scene.states_published == 1


def test_watch_removed_by_a_reload_is_removed(scene: Scene) -> None:
    discovery = scene.start(facts("dog", "cat"))
    scene.network.take()
    discovery.announce(facts("dog"))
    scene.network.pass_time(1)
    ((topic, payload),) = scene.network.take()
    assert topic == DEVICE
    kinds = ("active", "threshold", "count_today", "last_seen")
    assert removals(payload) == {f"driveway_X_cat_X_{kind}" for kind in kinds}
    assert not removals(payload) & components(payload)
    assert "driveway_X_dog_X_active" in components(payload)


def test_watch_removed_over_a_restart_is_removed_with_its_states(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    ((_, payload),) = scene.network.take()
    assert len(removals(payload)) == 4
    scene.network.pass_time(10)
    assert scene.network.take() == GONE


GONE = [(f"edge-classifierd/porch/driveway/cat/{kind}", None) for kind in ("state", "stats", "threshold")]


def test_nothing_is_published_on_the_event_topic_of_a_removed_camera(scene: Scene) -> None:
    scene.start(facts("dog", camera="garden"))
    scene.start(facts("dog"))
    scene.network.pass_time(30)
    cleared = {topic for topic, payload in scene.network.take() if payload is None}
    assert "edge-classifierd/porch/garden/dog/state" in cleared
    assert "edge-classifierd/porch/garden/event" not in cleared


def test_states_of_removed_entities_are_cleared_after_a_lost_connection(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.disconnect()
    scene.network.connect()
    scene.network.take()
    scene.network.answer = PublishOutcome.LOST
    scene.network.pass_time(10)
    assert scene.network.take() == GONE
    scene.network.disconnect()
    scene.network.answer = PublishOutcome.DELIVERED
    scene.network.connect()
    scene.network.pass_time(10)
    assert scene.network.take()[1:] == GONE
    scene.network.disconnect()
    scene.network.connect()
    scene.network.pass_time(10)
    assert len(scene.network.take()) == 1


def test_states_of_removed_entities_are_cleared_when_home_assistant_starts_meanwhile(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(4)
    scene.network.disconnect()
    scene.network.take()
    scene.start(facts("dog"))
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(15)
    assert scene.network.take()[-3:] == GONE


def test_watch_removed_twice_is_cleared_twice(scene: Scene) -> None:
    discovery = scene.start(facts("dog", "cat"))
    for _ in range(2):
        scene.network.take()
        discovery.announce(facts("dog"))
        scene.network.pass_time(10)
        assert scene.network.take()[1:] == [("states", 1), *GONE]
        discovery.announce(facts("dog", "cat"))
        scene.network.pass_time(10)


def test_entities_removed_one_by_one_are_announced_once_more_together(scene: Scene) -> None:
    scene.start(facts("dog", "cat", "bird"))
    scene.start(facts("dog", "bird"))
    scene.start(facts("dog"))
    scene.network.pass_time(10)
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(1)
    ((_, shown),) = scene.network.take()
    assert {key.split("_X_")[1] for key in components(shown)} == {"cat", "bird"}


def test_home_assistant_that_was_not_running_receives_removed_entities_once_more(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.pass_time(10)
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(1)
    ((topic, shown),) = scene.network.take()
    assert topic == DEVICE
    assert {key.split("_X_")[1] for key in components(shown)} == {"cat"}
    scene.network.pass_time(5)
    (_, payload), (last, _) = scene.network.take()
    assert (len(removals(payload)), last) == (4, "states")
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(5)
    (_, payload), _ = scene.network.take()
    assert removals(payload) == set()


def test_removed_entities_are_announced_once_more_without_retain(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.pass_time(10)
    scene.network.sent.clear()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(5)
    assert [message.retain for message in scene.network.sent][:2] == [False, True]


def test_watch_that_is_configured_again_is_not_removed(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.start(facts("dog", "cat"))
    scene.network.pass_time(10)
    ((_, payload),) = scene.network.take()
    assert removals(payload) == set()


def test_disabled_discovery_removes_the_announcement_once(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), enabled=False)
    scene.network.pass_time(10)
    assert scene.network.take() == [(DEVICE, None)]
    assert scene.network.handlers == {}
    scene.start(facts("dog"), enabled=False)
    scene.network.pass_time(10)
    assert scene.network.take() == []


def test_other_kind_of_discovery_replaces_the_first_after_a_pause(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), discovery="component")
    assert scene.network.take() == [(DEVICE, None)]
    scene.network.pass_time(4)
    said = [one for one in scene.network.take() if one[0] != "states"]
    assert len(said) > 10
    assert all(payload["dev"]["name"] == "Porch" for _, payload in said)
    assert "homeassistant/binary_sensor/edge-classifierd_porch/driveway_X_dog_X_active/config" in dict(said)


def test_refused_discovery_is_logged_once_and_retried_every_ten_minutes(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = scene.start(facts("dog"))
    scene.network.answer = PublishOutcome.REFUSED
    discovery.announce(facts("cat"))
    scene.network.pass_time(1)
    scene.network.take()
    for _ in range(3):
        scene.network.disconnect()
        scene.network.connect()
    assert scene.network.take() == []
    assert len([record for record in caplog.records if "refuses messages on" in record.message]) == 1
    scene.network.pass_time(590)
    assert DEVICE not in dict(scene.network.take())
    scene.network.pass_time(20)
    assert [topic for topic, _ in scene.network.take()] == [DEVICE], "again after ten minutes, still refused"
    scene.network.answer = None
    scene.network.pass_time(605)
    assert [topic for topic, _ in scene.network.take()] == [DEVICE], "once, however long the answer takes"
    scene.network.answer = PublishOutcome.DELIVERED
    scene.network.disconnect()
    scene.network.connect()
    assert [topic for topic, _ in scene.network.take()] == [DEVICE]
    scene.network.pass_time(700)
    assert scene.network.take() == []


def test_damaged_file_is_logged_and_replaced(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.start(facts("dog", "cat"))
    for damage in ("", "{", "[]", '{"announced, version 1": {}}', "\x00" * 50):
        scene.discovery = None
        scene.file.write_text(damage)
        caplog.clear()
        scene.start(facts("dog"))
        assert "unreadable" in caplog.text
        ((_, payload),) = scene.network.take()
        assert removals(payload) == set()


def test_file_that_cannot_be_written_is_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.file = scene.file.parent / "absent" / "discovery.json"
    discovery = scene.start(facts("dog"))
    discovery.announce(facts("cat"))
    discovery.announce(facts("bird"))
    assert caplog.text.count("discovery.json: cannot be written") == 1


def test_device_message_that_is_too_large_is_replaced_by_component_messages(scene: Scene) -> None:
    discovery = scene.start(facts("dog"))
    scene.network.take()
    scene.network.refusals.add_message(DEVICE, 9000, TOO_LARGE, broker="b:1883", closes=False)
    scene.network.pass_time(5)
    said = [one for one in scene.network.take() if one[0] != "states"]
    assert said[0] == (DEVICE, None)
    assert len(said) > 20
    assert all(topic.count("/") == 4 for topic, _ in said[1:])
    assert scene.network.refusals.sentences == ()
    discovery.announce(facts("dog", "cat"))
    scene.network.pass_time(5)
    assert DEVICE not in dict(scene.network.take())
    scene.start(facts("dog"))
    assert DEVICE not in dict(scene.network.take()), "remembered over a restart"


def test_name_of_emoji_only_is_completed_with_the_device_id(scene: Scene) -> None:
    scene.start(facts("dog", name="🚪🐈"))
    ((_, payload),) = scene.network.take()
    assert payload["dev"]["name"] == "🚪🐈 porch"
    scene.start(facts("dog", name="Küche 🐈"))
    assert scene.network.take()[0][1]["dev"]["name"] == "Küche 🐈"


def test_each_removed_entity_is_announced_once_more_in_one_message_only(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"), discovery="component")
    scene.network.pass_time(10)
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(1)
    ((topic, payload),) = scene.network.take()
    assert topic == DEVICE
    assert {key.split("_X_")[1] for key in components(payload)} == {"cat"}, "those of the dog are announced"
