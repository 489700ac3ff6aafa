"""A Raspberry Pi camera, through picamera2 and libcamera, as a frame source.

Two streams are requested as YUV420: `main` in the wanted size, for people, and `lores`, just large enough for the
model. The camera's image processor scales both from the whole sensor, without load for the CPU. One conversion to RGB
remains (0.9 ms instead of 1.6 from 960x720; as accurate on 300 photographs). Where the model needs most of `main`, or
the camera has one stream only, `main` is used for both.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.pacing import Pause
from edge_classifierd.frames.picamera.buffer import READABLE, BufferLayout, BufferReader
from edge_classifierd.frames.picamera.controls import CameraControls
from edge_classifierd.frames.picamera.geometry import (
    box_in_memory,
    even_box,
    filled,
    sensor_box,
    sensor_mode,
    small_size,
)
from edge_classifierd.frames.picamera.library import FAULTS, import_libraries, sentence
from edge_classifierd.preprocess import Region, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.clock import Clock
    from edge_classifierd.frames.base import Needs
    from edge_classifierd.preprocess import Mirror, Rotation

_log = logging.getLogger(__name__)

WHOLE: Final = Region()
_BUFFERS: Final = 4
_CLOSE_PATIENCE_S: Final = 0.2
_one_at_a_time = threading.Lock()  # one camera manager serves all cameras of a process


class _Request(Protocol):
    def make_buffer(self, name: str) -> NDArray[np.uint8]: ...
    def release(self) -> None: ...


class _Job(Protocol):
    def get_result(self, timeout: float | None = None) -> _Request: ...


class Picamera2Source:
    """A camera of libcamera. Nothing is opened or imported before `open`.

    With a rotation of 0 or 180 degrees the camera turns and mirrors the picture; with 90 and 270 the reader does. With
    `region` it delivers only that part of the upright picture, as large as fits into the wanted size. What the camera
    cannot do is done here.
    """

    def __init__(
        self,
        camera: int | str = 0,
        *,
        width: int,
        height: int,
        fps: float | None = None,
        rotation: Rotation = 0,
        mirror: Mirror = "none",
        region: Region = WHOLE,
        look: CameraControls | None = None,
        needs: Needs | None = None,
        stall_timeout_s: float,
        clock: Clock,
    ) -> None:
        """Set up a camera.

        Args:
            camera: Its number, or a part of its model or id.
            width: Of the picture from the camera, in pixels.
            height: Of the picture from the camera, in pixels.
            fps: Frame rate; None: the camera's own.
            rotation: Degrees clockwise to the upright picture.
            mirror: Mirroring of the upright picture.
            region: The part of the upright picture to deliver.
            look: Exposure, white balance and focus.
            needs: Returns how small a picture may be for the model; None: one stream only.
            stall_timeout_s: Time without a picture after which `read` fails.
            clock: The clock that frames carry the time of.
        """
        self._wanted = camera
        self._region = region
        self._view = View(rotation, mirror, region)
        self._size = (width // 2 * 2, height // 2 * 2)
        self._fps = fps
        self._look = look or CameraControls()
        self._needs = needs
        self._stall_timeout_s = stall_timeout_s
        self._clock = clock
        across, down = mirror in {"horizontal", "both"}, mirror in {"vertical", "both"}
        turned = rotation == 180
        self._flips = (across != turned, down != turned) if rotation in {0, 180} else (False, False)
        self._cancelled = threading.Event()
        self._woken = threading.Event()
        self._camera: Any = None
        self._reader: BufferReader | None = None
        self._small_reader: BufferReader | None = None
        self._job: _Job | None = None
        self._pause = Pause(clock, self._cancelled)
        self._due_s = 0.0
        self._sequence = 0
        self._logged: set[str] = set()

    @property
    def live(self) -> bool:
        """True."""
        return True

    @property
    def skipped(self) -> int:
        """0: nothing is decoded."""
        return 0

    @property
    def pauses_until_s(self) -> float:
        """Until when it waits for the next picture's time, or last waited, when the camera is faster than requested."""
        return self._pause.until_s

    @property
    def name(self) -> str:
        """The camera's name in messages."""
        return f"camera {self._wanted}"

    def open(self) -> None:
        """Start the camera. Raises MissingError without picamera2, SourceError when the camera cannot be used."""
        picamera2, libcamera = import_libraries()
        try:
            with _one_at_a_time:
                self._make(picamera2)
                self._configure(libcamera)
                self._camera.start()
        except FAULTS as error:
            raise SourceError(f"{self.name}: {sentence(error)}") from error
        self._due_s = self._clock.monotonic()

    def read(self) -> Frame:
        """Return the next frame. Raises SourceError when the camera delivers none for the stall timeout."""
        if self._camera is None or self._reader is None:
            raise SourceError(f"{self.name}: not open")
        self._pace()
        try:
            buffer, small = self._next_buffers()
        except FAULTS as error:
            raise SourceError(f"{self.name}: {sentence(error)}") from error
        frame = Frame(
            self._reader.picture(buffer),
            self._sequence,
            self._clock.monotonic(),
            self._clock.utc(),
            small=None if small is None or self._small_reader is None else self._small_reader.picture(small),
        )
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Stop and release the camera."""
        camera, self._camera = self._camera, None
        self._reader = self._small_reader = None
        if camera is not None:
            with _one_at_a_time:
                self._close(camera)
                del camera
                _collect()
        self._cancelled.clear()
        self._woken.clear()

    def cancel(self) -> None:
        """End a blocked `read`."""
        self._cancelled.set()
        self._woken.set()

    # ------------------------------------------------------------------------------------------------ opening

    def _make(self, picamera2: Any) -> None:  # noqa: ANN401 - picamera2 has no types
        cameras = picamera2.Picamera2.global_camera_info()
        manager: Any = getattr(picamera2.Picamera2, "_cm", None)
        if not cameras and hasattr(manager, "reset"):
            # libcamera finds cameras when it starts; without hot-plug events it must be started again.
            manager.reset()
            cameras = picamera2.Picamera2.global_camera_info()
        number = self._number(cameras)
        # In two steps, so that `close` can release what a failing constructor has opened; otherwise every attempt leaks
        # a file descriptor.
        self._camera = picamera2.Picamera2.__new__(picamera2.Picamera2)
        self._camera.__init__(number)

    def _number(self, cameras: list[dict[str, Any]]) -> int:
        if not cameras:
            raise SourceError(
                f"{self.name}: libcamera finds no camera; check its cable and `rpicam-hello --list-cameras`, and that "
                'the service user is in the group "video"'
            )
        known = ", ".join(f"{place}: {info.get('Model', '?')}" for place, info in enumerate(cameras))
        if isinstance(self._wanted, int):
            if self._wanted < len(cameras):
                return self._wanted
        else:
            for place, info in enumerate(cameras):
                if self._wanted.lower() in f"{info.get('Model', '')} {info.get('Id', '')}".lower():
                    return place
        raise SourceError(f"{self.name}: no such camera; available: {known}")

    def _configure(self, libcamera: Any) -> None:  # noqa: ANN401
        camera = self._camera
        crop_control = next((name for name in ("ScalerCrops", "ScalerCrop") if name in camera.camera_controls), None)
        cut_there = self._region != WHOLE and crop_control is not None
        size = filled(self._view, *self._size) if cut_there else self._size
        left_right, top_bottom = self._flips
        # A region that is cropped here is cropped from `main` only.
        small = small_size(self._needs(*size), size) if self._needs and (cut_there or self._region == WHOLE) else None
        actual = self._agree(libcamera, size, small)
        layout = _layout(actual, "main")
        done = actual["transform"]
        undone = (left_right != bool(done.hflip), top_bottom != bool(done.vflip))
        controls, ignored = self._look.controls(camera.camera_controls, libcamera.controls, self._fps)
        for key in ignored:
            self._warn_once(f"has no control for `{key}`; the key is ignored")
        cut = None
        if cut_there:
            crop = sensor_box(self._view, undone, self._size, camera.camera_controls["ScalerCrop"][1])
            streams = 2 if actual.get("lores") else 1
            controls[str(crop_control)] = [crop] * streams if crop_control == "ScalerCrops" else crop
        elif self._region != WHOLE:
            cut = even_box(box_in_memory(self._view, undone, layout.width, layout.height))
        self._reader = BufferReader(layout, cut=cut, left_right=undone[0], top_bottom=undone[1])
        if actual.get("lores"):
            self._small_reader = BufferReader(_layout(actual, "lores"), left_right=undone[0], top_bottom=undone[1])
        if controls:
            camera.set_controls(controls)
        if (layout.width, layout.height) != size:
            self._warn_once(f"delivers {layout.width}x{layout.height} instead of {size[0]}x{size[1]}")

    def _agree(self, libcamera: Any, size: tuple[int, int], small: tuple[int, int] | None) -> dict[str, Any]:  # noqa: ANN401
        """Configure the camera, without the small stream if it has none, and return the actual configuration."""
        camera = self._camera
        left_right, top_bottom = self._flips
        wanted = camera.create_video_configuration(
            main={"size": size, "format": "YUV420"},
            lores=small and {"size": small, "format": "YUV420"},
            raw=None,
            transform=libcamera.Transform(hflip=left_right, vflip=top_bottom),
            colour_space=libcamera.ColorSpace.Smpte170m(),
            buffer_count=_BUFFERS,
            queue=False,  # always the next picture, never an old one
            sensor={"output_size": sensor_mode(camera.sensor_resolution, size)},
            display=None,
            encode=None,
        )
        try:
            camera.configure(wanted)
            actual: dict[str, Any] = camera.camera_configuration()
        except FAULTS as error:
            if small is None:
                raise
            _log.debug("%s: no second stream: %s", self.name, sentence(error))
        else:
            if small is None or _as_wanted(actual["lores"], small):
                return actual
        return self._agree(libcamera, size, None)

    def _warn_once(self, words: str) -> None:
        if words not in self._logged:
            self._logged.add(words)
            _log.warning("%s: %s", self.name, words)

    # ------------------------------------------------------------------------------------- reading and closing

    def _pace(self) -> None:
        """Wait for the next picture's time, less a quarter period: a camera with the right rate is never delayed."""
        if self._fps is None:
            return
        period_s = 1.0 / self._fps
        self._pause.wait(self._due_s - period_s / 4 - self._clock.monotonic())
        self._due_s = max(self._due_s + period_s, self._clock.monotonic())

    def _next_buffers(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return copies of the next picture's bytes, large and small, and release the camera's buffers."""
        self._woken.clear()
        if not self._cancelled.is_set():
            self._job = self._camera.capture_request(wait=False, signal_function=lambda _job: self._woken.set())
            if not self._woken.wait(self._stall_timeout_s):
                raise SourceError(f"{self.name}: no picture for {self._stall_timeout_s:g} s; check its cable")
        if self._cancelled.is_set():
            raise SourceError(f"{self.name}: reading was cancelled")
        assert self._job is not None
        request = self._job.get_result(timeout=0)
        self._job = None
        try:
            return request.make_buffer("main"), request.make_buffer("lores") if self._small_reader else None
        finally:
            request.release()

    def _close(self, camera: Any) -> None:  # noqa: ANN401
        """Release everything, in any state of the camera. Blocks for as long as libcamera does."""
        job, self._job = self._job, None
        if job is not None:
            # Otherwise a pending request keeps picamera2's event loop from stopping the camera.
            with suppress(*FAULTS):
                camera.cancel_all_and_flush()
            with suppress(CancelledError, *FAULTS):
                job.get_result(timeout=_CLOSE_PATIENCE_S).release()
        try:
            camera.close()
        except FAULTS as error:
            _log.debug("%s: closing: %s", self.name, sentence(error))
        if getattr(camera, "_preview", None) is None:  # its event loop has ended or was never started
            camera.is_open = False
            pipe = getattr(camera, "notifymeread", None)
            if pipe is not None and not pipe.closed:  # close() does not close it when the camera was never open
                pipe.close()
                os.close(camera.notifyme_w)


def _collect() -> None:
    """Free closed cameras at once: picamera2's objects are in reference cycles and hold scarce contiguous memory.

    With the last one libcamera's camera manager is freed too, so that the next opening finds new cameras.
    """
    gc.collect()


def _as_wanted(stream: dict[str, Any], size: tuple[int, int]) -> bool:
    """Return whether the small stream is readable and has the wanted size; another size shows another view."""
    return tuple(stream["size"]) == size and stream["format"] in READABLE


def _layout(actual: dict[str, Any], name: str) -> BufferLayout:
    stream, space = actual[name], actual["colour_space"]
    encoding = getattr(getattr(space, "ycbcrEncoding", None), "name", "")
    full = getattr(getattr(space, "range", None), "name", "") == "Full"
    width, height = stream["size"]
    return BufferLayout(stream["format"], width, height, stream["stride"], bt709=encoding == "Rec709", full_range=full)
