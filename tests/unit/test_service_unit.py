"""The limits of the systemd unit fit the largest configuration that `check` accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_tasks_suffice_for_as_many_pipelines_and_instances_as_a_configuration_may_have() -> None:
    schema = json.loads((ROOT / "docs/configuration.schema.json").read_text())
    pipelines = schema["properties"]["pipelines"]["maxItems"]
    instances = json.dumps(schema["$defs"]["ModelSection"]["properties"]["instances"])
    (workers,) = map(int, re.findall(r'"maximum": (\d+)', instances))
    other = 8  # the capture's, the pipeline's own, FFmpeg's reader and decoders
    unit = (ROOT / "systemd/edge-classifierd.service").read_text()
    (limit,) = map(int, re.findall(r"^TasksMax=(\d+)$", unit, re.MULTILINE))
    assert limit >= 2 * pipelines * (workers + other)


def test_a_training_may_lower_its_priority_and_its_end_is_not_that_of_the_service() -> None:
    lines = (ROOT / "systemd/edge-classifierd.service").read_text().splitlines()
    filters = [line.partition("=")[2] for line in lines if line.startswith("SystemCallFilter=")]
    assert filters == ["@system-service", "~@privileged @resources", "setpriority"], "the last one counts"
    assert "OOMPolicy=continue" in lines
