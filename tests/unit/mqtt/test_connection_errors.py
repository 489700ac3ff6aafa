"""Failures of the connection: the wait after each, and a next step in each sentence."""

from __future__ import annotations

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge_classifierd.mqtt import connection_errors
from edge_classifierd.mqtt.connection_errors import ConnectionFailure, Endpoint

ENDPOINT = Endpoint("broker", 1883, tls=False, username="edge", client_id="id", protocol="5")

REFUSALS = [0x80, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x95, 0x97, 0x9A, 0x9B, 0x9F]
ENDS = [0x81, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x96, 0x97, 0x98]


def refused(code: int) -> ConnectionFailure:
    return connection_errors.of_refusal(ReasonCode(PacketTypes.CONNACK, identifier=code), ENDPOINT)


def ended(code: int) -> ConnectionFailure:
    return connection_errors.of_disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=code), ENDPOINT)


def test_failures_that_need_a_person_wait_longest() -> None:
    assert [code for code in REFUSALS if refused(code).permanent] == [0x84, 0x85, 0x86, 0x87, 0x8A]
    assert not [code for code in ENDS if ended(code).permanent]


def test_only_reasons_that_a_message_can_have_are_attributed_to_one() -> None:
    assert [code for code in ENDS if ended(code).by_broker] == [0x81, 0x87, 0x93, 0x96, 0x97]
    assert connection_errors.of_loss(ENDPOINT, "Connection reset by peer", before_answer=False).by_broker
    assert not connection_errors.of_loss(ENDPOINT, "Connection timed out", before_answer=False).by_broker


@pytest.mark.parametrize(
    "failure",
    [
        *(refused(code) for code in REFUSALS),
        *(ended(code) for code in ENDS),
        connection_errors.of_loss(ENDPOINT, None, before_answer=False),
        connection_errors.of_loss(ENDPOINT, None, before_answer=True),
        connection_errors.of_loss(ENDPOINT, "SSL: UNKNOWN_CA", before_answer=False),
        connection_errors.of_silence(ENDPOINT, 20, before_answer=True),
        connection_errors.of_silence(ENDPOINT, 20, before_answer=False),
        connection_errors.of_repeated_drops(ENDPOINT),
        connection_errors.of_exception(OSError(113, "No route to host"), ENDPOINT),
        connection_errors.of_nonsense(ValueError("x"), ENDPOINT, before_answer=True),
    ],
    ids=lambda failure: failure.sentence[13:60],
)
def test_each_failure_names_broker_and_next_step(failure: ConnectionFailure) -> None:
    what, _, step = failure.sentence.partition(";")
    assert what.startswith("broker:1883: ")
    assert step or "(give each device" in what
