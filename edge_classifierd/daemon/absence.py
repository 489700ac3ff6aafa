"""Files that a configuration names and that cannot be used now: the daemon waits for them, so they are warnings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_classifierd.config.sections import StreamSource
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.stream import check_video_file
from edge_classifierd.mqtt.failures import of_credentials
from edge_classifierd.mqtt.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.config.load import Document
    from edge_classifierd.errors import Problem


def absent_files(document: Document) -> Iterator[Problem]:
    """Certificates that no connection could be made with, video files that are not there. Nothing is connected to."""
    tls = document.configuration.mqtt.tls
    if tls is not None:
        try:
            tls_context(tls)
        except OSError as error:
            keys = {tls.ca_file: "ca_file", tls.cert_file: "cert_file", tls.key_file: "key_file"}
            key = keys.get(Path(str(error.filename)), "ca_file")
            sentence = str(of_credentials(error, error.filename).sentence).removesuffix("; see mqtt.tls")
            yield document.problem(f"mqtt.tls.{key}", f"{sentence}; without it there is no connection")
    for key, pipeline in document.pipelines:
        source = pipeline.source
        if not isinstance(source, StreamSource) or "://" in source.url:
            continue
        try:
            check_video_file(Path(source.url))
        except SourceError as error:
            yield document.problem(f"{key}.source.url", str(error))
