"""Changes the models of running pipelines: by command, and when another version or a fetched model is to be used."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.config.sections.paths import state_directory
from edge_classifierd.errors import ModelError, failure_sentence
from edge_classifierd.model.taught import IN_USE, taught_folder
from edge_classifierd.pipeline.observation.control import CommandOutcome
from edge_classifierd.pipeline.planning.fetched_models import remote_model
from edge_classifierd.pipeline.planning.plan import BlockedPlan, Plan
from edge_classifierd.pipeline.planning.taught_models import effective_section
from edge_classifierd.pipeline.planning.validation import plan_one_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.config.sections.pipeline import PipelineSection
    from edge_classifierd.daemon.model_rollouts import ModelRollouts
    from edge_classifierd.daemon.pipelines import Pipelines
    from edge_classifierd.inference.trial import ModelTrials
    from edge_classifierd.model.store import RemoteModel
    from edge_classifierd.mqtt.commands import SetModel
    from edge_classifierd.pipeline.planning.plan import AnyPlan
    from edge_classifierd.pipeline.saved_state import SavedState

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Switch:
    """A pipeline whose model is to be read again."""

    pipeline: str
    command: SetModel | None = None
    """The command that sets another model; None: another version may be in use."""
    outcome: Future[CommandOutcome] | None = None
    remote: RemoteModel | None = None
    """The model of an address that was fetched for the pipeline."""


class ModelSwitches:
    """Reads and tries a model in a thread, and then puts it into its pipeline. Used by the service's thread.

    The pipeline runs with its model until the new one is known to work; one that cannot be used is refused.
    """

    def __init__(
        self,
        pipelines: Pipelines,
        saved_state: SavedState,
        trials: ModelTrials,
        rollouts: ModelRollouts,
        document: Document,
    ) -> None:
        self.document = document
        """Replaced after a reload."""
        self._pipelines = pipelines
        self._saved_state = saved_state
        self._trials = trials
        self._rollouts = rollouts
        self._waiting: deque[_Switch] = deque()
        self._stamps: dict[str, tuple[str, _Stamp | None]] = {}
        self._preparing: _Preparation | None = None

    @property
    def busy(self) -> bool:
        """Return whether a model is being read or waits to be read."""
        return self._preparing is not None or bool(self._waiting)

    def request(self, command: SetModel, outcome: Future[CommandOutcome] | None = None) -> None:
        """Begin to execute a command; `outcome` is set when it has been executed or refused."""
        self._waiting.append(_Switch(command.pipeline, command, outcome))

    def tick(self) -> bool:
        """Continue; return whether a pipeline has changed. Call it a few times a second."""
        self._look_for_versions()
        for turn in self._rollouts.tick(self.document, self._pipelines.pipelines, self._saved_state.models()):
            self._waiting.append(_Switch(turn.pipeline, remote=turn.model))
        ended = self._preparing
        changed = False
        if ended is not None and ended.plan is not None:
            self._preparing = None
            if ended.document is self.document:
                changed = self._apply(ended.switch, ended.plan)
            else:  # a reload came between
                self._waiting.appendleft(ended.switch)
        if self._preparing is None and self._waiting:
            self._begin(self._waiting.popleft())
        return changed

    def _look_for_versions(self) -> None:
        """Have the model of each pipeline read again whose taught model may have another version in use."""
        used = {plan.section.name: plan.section.model.taught for plan in self._pipelines.plans}
        for pipeline, name in used.items():
            if name is None:
                self._stamps.pop(pipeline, None)
                continue
            stamp = (name, _stamp(name))
            if self._stamps.get(pipeline) != stamp:
                self._stamps[pipeline] = stamp
                self._waiting.append(_Switch(pipeline))

    def _begin(self, switch: _Switch) -> None:
        document, name, command = self.document, switch.pipeline, switch.command
        section = next((section for _, section in document.pipelines if section.name == name), None)
        if section is None:  # a reload has removed it
            self._settle(switch, f"there is no pipeline {name} any more")
            return
        commanded = self._saved_state.commands(name).model if command is None else command.model
        if switch.remote is not None and (commanded is not None or remote_model(section.model) != switch.remote):
            return  # another model is wanted by now
        strict = commanded is not None or switch.remote is not None or section.model.url is None
        plan: Callable[[], AnyPlan]
        if strict:
            plan = partial(plan_one_pipeline, document, name, commanded)
        else:
            plan = partial(self._rollouts.plan, document, name)
        blocked = effective_section(section, commanded)
        self._preparing = _Preparation(switch, document, plan, blocked, self._trials)
        self._preparing.start()

    def _apply(self, switch: _Switch, plan: AnyPlan) -> bool:
        command = switch.command
        if isinstance(plan, BlockedPlan) and command is not None and command.model is not None:
            _log.warning("%s: the model %s is refused: %s", switch.pipeline, command.model, plan.reason)
            self._settle(switch, plan.reason)
            return False
        if isinstance(plan, BlockedPlan) and switch.remote is not None:
            pipeline = next((one for one in self._pipelines.pipelines if one.name == switch.pipeline), None)
            if pipeline is not None:
                self._rollouts.refused(pipeline, switch.remote, plan.reason)
            return False
        changed = self._pipelines.switch(plan, command)
        if isinstance(plan, Plan) and changed:
            _log.info("%s: continues with %s", switch.pipeline, plan.bundle.name)
        self._settle(switch)
        return bool(changed)

    def _settle(self, switch: _Switch, problem: str | None = None) -> None:
        if switch.outcome is not None:
            switch.outcome.set_result(CommandOutcome(problems=() if problem is None else (problem,)))


class _Preparation:
    """The planning and the trial of one model, in a thread of its own."""

    def __init__(
        self,
        switch: _Switch,
        document: Document,
        read: Callable[[], AnyPlan],
        section: PipelineSection,
        trials: ModelTrials,
    ) -> None:
        self.switch = switch
        self.document = document
        self.plan: AnyPlan | None = None
        """The result."""
        self._read = read
        self._section = section
        self._trials = trials
        self._thread = threading.Thread(target=self._run, name=f"switch-{switch.pipeline}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            self.plan = self._blocked(failure_sentence(error))

    def _run(self) -> None:
        try:
            plan = self._read()
            if isinstance(plan, Plan):
                for bundle in plan.cpu_models:
                    self._trials.require(bundle)
            self.plan = plan
        except ModelError as error:
            self.plan = self._blocked(str(error))
        except Exception as error:  # noqa: BLE001 - a bug here must not leave the command waiting
            _log.exception("%s: its model cannot be read", self.switch.pipeline)
            self.plan = self._blocked(failure_sentence(error))

    def _blocked(self, reason: str) -> BlockedPlan:
        return BlockedPlan(self._section, reason, self._read)


def _stamp(name: str) -> _Stamp | None:
    """Return what changes whenever another version of a taught model is put in use."""
    try:
        found = (taught_folder(state_directory(), name) / IN_USE).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
