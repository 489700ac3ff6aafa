"""Collects the device facts for Home Assistant from the configuration, the plans and the board."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from edge_classifierd import __version__
from edge_classifierd.config.sections.web import page_address
from edge_classifierd.mqtt.home_assistant.announced_entities import AnnouncedEntities
from edge_classifierd.mqtt.home_assistant.discovery import Discovery
from edge_classifierd.mqtt.home_assistant.entities import CameraFacts, DeviceFacts, WatchFacts
from edge_classifierd.pipeline.planning.taught_models import own_watch_titles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.configuration import Configuration
    from edge_classifierd.health.board import BoardState
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.published_topics import PublishedTopics
    from edge_classifierd.mqtt.topics import Topics
    from edge_classifierd.pipeline.planning.plan import AnyPlan


class HomeAssistantDevice:
    """Announces the device to Home Assistant. Used by the service's thread; create it before the client starts."""

    def __init__(
        self,
        session: MqttClient,
        topics: Topics,
        configuration: Configuration,
        board: BoardState,
        clock: Clock,
        *,
        state: Path,
        published: PublishedTopics,
        publish_states: Callable[[], None],
    ) -> None:
        """`state` is the state directory; `publish_states` publishes `online` and the states again."""
        self._name = configuration.device.name
        self._web = configuration.web
        self._session = session
        self._page: str | None = None
        self._plans: tuple[AnyPlan, ...] = ()
        self._board = board
        self._discovery = Discovery(
            session,
            topics,
            configuration.mqtt.home_assistant,
            AnnouncedEntities(state / "discovery.json", topics.base),
            published,
            clock=clock,
            publish_states=publish_states,
            several_brokers=len(configuration.mqtt.host) > 1,
        )

    def announce(self, plans: Iterable[AnyPlan]) -> None:
        """Announce these pipelines and remove all others."""
        throttling = self._board.throttling
        self._plans = tuple(plans)
        self._page = self._page_now()
        self._discovery.announce(
            DeviceFacts(
                name=self._name,
                model=self._board.model or f"{platform.system()} {platform.machine()}",
                version=__version__,
                cameras=tuple(_camera(plan) for plan in self._plans),
                has_temperature=self._board.temperature_c is not None,
                has_throttling=throttling is not None,
                page=self._page,
            )
        )

    def tick(self) -> None:
        """Save which announcements the broker has acknowledged, and announce a new address of the page.

        Call it often.
        """
        if self._page_now() != self._page:
            self.announce(self._plans)
        self._discovery.save()

    def _page_now(self) -> str | None:
        """Return the address of the page, once the connection to the broker shows the device's own address."""
        return None if self._web is None else page_address(self._web, self._session.local_address)


def _camera(plan: AnyPlan) -> CameraFacts:
    classes = {watch.name: watch.device_class for watch in plan.section.watches}
    titles = own_watch_titles(plan)
    watches = tuple(WatchFacts(rule.name, classes.get(rule.name), titles.get(rule.name)) for rule in plan.rules)
    return CameraFacts(plan.section.name, watches, has_motion=plan.section.motion.enabled)
