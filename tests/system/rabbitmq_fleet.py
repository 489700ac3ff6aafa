"""The cluster of three nodes that docs/fleet/rabbitmq describes, with its files: only addresses and ports differ."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from rabbitmq_node import PORT, Node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REPOSITORY_FILES = "docs/fleet/rabbitmq"


class Cluster:
    """Three nodes with TLS and accounts. `close` ends them."""

    def __init__(self, root: Path, work: Path, repository: Path, accounts: Mapping[str, str], more: str = "") -> None:
        """Write the files of the nodes.

        Args:
            root: a Debian tree with RabbitMQ.
            work: an empty folder.
            repository: the repository, whose docs/fleet/rabbitmq is used.
            accounts: the passwords of devices by name; the account `home` gets the rights of home automation.
            more: further lines of configuration for each node.
        """
        self._work = work
        self._recipes = repository / REPOSITORY_FILES
        self.ca_file = work / "ca.crt"
        self._openssl("req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Fleet CA")
        rows = "".join(f"{name},{word}{',home' if name == 'home' else ''}\n" for name, word in accounts.items())
        (work / "accounts.csv").write_text(rows)
        command = [sys.executable, self._recipes / "accounts.py", work / "accounts.csv"]
        definitions = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.nodes = [Node(root, work, number) for number in (1, 2, 3)]
        for node in self.nodes:
            self._write(node, definitions, more)

    @property
    def section(self) -> dict[str, object]:
        """The keys of `mqtt` that all devices have in common."""
        return {"host": [node.host for node in self.nodes], "port": PORT, "tls": {"ca_file": str(self.ca_file)}}

    def start(self) -> None:
        """Start the nodes; the second and the third join the first."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()
        for node in self.nodes[1:]:
            for command in (["stop_app"], ["join_cluster", self.nodes[0].name], ["start_app"]):
                node.control(*command)
        self.nodes[0].control("await_online_nodes", "3")
        self.nodes[0].control("enable_feature_flag", "all")

    def close(self) -> None:
        """End all nodes at once."""
        for node in self.nodes:
            node.kill()

    def _write(self, node: Node, definitions: str, more: str) -> None:
        number = node.host[-1]
        replaced = {"192.0.2.11:8883": f"{node.host}:{PORT}", "192.0.2.11": node.host}
        for source, name in (("rabbitmq.conf", ""), ("10-node.conf", "conf.d"), ("enabled_plugins", "")):
            text = (self._recipes / source).read_text()
            for documented, here in replaced.items():
                text = text.replace(documented, here)
            (node.etc / name / source).write_text(text)
        (node.etc / "conf.d/80-test.conf").write_text(more.replace("HOST", node.host))
        (node.etc / "definitions.json").write_text(definitions)
        tls = node.etc / "tls"
        tls.mkdir()
        (tls / "ca.crt").write_bytes(self.ca_file.read_bytes())
        (self._work / "names").write_text(f"subjectAltName=IP:{node.host},DNS:rabbit{number}.example.org\n")
        request = ("-keyout", str(tls / "node.key"), "-out", "node.csr", "-subj", f"/CN=rabbit{number}.example.org")
        self._openssl("req", *_KEY, *request)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        self._openssl("x509", "-req", "-in", "node.csr", "-out", str(tls / "node.crt"), *signed)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._work, check=True, capture_output=True)


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
