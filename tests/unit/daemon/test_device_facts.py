"""The home: Home Assistant is told of what this board and these pipelines have, and of nothing else."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import yaml

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.daemon.home_assistant import HomeAssistantDevice
from edge_classifierd.health.board import BoardState, Throttling
from edge_classifierd.mqtt.published_topics import PublishedTopics
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.planning.validation import preflight

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.mqtt.client import MqttClient

NOBODY = cast("MqttClient", SimpleNamespace(add_listener=lambda _: None, subscribe=lambda *_: None))


@pytest.mark.parametrize("tells", [True, False])
def test_only_what_the_board_tells_gets_an_entity(tmp_path: Path, tells: bool) -> None:
    watch = {"name": "cat", "labels": [281], "device_class": "presence"}
    one = {"name": "gate", "source": {"type": "v4l2"}, "watches": [watch]}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"device": {"id": "porch", "name": "Porch"}, "pipelines": [one]}))
    document = load(config)
    told = {"temperature_c": 48.0, "throttling": Throttling.from_bits(0), "model": "Raspberry Pi 5"} if tells else {}
    unknown = dict.fromkeys(BoardState.__dataclass_fields__)
    home = HomeAssistantDevice(
        NOBODY,
        Topics("edge-classifierd", "porch"),
        document.configuration,
        BoardState(**{**unknown, **told}),  # type: ignore[arg-type]
        SystemClock(),
        state=tmp_path,
        published=PublishedTopics(tmp_path / "published.json", "edge-classifierd/porch"),
        publish_states=lambda: None,
    )
    home.announce(preflight(document))
    (document_said,) = json.loads((tmp_path / "discovery.json").read_text()).values()
    (payload,) = document_said["announced"].values()
    assert {key for key in ("temperature", "throttling") if key in payload["cmps"]} == set(
        ("temperature", "throttling") if tells else ()
    )
    assert payload["dev"]["name"] == "Porch"
    assert (payload["dev"]["mdl"] == "Raspberry Pi 5") is tells
    assert payload["dev"]["mdl"]
    assert payload["cmps"]["gate_X_cat_X_active"]["device_class"] == "presence"
