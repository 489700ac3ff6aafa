"""Recent failures of the connection to the broker: logged once each, and reported in health."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from edge_classifierd.health.metrics import Reason

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.connection_errors import ConnectionFailure

_log = logging.getLogger(__name__)

_WINDOW_S: Final = 600.0
_MANY_LOSSES: Final = 5


class ConnectionHistory:
    """Filled by the network thread; any thread may read `reasons`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._losses: deque[tuple[float, ConnectionFailure]] = deque(maxlen=50)
        self._client_id_taken: tuple[float, str] | None = None
        self._logged: set[str] = set()
        self._failure: ConnectionFailure | None = None

    def connected(self) -> None:
        """Record a login."""
        self._failure = None

    def stable(self) -> None:
        """Record that a connection lasted; later failures are logged again."""
        self._logged.clear()

    def failed(self, failure: ConnectionFailure, *, was_connected: bool, explained: bool = False) -> None:
        """Record a failed attempt or the loss of a connection, and log it once until a connection lasts.

        Args:
            failure: The failure.
            was_connected: Whether a connection was lost.
            explained: The loss was caused by a message that is logged and reported as refused.
        """
        now_s = self._clock.monotonic()
        self._failure = failure
        if was_connected and not explained:
            self._losses.append((now_s, failure))
        if failure.client_id_taken:
            self._client_id_taken = (now_s, failure.sentence)
        level = logging.DEBUG if explained or failure.sentence in self._logged else logging.WARNING
        self._logged.add(failure.sentence)
        _log.log(level, "%s", failure.sentence)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Trouble of the last ten minutes."""
        since_s = self._clock.monotonic() - _WINDOW_S
        failure, taken = self._failure, self._client_id_taken
        found = []
        if failure is not None:
            found.append(Reason("broker.connection", failure.sentence))
        if taken is not None and taken[0] > since_s:
            found.append(Reason("broker.client_id", taken[1]))
        else:
            losses = [one for at_s, one in list(self._losses) if at_s > since_s]
            if len(losses) >= _MANY_LOSSES:
                sentence = f"the connection was lost {len(losses)} times in ten minutes, last: {losses[-1].sentence}"
                found.append(Reason("broker.reconnects", sentence))
        return tuple(dict.fromkeys(found))
