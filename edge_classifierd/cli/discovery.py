"""`discovery`: what Home Assistant was told of the device."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, refuse_impossible_device, reporting
from edge_classifierd.cli.streams import print_json
from edge_classifierd.errors import BrokerError, ExitCode, UsageError

if TYPE_CHECKING:
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Incoming

app = typer.Typer(help="Manage what Home Assistant has of the device.", no_args_is_help=True)

_LISTEN_S = 2.0  # nothing retained comes later than this after the subscription
_DELIVER_S = 10.0


@app.callback()
def _only_subcommands() -> None:
    """Manage what Home Assistant has of the device."""


@app.command("purge")
@reporting
def purge(
    config: Config = DEFAULT_CONFIG,
    *,
    device: Annotated[str | None, typer.Option(help="Another device's id.")] = None,
    states: Annotated[bool, typer.Option("--states", help="Also take all its retained topics off the broker.")] = False,
    wait: Annotated[float, typer.Option(min=0.1, help="For how many seconds to wait for the broker.")] = 10.0,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Remove the device from Home Assistant.

    Refused while its daemon runs, which would announce it again.

    To keep it away for good set `mqtt.home_assistant.enabled: false`.

    Example: edge-classifierd discovery purge --config config.yaml
    """
    from edge_classifierd.clock import SystemClock
    from edge_classifierd.config.loading.load import load
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.home_assistant.messages import discovery_filters
    from edge_classifierd.mqtt.topics import Topics

    if device == "+":
        raise UsageError("--device +: give one device's id")
    refuse_impossible_device(device)
    configuration = load(config).configuration
    name = device or configuration.device.id
    topics = Topics(configuration.mqtt.base_topic, name)
    section = configuration.mqtt.model_copy(update={"client_id": f"edge-classifierd-purge-{uuid.uuid4().hex[:8]}"})
    session = MqttClient(section, topics=topics, clock=SystemClock(), announce=False)
    found: dict[str, bytes] = {}

    def hear(incoming: Incoming) -> None:
        if incoming.retained and incoming.payload:
            found[incoming.topic] = incoming.payload

    filters = (*discovery_filters(section.home_assistant.prefix, name), topics.status)
    for topic_filter in (*filters, *([f"{topics.base}/#"] if states else [])):
        session.subscribe(topic_filter, hear)
    session.start()
    try:
        _await_connection(session, wait)
        time.sleep(_LISTEN_S)
        if found.get(topics.status) == b"online":
            raise BrokerError(
                f"{name} is online and would announce itself again; stop its daemon first, "
                "or set `mqtt.home_assistant.enabled: false` there"
            )
        purged = sorted(topic for topic in found if states or topic != topics.status)
        _clear(session, purged)
    finally:
        session.stop(1.0)
    if json:
        print_json({"device": name, "purged": purged})
    else:
        typer.echo("\n".join(purged) if purged else f"{name}: nothing is announced on {session.endpoint}")
    return ExitCode.OK


def _await_connection(session: MqttClient, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while session.connection is None:
        if time.monotonic() > deadline_s:
            raise BrokerError(f"no connection within {wait_s:g} s: {session.status_sentence}")
        time.sleep(0.02)


def _clear(session: MqttClient, topics: list[str]) -> None:
    """Empty retained messages, one after another, until the broker has acknowledged each."""
    import queue

    from edge_classifierd.mqtt.message import Message, PublishOutcome

    outcomes: queue.SimpleQueue[tuple[str, PublishOutcome, str]] = queue.SimpleQueue()
    for topic in topics:

        def note(outcome: PublishOutcome, reason: str, topic: str = topic) -> None:
            outcomes.put((topic, outcome, reason))

        session.publish(Message(topic, b"", qos=1, retain=True, on_outcome=note))
        try:
            cleared, outcome, reason = outcomes.get(timeout=_DELIVER_S)
        except queue.Empty as error:
            raise BrokerError(f"{topic}: the broker does not acknowledge; {session.status_sentence}") from error
        if outcome is not PublishOutcome.DELIVERED:
            raise BrokerError(f"{cleared}: cannot be cleared ({reason or outcome.name.lower()}); check the ACL")
