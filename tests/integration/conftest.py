"""Brokers, subscribers, proxies and clients for integration tests."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import Broker, Proxy, Subscriber
from client_scene import TOPICS

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.mqtt.client import MqttClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_classifierd.clock import Clock


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Return a function that starts a broker; all are stopped at the end."""
    made: list[Broker] = []

    def make(settings: str = "allow_anonymous true", *, persistence: bool = True, start: bool = True) -> Broker:
        directory = tmp_path / f"broker{len(made)}"
        directory.mkdir()
        made.append(Broker(directory, settings, persistence=persistence))
        return made[-1].start() if start else made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """A running broker that accepts anonymous clients and keeps its sessions over restarts."""
    return make_broker()


@pytest.fixture
def subscribe() -> Iterator[Callable[..., Subscriber]]:
    made: list[Subscriber] = []

    def make(port: int, topic: str = "#") -> Subscriber:
        made.append(Subscriber(port, topic))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], Proxy]]:
    made: list[Proxy] = []

    def make(target: int) -> Proxy:
        made.append(Proxy(target))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers with a seed that the report of a failure contains."""
    seed = int(os.environ.get("EDGE_CLASSIFIERD_SEED", "1"))
    request.node.add_report_section("setup", "seed", f"EDGE_CLASSIFIERD_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which systemd receives notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(20)
        yield channel


@pytest.fixture
def make_client() -> Iterator[Callable[..., MqttClient]]:
    """Make a client, not started: `make_client(port, key=value of the section …)`."""
    made: list[MqttClient] = []

    def make(
        port: int,
        *,
        answer_timeout_s: float = 20.0,
        longest_s: float = 0.5,
        clock: Clock | None = None,
        **section: Any,
    ) -> MqttClient:
        settings = {"host": "127.0.0.1", "port": port, **section}
        client = MqttClient(
            MqttSection.model_validate(settings),
            topics=TOPICS,
            clock=clock or SystemClock(),
            backoff=Backoff(0.05, longest_s),
            answer_timeout_s=answer_timeout_s,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.stop(1.0)


@pytest.fixture
def guarded(make_broker: Any, tmp_path: Path) -> Any:
    """A broker with one account, `edge` / `secret-word`, that may write everything but `forbidden/#`."""
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    command = ["mosquitto_passwd", "-b", "-c", str(passwords), "edge", "secret-word"]
    subprocess.run(command, check=True, capture_output=True)
    acl.write_text("user edge\ntopic readwrite edge-classifierd/#\n")
    passwords.chmod(0o644)
    return make_broker(f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}")
