"""The figures of bench/fleet.py and their table."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_subscriber import Comparison


@dataclass(frozen=True, slots=True)
class Latency:
    """Nearest-rank percentiles in milliseconds, of events appended in one phase."""

    events: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values_s: Sequence[float]) -> Latency:
        ordered = sorted(values_s) or [0.0]
        ranks = [ordered[ceil(rank / 100 * len(ordered)) - 1] * 1000 for rank in (50, 95, 99, 100)]
        return cls(len(values_s), *(round(one, 1) for one in ranks))


@dataclass(slots=True)
class Phase:
    """A part of the run."""

    name: str
    start_s: float
    end_s: float = 0.0
    least_connected: int = 0
    reconnected_s: float | None = None
    """From the kill until every device had a connection."""
    depth: int = 0
    deepest: int = 0
    latency: Latency | None = None


@dataclass(slots=True)
class Figures:
    """All that was measured."""

    devices: int
    rate: float
    comparison: Comparison | None = None
    connect_s: float = 0.0
    phases: list[Phase] = field(default_factory=list)
    append: Latency | None = None
    nodes_idle_mb: list[float] = field(default_factory=list)
    """Resident memory of each node before the devices connect, and with all of them, and the most."""
    nodes_mb: list[float] = field(default_factory=list)
    nodes_most_mb: list[float] = field(default_factory=list)
    nodes_descriptors: list[int] = field(default_factory=list)
    nodes_cpu: list[float] = field(default_factory=list)
    """Share of a processor while all nodes run."""
    devices_mb: float = 0.0
    devices_cpu: float = 0.0
    reconnects: int = 0
    subscriber_connections: int = 0
    subscriber_lost_sessions: int = 0
    traffic: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By kind of message: messages and bytes of topic and payload per second while all nodes run."""


def print_table(figures: Figures) -> None:
    print(f"{figures.devices} devices, {figures.rate:g} events/s in total, three RabbitMQ nodes")
    print(f"{'':16}{'from append to the subscriber, ms':>42}{'waiting events':>22}")
    print(f"{'':16}{'events':>8}{'p50':>8}{'p95':>8}{'p99':>9}{'max':>9}{'all':>7}{'one device':>12}")
    for phase in figures.phases:
        latency = phase.latency
        if latency is not None and latency.events:
            print(
                f"{phase.name:16}{latency.events:8}{latency.p50:8.1f}{latency.p95:8.1f}{latency.p99:9.1f}"
                f"{latency.max:9.1f}{phase.depth:7}{phase.deepest:12}"
            )
    for phase in figures.phases:
        if phase.reconnected_s is not None:
            lost = figures.devices - phase.least_connected
            print(f"node {phase.name}: {lost} devices lost their connection; all back after {phase.reconnected_s} s")
    append = figures.append
    assert append is not None
    print(f"append (on the disk): p50 {append.p50} ms, p99 {append.p99} ms, max {append.max} ms")
    print(f"all devices connected after {figures.connect_s} s; {figures.reconnects} times again later")
    print(f"{'node':8}{'MB without devices':>20}{'MB with them':>14}{'most MB':>10}{'descriptors':>13}{'CPUs':>8}")
    for place in range(len(figures.nodes_mb)):
        print(
            f"{place + 1:<8}{figures.nodes_idle_mb[place]:20}{figures.nodes_mb[place]:14}"
            f"{figures.nodes_most_mb[place]:10}{figures.nodes_descriptors[place]:13}{figures.nodes_cpu[place]:8.2f}"
        )
    print(f"devices: {figures.devices_mb / figures.devices:.2f} MB each, {figures.devices_cpu:.2f} CPUs in total")
    print(f"{'messages':16}{'per s':>10}{'bytes/s':>12}")
    for kind, (messages, octets) in figures.traffic.items():
        print(f"{kind:16}{messages:10.2f}{octets:12.0f}")
    found = figures.comparison
    assert found is not None
    print(
        f"lost {found.lost}, out of order {found.disordered}, unknown {found.unknown}, altered {found.altered}, "
        f"repeated {found.repeated}"
    )
