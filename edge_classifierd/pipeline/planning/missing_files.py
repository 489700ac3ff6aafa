"""Finds files of a configuration that cannot be used now. They are warnings, because the daemon waits for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edge_classifierd.config.sections.mqtt import TlsSection
from edge_classifierd.config.sections.sources import StreamSection
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.stream import check_video_file
from edge_classifierd.mqtt.connection_errors import of_credentials
from edge_classifierd.mqtt.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.errors import Problem


def missing_certificates(document: Document) -> Iterator[Problem]:
    """Yield a problem for each certificate that cannot be used. Makes no connection."""
    tls = document.configuration.mqtt.tls
    for key, error in _unusable(tls) if tls is not None else ():
        sentence = of_credentials(error, error.filename).sentence.removesuffix("; see mqtt.tls")
        yield document.problem(f"mqtt.tls.{key}", f"{sentence}; without it there is no connection")


def missing_videos(document: Document) -> Iterator[Problem]:
    """Yield a problem for each video file that cannot be used now."""
    sources = {document.source_key(key, pipeline): pipeline.source for key, pipeline in document.pipelines}
    for key, source in sources.items():
        if not isinstance(source, StreamSection) or "://" in source.url:
            continue
        try:
            check_video_file(Path(source.url))
        except SourceError as error:
            yield document.problem(f"{key}.url", str(error), temporary=True)


def _unusable(tls: TlsSection) -> Iterator[tuple[str, OSError]]:
    """Yield each key whose file cannot be opened, and each pair whose files can be opened but are invalid."""
    closed = set()
    for key in ("ca_file", "cert_file", "key_file"):
        file = getattr(tls, key)
        try:
            if file is not None:
                os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            closed.add(key)
            yield key, error
    for keys in (("ca_file",), ("cert_file", "key_file")):
        if closed.isdisjoint(keys):
            try:
                tls_context(TlsSection.model_construct(**{key: getattr(tls, key) for key in keys}))
            except OSError as error:
                yield keys[0], error
