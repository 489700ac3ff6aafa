"""Configurations and plans for the doctor's tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from edge_classifierd.config.loading.load import load
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.planning.validation import preflight

if TYPE_CHECKING:
    from edge_classifierd.pipeline.planning.plan import Plan

TOPICS = Topics("edge-classifierd", "porch")
HERE = Path("/")


def write_config(folder: Path, **pipeline: Any) -> Path:
    config = folder / "config.yaml"
    one = {"name": "porch", "source": {"type": "v4l2", "device": "/dev/video97"}, **pipeline}
    mqtt = {"host": "127.0.0.1", "port": 9}
    config.write_text(yaml.safe_dump({"device": {"id": "porch"}, "mqtt": mqtt, "pipelines": [one]}))
    return config


def plan_for(folder: Path, source: dict[str, Any], **keys: Any) -> Plan:
    (plan,) = preflight(load(write_config(folder, source=source, **keys)))
    return plan
