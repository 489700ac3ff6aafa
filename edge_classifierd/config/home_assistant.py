"""The section `mqtt.home_assistant`: how Home Assistant is told of the device, and what a watch may be to it."""

from typing import Annotated, Literal

from pydantic import Field

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.config.sections.base import Section, Switch, TopicPrefix

# https://www.home-assistant.io/integrations/binary_sensor/#device-class
DeviceClass = Annotated[
    Literal[
        "battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat",
        "light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem",
        "running", "safety", "smoke", "sound", "tamper", "update", "vibration", "window",
    ],
    Expected("a device class of Home Assistant's binary sensors, such as motion, occupancy, presence or problem"),
]  # fmt: skip
"""What a watch is to Home Assistant: decides its icon and whether it says `Detected` or `Occupied`."""


class HomeAssistantSection(Section):
    """How Home Assistant finds the device by itself; see [home-assistant.md](home-assistant.md)."""

    enabled: Switch = Field(default=True, description="Announce the device; false: take an earlier announcement back.")
    prefix: TopicPrefix = Field(
        "homeassistant", description="Home Assistant's discovery prefix, if it was changed there."
    )
    discovery: Literal["device", "component"] = Field(
        "device", description="One message for all, or `component`: one an entity, for servers older than 2024.11."
    )
