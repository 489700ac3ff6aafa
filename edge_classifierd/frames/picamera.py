"""A Raspberry Pi camera, through picamera2 and libcamera, as a frame source.

One stream is asked for: `main`, in the wanted size, as YUV420. The ISP scales to it from the whole sensor, which costs
the processor nothing, and YUV420 goes to the model's RGB input in one pass. A second, smaller stream (`lores`) for the
model alone would save less than that pass takes (0.9 ms from 1080p), and cost its buffers.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from edge_classifierd.errors import MissingError, SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.camera_buffer import BufferReader, Layout
from edge_classifierd.frames.camera_geometry import box_in_memory, even_box, filled, sensor_box, sensor_mode
from edge_classifierd.frames.camera_look import Look
from edge_classifierd.preprocess import Region, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.clock import Clock
    from edge_classifierd.preprocess import Mirror, Rotation

_log = logging.getLogger(__name__)

WHOLE: Final = Region()
_BUFFERS: Final = 4
_CLOSE_PATIENCE_S: Final = 0.2
# What libcamera and its Python layer raise when hardware or driver fails.
_FAULTS: Final = (RuntimeError, OSError, LookupError, ValueError, AttributeError)
_one_at_a_time = threading.Lock()  # libcamera's camera manager is shared by all cameras of a process


class _Request(Protocol):
    def make_buffer(self, name: str) -> NDArray[np.uint8]: ...
    def release(self) -> None: ...


class _Job(Protocol):
    def get_result(self, timeout: float | None = None) -> _Request: ...


class Picamera2Source:
    """A camera that libcamera drives; nothing is touched or imported before `open`.

    With a rotation of 0 or 180 degrees the camera itself turns and mirrors; with 90 and 270 that is left to the viewer.
    With `region` the camera delivers only that part of the upright picture, as large as fits into the wanted size.
    Whatever the camera cannot do of that is done here, so frames always are as asked for.
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
        look: Look | None = None,
        stall_timeout_s: float,
        clock: Clock,
    ) -> None:
        """`camera` is its number, or a part of its model or id. Sizes are pixels of the picture from the camera."""
        self._wanted = camera
        self._region = region
        self._view = View(rotation, mirror, region)
        self._size = (width // 2 * 2, height // 2 * 2)
        self._fps = fps
        self._look = look or Look()
        self._stall_timeout_s = stall_timeout_s
        self._clock = clock
        across, down = mirror in {"horizontal", "both"}, mirror in {"vertical", "both"}
        turned = rotation == 180
        self._flips = (across != turned, down != turned) if rotation in {0, 180} else (False, False)
        self._cancelled = threading.Event()
        self._woken = threading.Event()
        self._camera: Any = None
        self._reader: BufferReader | None = None
        self._job: _Job | None = None
        self._pausing = False
        self._due_s = 0.0
        self._sequence = 0
        self._told: set[str] = set()

    @property
    def live(self) -> bool:
        """True."""
        return True

    @property
    def skipped(self) -> int:
        """0: the camera delivers pictures, nothing is decoded."""
        return 0

    @property
    def pausing(self) -> bool:
        """True while it waits for the next picture's time, when the camera is faster than asked."""
        return self._pausing

    @property
    def name(self) -> str:
        """The camera in messages."""
        return f"camera {self._wanted}"

    def open(self) -> None:
        """Start the camera. Raises MissingError without picamera2, SourceError for a camera that is not to be had."""
        picamera2, libcamera = _import()
        try:
            with _one_at_a_time:
                self._make(picamera2)
                self._configure(libcamera)
                self._camera.start()
        except _FAULTS as error:
            raise SourceError(f"{self.name}: {_sentence(error)}") from error
        self._due_s = self._clock.monotonic()

    def read(self) -> Frame:
        """The next frame. Raises SourceError when the camera delivers none for the stall timeout."""
        if self._camera is None or self._reader is None:
            raise SourceError(f"{self.name}: not open")
        self._pace()
        try:
            buffer = self._next_buffer()
        except _FAULTS as error:
            raise SourceError(f"{self.name}: {_sentence(error)}") from error
        frame = Frame(self._reader.picture(buffer), self._sequence, self._clock.monotonic(), self._clock.utc())
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Stop and release the camera."""
        camera, self._camera, self._reader = self._camera, None, None
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
            # libcamera looks for cameras when it starts; where nothing tells it of a later one, it has to start afresh.
            manager.reset()
            cameras = picamera2.Picamera2.global_camera_info()
        number = self._number(cameras)
        # In two steps: when the constructor fails, `close` still finds what it has opened so far. Otherwise every
        # attempt would cost a file descriptor.
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
        raise SourceError(f"{self.name}: no such camera; there is {known}")

    def _configure(self, libcamera: Any) -> None:  # noqa: ANN401
        camera = self._camera
        crop_control = next((name for name in ("ScalerCrops", "ScalerCrop") if name in camera.camera_controls), None)
        cut_there = self._region != WHOLE and crop_control is not None
        size = filled(self._view, *self._size) if cut_there else self._size
        left_right, top_bottom = self._flips
        camera.configure(
            camera.create_video_configuration(
                main={"size": size, "format": "YUV420"},
                raw=None,
                transform=libcamera.Transform(hflip=left_right, vflip=top_bottom),
                colour_space=libcamera.ColorSpace.Smpte170m(),
                buffer_count=_BUFFERS,
                queue=False,  # always the next picture, never one that has waited
                sensor={"output_size": sensor_mode(camera.sensor_resolution, size)},
                display=None,
                encode=None,
            )
        )
        actual = camera.camera_configuration()
        layout = _layout(actual)
        done = actual["transform"]
        undone = (left_right != bool(done.hflip), top_bottom != bool(done.vflip))
        controls, ignored = self._look.controls(camera.camera_controls, libcamera.controls, self._fps)
        for key in ignored:
            self._tell(f"it has no control for `{key}`, which is ignored")
        cut = None
        if cut_there:
            crop = sensor_box(self._view, undone, self._size, camera.camera_controls["ScalerCrop"][1])
            controls[str(crop_control)] = [crop] if crop_control == "ScalerCrops" else crop
        elif self._region != WHOLE:
            cut = even_box(box_in_memory(self._view, undone, layout.width, layout.height))
        self._reader = BufferReader(layout, cut=cut, left_right=undone[0], top_bottom=undone[1])
        if controls:
            camera.set_controls(controls)
        if (layout.width, layout.height) != size:
            self._tell(f"it delivers {layout.width}x{layout.height} instead of {size[0]}x{size[1]}")

    def _tell(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            _log.warning("%s: %s", self.name, words)

    # ------------------------------------------------------------------------------------- reading and closing

    def _pace(self) -> None:
        """Wait for the next picture's time, a quarter early: a camera that keeps the rate itself never waits here."""
        if self._fps is None:
            return
        period_s = 1.0 / self._fps
        wait_s = self._due_s - period_s / 4 - self._clock.monotonic()
        if wait_s > 0:
            self._pausing = True
            self._cancelled.wait(wait_s)
            self._pausing = False
        self._due_s = max(self._due_s + period_s, self._clock.monotonic())

    def _next_buffer(self) -> NDArray[np.uint8]:
        """A copy of the next picture's bytes; the camera gets its request back at once."""
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
            return request.make_buffer("main")
        finally:
            request.release()

    def _close(self, camera: Any) -> None:  # noqa: ANN401
        """Give back everything, whatever state the camera is in. Blocks for as long as libcamera does."""
        job, self._job = self._job, None
        if job is not None:
            # Without this a request that is still awaited would keep picamera2's event loop from stopping the camera.
            with suppress(*_FAULTS):
                camera.cancel_all_and_flush()
            with suppress(CancelledError, *_FAULTS):
                job.get_result(timeout=_CLOSE_PATIENCE_S).release()
        try:
            camera.close()
        except _FAULTS as error:
            _log.debug("%s: closing: %s", self.name, _sentence(error))
        if getattr(camera, "_preview", None) is None:  # its event loop has ended or never begun
            camera.is_open = False
            pipe = getattr(camera, "notifymeread", None)
            if pipe is not None and not pipe.closed:  # close() leaves it when the camera was never open
                pipe.close()
                os.close(camera.notifyme_w)


def _collect() -> None:
    """Free closed cameras at once: picamera2's objects are cyclic, and hold buffers of the scarce contiguous memory.

    With the last of them libcamera's camera manager goes too, so that the next opening looks for cameras afresh.
    """
    gc.collect()


def _import() -> tuple[Any, Any]:
    """The modules picamera2 and libcamera. Raises MissingError."""
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    try:
        import libcamera  # noqa: PLC0415 - only when used: it is bound to the system
        import picamera2  # noqa: PLC0415
    except ImportError as error:
        raise MissingError(
            f"picamera2 is not there ({error}); install it with `sudo apt install python3-picamera2`, in a virtual "
            "environment made with --system-site-packages"
        ) from error
    except _FAULTS as error:
        raise MissingError(
            f"picamera2 cannot be loaded ({error}); it is compiled against the system's numpy, so leave that as it is: "
            "`pip uninstall numpy simplejpeg` in the virtual environment"
        ) from error
    logging.getLogger("picamera2").setLevel(logging.CRITICAL)  # what fails is said here, once
    return picamera2, libcamera


def _layout(actual: dict[str, Any]) -> Layout:
    main, space = actual["main"], actual["colour_space"]
    encoding = getattr(getattr(space, "ycbcrEncoding", None), "name", "")
    full = getattr(getattr(space, "range", None), "name", "") == "Full"
    width, height = main["size"]
    return Layout(main["format"], width, height, main["stride"], bt709=encoding == "Rec709", full_range=full)


def _sentence(error: BaseException) -> str:
    """The innermost cause in libcamera's words, and what to do."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    lower = words.lower()
    if "busy" in lower or "in use" in lower:
        return "in use by another program; stop that, or see who with `fuser -v /dev/media*`"
    if "permission" in lower or "dma" in lower:
        return f'{words}; add the service user to the group "video", and see that /dev/dma_heap is reachable'
    return f"{words}; check its cable, and whether `rpicam-hello` works"
