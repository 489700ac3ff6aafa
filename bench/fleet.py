"""The delivery parts of N devices against a RabbitMQ cluster of three nodes: loss, order, latency, depth and memory.

usage: sudo python bench/fleet.py N [--rate 1] [--starts 10] [--seconds 60] [--kill-nodes] [--json]

Each device has what the daemon has: an outbox on the disk, publisher, MQTT client with the three nodes, states, health
and Home Assistant's discovery; there is no camera and no classifier. The cluster is that of docs/fleet/rabbitmq, in a
Debian tree (tests/system/rabbitmq.sh), with TLS and an account for each device. A subscriber of its own receives all
events; each must arrive, in order for its device. QoS 1 may repeat an event, with the same content. Latency is from the
call of append, before the event is on the disk, to the subscriber. With --kill-nodes each node is killed in turn while
events go on, and started again DOWN seconds later. Exits 0 when nothing was lost or out of order, 1 when something was,
3 when it cannot be measured. Needs root, and debootstrap the first time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/system"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet_devices import Share, run
from fleet_figures import Figures, Latency, Phase, print_table
from fleet_subscriber import EventSubscriber, TrafficSubscriber, compare
from rabbitmq_fleet import Cluster

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fleet_devices import Appended, Sample
    from fleet_subscriber import Received
    from rabbitmq_node import Node

REPOSITORY: Final = Path(__file__).resolve().parents[1]
_DEVICES_PER_PROCESS: Final = 250
_CONNECT_S: Final = 600.0
_DRAIN_S: Final = 300.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Workers:
    """The processes with the devices."""

    def __init__(self, shares: list[Share]) -> None:
        context = multiprocessing.get_context("spawn")
        self.samples: list[list[Sample]] = [[] for _ in shares]
        self.pipes: list[Connection] = []
        self._processes = []
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=run, args=(share, theirs), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self._processes.append(process)
        self.bare_mb = sum(pipe.recv() for pipe in self.pipes)
        """Resident memory of the processes without devices."""
        for pipe in self.pipes:
            pipe.recv()  # `made`

    def order(self, word: str) -> None:
        for pipe in self.pipes:
            pipe.send(word)

    def collect(self) -> list[Sample]:
        """Receive the new samples; return the newest of each process."""
        for pipe, samples in zip(self.pipes, self.samples, strict=True):
            while pipe.poll():
                samples.append(pipe.recv())
        return [samples[-1] for samples in self.samples if samples]

    @property
    def connected(self) -> int:
        return sum(sample.connected for sample in self.collect())

    @property
    def depth(self) -> int:
        return sum(sample.depth for sample in self.collect())

    @property
    def reconnects(self) -> int:
        return sum(sample.reconnects for sample in self.collect())

    def end(self) -> list[Appended]:
        self.order("end")
        appended: list[Appended] = []
        for pipe, process in zip(self.pipes, self._processes, strict=True):
            while not isinstance(answer := pipe.recv(), list):
                pass
            appended += answer
            process.join(30)
        return appended

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.join(30)


class Run:
    """One measurement."""

    def __init__(self, arguments: argparse.Namespace, cluster: Cluster, work: Path, passwords: dict[str, str]) -> None:
        self._arguments = arguments
        self._cluster = cluster
        self._count: int = arguments.devices
        self.figures = Figures(self._count, arguments.rate)
        self._events = EventSubscriber(cluster.section, passwords["home"])
        self._traffic = TrafficSubscriber(cluster.section, passwords["home"])
        self.figures.nodes_idle_mb = [memory_mb(node) for node in cluster.nodes]
        names = [name for name in passwords if name != "home"]
        parts = min(len(names), max(2, ceil(len(names) / _DEVICES_PER_PROCESS)))
        shares = [
            Share(
                work / f"devices{part}",
                tuple(names[part::parts]),
                {name: passwords[name] for name in names[part::parts]},
                cluster.section,
                arguments.rate * len(names[part::parts]) / len(names),
                arguments.starts / parts,
                part,
            )
            for part in range(parts)
        ]
        start_s = time.monotonic()
        self._workers = Workers(shares)
        note(f"{self._count} devices in {parts} processes made after {time.monotonic() - start_s:.0f} s")

    def measure(self) -> None:
        try:
            self._connect()
            self._steady()
            if self._arguments.kill_nodes:
                for node in self._cluster.nodes:
                    self._kill(node)
            self._workers.order("quiet")
            self._drain()
            appended = self._workers.end()
        finally:
            self._workers.kill()
        time.sleep(1.0)
        self._events.close()
        self._traffic.close()
        self.figures.subscriber_connections = self._events.connections
        self.figures.subscriber_lost_sessions = self._events.lost_sessions
        self.figures.comparison = compare(appended, self._events.events)
        self._summarise(appended, self._events.events)

    def _connect(self) -> None:
        start_s = time.monotonic()
        while self._workers.connected < self._count:
            if time.monotonic() - start_s > _CONNECT_S:
                raise RuntimeError(f"{self._workers.connected} of {self._count} devices connected")
            time.sleep(0.2)
        self.figures.connect_s = round(time.monotonic() - start_s, 1)
        note(f"all connected after {self.figures.connect_s:.0f} s")
        time.sleep(min(20.0, 5.0 + self._count / 50))  # the first states and discovery

    def _steady(self) -> None:
        figures, nodes = self.figures, self._cluster.nodes
        self._workers.order("events")
        time.sleep(5.0)
        phase = self._phase("all nodes run")
        cpu_s = [processor_s(node) for node in nodes]
        devices_cpu_s = sum(sample.cpu_s for sample in self._workers.collect())
        messages, octets = Counter(self._traffic.messages), Counter(self._traffic.bytes)
        time.sleep(self._arguments.seconds)
        took_s = time.monotonic() - phase.start_s
        figures.nodes_cpu = [
            round((processor_s(node) - before) / took_s, 3) for node, before in zip(nodes, cpu_s, strict=True)
        ]
        newest = self._workers.collect()
        figures.devices_cpu = round((sum(sample.cpu_s for sample in newest) - devices_cpu_s) / took_s, 3)
        figures.devices_mb = round(sum(sample.resident_mb for sample in newest) - self._workers.bare_mb, 1)
        figures.nodes_mb = figures.nodes_most_mb = [memory_mb(node) for node in nodes]
        figures.nodes_descriptors = [descriptors(node) for node in nodes]
        figures.traffic = {
            kind: (round(count / took_s, 2), round((self._traffic.bytes[kind] - octets[kind]) / took_s, 1))
            for kind, count in sorted((self._traffic.messages - messages).items())
        }
        phase.end_s = time.monotonic()
        note(f"all nodes ran for {took_s:.0f} s")

    def _kill(self, node: Node) -> None:
        """Kill a node, start it again, and wait until the cluster is whole and all devices are connected."""
        before = self._workers.reconnects
        phase = self._phase(f"{node.host[-1]} killed")
        node.kill()
        while time.monotonic() - phase.start_s < self._arguments.down:
            self._watch_return(phase, before)
            time.sleep(0.1)
        node.start()
        other = next(one for one in self._cluster.nodes if one is not node)
        other.control("await_online_nodes", "3")
        node.control("await_online_quorum_plus_one", "-t", "120", program="rabbitmq-upgrade")
        while not self._watch_return(phase, before):
            if time.monotonic() - phase.start_s > _CONNECT_S:
                raise RuntimeError(f"{self._workers.connected} of {self._count} devices connected again")
            time.sleep(0.2)
        time.sleep(5.0)
        phase.end_s = time.monotonic()
        now_mb = [memory_mb(one) for one in self._cluster.nodes]
        self.figures.nodes_most_mb = list(map(max, self.figures.nodes_most_mb, now_mb))
        note(f"{node.name} killed and back after {phase.end_s - phase.start_s:.0f} s")

    def _watch_return(self, phase: Phase, before: int) -> bool:
        """Note when all devices are connected again after a loss; whether they are."""
        whole = self._workers.connected == self._count and self._workers.reconnects > before
        if whole and phase.reconnected_s is None:
            phase.reconnected_s = round(time.monotonic() - phase.start_s, 1)
        return whole

    def _drain(self) -> None:
        phase = self._phase("events ended")
        while self._workers.depth and time.monotonic() - phase.start_s < _DRAIN_S:
            time.sleep(0.2)
        time.sleep(3.0)
        phase.end_s = time.monotonic()

    def _phase(self, name: str) -> Phase:
        self.figures.phases.append(Phase(name, time.monotonic()))
        return self.figures.phases[-1]

    def _summarise(self, appended: list[Appended], received: list[Received]) -> None:
        first: dict[str, float] = {}
        for one in received:
            first.setdefault(one.event_id, one.at_s)
        for phase in self.figures.phases:
            inside = [one for one in appended if phase.start_s <= one.called_s < phase.end_s]
            phase.latency = Latency.of([first[one.event_id] - one.called_s for one in inside if one.event_id in first])
            samples = [
                [sample for sample in known if phase.start_s <= sample.at_s < phase.end_s]
                for known in self._workers.samples
            ]
            phase.least_connected = sum(min((one.connected for one in known), default=0) for known in samples)
            phase.depth = sum(max((one.depth for one in known), default=0) for known in samples)
            phase.deepest = max((one.deepest for known in samples for one in known), default=0)
        self.figures.append = Latency.of([one.durable_s - one.called_s for one in appended])
        self.figures.reconnects = sum(known[-1].reconnects for known in self._workers.samples)


def memory_mb(node: Node) -> float:
    """Return the resident memory of a node's Erlang virtual machine."""
    text = (Path("/proc") / str(node.emulator()) / "statm").read_text()
    return round(int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def descriptors(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.emulator()}/fd"))  # noqa: PTH208 - the count is all


def processor_s(node: Node) -> float:
    """Return the processor time of a node's Erlang virtual machine."""
    fields = (Path("/proc") / str(node.emulator()) / "stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def note(sentence: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {sentence}", file=sys.stderr, flush=True)


def tree() -> Path:
    """Return the Debian tree with RabbitMQ. Ends with 3 if there is none and none can be made."""
    if os.geteuid() != 0:
        sys.exit("bench/fleet.py: needs root, for the tree in which RabbitMQ runs")
    made = subprocess.run(
        [REPOSITORY / "tests/system/rabbitmq.sh", "tree"], check=False, capture_output=True, text=True
    )
    if made.returncode or shutil.which("openssl") is None:
        print(
            f"no RabbitMQ here: {made.stderr.strip() or made.stdout.strip() or 'openssl is missing'}", file=sys.stderr
        )
        raise SystemExit(3)
    return Path(made.stdout.split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("devices", type=int, help="number of devices")
    parser.add_argument("--rate", type=float, default=1.0, help="events per second, of all devices together")
    parser.add_argument("--seconds", type=float, default=60.0, help="with all nodes, before the first is killed")
    parser.add_argument("--starts", type=float, default=10.0, help="devices started per second")
    parser.add_argument("--kill-nodes", action="store_true", help="kill -9 each node in turn")
    parser.add_argument("--down", type=float, default=10.0, help="how long a killed node is away at least, in s")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.devices < 1 or arguments.rate <= 0 or arguments.starts <= 0:
        parser.error("at least one device, and rates above 0")
    root = tree()
    names = [f"d{number:05}" for number in range(arguments.devices)]
    passwords = {name: f"password of {name}" for name in [*names, "home"]}
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        cluster = Cluster(root, Path(folder), REPOSITORY, passwords)
        try:
            note("starting three nodes")
            cluster.start()
            run_ = Run(arguments, cluster, Path(folder), passwords)
            run_.measure()
        finally:
            cluster.close()
    figures = run_.figures
    if arguments.json:
        print(json.dumps(asdict(figures)))
    else:
        print_table(figures)
    return 0 if figures.comparison is not None and figures.comparison.holds else 1


if __name__ == "__main__":
    sys.exit(main())
