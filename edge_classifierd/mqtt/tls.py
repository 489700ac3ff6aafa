"""The TLS of a connection to the broker: which certificates are believed, and which one is shown."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.config.sections.mqtt import TlsSection


def tls_context(section: TlsSection) -> ssl.SSLContext:
    """TLS 1.2 or newer with host name and certificate checked; read anew for each connection. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if section.ca_file is None:
        context.load_default_certs()
    else:
        with _naming(section.ca_file):
            context.load_verify_locations(cafile=section.ca_file)
    if section.cert_file is not None:
        with _naming(section.cert_file):
            context.load_cert_chain(section.cert_file, section.key_file, password="")  # never ask on a terminal
    return context


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """OpenSSL does not say which file it means."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise
