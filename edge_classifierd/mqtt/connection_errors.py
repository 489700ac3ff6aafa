"""Connection failures: each cause as one sentence with its remedy, and how the client continues."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paho.mqtt.client import WebsocketConnectionError

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

# X509_V_ERR_…, see openssl/x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_HOST_NAME_MISMATCH, _ADDRESS_MISMATCH = 62, 64
# MQTT 5 reason codes
_LOGIN_REFUSED = {0x86, 0x87, 0x8A, 0x8C}  # bad user name or password, not authorised, banned, bad method
_NOT_OVER_A_MESSAGE = {0x89, 0x8B, 0x8D, 0x8E, 0x98, 0x9C, 0x9D}  # busy, shutting down, keep alive, taken over, …
_UNSUPPORTED_VERSION = 0x84
_CLIENT_ID_REFUSED = 0x85
_TAKEN_OVER = 0x8E


@dataclass(frozen=True, slots=True)
class ConnectionFailure:
    """Why a connection failed or ended."""

    sentence: str
    """Cause and remedy for the log, without secrets."""
    permanent: bool = False
    """Only a person can fix it; the client waits for the longest time."""
    unexplained: bool = False
    """The broker gave no reason; several such failures in a row may have a cause that can be guessed."""
    by_broker: bool = False
    """The broker closed the connection after the login, possibly because of a message or subscription."""
    other_protocol: bool = False
    """The broker may support another version of MQTT only."""
    client_id_taken: bool = False
    """Another client uses the same client id."""
    silent: bool = False
    """After the login the broker did not answer in time."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's address and the identity used there; contains no secret."""

    host: str
    port: int
    tls: bool
    username: str | None
    client_id: str
    protocol: str
    """`5` or `3.1.1`."""
    address: str | None = None
    """The IP address of `host` to connect to; None before the name was resolved."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def of_exception(error: Exception, endpoint: Endpoint) -> ConnectionFailure:
    """Return the failure for an exception from connecting: name resolution, network, TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailure(_of_certificate(error, endpoint))
    if isinstance(error, ssl.SSLError):
        return ConnectionFailure(of_tls_text(f"{error.reason or error}", endpoint))
    return ConnectionFailure(f"{endpoint}: {_of_network(error)}")


def of_credentials(error: OSError, file: object) -> ConnectionFailure:
    """Return the failure for a TLS file that cannot be loaded."""
    if isinstance(error, ssl.SSLError):
        reason = error.reason or error
        return ConnectionFailure(
            f"{file}: no usable PEM file, or key and certificate do not match ({reason}); see mqtt.tls"
        )
    return ConnectionFailure(f"{file}: {error.strerror or error}; see mqtt.tls")


def of_refusal(reason: ReasonCode, endpoint: Endpoint) -> ConnectionFailure:
    """Return the failure for a CONNACK that refuses the login."""
    if reason.value in _LOGIN_REFUSED:
        account = f"user {endpoint.username!r}" if endpoint.username else "a login without user name"
        return ConnectionFailure(
            f"{endpoint}: the broker refuses {account} ({_text(reason)}); check mqtt.username and mqtt.password",
            permanent=True,
        )
    if reason.value == _UNSUPPORTED_VERSION:
        other = "3.1.1" if endpoint.protocol == "5" else "5"
        sentence = f"{endpoint}: the broker does not support MQTT {endpoint.protocol}; set mqtt.protocol: {other}"
        return ConnectionFailure(sentence, permanent=True, other_protocol=True)
    if reason.value == _CLIENT_ID_REFUSED:
        sentence = f"{endpoint}: the broker refuses the client id {endpoint.client_id!r}; set mqtt.client_id"
        return ConnectionFailure(sentence, permanent=True)
    return ConnectionFailure(f"{endpoint}: the broker refuses the connection ({_text(reason)}); see its log")


def of_disconnect(reason: ReasonCode, endpoint: Endpoint) -> ConnectionFailure:
    """Return the failure for a DISCONNECT from the broker (MQTT 5)."""
    if reason.value == _TAKEN_OVER:
        return ConnectionFailure(
            f"{endpoint}: another client took over the client id {endpoint.client_id!r};"
            " give each device its own device.id or mqtt.client_id",
            client_id_taken=True,
        )
    sentence = f"{endpoint}: the broker ended the connection ({_text(reason)}); see its log if that repeats"
    return ConnectionFailure(sentence, by_broker=reason.value not in _NOT_OVER_A_MESSAGE)


def of_repeated_drops(endpoint: Endpoint) -> ConnectionFailure:
    """Return the failure for several unexplained losses soon after the login, usually a client id used twice."""
    return ConnectionFailure(
        f"{endpoint}: the broker closes the connection soon after each login; most likely another client uses the"
        f" client id {endpoint.client_id!r} (give each device its own device.id or mqtt.client_id), else see its log",
        client_id_taken=True,
    )


