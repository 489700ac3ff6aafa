"""`listen`: prints a device's events as a subscriber receives them."""

from __future__ import annotations

import functools
import queue
import sys
import time
from math import inf
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, reporting
from edge_classifierd.cli.streams import can_show, complain
from edge_classifierd.cli.streams import show as print_text
from edge_classifierd.cli.subscribers.broker import subscriber_settings
from edge_classifierd.errors import ExitCode, PayloadError, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.events.schema import Event
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.topics import Topics

_SEARCH_S: Final = 2.0  # retained messages arrive within this time after the subscription
_WAIT_S: Final = 0.2


@reporting
def command(
    config: Config = DEFAULT_CONFIG,
    *,
    host: Annotated[str | None, typer.Option(help="Another broker; no configuration is read.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The other broker's port.")] = 1883,
    device: Annotated[str | None, typer.Option(help="Another device's id; `+` for all devices.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print all topics of the device, not only events.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after N messages.")] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="Stop after N seconds.")] = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Print a device's events as they come, until Ctrl-C.

    With --json one line per message: the event itself, with --all its topic beside it. Exit code 1 when --for ends
    without a connection, or before --count messages have come.

    Example: edge-classifierd listen --config config.yaml --json
    """
    from edge_classifierd.clock import SystemClock
    from edge_classifierd.mqtt.client import MqttClient

    section, topics = subscriber_settings(config, host, port, device)
    incoming: queue.Queue[Incoming] = queue.Queue(10_000)
    client = MqttClient(section, topics=topics, clock=SystemClock(), announce=False)
    every = device == "+"
    search = _Search(topics, str(client.endpoint), every=every)
    base = f"{topics.base_topic}/+" if every else topics.base
    wanted = f"{base}/#" if everything else f"{base}/+/event"

    def hear(message: Incoming) -> None:
        search.hear(message)
        incoming.put_nowait(message)

    client.subscribe(wanted, hear)
    if not everything:  # otherwise a status would be printed twice
        client.subscribe(f"{topics.base_topic}/+/status", search.hear)
        client.subscribe(f"{base}/status", search.hear)
    what = "all topics" if everything else "events"
    complain(f"{client.endpoint}: listening to {what} of {search.wanted} ({wanted}); Ctrl-C ends it")
    client.start()
    show = functools.partial(_line, json=json, everything=everything)
    try:
        printed, connected = _print_messages(client, incoming, search, show, count=count, seconds=seconds)
    finally:
        client.stop(1.0)
    return ExitCode.OK if printed or (connected and count is None) else ExitCode.FAILED


def event_line(event: Event, where: str, time_format: str) -> str:
    """Return time here, number, place and what happened. Raises ValueError or OSError for a time out of range."""
    lasted = "" if event.active_s is None else f" after {event.active_s:.1f} s"
    when = event.time.astimezone().strftime(time_format)
    what = f"{event.watch} {event.type.value}{lasted}: {event.label} ({event.confidence:.0%})"
    number = "not stored" if event.seq is None else f"#{event.seq}"
    return f"{when}  {number}  {where}  {what}"


class _Search:
    """Collects the devices that have published a status, and describes what is wrong with the wanted one."""

    def __init__(self, topics: Topics, broker: str, *, every: bool) -> None:
        """`every`: any device is wanted, not only the topics' own."""
        self._topics = topics
        self._broker = broker
        self._every = every
        self._status: dict[str, bytes] = {}

    @property
    def wanted(self) -> str:
        """The wanted devices, in words."""
        return "all devices" if self._every else f"the device `{self._topics.device}`"

    def hear(self, message: Incoming) -> None:
        """Record a status. Called by the network thread."""
        device, _, topic = message.topic.removeprefix(f"{self._topics.base_topic}/").partition("/")
        if topic == "status" and message.payload:
            self._status[device] = message.payload

    def problem(self) -> str | None:
        """Return why there may be no messages, one sentence; None when a wanted device is online."""
        found = dict(self._status)
        wanted = found if self._every else {self._topics.device: found.get(self._topics.device)}
        if b"online" in wanted.values():
            return None
        if self._every and not found:
            where = f"below `{self._topics.base_topic}/`"
            return f"{self._broker}: no device was found {where}; start its daemon, or check mqtt.base_topic"
        if self._every or self._topics.device in found:
            return f"{self._broker}: {', '.join(sorted(wanted))} is offline; events come once its daemon runs again"
        remedy = f"give --device for one of {', '.join(sorted(found)[:10])}" if found else "start its daemon"
        return f"{self._broker}: {self.wanted} was not found; {remedy}, or listen to all devices with --device +"


def _print_messages(
    client: MqttClient,
    incoming: queue.Queue[Incoming],
    search: _Search,
    show: Callable[[Incoming], str],
    *,
    count: int | None,
    seconds: float | None,
) -> tuple[int, bool]:
    """Print messages until a limit; return the number of printed messages and whether there was a connection.

    If nothing has arrived shortly after the connection, or until the end, what `search` says is printed once.
    """
    end_s = inf if seconds is None else time.monotonic() + seconds
    report_s = inf
    connected = False
    printed = 0
    while (count is None or printed < count) and time.monotonic() < end_s:
        if not connected and client.connected:
            connected = True
            report_s = time.monotonic() + _SEARCH_S
        if time.monotonic() > report_s:
            report_s = inf
            _report(search, printed)
        try:
            message = incoming.get(timeout=_WAIT_S)
        except queue.Empty:
            continue
        try:
            line = show(message)
        except PayloadError as error:
            complain(shortened(f"{message.topic}: {error}", 300))
            continue
        print_text(line)
        sys.stdout.flush()
        printed += 1
    if connected and report_s < inf:  # the time given was shorter than the search
        _report(search, printed)
    return printed, connected


def _report(search: _Search, printed: int) -> None:
    problem = None if printed else search.problem()
    if problem is not None:
        complain(problem)


def _line(message: Incoming, *, json: bool, everything: bool) -> str:
    """Return the line for a message. Raises PayloadError when JSON is wanted and the payload is not JSON."""
    import json as json_module

    from edge_classifierd.events.schema import decode

    text = message.payload.decode("utf-8", "replace")
    if everything:
        shown = text if len(text) < 4096 and message.payload[:2] != b"\xff\xd8" else f"({len(message.payload)} bytes)"
        if json:
            return json_module.dumps({"topic": message.topic, "retained": message.retained, "payload": shown})
        return f"{message.topic} {shown}"
    if json:
        try:
            document = json_module.loads(message.payload.decode(), parse_constant=_refuse)
            whole = can_show(text) and len(text.splitlines()) == 1
            return text if whole else json_module.dumps(document, allow_nan=False)
        except (ValueError, RecursionError) as error:
            raise PayloadError(f"not JSON ({error}); does another program publish here?") from error
    try:
        event = decode(message.payload)
    except PayloadError as error:
        return shortened(f"{message.topic}: {error}", 300)
    try:
        return event_line(event, f"{event.device}/{event.pipeline}", "%H:%M:%S")
    except (ArithmeticError, ValueError, OSError):
        remedy = "does another program publish here?"
        return f"{message.topic}: its time {event.time.isoformat()} cannot be shown here; {remedy}"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON's")
