"""TLS settings of the connection to the broker."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.config.sections.mqtt import TlsSection


def tls_context(section: TlsSection, host: str = "") -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer that verifies the certificate and the host name.

    The files are read for each connection, so that renewed certificates are used. The certificate must contain
    `mqtt.tls.server_name`, or `host` without one, because connections are made to an IP address.

    Raises:
        OSError: A file cannot be read or is not PEM; `filename` names it.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = section.server_name or host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if section.ca_file is None:
        context.load_default_certs()
    else:
        with _name_file_in_errors(section.ca_file):
            context.load_verify_locations(cafile=section.ca_file)
    if section.cert_file is not None:
        with _name_file_in_errors(section.cert_file):
            context.load_cert_chain(section.cert_file, section.key_file, password="")  # no prompt on a terminal
    return context


class _NamedContext(ssl.SSLContext):
    """Checks the certificate for `server_name`, whatever address the connection is made to."""

    server_name: str

    def wrap_socket(self, sock: socket.socket, *_arguments: object, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - of the standard library
        return super().wrap_socket(sock, **{**options, "server_hostname": self.server_name})


@contextlib.contextmanager
def _name_file_in_errors(file: Path) -> Iterator[None]:
    """Add the file's name to an OSError, because OpenSSL omits it."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise
