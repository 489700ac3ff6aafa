"""The service: the daemon's composition root; owns every part, the signals, and the order of starting and stopping."""

from __future__ import annotations

import logging
import select
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from edge_classifierd.clock import SystemClock, process_age_s
from edge_classifierd.config.load import load
from edge_classifierd.config.paths import state_directory
from edge_classifierd.daemon.classifiers import Classifiers
from edge_classifierd.daemon.home import Home
from edge_classifierd.daemon.memory import Memory
from edge_classifierd.daemon.outlet import MqttOutlet
from edge_classifierd.daemon.pipeline import Pipeline, Surroundings
from edge_classifierd.daemon.preflight import preflight
from edge_classifierd.daemon.reload import Change, compare
from edge_classifierd.daemon.supervisor import Supervisor
from edge_classifierd.daemon.tally import Tally
from edge_classifierd.daemon.vitals import Vitals
from edge_classifierd.errors import ConfigurationError, EdgeClassifierError, ExitCode
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.health.board import Board
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.health.storage import volatile_reason
from edge_classifierd.health.systemd import Notifier, Watchdog
from edge_classifierd.mqtt.client import Session
from edge_classifierd.mqtt.commands import Commands, Reload, SetEnabled, SetThreshold, TakePicture
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.states import RetainedStates
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.load import Document
    from edge_classifierd.daemon.preflight import Plan
    from edge_classifierd.mqtt.commands import Command

_log = logging.getLogger(__name__)

_TICK_S: Final = 0.25
_STATUS_EVERY_S: Final = 5.0
_READY_AT_LATEST_S: Final = 5.0
# SIGTERM to exit stays under 2 s: the threads side by side, then the last events, then the farewell.
_STOP_PIPELINES_S: Final = 0.6
_STOP_DELIVERY_S: Final = 0.4
_STOP_SESSION_S: Final = 0.7
_LAST_DELIVERY_S: Final = 10.0


