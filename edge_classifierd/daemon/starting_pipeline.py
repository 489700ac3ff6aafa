"""A pipeline that does not run yet: one attempt to load its model, in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edge_classifierd.errors import failure_sentence
from edge_classifierd.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.health.metrics import PipelineMetrics
    from edge_classifierd.inference.base import AcceleratorTemperature
    from edge_classifierd.pipeline.planning.plan import AnyPlan
    from edge_classifierd.pipeline.surroundings import Surroundings


class StartingPipeline:
    """Takes the place of a pipeline until `ready` or `failure` is set. Then the supervisor replaces it.

    Used by the service's thread. Values set by command meanwhile are saved and apply when the pipeline runs.
    """

    online = False
    resting = False
    finished = False
    rests_until_s: float | None = None
    temperatures: tuple[tuple[str, AcceleratorTemperature], ...] = ()

    def __init__(
        self,
        plan: AnyPlan,
        load: Callable[[], Pipeline],
        metrics: PipelineMetrics,
        surroundings: Surroundings,
        *,
        failure: BaseException | None = None,
        offline_reason: str | None = None,
    ) -> None:
        """Prepare the attempt.

        Args:
            plan: What the pipeline is to run, as far as it is known.
            load: Makes the pipeline, not started; called in the thread. It may raise anything.
            metrics: The pipeline's figures.
            surroundings: What the pipeline needs of the daemon.
            failure: Why the attempt has failed already; there is no thread then.
            offline_reason: Why the previous attempt failed.
        """
        self.plan = plan
        self.metrics = metrics
        self.ready: Pipeline | None = None
        self.failure = failure
        self.offline_reason = offline_reason if failure is None else failure_sentence(failure)
        self._load = load
        self._around = surroundings
        self._thread = threading.Thread(target=self._run, name=f"load-{self.name}", daemon=True)

    @property
    def name(self) -> str:
        """The pipeline's name in the configuration."""
        return self.plan.section.name

    @property
    def enabled(self) -> bool:
        """Whether it is to capture once it runs."""
        return self._around.saved_state.commands(self.name).enabled is not False

    def start(self) -> None:
        """Begin the attempt; returns at once."""
        self._around.sink.publish_status(self.plan, online=False)
        if self.failure is None:
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads
                self._fail(error)

    def request_stop(self) -> None:
        """Do nothing: an attempt cannot be ended; what it makes is not started."""

    def stop(self, timeout_s: float) -> bool:
        """Wait for the attempt; always True, because nothing depends on its end."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return True

    def refresh_metrics(self) -> None:
        """Do nothing: there are no figures yet."""

    def _run(self) -> None:
        try:
            self.ready = self._load()
        except Exception as error:  # noqa: BLE001 - the supervisor logs the failure and tries again
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.offline_reason = failure_sentence(error)
        self.failure = error


AnyPipeline = Pipeline | StartingPipeline
