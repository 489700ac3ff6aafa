"""The list of retained topics survives restarts and changes of the device's id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_classifierd.mqtt.message import PublishOutcome
from edge_classifierd.mqtt.published_topics import PublishedTopics

if TYPE_CHECKING:
    from pathlib import Path

DELIVERED, LOST = PublishOutcome.DELIVERED, PublishOutcome.LOST


def test_list_is_restored_and_grouped_by_base(tmp_path: Path) -> None:
    first = PublishedTopics(tmp_path / "published.json", "e/porch")
    first.record("e/porch/status", empty=False, outcome=DELIVERED)
    first.record("homeassistant/device/x/config", empty=False, outcome=LOST)
    first.save()
    second = PublishedTopics(tmp_path / "published.json", "e/gate")
    assert second.former_bases == ("e/porch",)
    assert second.topics("e/porch") == {"e/porch/status", "homeassistant/device/x/config"}
    assert second.topics("e/gate") == set()


def test_topic_is_removed_once_its_removal_is_acknowledged(tmp_path: Path) -> None:
    topics = PublishedTopics(tmp_path / "published.json", "e/porch")
    topics.record("e/porch/status", empty=False, outcome=DELIVERED)
    topics.record("e/porch/status", empty=True, outcome=LOST)
    assert topics.topics("e/porch") == {"e/porch/status"}
    topics.record("e/porch/status", empty=True, outcome=DELIVERED)
    assert topics.topics("e/porch") == set()
    topics.save()
    assert PublishedTopics(tmp_path / "published.json", "e/gate").former_bases == ()


def test_former_base_can_be_dropped(tmp_path: Path) -> None:
    first = PublishedTopics(tmp_path / "published.json", "e/porch")
    first.record("e/porch/status", empty=False, outcome=DELIVERED)
    first.save()
    second = PublishedTopics(tmp_path / "published.json", "e/gate")
    second.drop("e/porch")
    second.save()
    assert PublishedTopics(tmp_path / "published.json", "e/gate").former_bases == ()
