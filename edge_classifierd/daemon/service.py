"""The service: creates and owns all parts of the daemon, handles signals, and starts and stops the parts in order."""

from __future__ import annotations

import logging
import signal
import time
from typing import TYPE_CHECKING, Final

from edge_classifierd.clock import SystemClock, process_age_s
from edge_classifierd.config.sections.paths import state_directory
from edge_classifierd.daemon.health_reporter import HealthReporter
from edge_classifierd.daemon.home_assistant import HomeAssistantDevice
from edge_classifierd.daemon.model_rollouts import ModelRollouts
from edge_classifierd.daemon.model_switches import ModelSwitches
from edge_classifierd.daemon.page import DaemonPage
from edge_classifierd.daemon.page_control import PageControl
from edge_classifierd.daemon.pipelines import Pipelines
from edge_classifierd.daemon.process import PageRelease, ThreadNames, WakeUp, file_sha256, lock_state, open_outbox
from edge_classifierd.errors import ConfigurationError, EdgeClassifierError, ExitCode, counted
from edge_classifierd.health.board import Board
from edge_classifierd.health.health_file import HealthFile
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.health.storage import volatile_reason
from edge_classifierd.health.systemd import Notifier, Watchdog
from edge_classifierd.inference.trial import ModelTrials
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.command_queue import CommandQueue
from edge_classifierd.mqtt.commands import Reload, SetModel
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.published_topics import FILE as PUBLISHED_FILE
from edge_classifierd.mqtt.published_topics import PublishedTopics
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.retained_topics import RetainedTopics
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.cameras import Cameras
from edge_classifierd.pipeline.event_pictures import EventPictures
from edge_classifierd.pipeline.mqtt_sink import MqttSink
from edge_classifierd.pipeline.observation.control import CommandOutcome
from edge_classifierd.pipeline.planning.validation import plan_pipelines
from edge_classifierd.pipeline.rest import RestTimes
from edge_classifierd.pipeline.saved_state import SavedState
from edge_classifierd.pipeline.surroundings import Surroundings
from edge_classifierd.pipeline.watch_statistics import WatchStatistics
from edge_classifierd.pipeline.workers.model_workers import PipelineThreads

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.pipeline.planning.plan import AnyPlan

_log = logging.getLogger(__name__)

_TICK_S: Final = 0.25
_STATUS_EVERY_S: Final = 5.0
_RELOAD_EVERY_S: Final = 1.0
_READY_AT_LATEST_S: Final = 5.0
# SIGTERM to exit takes less than 2 s: stop the threads in parallel, deliver the last events, then disconnect.
_STOP_PIPELINES_S: Final = 0.6
_STOP_DELIVERY_S: Final = 0.4
_STOP_SESSION_S: Final = 0.7
_STOP_PAGE_S: Final = 0.5
_LAST_DELIVERY_S: Final = 10.0


