"""Imports picamera2 and libcamera, and explains their errors."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

from edge_classifierd.errors import MissingError

FAULTS: Final = (RuntimeError, OSError, LookupError, ValueError, AttributeError)
"""The exceptions that libcamera and picamera2 raise when hardware or a driver fails."""


def import_libraries() -> tuple[Any, Any]:
    """Return the modules picamera2 and libcamera. Raises MissingError."""
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    try:
        import libcamera  # noqa: PLC0415 - a Debian package, only where it is used
        import picamera2  # noqa: PLC0415
    except ImportError as error:
        raise MissingError(
            f"picamera2 is not installed ({error}); install it with `sudo apt install python3-picamera2`, in a virtual "
            "environment made with --system-site-packages"
        ) from error
    except FAULTS as error:
        raise MissingError(
            f"picamera2 cannot be loaded ({error}); it is compiled for the system's numpy, so use that one: "
            "`pip uninstall numpy simplejpeg` in the virtual environment"
        ) from error
    logging.getLogger("picamera2").setLevel(logging.CRITICAL)  # its errors are reported by the source
    return picamera2, libcamera


def sentence(error: BaseException) -> str:
    """Return libcamera's innermost cause, and what to do."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    lower = words.lower()
    if "busy" in lower or "in use" in lower:
        return "in use by another program; stop that, or see who with `fuser -v /dev/media*`"
    if "permission" in lower or "dma" in lower:
        return f'{words}; add the service user to the group "video", and check that it may use /dev/dma_heap'
    return f"{words}; check its cable, and whether `rpicam-hello` works"
