"""All pipelines: starts and stops them, executes commands and applies a changed configuration."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from edge_classifierd.daemon.published_settings import PublishedSettings
from edge_classifierd.daemon.starting_pipeline import StartingPipeline
from edge_classifierd.daemon.supervisor import Supervisor
from edge_classifierd.errors import InferenceError, ModelError
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.mqtt.commands import LookNow, SetEnabled, SetModel, SetRegion, SetThreshold, TakePicture
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.observation.trial_region import classify_once
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.plan import BlockedPlan, Change, Plan, compare, same_camera

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_classifierd.daemon.published_settings import SettingCommand
    from edge_classifierd.daemon.starting_pipeline import AnyPipeline
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.trial import ModelTrials
    from edge_classifierd.pipeline.mqtt_sink import MqttSink
    from edge_classifierd.pipeline.observation.observer import ObservedFrame
    from edge_classifierd.pipeline.planning.plan import AnyPlan
    from edge_classifierd.pipeline.surroundings import Surroundings
    from edge_classifierd.preprocess import Region

_log = logging.getLogger(__name__)

_RETIRE_S: Final = 0.6


class Pipelines:
    """Owns the pipelines, their classifiers and metrics. Used by the service's thread."""

    def __init__(
        self, plans: Iterable[AnyPlan], surroundings: Surroundings, sink: MqttSink, trials: ModelTrials
    ) -> None:
        self._around = surroundings
        self._sink = sink
        self._trials = trials
        self._classifiers = Classifiers()
        self._metrics: dict[str, PipelineMetrics] = {}
        self._pipelines: dict[str, AnyPipeline] = {}
        self._supervisor = Supervisor(self._remake, surroundings.clock)
        self._plans = {plan.section.name: plan for plan in plans}
        self._settings = PublishedSettings(sink, surroundings.saved_state)
        self._unconfirmed: set[SettingCommand] = set()
        """Commands whose values were not stored yet, without these values."""

    @property
    def pipelines(self) -> tuple[AnyPipeline, ...]:
        """Return all pipelines in the order of the configuration. One that cannot run yet is a `StartingPipeline`."""
        return tuple(self._pipelines.values())

    @property
    def watches(self) -> Mapping[str, frozenset[str]]:
        """Return the names of each pipeline's watches."""
        return {name: frozenset(rule.name for rule in plan.rules) for name, plan in self._plans.items()}

    @property
    def plans(self) -> tuple[AnyPlan, ...]:
        """Return the plans of all pipelines."""
        return tuple(self._plans.values())

    @property
    def finished(self) -> bool:
        """Return whether all sources have ended."""
        return bool(self._pipelines) and all(pipeline.finished for pipeline in self._pipelines.values())

    @property
    def tried(self) -> bool:
        """Return whether each source was tried once: it delivers, or its error is known."""
        return all(
            pipeline.online
            or pipeline.offline_reason
            or pipeline.finished
            or pipeline.failure
            or pipeline.resting
            or not pipeline.enabled
            for pipeline in self._pipelines.values()
        )

    def try_region(self, name: str, region: Region, frame: Frame) -> ObservedFrame:
        """See `PipelineControl.try_region`. Any thread."""
        pipeline = self._pipelines.get(name)
        if not isinstance(pipeline, Pipeline):
            raise InferenceError(f"{name}: does not run")
        plan = pipeline.plan.with_region(region)
        return classify_once(plan, self._classifiers.get(plan), frame)

    def start(self) -> None:
        """Load the models and start all pipelines. One that cannot start is offline; `tick` tries it again."""
        self._around.cameras.set_plans(self._plans.values())
        for name, plan in self._plans.items():
            self._pipelines[name] = self._make(plan)
        for pipeline in self._pipelines.values():
            self._settings.publish(pipeline, pipeline.plan)
            pipeline.start()

    def tick(self) -> None:
        """Store commands, start pipelines that are ready, and failed ones again. Call it a few times a second."""
        self.store_commands()
        for name, pipeline in self._pipelines.items():
            if isinstance(pipeline, StartingPipeline) and pipeline.ready is not None:
                if pipeline.offline_reason is not None:
                    _log.info("%s: can start now", name)
                self._supervisor.forget(name)
                self._pipelines[name] = pipeline.ready
                self._plans[name] = pipeline.ready.plan
                self._around.cameras.set_plans(self._plans.values())
                pipeline.ready.start()
        self._supervisor.tick(self._pipelines)
        for pipeline in self._pipelines.values():
            if isinstance(pipeline, Pipeline):
                pipeline.check_rest()
                pipeline.refresh_accelerator()

    def execute(self, command: SetEnabled | SetRegion | SetThreshold | TakePicture | LookNow) -> None:
        """Execute a validated command, save it and publish the effective value."""
        pipeline = self._pipelines.get(command.pipeline)
        if pipeline is None:
            return
        running = pipeline if isinstance(pipeline, Pipeline) else None
        match command:
            case SetEnabled(name, enabled):
                self._around.saved_state.set_enabled(name, enabled)
                if running is not None:
                    running.set_enabled(pipeline.enabled)
                self._unconfirmed.add(SetEnabled(name, None))
            case SetRegion(name, region):
                self._around.saved_state.set_region(name, region)
                if running is not None:
                    running.set_region(region)
                self._unconfirmed.add(SetRegion(name, None))
            case SetThreshold(name, watch, threshold) if watch in self.watches[name]:
                self._around.saved_state.set_threshold(name, watch, threshold)
                if running is not None:
                    running.set_threshold(watch, threshold)
                self._unconfirmed.add(SetThreshold(name, watch, None))
            case TakePicture() | LookNow():
                _look(running, command)
            case _:
                _log.debug("%s: a reload has removed the watch of this command: %s", pipeline.name, command)

    def store_commands(self, *, at_once: bool = False) -> None:
        """Store commanded values, at most once a second unless `at_once`; then log and publish each."""
        if not self._around.saved_state.save(at_once=at_once):
            return
        unconfirmed, self._unconfirmed = self._unconfirmed, set()
        for command in sorted(unconfirmed, key=str):
            pipeline = self._pipelines.get(command.pipeline)
            if pipeline is not None:
                self._settings.confirm(pipeline, self._plans[pipeline.name], command)

    def change_to(self, wanted: Iterable[AnyPlan]) -> int:
        """Apply the differences between the plans; return the number of changed pipelines."""
        plans = {plan.section.name: self._kept(plan) for plan in wanted}
        return self._change_plans(plans, {name: self._change(name, plan) for name, plan in plans.items()})

    def switch(self, plan: AnyPlan, command: SetModel | None = None) -> int:
        """Apply the plan of one pipeline with another model, which `command` has set; return 1 if it has changed.

        The model is to be known to work; otherwise the pipeline is offline while it is tried.
        """
        name = plan.section.name
        if command is not None:
            self._around.saved_state.set_model(name, command.model)
            self._unconfirmed.add(SetModel(name, None))
        kept = self._kept(plan)
        return self._change_plans({**self._plans, name: kept}, {name: self._change(name, kept)})

    def _change_plans(self, plans: dict[str, AnyPlan], changes: Mapping[str, Change]) -> int:
        # Load models before stopping anything. Cameras are opened by `start`.
        made = {name: self._make(plans[name]) for name, change in changes.items() if change is Change.RESTART}
        for name in [name for name in self._pipelines if name not in plans or name in made]:
            self._retire(name, made.get(name))
        self._classifiers.keep_only(plans.values())
        self._around.cameras.set_plans(plans.values())
        self._pipelines = {name: made.get(name) or self._pipelines[name] for name in plans}
        for name, change in changes.items():
            self._apply(self._pipelines[name], self._plans.get(name), plans[name], change)
        self._plans = plans
        return sum(change is not Change.NONE for change in changes.values())

    def stop(self, timeout_s: float) -> None:
        """Stop all pipelines in parallel. One that is stuck in a call is abandoned."""
        for pipeline in self._pipelines.values():
            pipeline.request_stop()
        deadline_s = self._around.clock.monotonic() + timeout_s
        for pipeline in self._pipelines.values():
            if not pipeline.stop(max(0.05, deadline_s - self._around.clock.monotonic())):
                _log.warning("%s: stuck in a call; its threads are abandoned", pipeline.name)
            self._sink.publish_status(pipeline.plan, online=False)

    def close(self) -> None:
        """Release models and devices."""
        self._classifiers.close()

    def _kept(self, plan: AnyPlan) -> AnyPlan:
        """Return the wanted plan, or the running one when only the model's files cannot be used now."""
        running = self._pipelines.get(plan.section.name)
        unchanged = isinstance(running, Pipeline) and running.plan.section == plan.section
        if unchanged and isinstance(plan, BlockedPlan):
            _log.warning("%s: continues with the loaded model: %s", plan.section.name, plan.reason)
            return self._plans[plan.section.name]
        return plan

    def _change(self, name: str, wanted: AnyPlan) -> Change:
        before = self._plans.get(name)
        if isinstance(self._pipelines.get(name), Pipeline) and isinstance(before, Plan) and isinstance(wanted, Plan):
            return compare(before, wanted)
        return Change.RESTART

    def _make(self, plan: AnyPlan) -> AnyPipeline:
        """Make a pipeline. A model that is not known to work is tried in a thread first."""
        failure = None
        if isinstance(plan, Plan) and all(map(self._trials.passed, plan.cpu_models)):
            try:
                return self._pipeline(plan)
            except Exception as error:  # noqa: BLE001 - an exception of a classifier must affect its own pipeline only
                failure = error
        return self._starting(plan, failure=failure)

    def _remake(self, failed: AnyPipeline) -> AnyPipeline:
        """Make a failed pipeline again, with its current plan, which a reload may have changed."""
        plan = self._plans[failed.name]
        if isinstance(failed, StartingPipeline):
            return self._starting(plan, offline_reason=failed.offline_reason)
        failed.metrics.restarted()
        return self._make(plan)

    def _starting(
        self, plan: AnyPlan, *, failure: Exception | None = None, offline_reason: str | None = None
    ) -> StartingPipeline:
        load, metrics = partial(self._load, plan), self._metrics_of(plan)
        return StartingPipeline(plan, load, metrics, self._around, failure=failure, offline_reason=offline_reason)

    def _load(self, plan: AnyPlan) -> Pipeline:
        """Read the files of a plan again, try its models and load them. Called in its own thread."""
        fresh = plan if plan.again is None else plan.again()
        if isinstance(fresh, BlockedPlan):
            raise ModelError(fresh.reason)
        for bundle in fresh.cpu_models:
            self._trials.require(bundle)
        return self._pipeline(fresh)

    def _pipeline(self, plan: Plan) -> Pipeline:
        return Pipeline(plan, self._classifiers.get(plan), self._metrics_of(plan), self._around)

    def _metrics_of(self, plan: AnyPlan) -> PipelineMetrics:
        return self._metrics.setdefault(plan.section.name, PipelineMetrics(self._around.clock))

    def _apply(self, pipeline: AnyPipeline, before: AnyPlan | None, wanted: AnyPlan, change: Change) -> None:
        """Publish the new settings, then apply them to the pipeline."""
        if before is not None:
            gone = {rule.name for rule in before.rules} - {rule.name for rule in wanted.rules}
            self._sink.remove(before, sorted(gone))
            if before.section.motion.enabled and not wanted.section.motion.enabled:
                self._sink.remove_motion(wanted)
        self._settings.publish(pipeline, wanted)
        if change is Change.RESTART:
            if before is not None:
                pipeline.metrics.restarted()
            pipeline.start()
        elif change is Change.WATCHES and isinstance(pipeline, Pipeline) and isinstance(wanted, Plan):
            pipeline.change_plan(wanted)

    def _retire(self, name: str, successor: AnyPipeline | None) -> None:
        """Stop a pipeline. It stays in `pipelines`, which other threads read, until its successor takes its place.

        Where the successor needs the same camera, this stays open. Without a successor its topics are removed.
        """
        pipeline = self._pipelines[name]
        stopped = (
            pipeline.hand_over(successor, _RETIRE_S)
            if isinstance(pipeline, Pipeline)
            and isinstance(successor, Pipeline)
            and same_camera(pipeline.plan, successor.plan)
            else pipeline.stop(_RETIRE_S)
        )
        if not stopped:
            _log.warning("%s: stuck in a call; its threads are abandoned", name)
        self._supervisor.forget(name)
        if successor is None:
            if stopped and isinstance(pipeline, Pipeline):  # a stuck thread may still use the reporter
                pipeline.clear()
            self._sink.remove(pipeline.plan)
            self._metrics.pop(name, None)


def _look(running: Pipeline | None, command: TakePicture | LookNow) -> None:
    """Publish or classify the next frame of a pipeline, if it runs."""
    if running is not None:
        (running.look_now if isinstance(command, LookNow) else running.request_picture)()
