"""The section `pipelines[].model.input`: the preprocessing of a model whose file does not contain it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.config.sections.base import Section

_MAX_SIDE = 4096


def _channel_values(value: object) -> tuple[float, ...]:
    values = value if isinstance(value, list | tuple) else (value,)
    if len(values) not in {1, 3} or not all(_is_number(one) for one in values):
        raise PydanticCustomError("expected", "")
    return tuple(float(one) for one in values)


def _positive(value: object) -> tuple[float, ...]:
    values = _channel_values(value)
    if min(values) < 1e-6:
        raise PydanticCustomError("expected", "")
    return values


def _size(value: object) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(_is_side(side) for side in value):
        raise PydanticCustomError("expected", "")
    return value[0], value[1]


def _output(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise PydanticCustomError("expected", "")
    if isinstance(value, int) and not 0 <= value < 64:
        raise PydanticCustomError("expected", "")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_SIDE


def _schema(number: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [number, {"type": "array", "items": number, "minItems": 3, "maxItems": 3}]})


ChannelValues = Annotated[
    tuple[float, ...],
    BeforeValidator(_channel_values),
    _schema({"type": "number"}),
    Expected("a number, or a list of three"),
]
PositiveChannelValues = Annotated[
    tuple[float, ...],
    BeforeValidator(_positive),
    _schema({"type": "number", "exclusiveMinimum": 0}),
    Expected("a number above 0, or a list of three"),
]
InputSize = Annotated[
    tuple[int, int],
    BeforeValidator(_size),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": _MAX_SIDE},
            "minItems": 2,
            "maxItems": 2,
        }
    ),
    Expected(f"a list of height and width, each from 1 to {_MAX_SIDE}"),
]
OutputChoice = Annotated[
    int | str,
    BeforeValidator(_output),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 63}, {"type": "string", "minLength": 1}]}),
    Expected("the number or the name of an output"),
]


class InputSection(Section):
    """The preprocessing of a model: (pixel - `mean`) / `std`, for pixels from 0 to 255."""

    mean: ChannelValues | None = Field(
        None,
        description="What is subtracted from a pixel: a number, or three in the order of the model's channels; null: "
        "as stated in the model file (see `edge-classifierd models info`).",
    )
    std: PositiveChannelValues | None = Field(
        None, description="What a pixel is then divided by, as for `mean`; null: as stated in the model file."
    )
    channels: Literal["rgb", "bgr"] | None = Field(
        None, description="The order of the model's colour channels; null: as stated in the model file, else rgb."
    )
    size: InputSize | None = Field(
        None, description="Height and width in pixels, for a model whose input has no fixed size; null: the model's."
    )
