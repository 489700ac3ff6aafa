"""Reads still pictures from files: JPEG with FFmpeg, every other format with Pillow."""

from __future__ import annotations

import importlib
import io
import stat
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from PIL import Image

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.jpeg import decode_jpeg, has_end, read_header
from edge_classifierd.frames.video import flip_vertically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
"""File name endings of pictures. HEIC files are listed so that a user learns that they cannot be read."""

MOST_MEMORY: Final = 145_000_000
"""Bytes that reading one picture may take, the file's data included."""
_MOST_PIXELS: Final = MOST_MEMORY // 6
_HEAD_BYTES: Final = 32
_BAND_ROWS: Final = 64
_ORIENTATION: Final = 0x112


@dataclass(frozen=True, slots=True)
class _Format:
    """A picture format, and the most memory per pixel that Pillow takes to decode it (measured)."""

    name: str
    bytes_per_pixel: int = 7  # 4 in Pillow, 3 in the frame


# By the first bytes of a file, because its name may be wrong. Offset 4 for the formats in an ISO container.
_FORMATS: Final = (
    (0, b"\xff\xd8", _Format("JPEG")),
    (0, b"\x89PNG", _Format("PNG")),
    (0, b"RIFF", _Format("WebP", 16)),  # two canvases, the lossless decoder's and Pillow's own pixels
    (0, b"BM", _Format("BMP")),
    (0, b"GIF8", _Format("GIF", 9)),  # the screen, its background and the first picture
    (0, b"II*\0", _Format("TIFF", 12)),  # the whole picture may be one strip of 16-bit samples
    (0, b"MM\0*", _Format("TIFF", 12)),
    (4, b"ftypavi", _Format("AVIF", 16)),
    (4, b"ftyp", _Format("HEIC")),
)

# How stored rows and columns become the upright picture (EXIF 2.3, CIPA DC-008, tag Orientation).
_UPRIGHT: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}

# Pillow checks this before it allocates the pixels; above it, its warning becomes an error.
Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class UnreadableFileError(SourceError):
    """The file cannot be opened or read now; nothing is known about its content."""


def read_image(path: Path, *, to_end: bool = False) -> av.VideoFrame:
    """Decode the first picture in a file.

    The size that the file announces is checked before memory is taken: at most `MOST_MEMORY`.

    Args:
        path: The file.
        to_end: Take a JPEG without its end marker as incomplete, although FFmpeg decodes many of them.

    Returns:
        The picture as its EXIF orientation says. A JPEG keeps its pixel format (yuvj420p …) and its rotation, which
        `View.quarter_turns` applies; every other format becomes rgb24 and is upright.

    Raises:
        UnreadableFileError: The file is missing or cannot be read.
        SourceError: The file is empty, incomplete, damaged, too large or not a picture.
    """
    with _open(path) as file:
        try:
            return _read(file, str(path), to_end=to_end)
        except OSError as error:
            raise UnreadableFileError(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def decode_image(data: bytes, name: str, *, most_bytes: int) -> av.VideoFrame:
    """Decode the first picture in `data`, which comes from others, as `read_image` does; `name` is for messages.

    Raises:
        SourceError: The data is longer than `most_bytes`, empty, incomplete, damaged, too large or not a picture.
    """
    if len(data) > most_bytes:
        raise SourceError(f"{name}: {len(data) / 1e6:.0f} MB is more than {most_bytes / 1e6:.0f} MB; scale it down")
    return _read(io.BytesIO(data), name)


def _read(file: BinaryIO, name: str, *, to_end: bool = False) -> av.VideoFrame:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    found = next((kind for at, magic, kind in _FORMATS if head.startswith(magic, at)), None)
    if not head:
        raise SourceError(f"{name}: the file is empty; replace or remove it")
    if found is None:
        raise SourceError(f"{name}: not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF picture; remove it or convert it")
    if size > MOST_MEMORY:
        raise SourceError(f"{name}: {size / 1e6:.0f} MB is too large for a picture; remove it")
    if found.name == "JPEG":
        return _read_jpeg(file.read(), name, to_end=to_end)
    return av.VideoFrame.from_numpy_buffer(_decode(file, found, name, size), "rgb24")


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            raise SourceError(f"{path}: not a regular file; remove it")
        return path.open("rb")
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise UnreadableFileError(f"{path}: permission denied; make it readable for the service user") from error
    except OSError as error:
        raise UnreadableFileError(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def _read_jpeg(data: bytes, name: str, *, to_end: bool) -> av.VideoFrame:
    if to_end and not has_end(data):
        raise SourceError(f"{name}: the end of the JPEG data is missing; replace or remove it")
    header = read_header(data)
    picture = decode_jpeg(data, name, most_memory=MOST_MEMORY, header=header)
    if header is not None and header.exif and _orientation_in(header.exif) in {2, 4, 5, 7}:
        flip_vertically(picture)
    return picture


def _orientation_in(exif: bytes) -> object:
    tags = Image.Exif()
    try:
        tags.load(exif)
        return tags.get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - Pillow raises nearly every kind of exception on damaged data
        return None


def _decode(file: BinaryIO, kind: _Format, name: str, size: int) -> Pixels:
    """Return the upright pixels, shape (height, width, 3), RGB."""
    form = kind.name
    damaged = SourceError(f"{name}: the {form} data is damaged or incomplete; replace or remove the file")
    try:
        importlib.import_module(f"PIL.{form if form == 'WebP' else form.title()}ImagePlugin")
        with Image.open(file, formats=(form.upper(),)) as image:
            _check_size(image, kind, name, size)
            image.load()
            pixels = _rgb(image)
            # Pillow turns a TIFF itself when it loads it.
            orientation = image.getexif().get(_ORIENTATION) if form != "TIFF" else None
    except ImportError:
        raise SourceError(f"{name}: {form} pictures cannot be read here; convert it to JPEG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, f"more than {_MOST_PIXELS / 1e6:.0f} megapixels") from None
    except SourceError:
        raise
    except _ModeError as error:
        raise SourceError(f"{name}: a {form} of colour mode {error} cannot be read; convert it to JPEG") from None
    except OSError as error:
        if error.errno is not None:  # of the disk, not of the data
            raise
        raise damaged from error
    except Exception as error:
        raise damaged from error
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _check_size(image: Image.Image, kind: _Format, name: str, size: int) -> None:
    width, height = image.size
    needed = width * height * kind.bytes_per_pixel + size
    if needed > MOST_MEMORY:
        raise _too_large(name, f"{width}x{height} pixels as {kind.name} need {needed / 1e6:.0f} MB of memory")


def _too_large(name: str, what: str) -> SourceError:
    return SourceError(f"{name}: too large: {what}; scale it down")


class _ModeError(Exception):
    """Pillow cannot make RGB of this colour mode."""


def _rgb(image: Image.Image) -> Pixels:
    """Convert a loaded image in bands of rows, so that no second whole copy is in memory."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        band = image.crop((0, top, width, bottom))
        if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it
            grey = np.asarray(band).astype(np.uint32) >> 8
            pixels[top:bottom] = np.minimum(grey, 255).astype(np.uint8)[..., None]
            continue
        try:
            pixels[top:bottom] = np.asarray(band.convert("RGB"))
        except ValueError:
            raise _ModeError(image.mode) from None
    return pixels
