"""Nodes of RabbitMQ in a Debian tree, each on its own loopback address, as processes that can be killed and frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

PORT = 21883

_IN_TREE = (
    "R=$1; W=$2; E=$3; shift 3; mount --rbind /proc $R/proc; mount --rbind /dev $R/dev; mount --bind $W $R/rmq; "
    'mount --bind $E $R/etc/rabbitmq; exec chroot $R "$@"'
)
_ALONE = (
    "listeners.tcp = none\nmqtt.listeners.tcp.1 = {host}:{port}\nmqtt.allow_anonymous = true\n"
    "anonymous_login_user = guest\nanonymous_login_pass = guest\nloopback_users = none\n"
)


class Node:
    """Node `number` on 127.0.0.<number>, named r<number>@rabbit<number>. `etc` becomes its /etc/rabbitmq.

    The constructor adds to /etc/rabbitmq/conf.d what several nodes on one machine need.
    """

    def __init__(self, root: Path, work: Path, number: int) -> None:
        self.host = f"127.0.0.{number}"
        self.name = f"r{number}@rabbit{number}"
        self.etc = work / f"etc{number}"
        self._root, self._work = root, work
        self._home = f"/rmq/n{number}"
        (programs,) = (root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin")
        self._programs = f"/{programs.relative_to(root)}"
        folder = work / f"n{number}"
        folder.mkdir()
        (root / "rmq").mkdir(exist_ok=True)
        (root / "etc/hosts").write_text("127.0.0.1 localhost rabbit1\n127.0.0.2 rabbit2\n127.0.0.3 rabbit3\n")
        (self.etc / "conf.d").mkdir(parents=True)
        ports = "".join(f"distribution.listener.port_range.{end} = 2568{number}\n" for end in ("min", "max"))
        (self.etc / "conf.d/90-machine.conf").write_text(f"log.console.level = info\n{ports}")
        (folder / ".erlang.cookie").write_text("edge")
        (folder / ".erlang.cookie").chmod(0o400)
        self.log = folder / "console.log"
        self._environment = [
            "env", f"HOME={self._home}", "LANG=C.UTF-8", f"RABBITMQ_NODENAME={self.name}",
            "RABBITMQ_USE_LONGNAME=false", f"RABBITMQ_DIST_PORT=2568{number}",
            f"RABBITMQ_MNESIA_BASE={self._home}/data", f"RABBITMQ_LOG_BASE={self._home}/log", "RABBITMQ_LOGS=-",
            f"RABBITMQ_PID_FILE={self._home}/pid", "ERL_EPMD_ADDRESS=127.0.0.1,127.0.0.2,127.0.0.3",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node and wait until it serves."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the node."""
        with self.log.open("wb") as log:
            command = [*self._environment, f"{self._programs}/rabbitmq-server"]
            self._process = subprocess.Popen(
                self._command(command), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until the node serves."""
        deadline_s = time.monotonic() + 180
        while b" completed with " not in self.log.read_bytes():  # written even when the log drops messages
            assert time.monotonic() < deadline_s, self.log.read_text()[-2000:]
            time.sleep(0.2)

    def control(self, *arguments: str, program: str = "rabbitmqctl") -> str:
        """Run rabbitmqctl, or another of RabbitMQ's programs; return its output."""
        command = [*self._environment, f"{self._programs}/{program}", "-q", "-n", self.name, *arguments]
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

    def stop(self) -> None:
        """End the node as systemd does, in order."""
        assert self._process is not None
        self.signal(signal.SIGTERM)
        self._process.wait(60)
        self._process = None

    def emulator(self) -> int | None:
        """Return the process id of the node's Erlang virtual machine; None if it does not run."""
        assert self._process is not None
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                name, fields = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue
            if name == "beam.smp" and int(fields.split()[2]) == self._process.pid:
                return int(folder.name)
        return None

    def _command(self, command: list[str]) -> list[str]:
        unshare = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _IN_TREE, "in_tree"]
        return [*unshare, str(self._root), str(self._work), str(self.etc), *command]


def single_node(root: Path, work: Path, settings: str = "") -> Node:
    """Return a node of its own that accepts anonymous clients without TLS."""
    node = Node(root, work, 1)
    (node.etc / "rabbitmq.conf").write_text(_ALONE.format(host=node.host, port=PORT) + settings)
    (node.etc / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
    return node
