"""Home Assistant's MQTT discovery: announces the entities, and removes those that no longer exist."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.home_assistant.former_topics import FormerTopics
from edge_classifierd.mqtt.home_assistant.messages import (
    COMPONENTS,
    announcement,
    encode,
    identifier,
    retained_topics,
    unique_ids,
    without,
    without_ids,
)
from edge_classifierd.mqtt.message import JSON, Message, PublishOutcome
from edge_classifierd.mqtt.refusals import TOO_LARGE
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.mqtt import HomeAssistantSection
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.home_assistant.announced_entities import AnnouncedEntities, RemovedEntities
    from edge_classifierd.mqtt.home_assistant.entities import DeviceFacts
    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.published_topics import PublishedTopics
    from edge_classifierd.mqtt.topics import Topics

_log = logging.getLogger(__name__)

BIRTH_TOPIC: Final = "homeassistant/status"
"""Home Assistant publishes `online` here, whatever the discovery prefix is."""

# Home Assistant drops a discovery message for an entity that it is still removing.
_PAUSE_S: Final = 3.0
_MIN_BIRTH_INTERVAL_S: Final = 2.0
# Home Assistant subscribes to the topics of a new entity within 0.3 s. From another node of a RabbitMQ cluster it then
# gets only what is published later: the nodes do not share retained messages.
_SUBSCRIBED_S: Final = 1.0

_Step = Message | float | None
"""A message to publish; a time to wait, in seconds; None: publish the status and all states."""


class Discovery:
    """A listener of the client. The service's thread calls `announce` and `save`, the network thread the rest.

    Entities that no longer exist (a watch, a pipeline, the device's former id) are removed from Home Assistant. If it
    was not running then, they are announced once more at its next start and removed again, because it ignores the
    removal of entities that it has not discovered since its start.
    """

    def __init__(
        self,
        client: MqttClient,
        topics: Topics,
        section: HomeAssistantSection,
        announced: AnnouncedEntities,
        published: PublishedTopics,
        *,
        clock: Clock,
        publish_states: Callable[[], None],
        several_brokers: bool = False,
    ) -> None:
        """Create before the client is started, and before RetainedTopics, so that states follow their entities.

        Args:
            client: The connection to the broker.
            topics: The device's topics.
            section: The configuration.
            announced: What was announced before.
            published: The topics that this daemon has retained.
            clock: Clock for the waits.
            publish_states: Publishes the status and every retained state again.
            several_brokers: Whether to do this for new entities as well.
        """
        self._client = client
        self._topics = topics
        self._section = section
        self._announced, self._published = announced, published
        self._clock = clock
        self._publish_states, self._several_brokers = publish_states, several_brokers
        self._facts: DeviceFacts | None = None
        self._steps: deque[_Step] = deque()
        self._shown: dict[str, RemovedEntities] = {}
        self._cleared_topics: set[str] = set()
        self._wait_until_s = self._birth_s = float("-inf")
        self._birth = self._changed = self._blocked = False
        self._new = False  # entities were announced whose states were not published since
        self._former = {
            base: FormerTopics(
                client,
                base,
                partial(self._topics_of, base),
                clock,
                on_free=self._remove_former,
                on_done=self._drop_former,
            )
            for base in {*announced.former, *published.former_bases}
        }
        client.add_listener(self)
        if section.enabled:
            for topic in sorted({BIRTH_TOPIC, f"{section.prefix}/status"}):
                client.subscribe(topic, self._on_birth)

    def announce(self, facts: DeviceFacts) -> None:
        """Announce these entities from now on; none if discovery is disabled."""
        self._facts = facts
        self._replace_messages()
        self._announced.save()

    def save(self) -> None:
        """Save what the broker has acknowledged meanwhile."""
        self._announced.save()

    def connected(self) -> None:
        """Announce again, because the broker may have lost it; called by the client."""
        self._changed, self._wait_until_s = False, float("-inf")
        self._steps = deque(self._removals_and_announcements())
        for former in self._former.values():
            former.connected()
        self._advance()

    def disconnected(self) -> None:
        """Drop the steps; `connected` makes new ones. Called by the client."""
        self._steps.clear()
        self._shown = {}

    def tick(self) -> None:
        """Publish what is due; called by the client."""
        now_s = self._clock.monotonic()
        for former in self._former.values():
            former.tick()
        self._fall_back_to_components()
        was_blocked, self._blocked = self._blocked, self._is_blocked()
        if self._birth and now_s - self._birth_s >= _MIN_BIRTH_INTERVAL_S:
            self._birth, self._birth_s, self._changed = False, now_s, False
            self._steps = deque(self._answer_to_birth())
            self._wait_until_s = now_s
        elif not self._steps and (self._changed or (was_blocked and not self._blocked)):
            self._changed = False
            self._steps = deque(self._removals_and_announcements())
        self._advance()

    def _on_birth(self, incoming: Incoming) -> None:
        # A retained `online` is older than this connection, which has announced everything already.
        if incoming.payload == b"online" and not incoming.retained:
            self._birth = True

    def _replace_messages(self) -> None:
        """Make the messages from the facts: one for the device, or one for each entity."""
        messages = {}
        if self._section.enabled and self._facts is not None:
            messages = announcement(self._section, self._facts, self._topics)
            limit = self._announced.max_device_bytes
            if limit is not None and any(len(encode(payload)) >= limit for payload in messages.values()):
                components = self._section.model_copy(update={"discovery": "component"})
                messages = announcement(components, self._facts, self._topics)
        self._new |= self._several_brokers and bool(messages) and messages != self._announced.messages
        self._announced.replace(messages)
        self._changed = True

    def _fall_back_to_components(self) -> None:
        """Announce each entity by itself when the broker refuses the device message because of its size."""
        for topic, payload in self._announced.messages.items():
            refusal = self._client.refusals.message(topic)
            if COMPONENTS in payload and refusal is not None and refusal.reason in {"", TOO_LARGE}:
                _log.info("%s: too large for the broker; each entity is announced by itself", topic)
                self._announced.set_max_device_bytes(len(encode(payload)))
                self._steps.clear()
                self._replace_messages()

    def _remove_former(self, base: str) -> None:
        self._announced.remove_former(base)
        self._changed = True

    def _drop_former(self, base: str, in_use: bool) -> None:  # noqa: FBT001 - a callback
        self._announced.drop_former(base)
        if in_use:
            self._published.drop(base)
            self._changed = True

    def _topics_of(self, base: str) -> set[str]:
        """Return the topics published with a former base that are not in use now."""
        return self._published.topics(base) - set(self._announced.messages)

    def _is_blocked(self) -> bool:
        """Whether announcing must wait: the broker refuses it, or entities of a former id are not removed yet.

        Home Assistant would give the new entities other ids (`…_2`) while it has those of the former device.
        """
        refusals = self._client.refusals
        if any(refusals.waits(topic, len(encode(payload))) for topic, payload in self._announced.messages.items()):
            return True
        own_id = self._topics.device
        return any(one.undecided and base.rpartition("/")[2] != own_id for base, one in self._former.items())

    def _answer_to_birth(self) -> list[_Step]:
        """Return the steps for a Home Assistant that has started: removed entities, announcements, states."""
        removed = self._announced.removed
        self._shown = removed
        steps: list[_Step] = []
        known = {one for payload in self._announced.messages.values() for one in unique_ids(payload)}
        for topic, one in removed.items():
            payload = without_ids(one.payload, known)  # Home Assistant warns of an id in two messages
            if payload is not None:
                known |= unique_ids(payload)
                steps.append(Message(topic, encode(payload), qos=1))
        if steps:
            steps.append(_PAUSE_S)
        pause = [_PAUSE_S] if self._former_device_removed() else []
        announcements = [*self._announcements(retain=True), _SUBSCRIBED_S, None]
        return [*steps, *self._removals(removed), *pause, *announcements, *self._removals_of_states()]

    def _removals_and_announcements(self) -> list[_Step]:
        removals = self._removals({topic: one for topic, one in self._announced.removed.items() if not one.cleared})
        # If Home Assistant is not running, it must not find the new entities before it has removed the former ones.
        retain = not self._former_device_removed()
        pause = [_PAUSE_S] if removals else []
        states: list[_Step] = [_SUBSCRIBED_S, None] if self._new else []
        return [*removals, *pause, *self._announcements(retain=retain), *states, *self._removals_of_states()]

    def _former_device_removed(self) -> bool:
        """Whether Home Assistant may still have the entities of a former device id."""
        own = f"/{identifier(self._topics.device)}/"
        return any(own not in topic for topic in self._announced.removed)

    def _removals_of_states(self) -> list[_Step]:
        """Remove the states of removed entities, some time after the entities."""
        stale = self._stale_states()
        self._cleared_topics &= stale
        topics = sorted(stale - self._cleared_topics)
        messages = [
            Message(one, b"", qos=1, retain=True, on_outcome=partial(self._on_state_removal, one)) for one in topics
        ]
        return [REMOVAL_DELAY_S, *messages] if messages else []

    def _stale_states(self) -> set[str]:
        """Return the states of entities that were removed while the daemon was not running."""
        messages = self._announced.messages
        if not messages:
            return set()  # discovery is disabled: the states are still published
        used = {topic for payload in messages.values() for topic in retained_topics(payload)}
        removed = {topic for one in self._announced.removed.values() for topic in retained_topics(one.payload)}
        return {topic for topic in removed - used if topic.startswith(f"{self._topics.base}/")}

    def _removals(self, removed: dict[str, RemovedEntities]) -> list[_Step]:
        """Return empty retained messages. A device message that still exists removes its entities itself."""
        announced = self._announced.messages
        return [
            Message(topic, b"", qos=1, retain=True, on_outcome=partial(self._on_removal, topic))
            for topic in removed
            if topic not in announced
        ]

    def _announcements(self, *, retain: bool) -> list[_Step]:
        if self._is_blocked():
            return []
        removed = self._announced.removed
        steps: list[_Step] = []
        for topic, payload in self._announced.messages.items():
            gone = removed[topic].payload if topic in removed and COMPONENTS in payload else None
            steps.append(Message(topic, encode(without(payload, gone)), qos=1, retain=retain, content_type=JSON))
            self._published.record(topic, empty=False, outcome=PublishOutcome.DELIVERED)  # also if it is not retained
        return steps

    def _advance(self) -> None:
        """Execute the steps until one has to wait."""
        while self._steps and self._clock.monotonic() >= self._wait_until_s:
            step = self._steps[0]
            if isinstance(step, Message):
                if not self._client.publish(step):
                    return
            elif step is None:
                self._publish_states()
                self._new = False
                waiting = self._stale_states() - self._cleared_topics
                for topic, removed in self._shown.items():
                    if waiting.isdisjoint(retained_topics(removed.payload)):
                        self._announced.forget(topic, removed.payload)
                self._shown = {}
            else:
                self._wait_until_s = self._clock.monotonic() + step
            self._steps.popleft()

    def _on_removal(self, topic: str, outcome: PublishOutcome, _reason: str) -> None:
        if outcome is PublishOutcome.DELIVERED:
            self._announced.cleared(topic)

    def _on_state_removal(self, topic: str, outcome: PublishOutcome, _reason: str) -> None:
        if outcome is not PublishOutcome.LOST:
            self._cleared_topics.add(topic)
