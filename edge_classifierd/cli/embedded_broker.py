"""The broker of the demonstration: amqtt on a free loopback port, in a child process that ends with its parent."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
import time
from typing import TYPE_CHECKING

from edge_classifierd.errors import ExitCode, MissingError

if TYPE_CHECKING:
    import subprocess

_START_TIMEOUT_S = 20.0


def wait_until_listening(process: subprocess.Popen[bytes], timeout_s: float = _START_TIMEOUT_S) -> int:
    """Return the port of a started child. Raises MissingError when amqtt is not installed or does not start."""
    assert process.stdout is not None
    deadline_s = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            raise MissingError(f"the embedded broker did not start within {timeout_s:g} s; run the demo again")
        part = os.read(process.stdout.fileno(), 64)
        if not part:
            break
        line += part
    if not line.strip().isdigit():
        raise MissingError("the embedded broker did not start; install it with `pip install 'edge-classifierd[demo]'`")
    return int(line)


async def _serve() -> None:
    from amqtt.broker import Broker

    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}, "plugins": plugins})
    await broker.start()
    (server,) = broker._servers.values()  # amqtt does not report its port elsewhere
    print(server.instance.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent reads it
    # Standard input closes when the parent ends.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    await broker.shutdown()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(_serve())
    except ImportError:
        sys.exit(ExitCode.MISSING)  # the parent prints the message
