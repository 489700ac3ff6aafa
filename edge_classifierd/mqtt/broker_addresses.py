"""Addresses of the broker: each address of each configured host, tried in turn."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class BrokerAddress(NamedTuple):
    """A configured host and one of its IP addresses."""

    host: str
    address: str


class BrokerAddresses:
    """A round visits each address of each host once; names are resolved when their turn comes."""

    def __init__(self, hosts: Sequence[str], port: int) -> None:
        self._hosts = hosts
        self._port = port
        self._remaining_hosts: deque[str] = deque()
        self._remaining: deque[BrokerAddress] = deque()
        self.host = hosts[0]
        """The host of the last address."""

    @property
    def round_complete(self) -> bool:
        """Whether each address was taken; `take` then starts the next round."""
        return not (self._remaining or self._remaining_hosts)

    def take(self) -> BrokerAddress:
        """Return the next address.

        Raises:
            OSError: The name cannot be resolved; the next call takes the next host.
            UnicodeError: The name is not valid.
        """
        if self.round_complete:
            self._remaining_hosts.extend(self._hosts)
        if not self._remaining:
            self.host = self._remaining_hosts.popleft()
            found = socket.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)
            literal = (
                len({str(entry[4][0]) for entry in found}) == 1 and ":" in self.host
            )  # keeps the zone of fe80::1%eth0
            addresses = [self.host] if literal else [str(entry[4][0]) for entry in found]
            self._remaining.extend(BrokerAddress(self.host, one) for one in dict.fromkeys(addresses))
        return self._remaining.popleft()
