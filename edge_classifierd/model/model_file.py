"""Reading model and label files, and the sentence for files of another kind."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Literal

from edge_classifierd.errors import ModelError, shortened
from edge_classifierd.model.archive import Archive

BundledName = Literal["fast", "accurate"]
BUNDLED_MODELS: Final[dict[BundledName, str]] = {
    "fast": "efficientnet_lite0_int8.tflite",
    "accurate": "efficientnet_lite2_int8.tflite",
}
"""File names of the models that come with the package."""
_MAX_BYTES: Final = 512_000_000
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_OTHERS: Final = (
    (b"\x89HDF", "is a Keras model (HDF5); convert it with `tf.lite.TFLiteConverter`"),
    (b"\x08\x03\x12", "is an ONNX model; convert it to TensorFlow Lite, for example with onnx2tf"),
    (b"\x80\x02", "is a PyTorch checkpoint; convert it to TensorFlow Lite, for example with litert-torch"),
)
_WEB_PAGES: Final = (b"<!doctype", b"<html")


def bundled_model_path(name: BundledName = "fast") -> Path:
    """Return the path of a model that comes with the package: inside it, or in a checkout's `models/`."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "models" / BUNDLED_MODELS[name]
    return installed if installed.exists() else package.parent / "models" / BUNDLED_MODELS[name]


def is_bundled(path: Path) -> bool:
    """Return whether `path` is a model that comes with the package."""
    return any(path == bundled_model_path(name) for name in BUNDLED_MODELS)


def model_title(path: Path) -> str:
    """Return how messages name a model: by its path; a bundled one by its name, as its path means nothing to a user."""
    if path == bundled_model_path("accurate"):
        return "the accurate bundled model"
    return "the bundled model" if path == bundled_model_path() else str(path)


def read_model_file(path: Path) -> bytes:
    """Return the bytes of a `.tflite`. Raises ModelError that starts with the path and names what the file is."""
    _refuse_undecodable(path)
    data = read_regular_file(path, "a TensorFlow Lite model")
    if data[4:8] == b"TFL3":
        return data
    if data.startswith(_LFS):
        raise ModelError(f"{path}: is a Git LFS pointer, not the model; run `git lfs pull` in its repository")
    if data.startswith(b"PK\x03\x04"):
        raise ModelError(f"{path}: {_zip_sentence(path, data)}")
    if data[:200].lstrip().lower().startswith(_WEB_PAGES):
        raise ModelError(f"{path}: is a web page, not the model; download the file itself (on GitHub: `Raw`)")
    for start, sentence in _OTHERS:
        if data.startswith(start):
            raise ModelError(f"{path}: {sentence}")
    return data


def read_regular_file(path: Path, what: str) -> bytes:
    """Return the content of a regular file of at most 512 MB; never waits for a pipe or device. Raises ModelError."""
    title = model_title(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{title}: is not a file; give {what}")
        if status.st_size > _MAX_BYTES:
            megabytes = status.st_size // 1_000_000
            raise ModelError(f"{title}: is {megabytes:,} MB; at most {_MAX_BYTES // 1_000_000} MB are read")
        with path.open("rb") as file:
            return file.read(status.st_size)
    except FileNotFoundError as error:
        raise ModelError(f"{title}: no such file; give {what}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise ModelError(f"{title}: permission denied; let the account that runs this read it") from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"{title}: cannot be read: {reason}") from error


def _refuse_undecodable(path: Path) -> None:
    """Raise ModelError for a path that is not UTF-8: the runtimes take UTF-8 only."""
    name = os.fsencode(path)
    try:
        name.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = name.decode("utf-8", "backslashreplace")
        raise ModelError(f"{shown}: has a name that is not UTF-8; rename the file or the folder") from error


def _zip_sentence(path: Path, data: bytes) -> str:
    try:
        names = Archive(data).names
    except ModelError:
        return "is a damaged zip archive; download it again"
    models = [shortened(name, 60) for name in names if name.lower().endswith((".tflite", ".lite"))]
    if not models:
        return "is a zip archive without a .tflite file; give the TensorFlow Lite export"
    listed = " or ".join(f"`{name}`" for name in models[:3])
    return (
        f"is a zip archive, as Teachable Machine and Edge Impulse give it; unpack it (`unzip {path.name}`) and give "
        f"{listed} from it; the labels beside it are found"
    )