class Service:
    """The daemon. `run` blocks until it ends. Used by the main thread."""

    def __init__(self, config: Path, *, forget_commands: bool = False, clock: Clock | None = None) -> None:
        """Validate the configuration, lock the state directory and open the outbox.

        Raises:
            ConfigurationError: The configuration has mistakes.
            EdgeClassifierError: Another process uses the state directory or the outbox.
        """
        self._config = config
        self._clock = clock or SystemClock()
        self._document, configured = plan_pipelines(config)
        for warning in self._document.warnings:
            _log.warning("%s", warning)
        self._at_start = configuration = self._document.configuration
        self._topics = Topics(configuration.mqtt.base_topic, configuration.device.id)
        self._notifier = Notifier()
        self._heartbeats = Heartbeats(self._clock)
        self._watchdog = Watchdog(self._heartbeats, self._notifier, self._clock)
        self._state_lock = lock_state(state_directory())  # before reading from it; held until the process ends
        self._outbox = open_outbox(configuration.outbox, self._topics, self._clock)
        copy = state_directory() / "state.json"
        self._saved_state = saved_state = SavedState(self._outbox, copy, self._clock, forget_commands=forget_commands)
        self._published = PublishedTopics(state_directory() / PUBLISHED_FILE, self._topics.base)
        self._session = MqttClient(
            configuration.mqtt, topics=self._topics, clock=self._clock, published=self._published
        )
        board = Board(self._clock, state=state_directory())
        own_topics = OwnTopicMonitor(self._session, self._topics, self._clock)

        def publish_states() -> None:
            own_topics.publish_online()
            self._states.repeat()

        self._home_assistant = HomeAssistantDevice(
            self._session,
            self._topics,
            configuration,
            board.read(),
            self._clock,
            state=state_directory(),
            published=self._published,
            publish_states=publish_states,
        )
        self._states = RetainedTopics(self._session, self._clock)
        self._statistics = WatchStatistics(self._outbox, self._topics, self._states, self._clock)
        self._publisher = Publisher(self._outbox, self._session, self._clock, monitor=own_topics)
        self._event_pictures = EventPictures(
            state_directory() / "event-pictures",
            configuration.outbox.path,
            self._clock,
            most=configuration.outbox.keep_sent,
        )
        sink = MqttSink(
            self._topics,
            self._outbox,
            self._states,
            self._statistics,
            snapshots=state_directory() / "snapshots",
            event_pictures=self._event_pictures,
            after_events=self._publisher.after_events,
        )
        self._page = DaemonPage(configuration, self._clock, state_directory())
        volatile = volatile_reason(configuration.outbox.path)
        if volatile is not None:
            _log.warning("%s", volatile)
        self._health = HealthReporter(
            outbox=self._outbox,
            session=self._session,
            publisher=self._publisher,
            states=self._states,
            own_topics=own_topics,
            board=board,
            clock=self._clock,
            file=HealthFile(state_directory()),
            volatile=volatile,
            heartbeats=self._heartbeats,
            page_reason=lambda: self._page.reason,
        )
        self._health.configuration_sha256 = file_sha256(config)
        surroundings = Surroundings(
            device=configuration.device.id,
            sink=sink,
            heartbeats=self._heartbeats,
            saved_state=saved_state,
            clock=self._clock,
            rest_times=RestTimes(self._clock),
            cameras=Cameras(self._clock, tap=self._page.tap),
            threads=PipelineThreads(self._heartbeats),
            observer=self._page.observer,
        )
        trials = ModelTrials(state_directory() / "models.json", self._clock)
        self._rollouts = ModelRollouts(state_directory(), self._clock)
        plans = self._rollouts.plans(self._document, configured, saved_state.models())
        self._pipelines = Pipelines(plans, surroundings, sink, trials)
        self._models = ModelSwitches(self._pipelines, saved_state, trials, self._rollouts, self._document)
        self._wake_up = WakeUp()
        self._commands = CommandQueue(
            self._session, self._topics, self._pipelines.watches, self._clock, on_command=self._wake_up.wake
        )
        self._page_control = PageControl(self._pipelines, surroundings, self._wake_up.wake)
        self._reload_futures: list[Future[CommandOutcome]] = []
        self._stopping = self._reload_due = False  # several reload requests before the next turn give one reload
        self._reloaded_s = self._status_s = float("-inf")
        self._page_release = PageRelease(self._clock)
        self._thread_names = ThreadNames()

    def run(self) -> ExitCode:
        """Start, serve until a signal or the end of all sources, and stop. Raises EdgeClassifierError on failure."""
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        wakeup = signal.set_wakeup_fd(self._wake_up.signals, warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda _number, _frame: None) for number in signals}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked since the start of the process
        try:
            self._start()
            self._serve()
        finally:
            self._stop()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
        return ExitCode.OK

    def _start(self) -> None:
        """Start all parts. The connection to the broker is made in the background."""
        self._home_assistant.announce(self._pipelines.plans)
        self._session.start()
        self._publisher.start()
        self._pipelines.start()
        self._page.start(
            self._page_control, self._health, config=self._config, outbox=self._outbox, pictures=self._event_pictures
        )
        _log.info("%s: running %s", self._document.file, ", ".join(self._pipelines.watches))
        self._announce_ready()

    def _announce_ready(self) -> None:
        """Send READY when each source was tried once. Does not wait for the broker; a signal ends the wait."""
        deadline_s = self._clock.monotonic() + _READY_AT_LATEST_S
        while self._clock.monotonic() < deadline_s and not (self._pipelines.tried or self._stop_requested()):
            time.sleep(0.01)
            self._pipelines.tick()
        self._notifier.ready(self._health.status_line(self._pipelines.pipelines))
        _log.debug("ready %.2f s after the start of the process", process_age_s())

    def _serve(self) -> None:
        while not self._stopping:
            period_s = min(_TICK_S, self._watchdog.period_s or _TICK_S)
            self._wake_up.wait(period_s)
            self._on_wake()
            self._execute_commands()
            now_s = self._clock.monotonic()
            if self._reload_due and not self._stopping and now_s - self._reloaded_s >= _RELOAD_EVERY_S:
                self._reload_due, self._reloaded_s = False, now_s
                self._reload()
            self._pipelines.tick()
            if self._models.tick():
                self._show_pipelines()
            self._watchdog.tick()
            self._health.tick(self._topics.health, self._pipelines.pipelines)
            self._statistics.tick()
            self._event_pictures.tick()
            self._published.save()
            self._home_assistant.tick()
            self._page_release.tick()
            self._page.tick(self._page_control)
            self._report_status()
            if not (self._session.alive and self._publisher.alive):
                raise EdgeClassifierError("the delivery to the broker failed unexpectedly; see the traceback above")
            if self._pipelines.finished:
                _log.info("all sources have ended")
                self._await_delivery(_LAST_DELIVERY_S)
                return

    def _execute_commands(self) -> None:
        """Execute waiting commands for at most one tick, so that many commands delay neither signals nor watchdog."""
        until_s = self._clock.monotonic() + _TICK_S
        while self._clock.monotonic() < until_s and not self._stop_requested():
            ordered = self._page_control.take()
            command = self._commands.take() if ordered is None else ordered[0]
            if command is None:
                return
            if isinstance(command, Reload):
                self._reload_due = True
                self._reload_futures += [] if ordered is None else [ordered[1]]
                continue
            if isinstance(command, SetModel):
                self._models.request(command, None if ordered is None else ordered[1])
                continue
            self._pipelines.execute(command)
            if ordered is not None:
                ordered[1].set_result(CommandOutcome())

    def _on_wake(self) -> None:
        """Handle the signals that have arrived."""
        for number in self._wake_up.read():
            if number == signal.SIGHUP:
                self._reload_due = True
            elif number in {signal.SIGTERM, signal.SIGINT}:
                _log.info("%s: stopping", signal.Signals(number).name)
                self._stopping = True

    def _stop(self) -> None:
        self._notifier.stopping("stopping")
        self._page.request_stop()
        self._rollouts.stop(0.0)
        self._pipelines.stop(_STOP_PIPELINES_S)
        self._pipelines.store_commands(at_once=True)
        self._statistics.tick()
        self._await_delivery(_STOP_DELIVERY_S)
        self._publisher.stop(0.3)
        if not self._session.stop(_STOP_SESSION_S):
            _log.warning(
                "%s: not disconnected in time; the broker will publish the last will `offline`", self._session.endpoint
            )
        self._published.save()
        self._page.stop(_STOP_PAGE_S)
        self._outbox.close()
        self._pipelines.close()
        _log.info("stopped; %s in the outbox", counted(self._outbox.depth, "event"))

    def _await_delivery(self, timeout_s: float) -> None:
        """Wait for the acknowledgement of the last events. The others stay in the outbox."""
        deadline_s = self._clock.monotonic() + timeout_s
        while self._outbox.depth and self._clock.monotonic() < deadline_s and not self._stop_requested():
            time.sleep(0.01)

    def _stop_requested(self) -> bool:
        """Return whether a new signal requests the end; False once the service is stopping."""
        if not self._stopping:
            self._on_wake()
            return self._stopping
        return False

    def _reload(self) -> None:
        """Read the configuration again. One with mistakes changes nothing."""
        self._notifier.reloading()
        outcome = CommandOutcome()
        try:
            document, plans = plan_pipelines(self._config)
        except ConfigurationError as error:
            outcome = CommandOutcome(problems=tuple(map(str, error.problems)))
            for problem in error.problems:
                _log.error("%s", problem)
            _log.error("%s: not reloaded; the previous configuration stays active", self._config)
        else:
            outcome = CommandOutcome(self._apply(document, plans))
        futures, self._reload_futures = self._reload_futures, []
        for future in futures:
            future.set_result(outcome)
        self._page_release.schedule()
        self._notifier.ready(self._health.status_line(self._pipelines.pipelines))

    def _apply(self, document: Document, plans: tuple[AnyPlan, ...]) -> int:
        """Apply the differences to the running configuration; return the number of changed pipelines."""
        for warning in document.warnings:
            _log.warning("%s", warning)
        for section in ("device", "mqtt", "outbox", "web"):
            if getattr(document.configuration, section) != getattr(self._at_start, section):
                _log.warning("%s: changes of `%s` take effect with the next restart", document.file, section)
        plans = self._rollouts.plans(document, plans, self._saved_state.models(), self._pipelines.plans)
        changed = self._pipelines.change_to(plans)
        self._document = self._models.document = document
        self._health.configuration_sha256 = file_sha256(self._config)
        self._show_pipelines()
        _log.info("%s: reloaded; %d of %d pipelines changed", document.file, changed, len(plans))
        self._page.reload_certificate()
        return changed

    def _show_pipelines(self) -> None:
        """Accept commands for the present watches, and announce them to Home Assistant."""
        self._commands.watches = self._pipelines.watches
        self._home_assistant.announce(self._pipelines.plans)

    def _report_status(self) -> None:
        """Send the status line to systemd and the thread names to the kernel."""
        now_s = self._clock.monotonic()
        if now_s - self._status_s >= _STATUS_EVERY_S:
            self._status_s = now_s
            self._thread_names.update()
            if self._notifier.active:
                self._notifier.status(self._health.status_line(self._pipelines.pipelines))
