"""All routes of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_classifierd.web.device.events import EventRoutes
from edge_classifierd.web.device.examination import DoctorRoutes
from edge_classifierd.web.device.models import ModelRoutes
from edge_classifierd.web.device.settings import SettingsRoutes

if TYPE_CHECKING:
    from edge_classifierd.web.device.events import VerdictKeeper
    from edge_classifierd.web.parts import Parts
    from edge_classifierd.web.route import PageRoute


def device_routes(parts: Parts, keeper: VerdictKeeper | None) -> tuple[PageRoute, ...]:
    """Return the routes. `keeper` learns from verdicts."""
    return (
        *EventRoutes(parts.records, keeper).routes(),
        *ModelRoutes(parts.control).routes(),
        *SettingsRoutes(parts.records, parts.control).routes(),
        *DoctorRoutes(parts.records.config, parts.health).routes(),
    )
