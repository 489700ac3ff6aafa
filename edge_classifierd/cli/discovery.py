"""`discovery`: what Home Assistant was told of the device."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, refuse_impossible_device, reporting
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import BrokerError, ExitCode, UsageError

if TYPE_CHECKING:
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.published_topics import PublishedTopics
    from edge_classifierd.mqtt.topics import Topics

app = typer.Typer(help="Manage what Home Assistant has of the device.", no_args_is_help=True)

_LISTEN_S = 2.0  # retained messages are received within this time after the subscription
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
    states: Annotated[bool, typer.Option("--states", help="Also remove all its retained topics.")] = False,
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
    from edge_classifierd.config.sections.paths import state_directory
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.published_topics import FILE, PublishedTopics
    from edge_classifierd.mqtt.topics import Topics

    if device == "+":
        raise UsageError("--device +: give one device's id")
    refuse_impossible_device(device)
    configuration = load(config).configuration
    name = device or configuration.device.id
    topics = Topics(configuration.mqtt.base_topic, name)
    published = PublishedTopics(state_directory() / FILE, topics.base)
    section = configuration.mqtt.model_copy(update={"client_id": f"edge-classifierd-purge-{uuid.uuid4().hex[:8]}"})
    client = MqttClient(section, topics=topics, clock=SystemClock(), announce=False)
    wanted = {topic for topic in published.topics(topics.base) if states or not topic.startswith(f"{topics.base}/")}
    searched = () if published.topics(topics.base) else _search_filters(section.home_assistant.prefix, topics, states)
    if searched:
        sentence = "no list of its published topics here; searching the broker. Some brokers, as RabbitMQ, find nothing"
        show(f"{name}: {sentence}", err=True)
    found: dict[str, bytes] = {}

    def on_message(incoming: Incoming) -> None:
        if incoming.retained and incoming.payload:
            found[incoming.topic] = incoming.payload

    for topic_filter in (*searched, topics.status):
        client.subscribe(topic_filter, on_message)
    client.start()
    try:
        _await_connection(client, wait)
        time.sleep(_LISTEN_S)
        if found.get(topics.status) == b"online":
            raise BrokerError(
                f"{name} is online and would announce itself again; stop its daemon first, "
                "or set `mqtt.home_assistant.enabled: false` there"
            )
        wanted |= {topic for topic in found if states or topic != topics.status}
        purged = _clear(client, sorted(wanted), published)
    finally:
        client.stop(1.0)
        published.save()
    if json:
        print_json({"device": name, "purged": purged})
    else:
        show("\n".join(purged) if purged else f"{name}: nothing is announced on {client.endpoint}")
    return ExitCode.OK


def _search_filters(prefix: str, topics: Topics, states: bool) -> tuple[str, ...]:  # noqa: FBT001
    """Return filters for the retained topics of a device: only the kinds of topics that the daemon publishes."""
    from edge_classifierd.mqtt.home_assistant.messages import discovery_filters

    kinds = ("status", "health", "+/status", "+/state", "+/image", "+/enabled", "+/region", "+/motion")
    kinds_of_watches = ("+/+/state", "+/+/stats", "+/+/threshold")
    found = [f"{topics.base}/{kind}" for kind in kinds + kinds_of_watches] if states else []
    return (*discovery_filters(prefix, topics.device), *found)


def _await_connection(client: MqttClient, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while client.connection is None:
        if time.monotonic() > deadline_s:
            raise BrokerError(f"no connection within {wait_s:g} s: {client.status_sentence}")
        time.sleep(0.02)


def _clear(client: MqttClient, topics: list[str], published: PublishedTopics) -> list[str]:
    """Publish an empty retained message on each topic; return the cleared topics. Raises BrokerError if one fails."""
    import queue

    from edge_classifierd.mqtt.message import Message, PublishOutcome

    results: queue.SimpleQueue[tuple[PublishOutcome, str]] = queue.SimpleQueue()

    def on_outcome(outcome: PublishOutcome, reason: str) -> None:
        results.put((outcome, reason))

    cleared, failed = [], []
    for topic in topics:
        accepted = client.publish(Message(topic, b"", qos=1, retain=True, on_outcome=on_outcome))
        try:
            outcome, reason = results.get(timeout=_DELIVER_S if accepted else 0.01)
        except queue.Empty as error:
            raise BrokerError(f"{topic}: the broker does not acknowledge; {client.status_sentence}") from error
        if outcome is PublishOutcome.DELIVERED:
            published.record(topic, empty=True, outcome=outcome)
            cleared.append(topic)
        else:
            failed.append(f"{topic} ({reason or outcome.name.lower()})")
            _await_connection(client, _DELIVER_S)
    if failed:
        count = f"{len(failed)} of {len(topics)} topics"
        raise BrokerError(f"{count} cannot be cleared; check the ACL: {', '.join(failed)}")
    return cleared
