"""The section `pipelines[]` and the sections inside it."""

import os
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.sections.base import (
    FROM_OTHERS,
    Fraction,
    LabelSelector,
    Locale,
    Name,
    Section,
    Switch,
)
from edge_classifierd.config.sections.durations import Duration
from edge_classifierd.config.sections.edgetpu import ComputeDevice, EdgeTpuSection
from edge_classifierd.config.sections.mqtt import DeviceClass
from edge_classifierd.config.sections.paths import StatePath, UserPath
from edge_classifierd.config.sections.sources import Source


class RegionSection(Section):
    """The part of the upright picture to look at, in fractions of its width and height."""

    x: float = Field(0.0, ge=0, lt=1, description="Left edge.")
    y: float = Field(0.0, ge=0, lt=1, description="Upper edge.")
    width: Fraction = Field(
        default=FROM_OTHERS, validate_default=True, description="Width. Default: up to the right edge."
    )
    height: Fraction = Field(
        default=FROM_OTHERS, validate_default=True, description="Height. Default: down to the lower edge."
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


class ModelSection(Section):
    """The classifier."""

    path: UserPath | None = Field(
        None, description="A `.tflite` file, relative to the configuration file; null: the bundled ImageNet model."
    )
    labels: UserPath | None = Field(None, description="A labels file, when the model carries none; null: its own.")
    device: ComputeDevice = Field(
        "auto",
        description="What computes; `auto`: an Edge TPU if there is one and the model is compiled for it, else the "
        "processor.",
    )
    cpu_model: UserPath | None = Field(
        None,
        description="The CPU version of a model compiled for the Edge TPU: it computes while no Edge TPU can; null: "
        "nothing does.",
    )
    edgetpu: EdgeTpuSection = Field(default_factory=EdgeTpuSection, description="How an Edge TPU is driven.")
    threads: int = Field(
        default_factory=lambda: min(4, len(os.sched_getaffinity(0))),
        ge=1,
        le=64,
        description="Threads of the processor that classify. Default: one for each core, at most 4.",
    )
    instances: int | None = Field(
        None,
        ge=1,
        le=16,
        description="As many frames are classified side by side, each with its part of the `threads`, one at least: "
        "more of them work off more frames a second, each later and in more memory. null: 2 where there are two "
        "`threads` or more and the model has at most 16 MB, else 1. An Edge TPU has `edgetpu.count`.",
    )
    locale: Locale | None = Field(
        None,
        description="Language of the labels that people see, such as `de`, if the model has them in it; null: its own.",
    )

    @field_validator("instances", mode="after")
    @classmethod
    def _instances_of_the_processor(cls, value: int | None, info: ValidationInfo) -> int | None:
        device = info.data.get("device", "auto")
        if value is not None and value > 1 and device not in {"auto", "cpu"}:
            raise PydanticCustomError(
                "rule",
                "is for the processor, and `device` is {device}; several Edge TPUs are `edgetpu: {{count: {value}}}`",
                {"device": device, "value": value},
            )
        return value


class WatchSection(Section):
    """Something to report: an event when it appears, another when it is gone."""

    name: Name = Field(description="Part of the watch's topics; unique within the pipeline.")
    labels: tuple[LabelSelector, ...] = Field(
        strict=False,
        min_length=1,
        max_length=10_000,
        description='Labels, globs over labels (`"*terrier*"`), class indices (151) and ranges (`"151-268"`); '
        "the watch's confidence is that of all of them together.",
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
        description="As many frames in a row must agree before `detected`, and lie below `release` before `cleared`.",
    )
    cooldown: Duration = Field(0.0, description="Quiet time after `cleared` before the next `detected`.")
    device_class: DeviceClass | None = Field(
        None, description="What the watch is to Home Assistant: its icon and its words; null: a plain on and off."
    )

    @field_validator("release", mode="before")
    @classmethod
    def _default_release(cls, value: object, info: ValidationInfo) -> object:
        # Six significant digits: 0.6 gives 0.4, not 0.39999999999999997, and no threshold is so small that it gives 0.
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
    """Pictures kept on the device's own disk, in the state directory's `snapshots/<pipeline>`; the oldest go first."""

    count: int = Field(0, ge=0, le=1_000_000, description="As many pictures at most; 0 keeps none.")
    megabytes: float = Field(100.0, gt=0, le=1_000_000, description="As much of the disk at most, in MB.")


class SnapshotSection(Section):
    """The picture that is published with a detection."""

    enabled: Switch = Field(default=True, description="Publish a picture with each detection.")
    max_width: int = Field(640, ge=16, le=4096, description="Wider pictures are scaled down to this, in pixels.")
    quality: int = Field(80, ge=1, le=95, description="JPEG quality.")
    keep: KeepSection = Field(
        default=KeepSection(), description="Also keep the pictures on the device's disk; default: none."
    )


CollectReason = Literal["uncertain", "ambiguous", "detected"]


class CollectSection(Section):
    """Pictures kept to teach from, in `<path>/<pipeline>/<label>`, each with its scores in it; the oldest go first.

    Sort them into folders elsewhere: what lies here makes room for newer ones.
    """

    enabled: Switch = Field(default=False, description="Keep pictures to teach from.")
    path: StatePath = Field(
        default="collected", validate_default=True, description="The folder; relative to the state directory."
    )
    when: tuple[CollectReason, ...] = Field(
        ("uncertain", "ambiguous", "detected"),
        strict=False,
        min_length=1,
        max_length=3,
        description="Which frames: `uncertain` while a watch lies between `release` and `threshold`, `ambiguous` by "
        "`ambiguity_margin`, `detected` the one that made a detection.",
    )
    max_files: int = Field(1000, ge=1, le=1_000_000, description="As many pictures at most.")
    max_bytes: int = Field(
        200_000_000, ge=10_000, le=1_000_000_000_000, description="As much of the disk at most, in bytes."
    )
    interval: Duration = Field(10.0, description="At most one picture for the same reason in this time.")


class PipelineSection(Section):
    """One source, one model, and what to watch for."""

    name: Name = Field(description="Part of the pipeline's topics; unique.")
    source: Source = Field(description="Where frames come from; `type` decides which keys it has.")
    region: RegionSection = Field(
        default_factory=RegionSection, description="The part of the picture to look at. Default: all of it."
    )
    fit: Literal["crop", "letterbox", "stretch"] = Field(
        "crop",
        description="How the region meets the model's input: `crop` its centre, `letterbox` with bars, or `stretch` it "
        "(costs accuracy).",
    )
    crop_fraction: Fraction = Field(1.0, description="Side of the centre crop, as a fraction of the shorter side.")
    model: ModelSection = Field(default_factory=ModelSection, description="The classifier. Default: the bundled one.")
    top_k: int = Field(5, ge=1, le=100, description="How many of the best labels events and states carry.")
    allow: tuple[LabelSelector, ...] = Field(
        (), strict=False, max_length=10_000, description="Only these labels may be reported; empty: all."
    )
    deny: tuple[LabelSelector, ...] = Field(
        (), strict=False, max_length=10_000, description="These labels are never reported, even when allowed."
    )
    ambiguity_margin: float = Field(
        0.0, ge=0, le=1, description="A frame whose best label leads the second by less than this is uncertain; 0: off."
    )
    watches: tuple[WatchSection, ...] = Field(
        (), strict=False, max_length=256, description="What to report; empty: one watch, `any`, over the best label."
    )
    snapshot: SnapshotSection = Field(
        default_factory=SnapshotSection, description="The picture that goes with a detection."
    )
    collect: CollectSection = Field(
        default_factory=CollectSection, description="Pictures to teach from. Default: none are kept."
    )

    @field_validator("allow", "deny", "watches", mode="before")
    @classmethod
    def _empty_means_none(cls, value: object) -> object:
        return () if value is None else value
