"""`listen`: prints a device's events as a subscriber receives them."""

from __future__ import annotations

import queue
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, refuse_impossible_device, reporting
from edge_classifierd.cli.streams import can_show, complain
from edge_classifierd.errors import ExitCode, PayloadError, UsageError, shortened

if TYPE_CHECKING:
    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.topics import Topics


@reporting
def command(
    config: Config = DEFAULT_CONFIG,
    *,
    host: Annotated[str | None, typer.Option(help="Another broker; needs no configuration.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The other broker's port.")] = 1883,
    device: Annotated[str | None, typer.Option(help="Another device's id; `+` for all devices.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print all topics of the device, not only events.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many messages.")] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="End after so many seconds.")] = None,
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

    section, topics = _target(config, host, port, device)
    incoming: queue.Queue[Incoming] = queue.Queue(10_000)
    session = MqttClient(section, topics=topics, clock=SystemClock(), announce=False)
    base = topics.base if device != "+" else f"{topics.base_topic}/+"
    session.subscribe(f"{base}/#" if everything else f"{base}/+/event", incoming.put_nowait)
    session.start()
    connected = False
    end_s = None if seconds is None else time.monotonic() + seconds
    printed = 0
    try:
        while (count is None or printed < count) and (end_s is None or time.monotonic() < end_s):
            try:
                message = incoming.get(timeout=0.2)
            except queue.Empty:
                connected = connected or session.connection is not None
                continue
            try:
                line = _line(message, json=json, everything=everything)
            except PayloadError as error:
                complain(shortened(f"{message.topic}: {error}", 300))
                continue
            typer.echo(line)
            sys.stdout.flush()
            printed += 1
    finally:
        session.stop(1.0)
    return ExitCode.OK if printed or (connected and count is None) else ExitCode.FAILED


def _target(config: Path, host: str | None, port: int, device: str | None) -> tuple[MqttSection, Topics]:
    """The broker and the topics; the client id is a fresh one, or the daemon and we would throw each other out."""
    import uuid

    from pydantic import ValidationError

    from edge_classifierd.config.loading.load import load
    from edge_classifierd.config.sections.configuration import DeviceSection
    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.topics import Topics

    refuse_impossible_device(device)
    client_id = f"edge-classifierd-listen-{uuid.uuid4().hex[:8]}"
    if host is not None:
        if not host.strip():
            raise UsageError("--host: must not be empty; give the broker's name or address")
        try:
            section, own = MqttSection(host=host, port=port, client_id=client_id), DeviceSection().id
        except ValidationError as error:
            raise UsageError(f"--host {shortened(host)}: cannot be a broker's name or address; correct it") from error
    else:
        configuration = load(config).configuration
        section, own = configuration.mqtt.model_copy(update={"client_id": client_id}), configuration.device.id
    chosen = own if device in {None, "+"} else str(device)
    return section, Topics(section.base_topic, chosen)


def _line(message: Incoming, *, json: bool, everything: bool) -> str:
    """What to print of a message. Raises PayloadError for what is no JSON where JSON is wanted."""
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
            raise PayloadError(f"not JSON ({error}); who else publishes here?") from error
    try:
        event = decode(message.payload)
        time_here = event.time.astimezone()
    except PayloadError as error:
        return shortened(f"{message.topic}: {error}", 300)
    except (ArithmeticError, ValueError, OSError):
        return f"{message.topic}: its time {event.time.isoformat()} cannot be shown here; who else publishes here?"
    lasted = "" if event.active_s is None else f" after {event.active_s:.1f} s"
    when = time_here.strftime("%H:%M:%S")
    where = f"{event.device}/{event.pipeline}"
    what = f"{event.watch} {event.type.value}{lasted}: {event.label} ({event.confidence:.0%})"
    return f"{when}  #{event.seq}  {where}  {what}"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON's")