class Service:
    """Made from a configuration file; `run` blocks until the daemon has ended. Used by the main thread."""

    def __init__(self, config: Path, *, forget_commands: bool = False, clock: Clock | None = None) -> None:
        """Checks the configuration and opens the outbox. Raises ConfigurationError, OutboxError."""
        self._config = config
        self._clock = clock or SystemClock()
        self._document = load(config)
        for warning in self._document.warnings:
            _log.warning("%s", warning)
        plans = preflight(self._document)
        configuration = self._document.configuration
        self._topics = Topics(configuration.mqtt.base_topic, configuration.device.id)
        self._notifier = Notifier()
        self._heartbeats = Heartbeats(self._clock)
        self._watchdog = Watchdog(self._heartbeats, self._notifier, self._clock)
        self._memory = Memory(state_directory() / "state.json")
        if forget_commands:
            self._memory.forget_commands()
        self._outbox = Outbox(
            configuration.outbox.path,
            topic=lambda event: self._topics.event(event.pipeline),
            clock=self._clock,
            max_events=configuration.outbox.max_events,
            max_age_s=configuration.outbox.max_age,
        )
        self._session = Session(configuration.mqtt, topics=self._topics, clock=self._clock)
        board = Board(self._clock, state=state_directory())
        self._home = Home(
            self._session,
            self._topics,
            configuration,
            board.read(),
            self._clock,
            state=state_directory(),
            say_states=self._say_states,
        )
        self._states = RetainedStates(self._session, self._clock)
        self._tally = Tally(state_directory() / "tally.json", self._topics, self._states, self._clock)
        self._publisher = Publisher(self._outbox, self._session, self._clock)
        snapshots = state_directory() / "snapshots"
        self._outlet = MqttOutlet(self._topics, self._outbox, self._states, self._tally, snapshots)
        volatile = volatile_reason(configuration.outbox.path)
        if volatile is not None:
            _log.warning("%s", volatile)
        self._vitals = Vitals(
            outbox=self._outbox,
            session=self._session,
            publisher=self._publisher,
            states=self._states,
            board=board,
            clock=self._clock,
            volatile=volatile,
        )
        self._classifiers = Classifiers()
        self._metrics: dict[str, PipelineMetrics] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self._supervisor = Supervisor(lambda failed: self._make(failed.plan), self._clock)
        self._plans = {plan.section.name: plan for plan in plans}
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0)
        self._wake_write.settimeout(0)
        self._commands = Commands(
            self._session, self._topics, _watch_names(self._plans), self._clock, on_command=self._wake
        )
        self._stopping = False
        self._status_s = float("-inf")

    def run(self) -> ExitCode:
        """Start, serve until a signal or the end of every source, stop. Raises EdgeClassifierError when it cannot."""
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, lambda _number, _frame: None) for number in signals}
        wakeup = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
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
        """The broker is met in the background; models and cameras are opened meanwhile."""
        self._home.announce(self._plans.values())
        self._session.start()
        self._publisher.start()
        for name, plan in self._plans.items():
            self._pipelines[name] = self._make(plan)
        for pipeline in self._pipelines.values():
            pipeline.start()
            self._publish_settings(pipeline)
        _log.info("%s: running %s", self._document.file, ", ".join(self._pipelines))
        self._announce_ready()

    def _announce_ready(self) -> None:
        """READY once every source was tried: it delivers, or says why not and is retried."""
        deadline_s = self._clock.monotonic() + _READY_AT_LATEST_S
        while self._clock.monotonic() < deadline_s and not all(
            pipeline.online or pipeline.offline_reason or pipeline.finished or pipeline.failure or not pipeline.enabled
            for pipeline in self._pipelines.values()
        ):
            time.sleep(0.01)
        self._notifier.ready(self._vitals.status_line(self._pipelines.values()))
        _log.debug("ready %.2f s after the start of the process", process_age_s())

    def _serve(self) -> None:
        while not self._stopping:
            period_s = min(_TICK_S, self._watchdog.period_s or _TICK_S)
            if select.select([self._wake_read], [], [], period_s)[0]:
                self._on_wake()
            while (command := self._commands.take()) is not None:
                self._obey(command)
            self._supervisor.tick(self._pipelines)
            self._watchdog.tick()
            self._vitals.tick(self._topics.health, self._pipelines.values())
            self._tally.tick()
            self._write_down()
            self._home.tick()
            self._tell_status()
            if not (self._session.alive and self._publisher.alive):
                raise EdgeClassifierError("the delivery to the broker failed unexpectedly; see the traceback above")
            if self._pipelines and all(pipeline.finished for pipeline in self._pipelines.values()):
                _log.info("every source has come to its end")
                self._await_delivery(_LAST_DELIVERY_S)
                return

    def _on_wake(self) -> None:
        """A signal has come (its number is the byte) or a command (a zero)."""
        with suppress(BlockingIOError):
            for number in self._wake_read.recv(4096):
                if number == signal.SIGHUP:
                    self._reload()
                elif number in {signal.SIGTERM, signal.SIGINT}:
                    _log.info("%s: stopping", signal.Signals(number).name)
                    self._stopping = True

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    def _stop(self) -> None:
        self._notifier.stopping("stopping")
        for pipeline in self._pipelines.values():
            pipeline.request_stop()
        deadline_s = self._clock.monotonic() + _STOP_PIPELINES_S
        for pipeline in self._pipelines.values():
            if not pipeline.stop(max(0.05, deadline_s - self._clock.monotonic())):
                _log.warning("%s: stuck in a call; left behind", pipeline.name)
            self._outlet.status(pipeline.plan, online=False)
        self._await_delivery(_STOP_DELIVERY_S)
        self._publisher.stop(0.3)
        if not self._session.stop(_STOP_SESSION_S):
            _log.warning("%s: no time for a farewell; the broker will say `offline` for us", self._session.endpoint)
        self._write_down()
        self._outbox.close()
        self._classifiers.close()
        _log.info("stopped; %d events wait in the outbox", self._outbox.depth)

    def _await_delivery(self, timeout_s: float) -> None:
        """Give the last events time to be acknowledged; what is not stays in the outbox."""
        deadline_s = self._clock.monotonic() + timeout_s
        while self._outbox.depth and self._clock.monotonic() < deadline_s and not self._stop_asked():
            time.sleep(0.01)

    def _write_down(self) -> None:
        """What changes with events, a few times a second at most and never on a frame's way."""
        self._memory.keep()
        self._tally.keep()

    def _stop_asked(self) -> bool:
        """A signal ends the wait after the end of all sources, but not the short one on the way out."""
        if not self._stopping:
            self._on_wake()
            return self._stopping
        return False

    def _make(self, plan: Plan) -> Pipeline:
        surroundings = Surroundings(
            device=self._document.configuration.device.id,
            outlet=self._outlet,
            heartbeats=self._heartbeats,
            memory=self._memory,
            clock=self._clock,
        )
        metrics = self._metrics.setdefault(plan.section.name, PipelineMetrics(self._clock))
        return Pipeline(plan, self._classifiers.get(plan), metrics, surroundings)

    def _publish_settings(self, pipeline: Pipeline) -> None:
        self._outlet.settings(pipeline.plan, enabled=pipeline.enabled, thresholds=pipeline.thresholds())

    def _obey(self, command: Command) -> None:
        if isinstance(command, Reload):
            self._reload()
            return
        pipeline = self._pipelines.get(command.pipeline)
        if pipeline is None:
            return
        match command:
            case SetEnabled(name, enabled):
                self._memory.set_enabled(name, enabled)
                pipeline.set_enabled(enabled)
                _log.info("%s: switched %s", name, "on" if enabled else "off")
                self._outlet.settings(pipeline.plan, enabled=enabled, thresholds={})
            case SetThreshold(name, watch, threshold):
                self._memory.set_threshold(name, watch, threshold)
                pipeline.set_threshold(watch, threshold)
                _log.info("%s: threshold of %s set to %g", name, watch, threshold)
                self._outlet.settings(pipeline.plan, enabled=pipeline.enabled, thresholds={watch: threshold})
            case TakePicture():
                pipeline.want_picture()

    def _reload(self) -> None:
        """Check the new configuration first; a bad one changes nothing."""
        self._notifier.reloading()
        try:
            document = load(self._config)
            plans = {plan.section.name: plan for plan in preflight(document)}
        except ConfigurationError as error:
            for problem in error.problems:
                _log.error("%s", problem)
            _log.error("%s: not reloaded; everything goes on as before", self._config)
        else:
            self._apply(document, plans)
        self._notifier.ready(self._vitals.status_line(self._pipelines.values()))

    def _apply(self, document: Document, plans: dict[str, Plan]) -> None:
        """Change only what has changed."""
        for warning in document.warnings:
            _log.warning("%s", warning)
        for section in ("device", "mqtt", "outbox"):
            if getattr(document.configuration, section) != getattr(self._document.configuration, section):
                _log.warning("%s: changes of `%s` take effect with the next restart", document.file, section)
        changes = {name: compare(self._plans.get(name), plan) for name, plan in plans.items()}
        # Make what may fail before anything is stopped; cameras are opened by `start` only.
        try:
            made = {name: self._make(plans[name]) for name, change in changes.items() if change is Change.RESTART}
        except EdgeClassifierError as error:
            _log.error("%s: not reloaded; everything goes on as before: %s", document.file, error)
            return
        for name in [name for name in self._pipelines if name not in plans or name in made]:
            self._retire(name, gone=name not in plans)
        for name, pipeline in made.items():
            self._pipelines[name] = pipeline
            pipeline.metrics.restarted()
            pipeline.start()
        for name, change in changes.items():
            if change is Change.WATCHES:
                gone = {rule.name for rule in self._plans[name].rules} - {rule.name for rule in plans[name].rules}
                self._outlet.withdraw(self._plans[name], sorted(gone))
                self._pipelines[name].adopt(plans[name])
            self._outlet.settings(
                plans[name],
                enabled=self._pipelines[name].enabled,
                thresholds={rule.name: rule.threshold for rule in plans[name].rules}
                | dict(self._memory.pipeline(name).thresholds),
            )
        self._document, self._plans = document, plans
        self._classifiers.keep_only(pipeline.plan for pipeline in self._pipelines.values())
        self._commands.watches = _watch_names(plans)
        self._home.announce(plans.values())
        counted = [change for change in changes.values() if change is not Change.NONE]
        _log.info("%s: reloaded; %d of %d pipelines changed", document.file, len(counted), len(plans))

    def _retire(self, name: str, *, gone: bool) -> None:
        pipeline = self._pipelines.pop(name)
        pipeline.stop(_STOP_PIPELINES_S)
        self._supervisor.forget(name)
        if gone:
            self._outlet.withdraw(pipeline.plan)
            self._metrics.pop(name, None)

    def _say_states(self) -> None:
        self._states.repeat()

    def _tell_status(self) -> None:
        now_s = self._clock.monotonic()
        if self._notifier.active and now_s - self._status_s >= _STATUS_EVERY_S:
            self._status_s = now_s
            self._notifier.status(self._vitals.status_line(self._pipelines.values()))


def _watch_names(plans: dict[str, Plan]) -> dict[str, frozenset[str]]:
    return {name: frozenset(rule.name for rule in plan.rules) for name, plan in plans.items()}
