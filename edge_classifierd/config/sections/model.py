"""The section `pipelines[].model`: which classifier runs, and on which device."""

import os
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.sections.base import Locale, Section, TaughtName
from edge_classifierd.config.sections.edgetpu import ComputeDevice, EdgeTpuSection
from edge_classifierd.config.sections.model_address import ModelAddress, Sha256
from edge_classifierd.config.sections.model_input import InputSection, OutputChoice
from edge_classifierd.config.sections.paths import UserPath


class ModelSection(Section):
    """The classifier."""

    path: UserPath | None = Field(
        None, description="A `.tflite` file, relative to the configuration file; null: a bundled ImageNet model."
    )
    cpu_model: UserPath | None = Field(
        None,
        description="The CPU version of a model compiled for the Edge TPU. It runs while no Edge TPU is available; "
        "null: no fallback.",
    )
    taught: TaughtName | None = Field(
        None,
        description="Name of a model that was taught on this device, in place of `path` and `cpu_model`: the version "
        "that is in use runs. Without `watches` there is one for each class but `unknown`, with the threshold that the "
        "training recommends. null: none.",
    )
    url: ModelAddress | None = Field(
        None,
        description="Address of a `.tflite` file, in place of `path`: it is fetched in the background and used when it "
        "runs; until then the pipeline continues with the model before it. https://, or http:// to this machine. "
        "null: none.",
    )
    sha256: Sha256 | None = Field(
        None,
        validate_default=True,
        description="The SHA-256 of the file at `url`, 64 hexadecimal digits, as `sha256sum` prints it; a file with "
        "another one is not used.",
    )
    bundled: Literal["fast", "accurate"] = Field(
        "fast",
        description="Which bundled model, in place of `path` and `cpu_model`: `fast` (EfficientNet-Lite0) or "
        "`accurate` (EfficientNet-Lite2, about half as fast).",
    )
    labels: UserPath | None = Field(
        None, description="A label file, if the model contains no labels; null: the labels in the model."
    )
    input: InputSection = Field(
        default_factory=InputSection, description="The preprocessing, if the file of the model does not contain it."
    )
    output: OutputChoice | None = Field(
        None,
        description="Number (from 0) or name of the output with the scores, for a model with several; null: the one "
        "that has as many scores as there are labels.",
    )
    device: ComputeDevice = Field(
        "auto",
        description="Device that runs the model. `auto`: an Edge TPU if there is one and the model is compiled for "
        "it, else the CPU.",
    )
    edgetpu: EdgeTpuSection = Field(default_factory=EdgeTpuSection, description="Settings of the Edge TPU.")
    threads: int = Field(
        default_factory=lambda: min(4, len(os.sched_getaffinity(0))),
        ge=1,
        le=64,
        description="CPU threads for classification. Default: one for each core, at most 4.",
    )
    instances: int | None = Field(
        None,
        ge=1,
        le=16,
        description="Number of frames that are classified at the same time; the `threads` are divided among them. More "
        "instances give more frames per second, but a longer latency and more memory. null: 2 with two or more "
        "`threads` and a model of at most 16 MB, else 1. For Edge TPUs use `edgetpu.count`.",
    )
    locale: Locale | None = Field(
        None,
        description="Language of the labels shown to people, such as `de`, if the model contains it; null: the "
        "model's default.",
    )

    @field_validator("taught", mode="after")
    @classmethod
    def _taught_or_a_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        key = next((key for key in ("path", "cpu_model") if info.data.get(key) is not None), None)
        if value is not None and key is not None:
            raise PydanticCustomError(
                "rule", "chooses a taught model, but `{key}` names a file; remove one of the two", {"key": key}
            )
        return value

    @field_validator("url", mode="after")
    @classmethod
    def _url_or_another(cls, value: str | None, info: ValidationInfo) -> str | None:
        key = next((key for key in ("path", "taught") if info.data.get(key) is not None), None)
        if value is not None and key is not None:
            raise PydanticCustomError(
                "rule", "chooses a model, but `{key}` names another one; remove one of the two", {"key": key}
            )
        return value

    @field_validator("sha256", mode="after")
    @classmethod
    def _url_with_sha256(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "url" in info.data and (value is None) is not (info.data["url"] is None):
            missing = "is missing: `url` needs it, to verify the file" if value is None else "needs `url`"
            raise PydanticCustomError("rule", missing)
        return value

    @field_validator("labels", "input", "output", "locale", mode="after")
    @classmethod
    def _not_with_taught(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("taught") is not None:
            raise PydanticCustomError("rule", "is for a file; a taught model contains its own; remove this key")
        return value

    @field_validator("bundled", mode="after")
    @classmethod
    def _bundled_or_a_file(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("taught") is not None:
            raise PydanticCustomError("rule", "chooses a bundled model, but `taught` names one; remove one of the two")
        key = next((key for key in ("path", "cpu_model", "url") if info.data.get(key) is not None), None)
        if key is not None:
            raise PydanticCustomError(
                "rule", "chooses a bundled model, but `{key}` names a file; remove one of the two", {"key": key}
            )
        return value

    @field_validator("instances", mode="after")
    @classmethod
    def _instances_need_the_cpu(cls, value: int | None, info: ValidationInfo) -> int | None:
        device = info.data.get("device", "auto")
        if value is not None and value > 1 and device not in {"auto", "cpu"}:
            raise PydanticCustomError(
                "rule",
                "is for the CPU, but `device` is {device}; for several Edge TPUs write `edgetpu: {{count: {value}}}`",
                {"device": device, "value": value},
            )
        return value
