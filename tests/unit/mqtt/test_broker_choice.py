"""Choice of address and protocol: every address of every host, MQTT 5 before 3.1.1."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest

from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.mqtt.broker_choice import BrokerChoice, default_client_id
from edge_classifierd.mqtt.connection_errors import ConnectionFailure

CLOSED = ConnectionFailure("closed; is it an MQTT port?", other_protocol=True)
REFUSED = ConnectionFailure("refused; does it run?")
ADDRESSES = {"one": ["10.0.0.1", "10.0.0.2"], "two": ["10.0.0.3"], "fe80::1%eth0": ["fe80::1"]}


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ADDRESSES[host] * 2]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def choice(**section: Any) -> BrokerChoice:
    return BrokerChoice(MqttSection.model_validate(section), "porch")


def attempts(one: BrokerChoice, count: int, failure: ConnectionFailure) -> list[tuple[str | None, str]]:
    """Return address and version of attempts that fail."""
    found = []
    for _ in range(count):
        assert one.advance() is None
        found.append((one.endpoint.address, one.endpoint.protocol))
        one.failed(failure)
    return found


def test_each_address_of_each_host_is_tried_in_turn() -> None:
    one = choice(host=["one", "two"], protocol=5)
    assert [address for address, _ in attempts(one, 4, REFUSED)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]
    assert one.failed_rounds == 1
    assert not one.round_complete


def test_name_that_is_unknown_does_not_stop_the_others() -> None:
    one = choice(host=["absent", "two"])
    failure = one.advance()
    assert failure is not None
    assert "absent:1883: the host name is unknown" in failure.sentence
    one.failed(failure)
    assert one.advance() is None
    assert str(one.endpoint) == "two:1883"


def test_literal_address_keeps_its_zone() -> None:
    one = choice(host="fe80::1%eth0")
    one.advance()
    assert one.endpoint.address == "fe80::1%eth0"
    assert str(one.endpoint) == "[fe80::1%eth0]:1883"


def test_auto_tries_3_1_1_on_the_same_address_and_remembers_what_worked(caplog: pytest.LogCaptureFixture) -> None:
    one = choice(host=["one"])
    one.advance()
    assert one.failed(CLOSED) is None, "not logged yet"
    one.advance()
    assert (one.endpoint.address, one.endpoint.protocol) == ("10.0.0.1", "3.1.1")
    with caplog.at_level(logging.INFO):
        one.connected()
        one.connected()
    assert caplog.text.count("supports MQTT 3.1.1") == 1
    assert attempts(one, 2, CLOSED) == [("10.0.0.2", "3.1.1"), ("10.0.0.1", "3.1.1")]


def test_failure_with_both_versions_is_the_first_one() -> None:
    one = choice(host=["two"])
    one.advance()
    assert one.failed(CLOSED) is None
    one.advance()
    assert one.failed(REFUSED) is CLOSED


def test_refused_connection_is_not_tried_with_another_version() -> None:
    assert attempts(choice(host=["one"]), 2, REFUSED) == [("10.0.0.1", "5"), ("10.0.0.2", "5")]


def test_another_version_is_tried_after_three_failed_rounds() -> None:
    one = choice(host=["two"])
    one.advance()
    one.connected()
    assert {protocol for _, protocol in attempts(one, 3, CLOSED)} == {"5"}
    assert attempts(one, 2, CLOSED) == [("10.0.0.3", "5"), ("10.0.0.3", "3.1.1")]


def test_configured_version_is_the_only_one() -> None:
    assert attempts(choice(host=["two"], protocol="3.1.1"), 2, CLOSED) == [("10.0.0.3", "3.1.1")] * 2


def test_login_timeout_grows_for_slow_brokers() -> None:
    one = choice(host=["two"], protocol=5)
    assert one.login_timeout_s == 5
    attempts(one, 2, REFUSED)
    assert one.login_timeout_s == 20
    one.connected()
    assert one.login_timeout_s == 5


def test_client_id_is_derived_from_the_machine() -> None:
    assert default_client_id("porch") == default_client_id("porch")
    assert default_client_id("porch").startswith("edge-classifierd-porch-")
