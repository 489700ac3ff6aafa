"""The section `pipelines[]` and the sections inside it."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import NotNull
from edge_classifierd.config.sections.active_times import ActiveTimesValue
from edge_classifierd.config.sections.base import (
    FROM_OTHERS,
    Fraction,
    LabelSelector,
    Name,
    Section,
    Switch,
)
from edge_classifierd.config.sections.durations import Duration
from edge_classifierd.config.sections.model import ModelSection
from edge_classifierd.config.sections.mqtt import DeviceClass
from edge_classifierd.config.sections.paths import StatePath
from edge_classifierd.config.sections.sources import Source
from edge_classifierd.decision.active_times import ActiveTimes


class RegionSection(Section):
    """The part of the upright picture to classify, in fractions of its width and height."""

    x: float = Field(0.0, ge=0, lt=1, description="Left edge.")
    y: float = Field(0.0, ge=0, lt=1, description="Upper edge.")
    width: Fraction = Field(
        default=FROM_OTHERS, validate_default=True, description="Width. Default: up to the right edge of the picture."
    )
    height: Fraction = Field(
        default=FROM_OTHERS,
        validate_default=True,
        description="Height. Default: down to the lower edge of the picture.",
    )

    @field_validator("width", "height", mode="before")
    @classmethod
    def _default_rest(cls, value: object, info: ValidationInfo) -> object:
        return 1.0 - info.data.get(_START[str(info.field_name)], 0.0) if value is None else value

    @field_validator("width", "height", mode="after")
    @classmethod
    def _inside(cls, value: float, info: ValidationInfo) -> float:
        start = _START[str(info.field_name)]
        if info.data.get(start, 0.0) + value > 1 + 1e-9:
            raise PydanticCustomError(
                "rule",
                "reaches outside the picture: {start} {origin} plus {value} is more than 1",
                {"start": start, "origin": info.data[start], "value": value},
            )
        return value


_START = {"width": "x", "height": "y"}


class WatchSection(Section):
    """Something to report: one event when it is detected, another when it is cleared."""

    name: Name = Field(description="Part of the watch's topics; unique in the pipeline.")
    labels: tuple[LabelSelector, ...] = Field(
        strict=False,
        min_length=1,
        max_length=10_000,
        description='Labels, globs over labels (`"*terrier*"`), class indices (151) and ranges (`"151-268"`); '
        "the watch's confidence is the sum over all of them (the maximum for multi-label models).",
    )
    threshold: Fraction = Field(0.6, description="`detected` when the confidence reaches this.")
    release: Fraction = Field(
        default=FROM_OTHERS,
        validate_default=True,
        description="`cleared` when the confidence stays below this for `confirm` frames in a row. Default: two thirds "
        "of `threshold`.",
    )
    confirm: int = Field(
        1,
        ge=1,
        le=1000,
        description="Number of frames in a row that must reach `threshold` before `detected`, or be below `release` "
        "before `cleared`.",
    )
    cooldown: Duration = Field(0.0, description="Minimum time between `cleared` and the next `detected`.")
    device_class: DeviceClass | None = Field(
        None, description="Device class in Home Assistant, which sets icon and wording; null: on and off."
    )

    @field_validator("release", mode="before")
    @classmethod
    def _default_release(cls, value: object, info: ValidationInfo) -> object:
        # Six significant digits: 0.6 gives 0.4, not 0.39999999999999997, and a very small threshold does not give 0.
        return float(f"{info.data.get('threshold', 0.6) * 2 / 3:.6g}") if value is None else value

    @field_validator("release", mode="after")
    @classmethod
    def _release_below_threshold(cls, value: float, info: ValidationInfo) -> float:
        threshold = info.data.get("threshold", 1.0)
        if value > threshold:
            raise PydanticCustomError(
                "rule",
                "must not be above `threshold`: {release} is more than {threshold}",
                {"release": value, "threshold": threshold},
            )
        return value


class KeepSection(Section):
    """Pictures kept in `snapshots/<pipeline>` of the state directory. The oldest are deleted first."""

    count: int = Field(0, ge=0, le=1_000_000, description="Maximum number of pictures; 0 keeps none.")
    megabytes: float = Field(100.0, gt=0, le=1_000_000, description="Maximum size on disk, in MB.")


class SnapshotSection(Section):
    """The picture that is published with a detection."""

    enabled: Switch = Field(default=True, description="Publish a picture with each detection.")
    max_width: int = Field(640, ge=16, le=4096, description="Wider pictures are scaled down to this, in pixels.")
    quality: int = Field(80, ge=1, le=95, description="JPEG quality.")
    show: Literal["frame", "crop"] = Field(
        "frame",
        description="With `motion.follow`: `frame`, the region with a box around what was classified, or `crop`, that "
        "part.",
    )
    keep: KeepSection = Field(default=KeepSection(), description="Also keep the pictures on disk; default: none.")


class MotionSection(Section):
    """The motion gate of a fixed camera: nothing is classified while nothing moves. See [motion.md](motion.md)."""

    enabled: Switch = Field(default=False, description="Classify only while something moves.")
    follow: Switch = Field(
        default=False, description="Classify the square around what moves, or has stopped, instead of the region."
    )
    sensitivity: Literal["low", "normal", "high"] = Field(
        "normal",
        description="How much the brightness must change: `high` finds more, and wakes more often for nothing.",
    )
    smallest: float = Field(
        0.02, ge=0.005, le=0.5, description="Smaller things do not count: a side, as a fraction of the picture's width."
    )
    ignore: tuple[RegionSection, ...] = Field(
        (), strict=False, max_length=32, description="Parts of the upright picture in which nothing counts."
    )
    hold: Duration = Field(2.0, ge=0.1, le=3600, description="Classify for this long after the last motion.")
    refresh: Duration = Field(
        30.0, ge=0.1, le=86400, description="While nothing moves, classify one frame after each such time."
    )

    @field_validator("follow", mode="after")
    @classmethod
    def _follow_needs_the_gate(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - the value itself
        if value and info.data.get("enabled") is False:
            raise PydanticCustomError("rule", "is part of the motion gate; add `enabled: true`")
        return value

    @field_validator("ignore", mode="before")
    @classmethod
    def _nothing_to_ignore(cls, value: object) -> object:
        return () if value is None else value


CollectReason = Literal["uncertain", "ambiguous", "detected"]


class CollectSection(Section):
    """Pictures kept for training in `<path>/<pipeline>/<label>`, with their scores. The oldest are deleted first.

    Move the pictures that you need to another folder before they are deleted.
    """

    enabled: Switch = Field(default=False, description="Keep pictures for training.")
    path: StatePath = Field(
        default="collected", validate_default=True, description="The folder; relative to the state directory."
    )
    when: tuple[CollectReason, ...] = Field(
        ("uncertain", "ambiguous", "detected"),
        strict=False,
        min_length=1,
        max_length=3,
        description="Which frames to keep: `uncertain`: a watch is between `release` and `threshold`; `ambiguous`: see "
        "`ambiguity_margin`; `detected`: the frame of a detection.",
    )
    max_files: int = Field(1000, ge=1, le=1_000_000, description="Maximum number of pictures.")
    max_bytes: int = Field(200_000_000, ge=10_000, le=1_000_000_000_000, description="Maximum size on disk, in bytes.")
    interval: Duration = Field(10.0, description="Minimum time between two pictures for the same reason.")


class PipelineSection(Section):
    """One camera, one model and its watches."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["source"]}, {"required": ["camera"]}]})

    name: Name = Field(description="Part of the pipeline's topics; unique.")
    camera: Name | None = Field(None, description="Name of a camera in `cameras`. Default: a `source` of its own.")
    source: Annotated[Source, NotNull()] = Field(
        default=FROM_OTHERS,
        description="Where frames come from; `type` selects the keys. Default: that of `camera`.",
    )
    active: ActiveTimesValue = Field(
        ActiveTimes(),
        description="When the pipeline runs: local clock times and sun times with offsets. Outside them its camera is "
        "closed and active watches are cleared. Sun times need `device.location`. Default: always.",
    )
    max_fps: float | None = Field(
        None, gt=0, le=1000, description="Classify at most this many frames per second; null: every frame, if possible."
    )
    region: RegionSection = Field(
        default_factory=RegionSection, description="The part of the picture to classify. Default: the whole picture."
    )
    motion: MotionSection = Field(default=MotionSection(), description="The motion gate. Default: off.")
    fit: Literal["crop", "letterbox", "stretch"] = Field(
        "crop",
        description="How the region is fitted to the model's input: `crop` the centre, `letterbox` with bars, or "
        "`stretch` (less accurate). A taught model always crops, as its training does.",
    )
    crop_fraction: Fraction = Field(
        1.0, description="Side of the centre crop, as a fraction of the shorter side; 1 with a taught model."
    )
    model: ModelSection = Field(default_factory=ModelSection, description="The classifier. Default: the bundled one.")
    top_k: int = Field(5, ge=1, le=100, description="Number of labels in events and states, best first.")
    allow: tuple[LabelSelector, ...] = Field(
        (), strict=False, max_length=10_000, description="Only these labels may be reported; empty: all."
    )
    deny: tuple[LabelSelector, ...] = Field(
        (), strict=False, max_length=10_000, description="These labels are never reported, even when allowed."
    )
    ambiguity_margin: float = Field(
        0.0,
        ge=0,
        le=1,
        description="A frame is uncertain when its best label leads the second by less than this; 0: off.",
    )
    watches: tuple[WatchSection, ...] = Field(
        (), strict=False, max_length=256, description="What to report; empty: one watch, `any`, on the best label."
    )
    snapshot: SnapshotSection = Field(
        default_factory=SnapshotSection, description="The picture published with a detection."
    )
    collect: CollectSection = Field(
        default={}, validate_default=True, description="Pictures kept for training. Default: none."
    )

    @field_validator("allow", "deny", "watches", mode="before")
    @classmethod
    def _empty_means_none(cls, value: object) -> object:
        return () if value is None else value
