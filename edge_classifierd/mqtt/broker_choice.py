"""Choice of the broker's address and of the version of MQTT for the next attempt to connect."""

from __future__ import annotations

import hashlib
import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt import connection_errors
from edge_classifierd.mqtt.broker_addresses import BrokerAddresses

if TYPE_CHECKING:
    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.connection_errors import ConnectionFailure

_log = logging.getLogger(__name__)

_LOGIN_TIMEOUT_S: Final = 5.0
_FORGET_PROTOCOL_ROUNDS: Final = 3
_SETTLED_S: Final = 60.0
_MACHINE_ID: Final = Path("/etc/machine-id")


class BrokerChoice:
    """Tries each address of each host in turn; with `protocol: auto` MQTT 5 first, then 3.1.1 on the same address.

    The version of the first successful login is used until the process ends, or until it fails in three rounds.
    """

    def __init__(self, section: MqttSection, device: str) -> None:
        self._auto = section.protocol == "auto"
        self._protocol = None if self._auto else str(section.protocol)
        self._addresses = BrokerAddresses(section.host, section.port)
        self._mqtt5_failure: ConnectionFailure | None = None
        self.failed_rounds = 0
        """Number of rounds through all addresses since the last login."""
        self.silences = 0
        """Number of connections in a row that ended soon because the broker did not answer."""
        self.endpoint = connection_errors.Endpoint(
            host=section.host[0],
            port=section.port,
            tls=section.tls is not None,
            username=section.username,
            client_id=section.client_id or default_client_id(device),
            protocol=self._protocol or "5",
        )
        """The broker of the connection, or of the last attempt."""

    @property
    def round_complete(self) -> bool:
        """Whether every address was tried since the round began."""
        return self._addresses.round_complete

    @property
    def login_timeout_s(self) -> float:
        """Short, so that a silent node is left soon; it doubles with each failed round for a slow broker."""
        return _LOGIN_TIMEOUT_S * 2.0 ** min(self.failed_rounds, 3)

    @property
    def patience(self) -> float:
        """Factor of the time to wait for answers, up to 8.

        A broker that has too much to do would have even more with the logins of a whole fleet that gives up early.
        """
        return 2.0 ** min(self.silences, 3)

    def advance(self) -> ConnectionFailure | None:
        """Set `endpoint` to the next address or version; the failure if a name cannot be resolved."""
        if self._mqtt5_failure is not None:
            self.endpoint = replace(self.endpoint, protocol="3.1.1")
            return None
        try:
            host, address = self._addresses.take()
        except (OSError, UnicodeError) as error:
            self.endpoint = replace(self.endpoint, host=self._addresses.host)
            return connection_errors.of_exception(error, self.endpoint)
        self.endpoint = replace(self.endpoint, host=host, address=address, protocol=self._protocol or "5")
        return None

    def connected(self) -> None:
        """Record a login."""
        self._mqtt5_failure = None
        self.failed_rounds = 0
        if self._protocol is None:
            self._protocol = self.endpoint.protocol
            _log.info("%s: the broker supports MQTT %s, which is used from now on", self.endpoint, self._protocol)

    def lost(self, failure: ConnectionFailure, lasted_s: float) -> None:
        """Record the end of a connection that lasted `lasted_s` since its login."""
        soon = lasted_s < _SETTLED_S * self.patience
        self.silences = self.silences + 1 if failure.silent and soon else 0

    def failed(self, failure: ConnectionFailure) -> ConnectionFailure | None:
        """Record a failed attempt; None if the same address is to be tried with MQTT 3.1.1."""
        if self._protocol is None and self._mqtt5_failure is None and failure.other_protocol:
            self._mqtt5_failure = failure
            return None
        failure, self._mqtt5_failure = self._mqtt5_failure or failure, None
        if self.round_complete:
            self.failed_rounds += 1
            if self._auto and self.failed_rounds >= _FORGET_PROTOCOL_ROUNDS:
                self._protocol = None
        return failure


def default_client_id(device: str) -> str:
    """Return `edge-classifierd-<device>-<8 hex>`, unique to the machine: a client id must be used once on a broker."""
    try:
        identity = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        identity = ""
    # The machine id itself is confidential, see machine-id(5).
    digest = hashlib.sha256(f"edge-classifierd:{identity or socket.gethostname()}".encode()).hexdigest()
    return f"edge-classifierd-{device}-{digest[:8]}"
