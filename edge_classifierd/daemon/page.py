"""Starts and stops the page, if it is configured. Without the section `web` nothing of it is imported."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.health.metrics import Reason
from edge_classifierd.log import RecentWarnings
from edge_classifierd.pipeline.observation.observer import GuardedObserver
from edge_classifierd.pipeline.observation.tap import FrameTap

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.configuration import Configuration
    from edge_classifierd.daemon.page_control import PageControl
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.pipeline.event_pictures import EventPictures
    from edge_classifierd.pipeline.observation.control import HealthSource, PipelineControl
    from edge_classifierd.pipeline.observation.observer import ResultObserver
    from edge_classifierd.web.live.results import NewestResults
    from edge_classifierd.web.server import PageServer

_log = logging.getLogger(__name__)


class DaemonPage:
    """The page of the daemon. Used by the service's thread. Its failure is a reason in health, nothing more."""

    def __init__(self, configuration: Configuration, clock: Clock, state: Path) -> None:
        """Import what the page needs, if it is configured."""
        self._configuration = configuration
        self._clock = clock
        self._state = state
        self._server: PageServer | None = None
        self._failure: Reason | None = None
        self.tap: FrameTap | None = None
        """Passes frames to the page; None without a page."""
        self.observer: ResultObserver | None = None
        """Shows results to the page; None without a page."""
        self._warnings = RecentWarnings()
        if configuration.web is None:
            return
        try:
            from edge_classifierd.web.live.results import NewestResults  # noqa: PLC0415 - the page is optional
            from edge_classifierd.web.server import PageServer  # noqa: F401, PLC0415
        except ImportError as error:
            self._fail(f"the page needs a library that is missing ({error.name}); install edge-classifierd[web]")
            return
        self._results: NewestResults = NewestResults(clock)
        self._warnings.install()
        self.tap = FrameTap()
        self.observer = GuardedObserver(self._results)

    @property
    def reason(self) -> Reason | None:
        """Return why the page cannot be reached; None when it can, or is not configured."""
        return self._server.reason if self._server is not None else self._failure

    def start(
        self, control: PipelineControl, health: HealthSource, *, config: Path, outbox: Outbox, pictures: EventPictures
    ) -> None:
        """Start the page's thread.

        Args:
            control: the pipelines.
            health: the daemon's health.
            config: the configuration file.
            outbox: the events.
            pictures: their pictures.
        """
        section = self._configuration.web
        if section is None or self.tap is None:
            return
        from edge_classifierd.web.device.records import Records  # noqa: PLC0415 - the page is optional
        from edge_classifierd.web.page import WebPage  # noqa: PLC0415
        from edge_classifierd.web.parts import Parts  # noqa: PLC0415
        from edge_classifierd.web.server import PageServer  # noqa: PLC0415

        parts = Parts(
            device=self._configuration.device,
            section=section,
            control=control,
            health=health,
            tap=self.tap,
            results=self._results,
            clock=self._clock,
            state=self._state,
            records=Records(config, self._configuration.outbox.path, outbox, pictures, self._warnings),
        )
        server = PageServer(section, partial(WebPage, parts))
        try:
            server.start()
        except RuntimeError as error:  # no more threads
            self._fail(f"the page cannot be started: {error}")
        else:
            self._server = server

    def tick(self, control: PageControl) -> None:
        """Record for the history which pipelines rest. Call it a few times a second."""
        if self.tap is not None:
            control.record_rests(self._results.history)

    def reload_certificate(self) -> None:
        """Read the page's certificate again."""
        if self._server is not None:
            self._server.reload_certificate()

    def request_stop(self) -> None:
        """Begin to stop, without waiting; then call `stop`."""
        if self._server is not None:
            self._server.request_stop()

    def stop(self, timeout_s: float) -> None:
        """End the page's thread; waits at most `timeout_s`."""
        self._warnings.remove()
        if self._server is not None:
            self._server.stop(timeout_s)

    def _fail(self, sentence: str) -> None:
        _log.warning("%s; the daemon continues without it", sentence)
        self._failure = Reason("web", sentence)
