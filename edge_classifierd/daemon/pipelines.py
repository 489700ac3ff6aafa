"""The fleet: all pipelines that run, how commands reach them, and how they change to another configuration."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from edge_classifierd.daemon.reload import Change, compare
from edge_classifierd.daemon.supervisor import Supervisor
from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.mqtt.commands import SetEnabled, SetThreshold, TakePicture
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_classifierd.pipeline.mqtt_sink import MqttSink
    from edge_classifierd.pipeline.pipeline import Surroundings
    from edge_classifierd.pipeline.plan import Plan

_log = logging.getLogger(__name__)

_RETIRE_S: Final = 0.6


class Pipelines:
    """Owns the pipelines, their classifiers and their figures; used by the service's thread."""

    def __init__(self, plans: Iterable[Plan], surroundings: Surroundings, outlet: MqttSink) -> None:
        self._around = surroundings
        self._outlet = outlet
        self._classifiers = Classifiers()
        self._metrics: dict[str, PipelineMetrics] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self._supervisor = Supervisor(lambda failed: self._make(self._plans[failed.name]), surroundings.clock)
        """It takes the plan that is wanted by now: what a reload told a pipeline that had failed, it never heard."""
        self._plans = {plan.section.name: plan for plan in plans}

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """Those that run, in the order of the configuration."""
        return tuple(self._pipelines.values())

    @property
    def watches(self) -> Mapping[str, frozenset[str]]:
        """The names of each pipeline's watches."""
        return {name: frozenset(rule.name for rule in plan.rules) for name, plan in self._plans.items()}

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What the pipelines run, or are about to after a reload."""
        return tuple(self._plans.values())

    @property
    def finished(self) -> bool:
        """Every source has come to its end."""
        return bool(self._pipelines) and all(pipeline.finished for pipeline in self._pipelines.values())

    @property
    def tried(self) -> bool:
        """Every source was tried: it delivers, or says why not and is retried."""
        return all(
            pipeline.online or pipeline.offline_reason or pipeline.finished or pipeline.failure or not pipeline.enabled
            for pipeline in self._pipelines.values()
        )

    def start(self) -> None:
        """Load the models and start all pipelines. Raises ModelError, MissingError, InferenceError."""
        for name, plan in self._plans.items():
            self._pipelines[name] = self._make(plan)
        for pipeline in self._pipelines.values():
            self._say_what_holds(pipeline, pipeline.plan, pipeline.thresholds())
            pipeline.start()

    def tick(self) -> None:
        """A few times a second: start again what a bug has ended. Raises GaveUpError."""
        self._supervisor.tick(self._pipelines)

    def obey(self, command: SetEnabled | SetThreshold | TakePicture) -> None:
        """Carry out a command that was checked, remember it, and say the value that holds now."""
        pipeline = self._pipelines.get(command.pipeline)
        if pipeline is None:
            return
        match command:
            case SetEnabled(name, enabled):
                self._around.memory.set_enabled(name, enabled)
                pipeline.set_enabled(pipeline.enabled)
                _log.info("%s: switched %s%s", name, "on" if pipeline.enabled else "off", _origin(enabled))
                self._outlet.settings(pipeline.plan, enabled=pipeline.enabled, thresholds={})
            case SetThreshold(name, watch, threshold) if watch in self.watches[name]:
                self._around.memory.set_threshold(name, watch, threshold)
                pipeline.set_threshold(watch, threshold)
                holds = self._configured_threshold(name, watch) if threshold is None else threshold
                _log.info("%s: threshold of %s set to %g%s", name, watch, holds, _origin(threshold))
                self._outlet.settings(pipeline.plan, enabled=pipeline.enabled, thresholds={watch: holds})
            case TakePicture():
                pipeline.want_picture()
            case _:
                _log.debug("%s: a reload came before this command and took its watch away: %s", pipeline.name, command)

    def change_to(self, wanted: Iterable[Plan]) -> int:
        """Change only what differs; how many pipelines did. Raises EdgeClassifierError with everything as it was."""
        plans = {plan.section.name: plan for plan in wanted}
        changes = {name: compare(self._plans.get(name), plan) for name, plan in plans.items()}
        # Make what may fail before anything is stopped; cameras are opened by `start` only.
        try:
            made = {name: self._make(plans[name]) for name, change in changes.items() if change is Change.RESTART}
        except EdgeClassifierError:
            self._classifiers.keep_only(self._plans.values())
            raise
        for name in [name for name in self._pipelines if name not in plans or name in made]:
            self._retire(name, gone=name not in plans)
        self._pipelines = {name: made.get(name) or self._pipelines[name] for name in plans}
        for name, pipeline in self._pipelines.items():
            self._move(pipeline, self._plans.get(name), plans[name], changes[name])
        self._plans = plans
        self._classifiers.keep_only(plans.values())
        return sum(change is not Change.NONE for change in changes.values())

    def stop(self, timeout_s: float) -> None:
        """End all pipelines side by side; one that is stuck in a call is left behind."""
        for pipeline in self._pipelines.values():
            pipeline.request_stop()
        deadline_s = self._around.clock.monotonic() + timeout_s
        for pipeline in self._pipelines.values():
            if not pipeline.stop(max(0.05, deadline_s - self._around.clock.monotonic())):
                _log.warning("%s: stuck in a call; left behind", pipeline.name)
            self._outlet.status(pipeline.plan, online=False)

    def close(self) -> None:
        """Release the models and their devices."""
        self._classifiers.close()

    def _configured_threshold(self, name: str, watch: str) -> float:
        return next(rule.threshold for rule in self._plans[name].rules if rule.name == watch)

    def _make(self, plan: Plan) -> Pipeline:
        metrics = self._metrics.setdefault(plan.section.name, PipelineMetrics(self._around.clock))
        return Pipeline(plan, self._classifiers.get(plan), metrics, self._around)

    def _move(self, pipeline: Pipeline, before: Plan | None, wanted: Plan, change: Change) -> None:
        """Say what holds from now on, then have the pipeline do it."""
        if before is not None:
            gone = {rule.name for rule in before.rules} - {rule.name for rule in wanted.rules}
            self._outlet.withdraw(before, sorted(gone))
        commanded = dict(self._around.memory.pipeline(pipeline.name).thresholds)
        thresholds = {rule.name: commanded.get(rule.name, rule.threshold) for rule in wanted.rules}
        self._say_what_holds(pipeline, wanted, thresholds)
        if change is Change.WATCHES:
            pipeline.adopt(wanted)
        elif change is Change.RESTART:
            if before is not None:
                pipeline.metrics.restarted()
            pipeline.start()

    def _say_what_holds(self, pipeline: Pipeline, plan: Plan, thresholds: dict[str, float]) -> None:
        """On the broker, and in the journal what was commanded once and is not as configured."""
        self._outlet.settings(plan, enabled=pipeline.enabled, thresholds=thresholds)
        if not pipeline.enabled:
            _log.info("%s: switched off, as commanded over MQTT", pipeline.name)
        for rule in plan.rules:
            if thresholds[rule.name] != rule.threshold:
                said = "%s: the threshold of %s is %g, as commanded over MQTT, and not %g as configured"
                _log.info(said, pipeline.name, rule.name, thresholds[rule.name], rule.threshold)

    def _retire(self, name: str, *, gone: bool) -> None:
        pipeline = self._pipelines.pop(name)
        stopped = pipeline.stop(_RETIRE_S)
        if not stopped:
            _log.warning("%s: stuck in a call; left behind", name)
        self._supervisor.forget(name)
        if gone:
            if stopped:  # else it may hold what telling needs
                pipeline.clear()
            self._outlet.withdraw(pipeline.plan)
            self._metrics.pop(name, None)


def _origin(commanded: float | None) -> str:
    """Where a value comes from when a command has returned it to the configuration, for the journal."""
    return ", as configured" if commanded is None else ""
