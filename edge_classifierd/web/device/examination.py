"""The route of the doctor: its checks run in a child process, one at a time, so that they cannot disturb the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.web.route import PageRoute, RequestError, json_answer

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from edge_classifierd.pipeline.observation.control import HealthSource

COMMAND = [sys.executable, "-m", "edge_classifierd"]
_TIMEOUT_S: Final = 90.0
_NEEDED_MB: Final = 150.0
"""Memory of the child; its lack would end the whole service (OOMPolicy of the unit)."""


class DoctorRoutes:
    """Runs `edge-classifierd doctor` on request. The doctor does not open cameras and Edge TPUs that are in use."""

    def __init__(self, config: Path, health: HealthSource, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._config = config
        self._health = health
        self._timeout_s = timeout_s
        self._running = asyncio.Lock()

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (PageRoute("POST", "/api/doctor", self._examine),)

    async def _examine(self, _request: Request) -> Response:
        if self._running.locked():
            raise RequestError(409, "busy", "the checks are running already", retry_after_s=10)
        health = self._health.document()
        available_mb = health.board.available_mb if health is not None else None
        if available_mb is not None and available_mb < _NEEDED_MB:
            sentence = f"the checks need {_NEEDED_MB:.0f} MB of memory, and {available_mb:.0f} MB are available"
            raise RequestError(503, "memory", sentence, retry_after_s=60)
        async with self._running:
            return json_answer(await self._run())

    async def _run(self) -> dict[str, Any]:
        child = await asyncio.create_subprocess_exec(
            *COMMAND, "doctor", "--json", "--config", str(self._config),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._timeout_s):
                output, _ = await child.communicate()
        except TimeoutError:
            raise RequestError(503, "timeout", f"the checks took longer than {self._timeout_s:g} s") from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        try:
            document = json.loads(output)
        except ValueError:
            sentence = f"the checks ended with code {child.returncode}; run `sudo edge-classifierd doctor`"
            raise RequestError(503, "failed", sentence) from None
        return {"ok": document["ok"], "findings": document["findings"]}
