"""The recipes for Prometheus and Grafana name metrics that docs/web.md lists."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path


def test_recipes_name_documented_metrics(repository: Path) -> None:
    folder = repository / "docs" / "fleet"
    rules = yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((folder / "grafana.json").read_text())["panels"]
    queries = [rule["expr"] for rule in rules] + [one["expr"] for panel in panels for one in panel["targets"]]
    named = {name for query in queries for name in re.findall(r"edge_classifierd_(\w+?)(?:_bucket)?\b", query)}
    documented = set(re.findall(r"`([a-z_]+)`", (repository / "docs" / "web.md").read_text()))
    assert len(named) > 10
    assert named <= documented, named - documented


def test_every_alert_is_made_to_fire(repository: Path) -> None:
    rules = yaml.safe_load((repository / "docs/fleet/alerts.yml").read_text())["groups"][0]["rules"]
    cases = yaml.safe_load((repository / "tests/system/monitoring/alerts_test.yml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    fired = {check["alertname"] for check in checks if check.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules}
