"""Brings models from addresses into their pipelines: fetches them, and chooses the model that runs meanwhile."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from edge_classifierd.backoff import Backoff
from edge_classifierd.errors import FetchError, RefusedFetchError, failure_sentence
from edge_classifierd.model.store import FetchedModels
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.fetched_models import remote_model
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.pipeline.planning.validation import plan_one_pipeline, plan_with_models

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.daemon.starting_pipeline import AnyPipeline
    from edge_classifierd.model.store import RemoteModel
    from edge_classifierd.pipeline.planning.plan import AnyPlan

_log = logging.getLogger(__name__)

FETCH_FAILED: Final = "model_fetch_failed"
"""Flag of the reason while a wanted model cannot be fetched."""
REFUSED: Final = "model_refused"
"""Flag of the reason while a fetched model cannot be used."""
_AGAIN: Final = Backoff(5.0, 600.0)
_AGAIN_AFTER_REFUSAL: Final = Backoff(3600.0, 3600.0)
"""A whole file may be downloaded each time; a reload begins at once."""
_STARTS_WITHIN_S: Final = 60.0
"""A pipeline that does not run with its new model by then returns to the model before it."""


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """A pipeline whose model is to be changed now."""

    pipeline: str
    model: RemoteModel | None
    """The wanted model; None: the last one that ran."""


@dataclass(slots=True)
class _Rollout:
    """The way of a wanted model into one pipeline."""

    model: RemoteModel
    fetched: bool = False
    switched_s: float | None = None
    """When the switch was requested."""
    failures: int = 0
    due_s: float = -inf


class ModelRollouts:
    """Fetches wanted models one after another in a thread. Used by the service's thread, except `plan`.

    A pipeline continues with its model until the wanted one is fetched, verified and tried. `ModelSwitches` makes the
    change. The models that have run are recorded, so that the last one runs after a restart without the server.
    """

    def __init__(self, state: Path, clock: Clock) -> None:
        """`state` is the state directory."""
        self._store = FetchedModels(state)
        self._clock = clock
        self._rollouts: dict[str, _Rollout] = {}
        self._fetch: _Fetch | None = None
        self._pruned_for: tuple[Document, bool] | None = None
        """The configuration for which files were removed, and whether models were still to be rolled out then."""

    def plans(
        self,
        document: Document,
        configured: Iterable[AnyPlan],
        commanded: Mapping[str, str],
        running: Iterable[AnyPlan] = (),
    ) -> tuple[AnyPlan, ...]:
        """Return the plans with the models that can run now, and begin all fetches at once.

        Args:
            document: The configuration.
            configured: Its plans.
            commanded: Taught models that are commanded, by pipeline.
            running: The present plans. A pipeline whose first model of an address is not here yet keeps its own.
        """
        self._rollouts.clear()
        present = {plan.section.name: plan for plan in running}
        plans = []
        for plan in plan_with_models(document, configured, commanded):
            name = plan.section.name
            if name not in commanded and plan.section.model.url is not None:
                chosen = self._usable(document, name, plan)
                plans.append(chosen if isinstance(chosen, Plan) else present.get(name, chosen))
            else:
                plans.append(plan)
        return tuple(plans)

    def plan(self, document: Document, name: str) -> AnyPlan:
        """Return the plan of one pipeline with the model that can run now. Any thread."""
        return self._usable(document, name, plan_one_pipeline(document, name, None))

    def tick(
        self, document: Document, pipelines: Iterable[AnyPipeline], commanded: Collection[str]
    ) -> tuple[ModelTurn, ...]:
        """Continue; return the pipelines whose model is to be changed now. Call it a few times a second."""
        wanted = {section.name: remote_model(section.model) for _, section in document.pipelines}
        turns = []
        self._end_fetch(pipelines)
        for pipeline in pipelines:
            if (running := _running_model(pipeline)) is not None:
                self._store.record(pipeline.name, running)
            model = wanted.get(pipeline.name)
            if model is None or pipeline.name in commanded or running == model:
                self._forget(pipeline)
            else:
                turns += self._advance(pipeline, model)
        models = {model for model in wanted.values() if model is not None}
        if self._fetch is not None and self._fetch.model not in models:
            self._fetch.cancel()
        pruned = self._pruned_for
        due = pruned is None or pruned[0] is not document or pruned[1] is not bool(self._rollouts)
        if due and self._fetch is None:
            self._pruned_for = (document, bool(self._rollouts))
            self._store.prune(models, [name for name, model in wanted.items() if model is not None])
        return tuple(turns)

    def refused(self, pipeline: AnyPipeline, model: RemoteModel, reason: str) -> None:
        """Record that a fetched model cannot be used; it is tried again after an hour."""
        rollout = self._rollouts.get(pipeline.name)
        if rollout is not None and rollout.model == model:
            rollout.fetched, rollout.switched_s = False, None
            sentence = f"the model {model.title} cannot be used: {reason}"
            self._failed(pipeline, rollout, REFUSED, sentence, _AGAIN_AFTER_REFUSAL)

    def stop(self, timeout_s: float) -> None:
        """Cancel the fetch; what has come is kept for the next start."""
        if self._fetch is not None:
            self._fetch.cancel()
            self._fetch.join(timeout_s)

    def _usable(self, document: Document, name: str, configured: AnyPlan) -> AnyPlan:
        """Return the configured plan, or one with a model that ran before while the configured one has not run yet."""
        wanted = configured.section.model.sha256
        ran = self._store.ran(name)
        if wanted is None or (isinstance(configured, Plan) and (not ran or ran[0].sha256 == wanted)):
            return configured
        for model in ran:
            if model.sha256 != wanted and isinstance(plan := plan_one_pipeline(document, name, model), Plan):
                return plan
        return configured

    def _advance(self, pipeline: AnyPipeline, model: RemoteModel) -> list[ModelTurn]:
        now_s = self._clock.monotonic()
        rollout = self._rollouts.get(pipeline.name)
        if rollout is None or rollout.model != model:
            rollout = self._rollouts[pipeline.name] = _Rollout(model)
            pipeline.metrics.set_wanted_model((model.name, model.sha256))
            _log.info("%s: rolls out %s", pipeline.name, model.title)
        if not rollout.fetched:
            if self._fetch is None and now_s >= rollout.due_s:
                self._fetch = _Fetch(self._store, model)
        elif rollout.switched_s is None:
            rollout.switched_s = now_s
            return [ModelTurn(pipeline.name, model)]
        elif _is_planned(pipeline, model) and now_s - rollout.switched_s >= _STARTS_WITHIN_S:
            earlier = [one for one in self._store.ran(pipeline.name) if one.sha256 != model.sha256]
            if earlier:
                reason = pipeline.offline_reason or f"it does not run within {_STARTS_WITHIN_S:g} s"
                self.refused(pipeline, model, reason)
                return [ModelTurn(pipeline.name, None)]
        return []

    def _end_fetch(self, pipelines: Iterable[AnyPipeline]) -> None:
        """Take the result of a fetch that has ended."""
        fetch = self._fetch
        if fetch is None or not fetch.done:
            return
        self._fetch = None
        for pipeline in pipelines:
            rollout = self._rollouts.get(pipeline.name)
            if rollout is None or rollout.model != fetch.model:
                continue
            if fetch.failure is None:
                rollout.fetched, rollout.failures = True, 0
                pipeline.metrics.recover(FETCH_FAILED)
            else:
                refused = isinstance(fetch.failure, RefusedFetchError)
                again = _AGAIN_AFTER_REFUSAL if refused else _AGAIN
                self._failed(pipeline, rollout, FETCH_FAILED, str(fetch.failure), again)

    def _failed(self, pipeline: AnyPipeline, rollout: _Rollout, flag: str, sentence: str, again: Backoff) -> None:
        """Record a failure; log the first one of a roll-out."""
        rollout.failures += 1
        rollout.due_s = self._clock.monotonic() + again.delay_s(rollout.failures)
        plan = pipeline.plan
        if isinstance(pipeline, Pipeline) and isinstance(plan, Plan):
            sentence += f"; {plan.bundle.name} ({plan.bundle.sha256[:8]}) runs meanwhile"
        pipeline.metrics.degrade(flag, sentence)
        level = logging.WARNING if rollout.failures == 1 else logging.DEBUG
        _log.log(level, "%s: %s", pipeline.name, sentence)

    def _forget(self, pipeline: AnyPipeline) -> None:
        if self._rollouts.pop(pipeline.name, None) is not None or pipeline.metrics.wanted_model is not None:
            pipeline.metrics.set_wanted_model(None)
            for flag in (FETCH_FAILED, REFUSED):
                pipeline.metrics.recover(flag)


class _Fetch:
    """The fetch of one model, in a thread of its own."""

    def __init__(self, store: FetchedModels, model: RemoteModel) -> None:
        """Begin; returns at once."""
        self.model = model
        self.done = False
        self.failure: FetchError | None = None
        self._store = store
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fetch-model", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            self.failure, self.done = FetchError(failure_sentence(error)), True

    def cancel(self) -> None:
        """End it soon; within 20 s where the server is silent."""
        self._cancelled.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._store.fetch(self.model, self._cancelled.is_set)
        except FetchError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 - a bug here must not end the roll-outs of all pipelines
            _log.exception("%s: cannot be fetched", self.model.shown)
            self.failure = FetchError(failure_sentence(error))
        self.done = True


def _is_planned(pipeline: AnyPipeline, model: RemoteModel) -> bool:
    return pipeline.plan.section.model.sha256 == model.sha256


def _running_model(pipeline: AnyPipeline) -> RemoteModel | None:
    """Return the model of an address that a pipeline runs; None where it runs another one or none."""
    return remote_model(pipeline.plan.section.model) if isinstance(pipeline, Pipeline) else None
