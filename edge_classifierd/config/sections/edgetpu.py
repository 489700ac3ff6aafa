"""The names of compute devices, and the section `edgetpu`."""

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
    """Return the options as text, which the library requires; true and false become `True` and `False`."""
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
    """Settings for models compiled for the Edge TPU. See [edge-tpu.md](edge-tpu.md)."""

    library: Text | None = Field(
        None,
        description="Name or path of the delegate library; null: Coral's `pycoral` where it is installed, else "
        "`libedgetpu.so.1`.",
    )
    options: DelegateOptions = Field(
        default_factory=dict,
        description="Options of the library, such as `{Performance: Max}` (a USB stick then needs cooling). Default: "
        "`{}`.",
    )
    deadline: Duration = Field(
        0.5,
        ge=0.01,
        le=10,
        description="Longest time of one inference. After that its process is killed and started again.",
    )
    load_deadline: Duration = Field(
        10.0, ge=0.5, le=60, description="Longest time to load the model and to run the first inference."
    )
    reset_on_hang: Switch = Field(
        default=False,
        description="Reset the USB port of the stick after a hang. The service needs write access to the port.",
    )
    count: int = Field(
        1,
        ge=1,
        le=16,
        description="Number of Edge TPUs that run this model, for several pipelines or for one fast pipeline.",
    )
