"""The home: Home Assistant is told of what this board and these pipelines have, and of nothing else."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

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

NOBODY = SimpleNamespace(add_listener=lambda _: None, subscribe=lambda *_: None)


def home_assistant(
    folder: Path, sections: dict[str, Any], board: BoardState, session: SimpleNamespace
) -> HomeAssistantDevice:
    """Announce the device `porch` with these sections of the configuration."""
    config = folder / "config.yaml"
    one = {"name": "gate", "source": {"type": "v4l2"}}
    config.write_text(yaml.safe_dump({"device": {"id": "porch", "name": "Porch"}, "pipelines": [one], **sections}))
    document = load(config)
    made = HomeAssistantDevice(
        cast("MqttClient", session),
        Topics("edge-classifierd", "porch"),
        document.configuration,
        board,
        SystemClock(),
        state=folder,
        published=PublishedTopics(folder / "published.json", "edge-classifierd/porch"),
        publish_states=lambda: None,
    )
    made.announce(preflight(document))
    return made


def announced(folder: Path) -> dict[str, Any]:
    """Return the discovery message."""
    (document,) = json.loads((folder / "discovery.json").read_text()).values()
    (payload,) = document["announced"].values()
    return dict(payload)


@pytest.mark.parametrize("tells", [True, False])
def test_only_what_the_board_tells_gets_an_entity(tmp_path: Path, tells: bool) -> None:
    watch = {"name": "cat", "labels": [281], "device_class": "presence"}
    one = {"name": "gate", "source": {"type": "v4l2"}, "watches": [watch]}
    told = {"temperature_c": 48.0, "throttling": Throttling.from_bits(0), "model": "Raspberry Pi 5"} if tells else {}
    unknown = dict.fromkeys(BoardState.__dataclass_fields__)
    home_assistant(tmp_path, {"pipelines": [one]}, BoardState(**{**unknown, **told}), NOBODY)  # type: ignore[arg-type]
    payload = announced(tmp_path)
    assert {key for key in ("temperature", "throttling") if key in payload["cmps"]} == set(
        ("temperature", "throttling") if tells else ()
    )
    assert payload["dev"]["name"] == "Porch"
    assert (payload["dev"]["mdl"] == "Raspberry Pi 5") is tells
    assert payload["dev"]["mdl"]
    assert payload["cmps"]["gate_X_cat_X_active"]["device_class"] == "presence"


@pytest.mark.parametrize("url", [None, "https://porch.example/"])
def test_the_device_links_to_its_page_once_the_address_is_known(tmp_path: Path, url: str | None) -> None:
    web = {"listen": "0.0.0.0:8480", "password": "correct horse", **({"url": url} if url else {})}
    session = SimpleNamespace(add_listener=lambda _: None, subscribe=lambda *_: None, local_address=None)
    home = home_assistant(tmp_path, {"web": web}, BoardState(**dict.fromkeys(BoardState.__dataclass_fields__)), session)  # type: ignore[arg-type]
    assert announced(tmp_path)["dev"].get("cu") == url
    session.local_address = "192.168.1.9"
    home.tick()
    assert announced(tmp_path)["dev"]["cu"] == (url or "http://192.168.1.9:8480/")
