"""Checks the broker: login, a message there and back, and whether Home Assistant is online."""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge_classifierd.doctor.check_result import CheckResult, from_sentence
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.message import Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.configuration import Configuration

_LOGIN_S: Final = 15.0
_ANSWER_S: Final = 5.0
_ECHO_S: Final = 1.0
_RETAINED_S: Final = 0.3
_FAILING: Final = "reconnecting: "
DEFAULT_PREFIX: Final = "homeassistant"


@dataclass(slots=True)
class BrokerVisit:
    """The results, and the retained status of the device."""

    results: list[CheckResult] = field(default_factory=list)
    status: bytes | None = None
    """The device's retained `status`."""


def visit_broker(configuration: Configuration, clock: Clock) -> BrokerVisit:
    """Log in with a separate client id and check the broker. Publishes nothing retained; takes at most 20 s."""
    mqtt = configuration.mqtt.model_copy(update={"client_id": f"edge-classifierd-doctor-{uuid.uuid4().hex[:8]}"})
    topics = Topics(mqtt.base_topic, configuration.device.id)
    received: deque[Incoming] = deque(maxlen=1000)
    session = MqttClient(mqtt, topics=topics, clock=clock, answer_timeout_s=_ANSWER_S, announce=False)
    prefix = discovery_prefix(configuration)
    echo = f"{topics.base}/doctor"
    for wanted in (echo, topics.status, f"{prefix or DEFAULT_PREFIX}/status"):
        session.subscribe(wanted, received.append)
    announced: deque[Incoming] = deque(maxlen=1000)  # separate, because a large installation has many announcements
    if prefix is not None:
        session.subscribe(f"{prefix}/device/+/config", announced.append)
    visit = BrokerVisit()
    start_s = time.monotonic()
    session.start()
    try:
        _until(lambda: session.connected or session.status_sentence.startswith(_FAILING), _LOGIN_S)
        if not session.connected:
            sentence = session.status_sentence.removeprefix(_FAILING)
            if session.status_sentence == sentence:
                sentence = f"{session.endpoint}: no answer within {_LOGIN_S:.0f} s; check mqtt.host and the network"
            visit.results.append(from_sentence("broker", sentence))
            return visit
        login_ms = (time.monotonic() - start_s) * 1000
        account = f" as {mqtt.username}" if mqtt.username else ""
        said = f"{session.endpoint}: logged in{account} (MQTT {session.endpoint.protocol}) in {login_ms:.0f} ms"
        visit.results += [CheckResult("broker", "ok", said), _round_trip(session, echo, received)]
        _until(lambda: False, _RETAINED_S)
    finally:
        session.stop(1.0)
    visit.status = next((one.payload for one in received if one.retained and one.topic == topics.status), None)
    visit.results.append(_home_assistant(prefix, topics, received, announced))
    return visit


def discovery_prefix(configuration: Configuration) -> str | None:
    """Return Home Assistant's discovery prefix; None when discovery is switched off."""
    section = configuration.mqtt.home_assistant
    return section.prefix if section.enabled else None


def _round_trip(session: MqttClient, topic: str, received: deque[Incoming]) -> CheckResult:
    """Send a message to this client, not retained. It is also fine if the account may write but not read there."""
    name = "round trip"
    token = uuid.uuid4().hex.encode()
    outcomes: deque[tuple[PublishOutcome, str, float]] = deque(maxlen=1)

    def record(outcome: PublishOutcome, reason: str) -> None:
        outcomes.append((outcome, reason, time.monotonic()))

    start_s = time.monotonic()
    session.publish(Message(topic, token, qos=1, on_outcome=record))
    if not _until(lambda: bool(outcomes), _ANSWER_S):
        sentence = f"no acknowledgement for a message on {topic} within {_ANSWER_S:.0f} s"
        return CheckResult(name, "failed", sentence, "check the broker's log")
    outcome, reason, acknowledged_s = outcomes[0]
    if outcome is not PublishOutcome.DELIVERED:
        sentence = f"the broker refuses messages on {topic} ({reason})"
        return CheckResult(name, "failed", sentence, f"let the account write {topic.rpartition('/')[0]}/# (its ACL)")
    if _until(lambda: any(one.payload == token for one in list(received)), _ECHO_S):
        elapsed_ms = (time.monotonic() - start_s) * 1000
        return CheckResult(name, "ok", f"a message to {topic} came back in {elapsed_ms:.1f} ms")
    elapsed_ms = (acknowledged_s - start_s) * 1000
    if session.endpoint.protocol == "5":
        return CheckResult(name, "ok", f"a message to {topic} was acknowledged in {elapsed_ms:.1f} ms")
    # Before MQTT 5 a broker also acknowledges messages that its ACL refuses.
    sentence = f"the broker acknowledged a message to {topic} but did not deliver it"
    remedy = "fine if its ACL does not let this account read there; otherwise let it write there"
    return CheckResult(name, "warning", sentence, remedy)


def check_absent_daemon(status: bytes | None) -> CheckResult:
    """Return the result when no daemon runs here. `status` is the retained status of the device, None without one."""
    name, said = "daemon", "none runs here with this configuration"
    if status == b"online":
        said += ", but the broker shows a device with this id as online"
        return CheckResult(name, "warning", said, "give each of two machines its own `device.id`")
    return CheckResult(name, "unused", said if status is None else f"{said}; the broker shows {_text(status)}")


def _home_assistant(
    prefix: str | None, topics: Topics, received: deque[Incoming], announced: deque[Incoming]
) -> CheckResult:
    name = "home assistant"
    status = next((one.payload for one in received if one.topic == f"{prefix or DEFAULT_PREFIX}/status"), None)
    own = topics.base.encode()
    configs = sum(own not in one.payload for one in announced)
    if status == b"online":
        return CheckResult(name, "ok", f"online on this broker ({prefix or DEFAULT_PREFIX}/status)")
    if prefix is None:
        return CheckResult(name, "unused", "not seen on this broker, and discovery is switched off")
    if status is not None:
        remedy = "start it, or its MQTT integration"
        return CheckResult(name, "warning", f"shows {_text(status)} on {prefix}/status", remedy)
    if configs:
        said = f"publishes nothing on {prefix}/status, but other devices ({configs}) are announced below {prefix}/"
        return CheckResult(name, "ok", said)
    remedy = "if you use it, add its MQTT integration with this broker and prefix; it is not needed otherwise"
    return CheckResult(name, "warning", f"not seen on this broker ({prefix}/status is silent)", remedy)


def _text(payload: bytes) -> str:
    return payload[:20].decode("utf-8", "replace")


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(0.005)
    return True
