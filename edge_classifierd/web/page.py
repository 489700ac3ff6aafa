"""The page: connects files, access, routes, streams and previews to one application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.web.access.admission import Access, Locked
from edge_classifierd.web.access.hosts import Hosts
from edge_classifierd.web.access.login import Logins
from edge_classifierd.web.access.password import Password
from edge_classifierd.web.access.session import Sessions
from edge_classifierd.web.app import PageApplication
from edge_classifierd.web.command_routes import CommandRoutes
from edge_classifierd.web.device.routes import device_routes
from edge_classifierd.web.files import PageFiles
from edge_classifierd.web.live.live_routes import LiveRoutes
from edge_classifierd.web.live.page_health import PageHealth
from edge_classifierd.web.live.preview import Previews
from edge_classifierd.web.live.stream import Streams
from edge_classifierd.web.live.viewers import Viewers
from edge_classifierd.web.metrics import MetricRoutes

if TYPE_CHECKING:
    import asyncio

    from edge_classifierd.web.parts import Parts
    from edge_classifierd.web.teach.routes import TeachPages

STATIC: Final = Path(__file__).with_name("static")
_KEY_FILE: Final = "web-secret"


class WebPage:
    """All that is served. Made and used in the page's thread."""

    def __init__(self, parts: Parts, static: Path = STATIC) -> None:
        """`static` is the folder of the page's files. Raises ConfigurationError for a damaged password hash."""
        section = parts.section
        files = PageFiles(static)
        self.access = access = Access(_locked(parts), device_id=parts.device.id, device_name=parts.device.name)
        self.previews = Previews(parts.tap)
        self.viewers = viewers = Viewers(section.viewers, parts.clock)
        health = PageHealth(parts, viewers, access)
        self.streams = Streams(parts, health, files.build)
        self.commands = commands = CommandRoutes(parts, self.previews)
        self._teach = self._teaching(parts) if section.teach else None
        live = LiveRoutes(parts, self.previews, viewers, health, build=files.build, training=self._training)
        metrics = MetricRoutes(parts, access, viewers, self.previews, self._teach)
        groups = (files, access, live, commands, metrics, self.streams)
        routes = [route for group in groups for route in group.routes()]
        if self._teach is not None:
            routes += self._teach.routes()
        routes += device_routes(parts, None if self._teach is None else self._teach.corrections)
        self.application = PageApplication(routes, Hosts(section.hosts, section.url), access)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to follow the pipelines. Called in the loop."""
        self.streams.start(loop)

    def stop(self) -> None:
        """End what waits: streams and pictures. Called in the loop."""
        self.streams.stop()
        self.previews.stop()
        if self._teach is not None:
            self._teach.stop()

    def _teaching(self, parts: Parts) -> TeachPages:
        from edge_classifierd.web.teach.routes import TeachPages  # noqa: PLC0415 - can be switched off

        return TeachPages(parts, self.streams, self.commands)

    def _training(self) -> dict[str, Any] | None:
        return None if self._teach is None else self._teach.training


def _locked(parts: Parts) -> Locked | None:
    secret = parts.section.password
    if secret is None:
        return None
    password = Password(secret.get_secret_value())
    sessions = Sessions(parts.state / _KEY_FILE, password.fingerprint, parts.clock)
    return Locked(Logins(password, parts.clock), sessions)
