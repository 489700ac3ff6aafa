"""The sections of `pipelines[].source`: one per kind of frame source, told apart by `type`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_serializer, field_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.config.sections.base import Section, Switch
from edge_classifierd.config.sections.camera_addresses import Address, SnapshotAddress, shown_url
from edge_classifierd.config.sections.durations import Duration
from edge_classifierd.config.sections.paths import UserPath

Mirror = Literal["none", "horizontal", "vertical", "both"]
Rotation = Annotated[Literal[0, 90, 180, 270], BeforeValidator(lambda value: None if value is False else value)]


def _zero_is_unlimited(value: object) -> object:
    return None if value == 0 and not isinstance(value, bool) else value


Rate = Annotated[
    float | None,
    BeforeValidator(_zero_is_unlimited),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1000}, {"type": "null"}]}),
]


def _camera_name(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("expected", "")
    if (isinstance(value, int) and not 0 <= value < 100) or (isinstance(value, str) and not 0 < len(value) <= 200):
        raise PydanticCustomError("expected", "")
    return value


CameraName = Annotated[
    int | str,
    BeforeValidator(_camera_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 99},
                {"type": "string", "minLength": 1, "maxLength": 200},
            ]
        }
    ),
    Expected("a camera's number, or a part of its model or id"),
]


class _Source(Section):
    rotation: Rotation = Field(
        0, description="Degrees clockwise by which the picture is turned to stand upright; applied before `region`."
    )
    mirror: Mirror = Field(
        "none", description="Flip the turned picture: `horizontal` swaps left and right, `vertical` top and bottom."
    )

    @property
    def turns_itself(self) -> bool:
        """Whether its frames are already rotated and mirrored."""
        return False

    @property
    def cuts_itself(self) -> bool:
        """Whether its frames already show the pipeline's region only."""
        return False

    @property
    def scales_itself(self) -> bool:
        """Whether it also delivers a smaller picture, whose size is chosen for the model when it is opened."""
        return False


class _LiveSource(_Source):
    stall_timeout: Duration = Field(
        10.0, gt=0, description="The source is reopened when it delivers no frame for this long."
    )


class FolderSection(_Source):
    """A folder of pictures, in natural order of their names (`2.jpg` before `10.jpg`)."""

    type: Literal["folder"] = Field(description="Pictures in a folder.")
    path: UserPath = Field(description="The folder; relative to the configuration file.")
    fps: Rate = Field(
        5.0, gt=0, le=1000, description="Pictures per second; null or 0: as fast as they can be classified."
    )
    loop: Switch = Field(default=False, description="Begin again after the last picture; else the pipeline ends there.")
    recursive: Switch = Field(
        default=False, description="Also take the pictures in folders below; when it is not set, `watch` does so."
    )
    watch: Switch = Field(
        default=False,
        description="Wait for new pictures, as an FTP camera uploads them: each one once, when it is complete. "
        "Pictures from before the start are left alone, unless `after` is `delete`. The folder may be empty.",
    )
    after: Literal["keep", "delete"] = Field(
        "keep", description="What becomes of a picture that was classified; `delete` needs `watch: true`."
    )

    @property
    def includes_below(self) -> bool:
        """Whether the pictures in folders below are taken."""
        return self.recursive or (self.watch and "recursive" not in self.model_fields_set)

    @field_validator("watch", mode="after")
    @classmethod
    def _not_looped(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic calls it
        if value and info.data.get("loop"):
            raise PydanticCustomError("rule", "cannot be used with `loop`; a watched folder never ends")
        return value

    @field_validator("after", mode="after")
    @classmethod
    def _only_when_watched(cls, value: str, info: ValidationInfo) -> str:
        if value == "delete" and info.data.get("watch") is False:
            raise PydanticCustomError("rule", "can be `delete` with `watch: true` only")
        return value


class Picamera2Section(_LiveSource):
    """A camera of libcamera: the Raspberry Pi's own. Needs the Debian package `python3-picamera2`."""

    type: Literal["picamera2"] = Field(description="The Raspberry Pi's own camera.")
    camera: CameraName = Field(
        0, description="Its number, as `rpicam-hello --list-cameras` counts, or a part of its model or id: `imx708`."
    )
    width: int = Field(
        1280, ge=64, le=9152, description="Width of the pictures before `rotation`, in pixels; the camera scales to it."
    )
    height: int = Field(720, ge=64, le=6944, description="Height of the pictures before `rotation`, in pixels.")
    fps: float | None = Field(10.0, gt=0, le=1000, description="Frames per second; null: the camera's own choice.")
    region_in_camera: Switch = Field(
        default=False,
        description="Let the camera deliver the pipeline's `region` only, as large as fits into `width` and `height`: "
        "a small region then has all the detail that the sensor sees.",
    )
    exposure: Literal["normal", "short", "long"] | None = Field(
        None, description="What the automatic exposure prefers; `short` blurs less what moves. Null: the camera's own."
    )
    exposure_time: Duration | None = Field(None, gt=0, le=1000, description="Expose this long; null: automatic.")
    gain: float | None = Field(None, ge=1, le=1000, description="Amplify this much; null: automatic.")
    white_balance: Literal["auto", "incandescent", "tungsten", "fluorescent", "indoor", "daylight", "cloudy"] | None = (
        Field(None, description="The light's colour; null: the camera's own choice.")
    )
    focus: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Where to focus, in dioptres: 0 is infinity, 2 half a metre. Null: continuous autofocus, if the "
        "camera can.",
    )

    @property
    def turns_itself(self) -> bool:
        """True except for quarter turns, which the sensor cannot do."""
        return self.rotation in {0, 180}

    @property
    def cuts_itself(self) -> bool:
        """True when configured."""
        return self.region_in_camera

    @property
    def scales_itself(self) -> bool:
        """True: the image processor delivers two sizes."""
        return True


