"""What may compute: the names of devices, and the section for Edge TPUs."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.config.sections.base import Section, Switch, Text
from edge_classifierd.config.sections.durations import Duration

_DEVICE = r"auto|cpu|edgetpu|(usb|pci)(:[0-9]{1,2})?"


def _device(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(_DEVICE, value):
        raise PydanticCustomError("expected", "")
    return value


def _options(value: object) -> object:
    """The library takes texts only: numbers as they are written, true and false as `True` and `False`."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > 32:
        raise PydanticCustomError("expected", "")
    for name, one in value.items():
        if not isinstance(name, str) or not name or not isinstance(one, str | int):
            raise PydanticCustomError("expected", "")
        if name == "device":
            raise PydanticCustomError("rule", "must not hold `device`; that is `model.device`")
    return {name: str(one) for name, one in value.items()}


ComputeDevice = Annotated[
    str,
    BeforeValidator(_device),
    WithJsonSchema({"type": "string", "pattern": f"^({_DEVICE})$"}),
    Expected("one of auto, cpu, edgetpu, usb, usb:0, usb:1 …, pci, pci:0 …"),
]

DelegateOptions = Annotated[
    dict[str, str],
    BeforeValidator(_options),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean"]}}),
    Expected("a mapping of option names to text, whole numbers, true or false"),
]


class EdgeTpuSection(Section):
    """How an Edge TPU is driven; only for models compiled for one. See [edge-tpu.md](edge-tpu.md)."""

    library: Text | None = Field(
        None,
        description="The library, as the system's loader finds it, or its path; null: Coral's `pycoral` where it is "
        "installed, else `libedgetpu.so.1`.",
    )
    options: DelegateOptions = Field(
        default_factory=dict,
        description="For the library, such as `{Performance: Max}` (a USB stick then needs cooling). Default: `{}`.",
    )
    deadline: Duration = Field(
        0.5, ge=0.01, le=10, description="An inference that takes longer has hung: its process is killed."
    )
    load_deadline: Duration = Field(
        10.0, ge=0.5, le=60, description="The same for loading the model, and for the first inference."
    )
    reset_on_hang: Switch = Field(
        default=False, description="Reset the stick's USB port after a hang; the service needs the right to write it."
    )
    count: int = Field(
        1,
        ge=1,
        le=16,
        description="As many Edge TPUs run this model, for several pipelines that share it or for one fast one.",
    )
