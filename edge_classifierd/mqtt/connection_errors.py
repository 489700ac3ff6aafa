"""Why a connection to the broker failed: each cause as one sentence with its remedy, and how long to wait after it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

# X509_V_ERR_…, see openssl/x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_HOST_NAME_MISMATCH, _ADDRESS_MISMATCH = 62, 64
# MQTT 5 reason codes
_LOGIN_REFUSED = {0x86, 0x87, 0x8A, 0x8C}  # bad user name or password, not authorised, banned, bad method
_UNSUPPORTED_VERSION = 0x84
_CLIENT_ID_REFUSED = 0x85
_TAKEN_OVER = 0x8E


@dataclass(frozen=True, slots=True)
class ConnectionFailure:
    """One sentence for people; `permanent` when waiting alone will not help and the longest wait is right."""

    sentence: str
    permanent: bool = False
    wordless: bool = False
    """The broker gave no reason: several in a row may have one that can be guessed."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The broker and the identity used there, as they appear in sentences; holds no secret."""

    host: str
    port: int
    tls: bool
    username: str | None
    client_id: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def of_exception(error: Exception, endpoint: Endpoint) -> ConnectionFailure:
    """The failure behind an exception from connecting: name, network, TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailure(_of_certificate(error, endpoint))
    if isinstance(error, ssl.SSLError):
        return ConnectionFailure(of_tls_text(f"{error.reason or error}", endpoint))
    return ConnectionFailure(f"{endpoint}: {_of_network(error)}")


def of_credentials(error: OSError, file: object) -> ConnectionFailure:
    """A TLS file that cannot be loaded."""
    if isinstance(error, ssl.SSLError):
        reason = error.reason or error
        return ConnectionFailure(
            f"{file}: no usable PEM file, or key and certificate do not match ({reason}); see mqtt.tls"
        )
    return ConnectionFailure(f"{file}: {error.strerror or error}; see mqtt.tls")


def of_refusal(reason: ReasonCode, endpoint: Endpoint) -> ConnectionFailure:
    """The failure behind a CONNACK that says no."""
    if reason.value in _LOGIN_REFUSED:
        account = f"user {endpoint.username!r}" if endpoint.username else "a login without user name"
        return ConnectionFailure(
            f"{endpoint}: the broker refuses {account} ({_words(reason)}); check mqtt.username and mqtt.password",
            permanent=True,
        )
    if reason.value == _UNSUPPORTED_VERSION:
        other = "3.1.1" if endpoint.protocol == "5" else "5"
        sentence = f"{endpoint}: the broker does not speak MQTT {endpoint.protocol}; set mqtt.protocol: {other}"
        return ConnectionFailure(sentence, permanent=True)
    if reason.value == _CLIENT_ID_REFUSED:
        sentence = f"{endpoint}: the broker refuses the client id {endpoint.client_id!r}; set mqtt.client_id"
        return ConnectionFailure(sentence, permanent=True)
    return ConnectionFailure(f"{endpoint}: the broker refuses the connection ({_words(reason)}); see its log")


def of_disconnect(reason: ReasonCode, endpoint: Endpoint) -> ConnectionFailure:
    """The failure behind a DISCONNECT from the broker (MQTT 5)."""
    if reason.value == _TAKEN_OVER:
        return ConnectionFailure(
            f"{endpoint}: another client took over the client id {endpoint.client_id!r};"
            " give each device its own device.id or mqtt.client_id"
        )
    sentence = f"{endpoint}: the broker ended the connection ({_words(reason)}); see its log if that repeats"
    return ConnectionFailure(sentence, permanent=reason.value == 0x87)


def of_repeated_drops(endpoint: Endpoint) -> ConnectionFailure:
    """The broker hangs up soon after each login without a word, which is how many tell of a stolen client id."""
    return ConnectionFailure(
        f"{endpoint}: the broker drops the connection soon after each login; most likely another client uses the"
        f" client id {endpoint.client_id!r} (give each device its own device.id or mqtt.client_id), else see its log"
    )


def of_loss(
    endpoint: Endpoint, last_error: str | None, *, before_answer: bool, refused: str | None = None
) -> ConnectionFailure:
    """The connection ended without a word from the broker; `refused` is the topic it had just refused."""
    if last_error is not None and ("SSL" in last_error or "TLS" in last_error.upper()):
        return ConnectionFailure(of_tls_text(last_error, endpoint))
    if before_answer:
        hint = "is it an MQTT port, and one without TLS?"
        if endpoint.tls:  # a reset can overtake the alert that says so
            hint = "does it want a client certificate (mqtt.tls.cert_file), and is it an MQTT port?"
        return ConnectionFailure(f"{endpoint}: the connection was closed before the broker answered; {hint}")
    if refused is not None:  # mosquitto 2.0.11 does that
        return ConnectionFailure(f"{endpoint}: the broker refused {refused} and hung up; check its ACL")
    return ConnectionFailure(
        f"{endpoint}: the connection was lost; check network and broker if that repeats", wordless=True
    )


def of_silence(endpoint: Endpoint, seconds: float, *, before_answer: bool) -> ConnectionFailure:
    """The connection stands but nothing comes."""
    if before_answer:
        return ConnectionFailure(
            f"{endpoint}: connected, but no answer to the login within {seconds:.0f} s; is it an MQTT port?"
        )
    return ConnectionFailure(
        f"{endpoint}: the broker has not answered for {seconds:.0f} s; check the network if that repeats"
    )


def of_nonsense(error: Exception, endpoint: Endpoint) -> ConnectionFailure:
    """Bytes came that are not MQTT."""
    return ConnectionFailure(
        f"{endpoint}: what answers there does not speak MQTT ({error}); check mqtt.host and mqtt.port"
    )


def of_tls_text(text: str, endpoint: Endpoint) -> str:
    """The sentence for OpenSSL's reason, which comes as a symbol or inside a message."""
    upper = text.upper().replace(" ", "_")
    if "WRONG_VERSION_NUMBER" in upper or "RECORD_LAYER_FAILURE" in upper or "UNEXPECTED_EOF" in upper:
        return f"{endpoint}: the port does not speak TLS; take the broker's TLS port (often 8883) or remove mqtt.tls"
    if "CERTIFICATE_REQUIRED" in upper or "HANDSHAKE_FAILURE" in upper:
        return f"{endpoint}: the broker wants a client certificate; set mqtt.tls.cert_file and mqtt.tls.key_file"
    if "UNKNOWN_CA" in upper or "BAD_CERTIFICATE" in upper or "CERTIFICATE_UNKNOWN" in upper:
        return f"{endpoint}: the broker does not accept this device's certificate; check mqtt.tls.cert_file"
    if "PROTOCOL_VERSION" in upper or "UNSUPPORTED_PROTOCOL" in upper:
        return f"{endpoint}: the broker offers no TLS 1.2 or newer; upgrade the broker"
    return f"{endpoint}: TLS failed ({text.strip()}); check mqtt.port and mqtt.tls"


_NETWORK = (
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
        return f"{endpoint}: the broker's certificate is for another host name; set mqtt.host to the name in it"
    return (
        f"{endpoint}: the broker's certificate is not signed by a trusted authority ({error.verify_message});"
        " check mqtt.tls.ca_file"
    )


def _words(reason: ReasonCode) -> str:
    return str(reason.getName()).lower()
