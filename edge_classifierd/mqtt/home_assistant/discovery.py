"""Discovery: tells Home Assistant what there is, again whenever it may have forgotten, and what is no more."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.home_assistant.former_topics import FormerTopics
from edge_classifierd.mqtt.home_assistant.messages import COMPONENTS, announcement, encode, retained_topics, without
from edge_classifierd.mqtt.message import JSON, Message, PublishOutcome
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.mqtt import HomeAssistantSection
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.home_assistant.announced_entities import AnnouncedEntities, RemovedEntities
    from edge_classifierd.mqtt.home_assistant.entities import DeviceFacts
    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.topics import Topics

_log = logging.getLogger(__name__)

BIRTH_TOPIC: Final = "homeassistant/status"
"""Where Home Assistant says `online`; this topic stays when the discovery prefix is changed."""

# Home Assistant drops a discovery message for what it is still busy with, so removing and announcing keep a distance.
_PAUSE_S: Final = 3.0
_BIRTHS_APART_S: Final = 2.0
_REFUSED_PAUSE_S: Final = 600.0

_Step = Message | float | None
"""To publish; to wait for so many seconds; None: to say all states."""


class Discovery:
    """A listener of the session's: `announce` and `keep` are the service's thread's, the rest the network thread's.

    What vanishes (a watch, a pipeline, the device's former id) is removed from Home Assistant, also when that was away
    meanwhile: at its next start it is shown once more what is to be removed, or it would keep a ghost.
    """

    def __init__(
        self,
        session: MqttClient,
        topics: Topics,
        section: HomeAssistantSection,
        announced: AnnouncedEntities,
        clock: Clock,
        *,
        say_states: Callable[[], None],
    ) -> None:
        """Before the session's start, and before the retained states, so that states come after what they are of."""
        self._session = session
        self._topics = topics
        self._section = section
        self._announced = announced
        self._clock = clock
        self._say_states = say_states
        self._steps: deque[_Step] = deque()
        self._funeral: dict[str, RemovedEntities] = {}
        self._cleared_topics: set[str] = set()
        self._wait_until_s = self._born_s = float("-inf")
        self._refused_s: float | None = None
        self._born = self._changed = False
        self._clearances = [
            FormerTopics(session, base, topics.base, clock, on_free=self._bury, on_done=announced.leave_former)
            for base in announced.former
        ]
        session.add_listener(self)
        if section.enabled:
            for topic in sorted({BIRTH_TOPIC, f"{section.prefix}/status"}):
                session.subscribe(topic, self._hear)

    def announce(self, facts: DeviceFacts) -> None:
        """This is what there is from now on; when discovery is switched off, nothing."""
        messages = announcement(self._section, facts, self._topics) if self._section.enabled else {}
        self._announced.replace(messages)
        self._announced.keep()
        self._changed = True

    def keep(self) -> None:
        """Often: write down what the broker has taken meanwhile."""
        self._announced.keep()

    def connected(self) -> None:
        """The session's: say it again, the broker may have lost it."""
        self._changed, self._wait_until_s = False, float("-inf")
        self._steps = deque(self._removals_and_announcements())
        for clearance in self._clearances:
            clearance.connected()
        self._advance()

    def disconnected(self) -> None:
        """The session's: what was not said is said with the next connection."""
        self._steps.clear()
        self._funeral = {}

    def tick(self) -> None:
        """The session's: what is due."""
        now_s = self._clock.monotonic()
        for clearance in self._clearances:
            clearance.tick()
        if self._born and now_s - self._born_s >= _BIRTHS_APART_S:
            self._born, self._born_s, self._changed = False, now_s, False
            self._steps = deque(self._greeting())
            self._wait_until_s = now_s
        elif not self._steps and (self._changed or self._refusal_is_old(now_s)):
            self._changed = False
            self._steps = deque(self._removals_and_announcements())
            if self._refusal_is_old(now_s):
                self._refused_s = now_s  # until the broker has answered
        self._advance()

    def _hear(self, incoming: Incoming) -> None:
        # A retained `online` is older than this connection, which has announced everything anyway.
        if incoming.payload == b"online" and not incoming.retained:
            self._born = True

    def _bury(self, base: str) -> None:
        self._announced.bury_former(base)
        self._changed = True

    def _greeting(self) -> list[_Step]:
        """For a Home Assistant that has just started: what it is to forget, then what there is, then how it is."""
        buried = self._announced.buried
        self._funeral = buried
        steps: list[_Step] = [Message(topic, encode(one.payload), qos=1) for topic, one in buried.items()]
        if steps:
            steps.append(_PAUSE_S)
        return [*steps, *self._removals(buried), *self._announcements(), None, *self._clearing()]

    def _removals_and_announcements(self) -> list[_Step]:
        removals = self._removals({topic: one for topic, one in self._announced.buried.items() if not one.cleared})
        return [*removals, *([_PAUSE_S] if removals else []), *self._announcements(), *self._clearing()]

    def _clearing(self) -> list[_Step]:
        """Takes the states of what vanished off the broker, some time after their entities."""
        stale = self._stale()
        self._cleared_topics &= stale
        wanted = sorted(stale - self._cleared_topics)
        messages = [Message(one, b"", qos=1, retain=True, on_outcome=self._cleared_topic(one)) for one in wanted]
        return [REMOVAL_DELAY_S, *messages] if messages else []

    def _stale(self) -> set[str]:
        """The states of what vanished while the daemon was not running: nobody else takes them off the broker."""
        messages = self._announced.messages
        if not messages:
            return set()  # switched off: what is still there is said as ever
        living = {topic for payload in messages.values() for topic in retained_topics(payload)}
        dead = {topic for one in self._announced.buried.values() for topic in retained_topics(one.payload)}
        return {topic for topic in dead - living if topic.startswith(f"{self._topics.base}/")}

    def _removals(self, buried: dict[str, RemovedEntities]) -> list[_Step]:
        """Empty retained messages. What is buried of a device message that goes on is removed by that one."""
        living = self._announced.messages
        return [
            Message(topic, b"", qos=1, retain=True, on_outcome=self._cleared(topic))
            for topic in buried
            if topic not in living
        ]

    def _announcements(self) -> list[_Step]:
        if self._refused_s is not None and not self._refusal_is_old(self._clock.monotonic()):
            return []
        buried = self._announced.buried
        steps: list[_Step] = []
        for topic, payload in self._announced.messages.items():
            gone = buried[topic].payload if topic in buried and COMPONENTS in payload else None
            message = encode(without(payload, gone))
            steps.append(Message(topic, message, qos=1, retain=True, content_type=JSON, on_outcome=self._note(topic)))
        return steps

    def _advance(self) -> None:
        """Go on with the steps until one has to wait."""
        while self._steps and self._clock.monotonic() >= self._wait_until_s:
            step = self._steps[0]
            if isinstance(step, Message):
                if not self._session.publish(step):
                    return
            elif step is None:
                self._say_states()
                waiting = self._stale() - self._cleared_topics
                for topic, buried in self._funeral.items():
                    if waiting.isdisjoint(retained_topics(buried.payload)):
                        self._announced.forget(topic, buried.payload)
                self._funeral = {}
            else:
                self._wait_until_s = self._clock.monotonic() + step
            self._steps.popleft()

    def _cleared(self, topic: str) -> Callable[[PublishOutcome, str], None]:
        def note(outcome: PublishOutcome, _reason: str) -> None:
            if outcome is PublishOutcome.DELIVERED:
                self._announced.cleared(topic)

        return note

    def _cleared_topic(self, topic: str) -> Callable[[PublishOutcome, str], None]:
        def note(outcome: PublishOutcome, _reason: str) -> None:
            if outcome is not PublishOutcome.LOST:
                self._cleared_topics.add(topic)

        return note

    def _refusal_is_old(self, now_s: float) -> bool:
        return self._refused_s is not None and now_s - self._refused_s >= _REFUSED_PAUSE_S

    def _note(self, topic: str) -> Callable[[PublishOutcome, str], None]:
        def note(outcome: PublishOutcome, reason: str) -> None:
            if outcome is PublishOutcome.REFUSED:
                if self._refused_s is None:
                    _log.warning(
                        "%s: the broker refuses discovery (%s); check its ACL, or switch mqtt.home_assistant off",
                        topic,
                        reason,
                    )
                self._refused_s = self._clock.monotonic()
            elif outcome is PublishOutcome.DELIVERED:
                self._refused_s = None

        return note