def of_loss(endpoint: Endpoint, last_error: str | None, *, before_answer: bool) -> ConnectionFailure:
    """Return the failure for a connection that ended without an explanation from the broker.

    Args:
        endpoint: The broker.
        last_error: The last error in paho's log.
        before_answer: The login was not answered.
    """
    if last_error is not None and ("SSL" in last_error or "TLS" in last_error.upper()):
        return ConnectionFailure(of_tls_text(last_error, endpoint))
    if before_answer:
        hint = "is it an MQTT port without TLS?"
        if endpoint.tls:  # a reset can arrive before the TLS alert that explains it
            hint = "does it require a client certificate (mqtt.tls.cert_file), and is it an MQTT port?"
        if endpoint.protocol == "5":
            hint += " A broker without MQTT 5 needs mqtt.protocol: 3.1.1 or auto"
        sentence = f"{endpoint}: the connection was closed before the broker answered; {hint}"
        return ConnectionFailure(sentence, other_protocol=True)
    closed = last_error is None or any(text in last_error for text in ("reset", "Broken pipe"))
    sentence = f"{endpoint}: the connection was lost; check network and broker if that repeats"
    return ConnectionFailure(sentence, unexplained=True, by_broker=closed)


def of_silence(endpoint: Endpoint, seconds: float, *, before_answer: bool) -> ConnectionFailure:
    """Return the failure for a connection on which no answer was received for `seconds`."""
    if before_answer:
        hint = "is it an MQTT port?"
        if endpoint.protocol == "5":
            hint += " A broker without MQTT 5 needs mqtt.protocol: 3.1.1 or auto"
        sentence = f"{endpoint}: connected, but no answer to the login within {seconds:.0f} s; {hint}"
        return ConnectionFailure(sentence, other_protocol=True)
    return ConnectionFailure(
        f"{endpoint}: the broker has not answered for {seconds:.0f} s; check the network if that repeats", silent=True
    )


def of_nonsense(error: Exception, endpoint: Endpoint, *, before_answer: bool) -> ConnectionFailure:
    """Return the failure for received bytes that are not MQTT."""
    return ConnectionFailure(
        f"{endpoint}: the server there does not use MQTT ({error}); check mqtt.host and mqtt.port",
        other_protocol=before_answer,
    )


def of_too_large(error: Exception, endpoint: Endpoint) -> ConnectionFailure:
    """Return the failure for a packet that is refused by its length."""
    return ConnectionFailure(f"{endpoint}: the broker {error}")


def of_tls_text(text: str, endpoint: Endpoint) -> str:
    """Return the sentence for OpenSSL's reason, given as a symbol or inside a message."""
    upper = text.upper().replace(" ", "_")
    if "WRONG_VERSION_NUMBER" in upper or "RECORD_LAYER_FAILURE" in upper or "UNEXPECTED_EOF" in upper:
        remedy = "set mqtt.port to the broker's TLS port (often 8883) or remove mqtt.tls"
        return f"{endpoint}: the port does not use TLS; {remedy}"
    if "CERTIFICATE_REQUIRED" in upper or "HANDSHAKE_FAILURE" in upper:
        return f"{endpoint}: the broker requires a client certificate; set mqtt.tls.cert_file and mqtt.tls.key_file"
    if "UNKNOWN_CA" in upper or "BAD_CERTIFICATE" in upper or "CERTIFICATE_UNKNOWN" in upper:
        return f"{endpoint}: the broker does not accept this device's certificate; check mqtt.tls.cert_file"
    if "PROTOCOL_VERSION" in upper or "UNSUPPORTED_PROTOCOL" in upper:
        return f"{endpoint}: the broker offers no TLS 1.2 or newer; upgrade the broker"
    return f"{endpoint}: TLS failed ({text.strip()}); check mqtt.port and mqtt.tls"


_NETWORK = (
    (WebsocketConnectionError, "no WebSocket of MQTT there; check mqtt.port, mqtt.websocket_path and mqtt.transport"),
    (UnicodeError, "the host name is not valid; check mqtt.host"),
    (ConnectionRefusedError, "connection refused; does the broker run, and is mqtt.port right?"),
    (ConnectionResetError, "the connection was reset; is mqtt.port right, with TLS, without, or a client certificate?"),
    (TimeoutError, "no answer; check mqtt.host, mqtt.port, the network and firewalls"),
)


def _of_network(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return f"the host name is unknown ({error.strerror}); check mqtt.host and the network's DNS"
    for kind, sentence in _NETWORK:
        if isinstance(error, kind):
            return sentence
    return f"{getattr(error, 'strerror', None) or error}; check the network, mqtt.host and mqtt.port"


def _of_certificate(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> str:
    if error.verify_code == _EXPIRED:
        return f"{endpoint}: the broker's certificate has expired; renew it, and check this machine's clock"
    if error.verify_code == _NOT_YET_VALID:
        return f"{endpoint}: the broker's certificate is not valid yet; check this machine's clock"
    if error.verify_code in {_HOST_NAME_MISMATCH, _ADDRESS_MISMATCH}:
        remedy = "set mqtt.tls.server_name or mqtt.host to the name in it"
        return f"{endpoint}: the broker's certificate is for another host name; {remedy}"
    return (
        f"{endpoint}: the broker's certificate is not signed by a trusted authority ({error.verify_message});"
        " check mqtt.tls.ca_file"
    )


def _text(reason: ReasonCode) -> str:
    return str(reason.getName()).lower()
