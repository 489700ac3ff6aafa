"""Reads the text of the tags `!credential`, `!env` and `!file`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from edge_classifierd.config.loading.read_file import UnreadableError, read_small_file
from edge_classifierd.config.sections.paths import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 65_536
RUN = Path("/run/credentials")
STORE = Path("/etc/credstore")


def read_credential(name: str, folder: Path) -> str:  # noqa: ARG001 - the three readers share one signature
    """Return the text of a systemd credential (systemd.exec(5), LoadCredential=); raises UnreadableError.

    Outside the service (`sudo edge-classifierd check`) the credential of the service is read.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.@:-]{1,255}", name) or name in {".", ".."}:
        raise UnreadableError("is not the name of a credential: letters, digits, _ . @ : and - only")
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        path: Path | None = Path(directory) / name
    else:
        path = next((path for path in _paths_outside_service(name) if os.access(path, os.R_OK)), None)
    if path is None:
        raise UnreadableError(
            "there are no credentials here ($CREDENTIALS_DIRECTORY is not set, and the service's can be read by root "
            f"only); the unit needs LoadCredential={name}:PATH, and outside systemd `!env` or `!file` do the same"
        )
    try:
        return _text(path)
    except UnreadableError as error:
        raise UnreadableError(f"{error}; the unit needs LoadCredential={name}:PATH") from error


def _paths_outside_service(name: str) -> tuple[Path, Path]:
    """Return the paths of a service credential for root: the credential store, and the copy in /run."""
    return STORE / f"edge-classifierd.{name}", RUN / "edge-classifierd.service" / name


def read_environment(name: str, folder: Path) -> str:  # noqa: ARG001
    """Return the value of an environment variable; raises UnreadableError when it is not set."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UnreadableError("is not the name of an environment variable")
    value = os.environ.get(name)
    if value is None:
        raise UnreadableError(f"the environment variable is not set; set it, in the unit with Environment={name}=…")
    return _checked(value)


def read_file(name: str, folder: Path) -> str:
    """Return the text of a file without its last newline; raises UnreadableError.

    A relative `name` is resolved against `folder`; `~` is expanded.
    """
    try:
        path = resolve(name, folder)
    except PydanticCustomError as error:
        raise UnreadableError(str(error)) from error
    try:
        return _text(path)
    except UnreadableError as error:
        raise UnreadableError(f"{path}: {error}") from error


READERS: dict[str, Callable[[str, Path], str]] = {
    "!credential": read_credential,
    "!env": read_environment,
    "!file": read_file,
}
"""The readers by tag. Each takes the tagged text and the folder of the configuration file."""


def _text(path: Path) -> str:
    try:
        text = read_small_file(path, MAX_BYTES).content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("is not UTF-8 text") from None  # the cause contains bytes of the secret
    return _checked(text.removesuffix("\n").removesuffix("\r"))


def _checked(text: str) -> str:
    if re.search("[\x00\ud800-\udfff]", text):
        raise UnreadableError("holds bytes that are not text")
    return text