class _NetworkSource(_LiveSource):
    """What sources at an address have in common."""

    verify: Switch = Field(
        default=False,
        description="Check the certificate of an `https://` or `rtsps://` camera. Most cameras have one that they made "
        "themselves: name it in `ca_file`.",
    )
    ca_file: UserPath | None = Field(
        None, description="Certificate (PEM) to check the camera's with; null: the system's. Needs `verify: true`."
    )

    @field_validator("ca_file", mode="after")
    @classmethod
    def _only_when_verified(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("verify") is False:
            raise PydanticCustomError("rule", "needs `verify: true`")
        return value

    @field_serializer("url", check_fields=False)
    def _masked(self, url: str) -> str:
        return shown_url(url)


class SnapshotCameraSection(_NetworkSource):
    """A camera that sends one JPEG per HTTP request."""

    type: Literal["snapshot"] = Field(description="Single pictures of a network camera, over HTTP.")
    url: SnapshotAddress = Field(
        repr=False,
        description="The `http://` or `https://` address of the camera's snapshot. One that carries a password is best "
        "read with `!credential`, `!env` or `!file`.",
    )
    interval: Duration = Field(10.0, ge=0.1, le=86400, description="Fetch a picture this often.")


class StreamSection(_NetworkSource):
    """A video file, an RTSP camera, or a video or MJPEG stream over HTTP, RTMP, TCP or UDP."""

    type: Literal["stream"] = Field(description="A video file or a network camera.")
    url: Address = Field(
        repr=False,
        description="A video file (relative to the configuration file), or an `rtsp://`, `rtsps://`, `http://`, "
        "`https://`, `rtmp://`, `tcp://` or `udp://` address. One that carries a password is best read with "
        "`!credential`, `!env` or `!file`.",
    )
    paced: Switch = Field(
        default=True, description="Play a video file at its own pace; false: as fast as can be classified."
    )
    loop: Switch = Field(
        default=False, description="Begin a video file again at its end; else the pipeline ends there."
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="How RTSP carries the video.")

    @field_validator("paced", "loop", mode="after")
    @classmethod
    def _only_for_files(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic calls it
        address = "://" in str(info.data.get("url", ""))
        if address and value is not cls.model_fields[str(info.field_name)].default:
            raise PydanticCustomError("rule", "is for video files; an address delivers at its own pace and never ends")
        return value


def _format_name(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _FOURCC.get(value.upper(), value.lower() if value.isupper() else value)


_FOURCC = {
    "MJPG": "mjpeg",
    "JPEG": "mjpeg",
    "YUYV": "yuyv422",
    "UYVY": "uyvy422",
    "GREY": "gray",
    "NV12": "nv12",
    "YU12": "yuv420p",
    "H264": "h264",
}
InputFormat = Annotated[
    Literal["mjpeg", "h264", "yuyv422", "uyvy422", "gray", "nv12", "yuv420p"],
    BeforeValidator(_format_name),
    WithJsonSchema({"enum": ["mjpeg", "h264", "yuyv422", "uyvy422", "gray", "nv12", "yuv420p", *sorted(_FOURCC)]}),
]


class V4l2Section(_LiveSource):
    """A camera with a kernel driver (USB webcams, capture sticks)."""

    type: Literal["v4l2"] = Field(description="A USB camera or another Video4Linux device.")
    device: UserPath = Field(
        Path("/dev/video0"),
        description="The device; a link below `/dev/v4l/by-id` stays the same across restarts.",
    )
    width: int = Field(640, ge=16, le=8192, description="Width to ask of the camera, in pixels.")
    height: int = Field(480, ge=16, le=8192, description="Height to ask of the camera, in pixels.")
    fps: float | None = Field(None, gt=0, le=1000, description="Frame rate to ask of the camera; null: its own choice.")
    input_format: InputFormat | None = Field(
        None,
        description="Format to ask of the camera; null: its own. `mjpeg` is often needed for high rates. The names of "
        "`v4l2-ctl --list-formats` (`YUYV`, `GREY`, `MJPG` …) are understood too.",
    )


Source = Annotated[
    FolderSection | Picamera2Section | SnapshotCameraSection | StreamSection | V4l2Section, Field(discriminator="type")
]
