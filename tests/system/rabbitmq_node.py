"""Nodes of RabbitMQ in a Debian tree, each on its own loopback address, as processes that can be killed and frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PORT = 21883

_IN_TREE = (
    "R=$1; W=$2; shift 2; mount --rbind /proc $R/proc; mount --rbind /dev $R/dev; mount --bind $W $R/rmq; "
    'exec chroot $R "$@"'
)


class Node:
    """Node `number` on 127.0.0.<number>."""

    def __init__(self, root: Path, work: Path, number: int, settings: str = "") -> None:
        self.host = f"127.0.0.{number}"
        self.name = f"r{number}@rn{number}"
        self._root, self._work = root, work
        self._home = f"/rmq/n{number}"
        (programs,) = (root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin")
        self._programs = f"/{programs.relative_to(root)}"
        folder = work / f"n{number}"
        folder.mkdir()
        (root / "rmq").mkdir(exist_ok=True)
        (root / "etc/hosts").write_text("127.0.0.1 localhost rn1\n127.0.0.2 rn2\n127.0.0.3 rn3\n")
        ports = "".join(f"distribution.listener.port_range.{end} = 2568{number}\n" for end in ("min", "max"))
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {self.host}:5673\nmqtt.listeners.tcp.1 = {self.host}:{PORT}\n"
            "mqtt.allow_anonymous = true\nanonymous_login_user = guest\nanonymous_login_pass = guest\n"
            "loopback_users = none\n"
            f"log.console.level = info\ndistribution.listener.interface = {self.host}\n{ports}"
            f"cluster_partition_handling = pause_minority\n{settings}"
        )
        (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        (folder / ".erlang.cookie").write_text("edge")
        (folder / ".erlang.cookie").chmod(0o400)
        self.log = folder / "console.log"
        self._environment = [
            "env", f"HOME={self._home}", "LANG=C.UTF-8", f"RABBITMQ_NODENAME={self.name}",
            "RABBITMQ_USE_LONGNAME=false", f"RABBITMQ_DIST_PORT=2568{number}",
            f"RABBITMQ_CONFIG_FILE={self._home}/rabbitmq.conf",
            f"RABBITMQ_ENABLED_PLUGINS_FILE={self._home}/enabled_plugins", f"RABBITMQ_MNESIA_BASE={self._home}/data",
            f"RABBITMQ_LOG_BASE={self._home}/log", "RABBITMQ_LOGS=-", f"RABBITMQ_PID_FILE={self._home}/pid",
            "ERL_EPMD_ADDRESS=127.0.0.1,127.0.0.2,127.0.0.3",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node and wait until it serves."""
        with self.log.open("wb") as log:
            command = [*self._environment, f"{self._programs}/rabbitmq-server"]
            self._process = subprocess.Popen(
                self._command(command), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline_s = time.monotonic() + 120
        while b"Server startup complete" not in self.log.read_bytes():
            assert time.monotonic() < deadline_s, self.log.read_text()[-2000:]
            time.sleep(0.2)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl; return its output."""
        command = [*self._environment, f"{self._programs}/rabbitmqctl", "-q", "-n", self.name, *arguments]
        return subprocess.run(self._command(command), check=True, capture_output=True, text=True).stdout

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole process group of the node."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End the node at once."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def _command(self, command: list[str]) -> list[str]:
        unshare = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _IN_TREE, "in_tree"]
        return [*unshare, str(self._root), str(self._work), *command]
