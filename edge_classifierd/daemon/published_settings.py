"""Publishes and logs the values of pipelines that commands can change."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge_classifierd.mqtt.commands import SetEnabled, SetModel, SetRegion, SetThreshold
from edge_classifierd.pipeline.planning.plan import configured_region

if TYPE_CHECKING:
    from edge_classifierd.daemon.starting_pipeline import AnyPipeline
    from edge_classifierd.pipeline.mqtt_sink import MqttSink
    from edge_classifierd.pipeline.planning.plan import AnyPlan
    from edge_classifierd.pipeline.saved_state import SavedState

_log = logging.getLogger(__name__)

SettingCommand = SetEnabled | SetRegion | SetThreshold | SetModel


class PublishedSettings:
    """Publishes the settings of pipelines as retained topics. Used by the service's thread."""

    def __init__(self, sink: MqttSink, saved_state: SavedState) -> None:
        self._sink = sink
        self._saved_state = saved_state

    def confirm(self, pipeline: AnyPipeline, plan: AnyPlan, command: SettingCommand) -> None:
        """Log and publish a value that was stored."""
        name, commands = pipeline.name, self._saved_state.commands(pipeline.name)
        region = commands.region or configured_region(plan)
        thresholds = {}
        match command:
            case SetEnabled():
                origin = ", as configured" if commands.enabled is None else ""
                _log.info("%s: switched %s%s", name, "on" if pipeline.enabled else "off", origin)
            case SetRegion():
                _log.info("%s: region set to %s%s", name, region, "" if commands.region else ", as configured")
            case SetModel():
                _log.info("%s: uses %s", name, f"the taught model {commands.model}" if commands.model else "its model")
            case SetThreshold(_, watch):
                configured = next((rule.threshold for rule in plan.rules if rule.name == watch), None)
                if configured is None:
                    return  # a reload has removed it
                origin = "" if watch in commands.thresholds else ", as configured"
                thresholds[watch] = commands.thresholds.get(watch, configured)
                _log.info("%s: threshold of %s set to %g%s", name, watch, thresholds[watch], origin)
        self._sink.publish_settings(pipeline.plan, enabled=pipeline.enabled, region=region, thresholds=thresholds)

    def publish(self, pipeline: AnyPipeline, plan: AnyPlan) -> None:
        """Publish the settings, and log commanded values that differ from the configuration."""
        commanded = self._saved_state.commands(pipeline.name)
        thresholds = {rule.name: commanded.thresholds.get(rule.name, rule.threshold) for rule in plan.rules}
        configured = configured_region(plan)
        region = commanded.region or configured
        self._sink.publish_settings(plan, enabled=pipeline.enabled, region=region, thresholds=thresholds)
        if not pipeline.enabled:
            _log.info("%s: switched off by command over MQTT", pipeline.name)
        if region != configured:
            message = "%s: the region is %s, set by command over MQTT; the configured one is %s"
            _log.info(message, pipeline.name, region, configured)
        if commanded.model is not None:
            _log.info("%s: the model is the taught model %s, set by command", pipeline.name, commanded.model)
        for rule in plan.rules:
            if thresholds[rule.name] != rule.threshold:
                message = "%s: the threshold of %s is %g, set by command over MQTT; the configured value is %g"
                _log.info(message, pipeline.name, rule.name, thresholds[rule.name], rule.threshold)
