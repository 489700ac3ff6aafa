"""The libraries picamera2 and libcamera: loading them, what they raise, and what that means in a sentence."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

from edge_classifierd.errors import MissingError

FAULTS: Final = (RuntimeError, OSError, LookupError, ValueError, AttributeError)
"""What libcamera and its Python layer raise when hardware or driver fails."""


def import_libraries() -> tuple[Any, Any]:
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
    except FAULTS as error:
        raise MissingError(
            f"picamera2 cannot be loaded ({error}); it is compiled against the system's numpy, so leave that as it is: "
            "`pip uninstall numpy simplejpeg` in the virtual environment"
        ) from error
    logging.getLogger("picamera2").setLevel(logging.CRITICAL)  # what fails is said here, once
    return picamera2, libcamera


def sentence(error: BaseException) -> str:
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
