"""The sections of `pipelines[].source`: one per kind of frame source, told apart by `type`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_serializer, field_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.durations import Duration
from edge_classifierd.config.paths import FOLDER, UserPath, resolve
from edge_classifierd.config.section import Section, Switch
from edge_classifierd.config.wording import Expected

_LIVE_SCHEMES = ("rtsp", "rtsps")
_SCHEMES = (*_LIVE_SCHEMES, "http", "https")

Mirror = Literal["none", "horizontal", "vertical", "both"]
Rotation = Annotated[Literal[0, 90, 180, 270], BeforeValidator(lambda value: None if value is False else value)]


def mask_userinfo(text: str) -> str:
    """`text` with the user and password of every URL in it replaced: `rtsp://***@porch/1`."""
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@", r"\1***@", text)


def _zero_is_unlimited(value: object) -> object:
    return None if value == 0 and not isinstance(value, bool) else value


def _address(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not value or len(value) > 4096 or "\0" in value:
        raise PydanticCustomError("expected", "")
    scheme, separator, rest = value.partition("://")
    if not separator:
        return str(resolve(value, (info.context or {}).get(FOLDER)))
    if scheme.lower() not in _SCHEMES:
        allowed = ", ".join(f"{known}://" for known in _SCHEMES)
        raise PydanticCustomError("rule", f"must be a file or begin with one of {allowed}")
    if not rest.rpartition("@")[2].strip("/"):
        raise PydanticCustomError("rule", "names no host after ://")
    return scheme.lower() + separator + rest


Address = Annotated[
    str,
    BeforeValidator(_address),
    WithJsonSchema({"type": "string", "minLength": 1}),
    Expected("a file or an rtsp://, rtsps://, http:// or https:// address"),
]


Rate = Annotated[
    float | None,
    BeforeValidator(_zero_is_unlimited),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1000}, {"type": "null"}]}),
]


class _Source(Section):
    rotation: Rotation = Field(
        0, description="Degrees clockwise by which the picture is turned to stand upright; applied before `region`."
    )
    mirror: Mirror = Field(
        "none", description="Flip the turned picture: `horizontal` swaps left and right, `vertical` top and bottom."
    )


class _LiveSource(_Source):
    stall_timeout: Duration = Field(
        10.0, gt=0, description="The source is reopened when it delivers no frame for this long."
    )


class FolderSource(_Source):
    """A folder of pictures, in natural order of their names (`2.jpg` before `10.jpg`)."""

    type: Literal["folder"] = Field(description="Pictures in a folder.")
    path: UserPath = Field(description="The folder; relative to the configuration file.")
    fps: Rate = Field(
        5.0, gt=0, le=1000, description="Pictures per second; null or 0: as fast as they can be classified."
    )
    loop: Switch = Field(default=False, description="Begin again after the last picture; else the pipeline ends there.")
    recursive: Switch = Field(default=False, description="Also take the pictures in folders below.")


class StreamSource(_LiveSource):
    """A video file, an RTSP camera, or a video or MJPEG stream over HTTP."""

    type: Literal["stream"] = Field(description="A video file or a network camera.")
    url: Address = Field(
        repr=False,
        description="A video file (relative to the configuration file), or an `rtsp://`, `rtsps://`, `http://` or "
        "`https://` address. One that carries a password is best read with `!credential`, `!env` or `!file`.",
    )
    paced: Switch = Field(default=True, description="Play a file at its own pace; false: as fast as can be classified.")
    loop: Switch = Field(default=False, description="Begin a file again at its end; else the pipeline ends there.")
    transport: Literal["tcp", "udp"] = Field("tcp", description="How RTSP carries the video.")

    @property
    def shown_url(self) -> str:
        """The address for people and logs: without user and password."""
        return mask_userinfo(self.url)

    @field_validator("paced", "loop", mode="after")
    @classmethod
    def _only_for_files(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic calls it
        live = str(info.data.get("url", "")).partition("://")[0] in _LIVE_SCHEMES
        if live and value is not cls.model_fields[str(info.field_name)].default:
            raise PydanticCustomError("rule", "is for video files; a camera delivers at its own pace and never ends")
        return value

    @field_serializer("url")
    def _masked(self, url: str) -> str:
        return mask_userinfo(url)


class V4l2Source(_LiveSource):
    """A camera that the kernel drives (USB webcams, capture sticks)."""

    type: Literal["v4l2"] = Field(description="A USB camera or another Video4Linux device.")
    device: Path = Field(
        Path("/dev/video0"),
        strict=False,
        description="The device; a link below `/dev/v4l/by-id` stays the same across restarts.",
    )
    width: int = Field(640, ge=16, le=8192, description="Width to ask of the camera, in pixels.")
    height: int = Field(480, ge=16, le=8192, description="Height to ask of the camera, in pixels.")
    fps: float | None = Field(None, gt=0, le=1000, description="Frame rate to ask of the camera; null: its own choice.")
    input_format: Literal["mjpeg", "yuyv422"] | None = Field(
        None, description="Pixel format to ask of the camera; null: its own. `mjpeg` is often needed for high rates."
    )


Source = Annotated[FolderSource | StreamSource | V4l2Source, Field(discriminator="type")]
