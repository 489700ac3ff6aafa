"""Discovery after a change of the device's id or base topic: the former device and its topics are removed."""

from __future__ import annotations

from typing import Any

from discovery_scene import BIRTH, DEVICE, FakeNetwork, Scene, facts


def former(scene: Scene, status: bytes | None, **start: Any) -> FakeNetwork:
    """Change a device's id from porch to gate; `status` is the retained status of porch."""
    scene.start(facts("dog"))
    scene.start(facts("dog"), device="gate", **start)
    network = scene.network
    if status is not None:
        network.receive("edge-classifierd/porch/status", status, retained=True)
    network.take()
    return network


def test_changed_id_removes_the_former_device_and_then_its_topics(scene: Scene) -> None:
    network = former(scene, b"offline")
    network.pass_time(2.5)
    assert network.take() == [(DEVICE, None)], "the new one follows"
    network.pass_time(10)
    assert {(topic, payload) for topic, payload in network.take() if "porch" in topic} == {
        ("edge-classifierd/porch/status", None),
        ("edge-classifierd/porch/driveway/dog/state", None),
    }
    network.receive(BIRTH, b"online")
    network.pass_time(1)
    topic, payload = network.take()[0]
    assert (topic, payload["dev"]["ids"]) == (DEVICE, ["edge-classifierd_porch"])
    network.pass_time(5)
    assert network.take()[0] == (DEVICE, None)


def test_former_id_of_another_online_device_is_not_removed(scene: Scene) -> None:
    network = former(scene, b"online")
    network.pass_time(300)
    assert [topic for topic, _ in network.take() if "porch" in topic] == []
    assert "edge-classifierd/porch/#" not in network.handlers
    scene.start(facts("dog"), device="gate")
    scene.network.pass_time(300)
    assert [topic for topic, _ in scene.network.take() if "porch" in topic] == []


def test_former_id_is_removed_once_the_last_will_says_offline(scene: Scene) -> None:
    network = former(scene, b"online")
    network.pass_time(50)
    network.receive("edge-classifierd/porch/status", b"offline")
    network.pass_time(20)
    assert (DEVICE, None) in network.take()


def test_device_that_returns_to_its_former_id_is_not_removed(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), device="gate")
    scene.start(facts("dog"))
    network = scene.network
    assert "edge-classifierd/porch/status" not in network.handlers
    network.receive("edge-classifierd/gate/status", b"offline", retained=True)
    network.pass_time(30)
    said = network.take()
    assert [topic for topic, payload in said if payload is None] == [DEVICE.replace("porch", "gate")]
    assert (said[0][1], said[-1][0]) == (None, DEVICE), "first the former one is removed"


def test_changed_base_topic_keeps_the_device(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), base="home")
    network = scene.network
    network.receive("edge-classifierd/porch/status", b"offline", retained=True)
    network.pass_time(30)
    said = network.take()
    assert {topic for topic, payload in said if payload is not None} == {DEVICE}
    former_states = ["edge-classifierd/porch/driveway/dog/state", "edge-classifierd/porch/status"]
    assert [topic for topic, payload in said if payload is None] == former_states


def test_new_id_is_announced_after_the_former_one_is_removed_and_not_retained_before_home_assistant_starts(
    scene: Scene,
) -> None:
    network = former(scene, None)
    network.pass_time(30)
    messages = [message for message in network.sent if "homeassistant/" in message.topic]
    assert [(message.topic, bool(message.payload), message.retain) for message in messages] == [
        (DEVICE, False, True),
        (DEVICE.replace("porch", "gate"), True, False),
    ]
    network.sent.clear()
    network.receive(BIRTH, b"online")
    network.pass_time(15)
    messages = [message for message in network.sent if "homeassistant/" in message.topic]
    assert [(message.topic, bool(message.payload), message.retain) for message in messages] == [
        (DEVICE, True, False),
        (DEVICE, False, True),
        (DEVICE.replace("porch", "gate"), True, True),
    ]


def test_removes_only_topics_that_the_daemon_has_published(scene: Scene) -> None:
    network = former(scene, None)
    network.pass_time(30)
    removed = {message.topic for message in network.sent if not message.payload}
    assert removed == {DEVICE, "edge-classifierd/porch/status", "edge-classifierd/porch/driveway/dog/state"}
    assert not [one for one in network.handlers if one.endswith("#")], "no search on the broker"
