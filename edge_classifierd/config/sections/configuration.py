"""The configuration file as a whole, and the sections `device` and `outbox`."""

import os
from dataclasses import replace

from pydantic import Field, ValidationInfo, field_validator

from edge_classifierd.config.sections.base import (
    FROM_OTHERS,
    Name,
    Section,
    Text,
    slug,
)
from edge_classifierd.config.sections.cameras import CameraSection, with_source
from edge_classifierd.config.sections.durations import Duration
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.config.sections.paths import StatePath
from edge_classifierd.config.sections.pipeline import PipelineSection
from edge_classifierd.config.sections.web import WebSection
from edge_classifierd.decision.active_times import Coordinates


class LocationSection(Section):
    """Where the device is, for sunrise and sunset."""

    latitude: float = Field(ge=-90, le=90, description="Degrees; north is positive.")
    longitude: float = Field(ge=-180, le=180, description="Degrees; east is positive.")


class DeviceSection(Section):
    """Identity of this machine."""

    id: Name = Field(
        default_factory=lambda: slug(os.uname().nodename.partition(".")[0]) or "edge",
        description="Part of every topic; must be unique on the broker. Default: the host name.",
    )
    name: Text = Field(default=FROM_OTHERS, validate_default=True, description="Name shown to people. Default: the id.")
    location: LocationSection | None = Field(
        None, description="Where the device is, for sun times in `pipelines[].active`; null: not known."
    )

    @field_validator("name", mode="before")
    @classmethod
    def _default_name(cls, value: object, info: ValidationInfo) -> object:
        return info.data.get("id", "edge") if value is None else value


class OutboxSection(Section):
    """The store of events that the broker has not acknowledged yet."""

    path: StatePath = Field(
        default="outbox.sqlite3",
        validate_default=True,
        description="The database file; relative to the state directory.",
    )
    max_events: int = Field(
        100_000, ge=1, le=10_000_000, description="Maximum number of waiting events; the oldest are dropped."
    )
    max_age: Duration = Field(14 * 86400.0, ge=1, description="Events that waited longer than this are dropped.")
    keep_sent: int = Field(
        500,
        ge=0,
        le=100_000,
        description="Number of delivered events that stay in the file, with at most 30 MB of pictures beside it,"
        " for `edge-classifierd events` and the page; 0: none.",
    )


class Configuration(Section):
    """The whole file."""

    device: DeviceSection = Field(default_factory=DeviceSection, description="Identity of this machine.")
    mqtt: MqttSection = Field(default_factory=MqttSection, description="The broker.")
    outbox: OutboxSection = Field(
        default={}, validate_default=True, description="Store of events that wait for the broker."
    )
    web: WebSection | None = Field(None, description="The page of this device. Default: none.")
    cameras: tuple[CameraSection, ...] = Field(
        (),
        strict=False,
        max_length=64,
        description="Cameras that several pipelines use. A camera of one pipeline can be its `source` instead.",
    )
    pipelines: tuple[PipelineSection, ...] = Field(
        strict=False,
        min_length=1,
        max_length=64,
        description="One or more pipelines, each with a camera or a source, a model and watches.",
    )

    @field_validator("web", mode="before")
    @classmethod
    def _empty_means_defaults_of_web(cls, value: object) -> object:
        return {} if value is None else value

    @field_validator("cameras", mode="before")
    @classmethod
    def _empty_means_none(cls, value: object) -> object:
        return () if value is None else value

    @field_validator("pipelines", mode="after")
    @classmethod
    def _with_sources(cls, value: tuple[PipelineSection, ...], info: ValidationInfo) -> tuple[PipelineSection, ...]:
        located = (_with_location(pipeline, info.data.get("device")) for pipeline in value)
        return tuple(with_source(pipeline, info.data.get("cameras", ())) for pipeline in located)


def _with_location(pipeline: PipelineSection, device: DeviceSection | None) -> PipelineSection:
    """Return a pipeline with sun times with the device's location, another one unchanged."""
    if device is None or device.location is None or not pipeline.active.needs_location:
        return pipeline
    place = Coordinates(device.location.latitude, device.location.longitude)
    return pipeline.model_copy(update={"active": replace(pipeline.active, place=place)})
