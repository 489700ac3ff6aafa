"""The state of a fleet, from retained and live messages."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.fleet.fleet import ExpectedModel, Fleet
from edge_classifierd.mqtt.message import Incoming

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SHA = "3f2a91c4" + 56 * "0"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return NOW + timedelta(seconds=self.now_s - 1000)

    def synchronised(self) -> bool:
        return True


def health(clock: Clock, *, uptime_s: float = 100, model: str = "birds", sha256: str = SHA, **keys: Any) -> bytes:
    document = {
        "version": "1.0.0",
        "address": "192.168.1.9",
        "time": clock.utc().isoformat(),
        "uptime_s": uptime_s,
        "pipelines": {"garden": {"status": "online", "model": {"name": model, "sha256": sha256}, "fps": 9.6}},
        "board": {"temperature_c": 54.0},
        "outbox": {"depth": 2, "lost": 0},
        "reasons": [],
    }
    return json.dumps({**document, **keys}).encode()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet(clock: Clock) -> Fleet:
    return Fleet("site/cameras", clock)


def hear(fleet: Fleet, topic: str, payload: bytes, *, retained: bool = True) -> None:
    fleet.hear(Incoming(f"site/cameras/{topic}", payload, retained))


def problems(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    return {device.id: device.problems for device in fleet.devices()}


def test_a_device_that_is_well_has_no_problem(fleet: Fleet, clock: Clock) -> None:
    hear(fleet, "porch/status", b"online")
    hear(fleet, "porch/health", health(clock))
    (device,) = fleet.devices()
    assert (device.id, device.online, device.problems) == ("porch", True, ())
    assert device.health is not None
    assert (device.health.version, device.health.waiting, device.health.temperature_c) == ("1.0.0", 2, 54.0)
    assert [one.name for one in device.health.pipelines] == ["garden"]


def test_every_kind_of_problem_is_a_sentence(fleet: Fleet, clock: Clock) -> None:
    hear(fleet, "away/status", b"offline")
    hear(fleet, "away/health", health(clock, reasons=["garden: no frames"]))
    hear(fleet, "degraded/status", b"online")
    hear(fleet, "degraded/health", health(clock, reasons=["garden: no frames"], outbox={"depth": 0, "lost": 12}))
    hear(fleet, "foreign/status", b"online")
    hear(fleet, "foreign/health", b"{")
    hear(fleet, "mute/status", b"online")
    hear(fleet, "unknown/health", health(clock))
    assert problems(fleet) == {
        "away": ("offline",),
        "degraded": ("garden: no frames", "12 events were lost since its start"),
        "foreign": ("its health document is not JSON; does another program publish there?",),
        "mute": ("it has published no health document",),
        "unknown": ("its status is not known",),
    }


def test_a_device_that_falls_silent_is_noticed_by_the_clock_of_its_document_or_by_waiting(
    fleet: Fleet, clock: Clock
) -> None:
    hear(fleet, "porch/status", b"online")
    hear(fleet, "porch/health", health(clock))
    clock.now_s += 80
    assert problems(fleet) == {"porch": ()}
    clock.now_s += 220
    assert problems(fleet) == {"porch": ("its newest health document is 5 min old; is its clock right?",)}
    wrong_clock = health(clock, time="2020-01-01T00:00:00Z")
    hear(fleet, "porch/health", wrong_clock, retained=False)  # it has just arrived, whatever it says
    assert problems(fleet) == {"porch": ()}
    clock.now_s += 7300
    assert problems(fleet) == {"porch": ("its newest health document is 2 h old; is its clock right?",)}


def test_two_devices_with_one_id_publish_in_turn(fleet: Fleet, clock: Clock) -> None:
    hear(fleet, "porch/status", b"online")
    for uptime_s in (100, 400):  # the other one has run for longer
        hear(fleet, "porch/health", health(clock, uptime_s=uptime_s), retained=False)
        clock.now_s += 30
    assert problems(fleet) == {"porch": ()}  # so far this may be a step of the clock
    hear(fleet, "porch/health", health(clock, uptime_s=160), retained=False)
    assert problems(fleet) == {"porch": ("two devices have this id; give each its own `device.id`",)}


def test_a_device_whose_status_is_not_delivered_is_online_while_it_publishes(fleet: Fleet, clock: Clock) -> None:
    fleet.hear(Incoming("site/cameras/porch/health", health(clock), retained=False))
    (porch,) = fleet.devices()
    assert (porch.online, porch.problems) == (True, ())
    clock.now_s += 91
    (porch,) = fleet.devices()
    assert (porch.online, porch.problems) == (False, ("its status is not known",))
    fleet.hear(Incoming("site/cameras/attic/health", health(clock), retained=True))
    assert not fleet.devices()[0].online, "retained, so that it may be old"
    fleet.hear(Incoming("site/cameras/porch/status", b"offline", retained=False))
    fleet.hear(Incoming("site/cameras/porch/health", health(clock), retained=False))
    assert not fleet.devices()[1].online


def test_a_device_that_restarts_again_and_again_is_one_device(fleet: Fleet, clock: Clock) -> None:
    hear(fleet, "porch/status", b"online")
    for _ in range(20):
        for uptime_s in (1, 31, 61):
            hear(fleet, "porch/health", health(clock, uptime_s=uptime_s), retained=False)
            clock.now_s += 30
    assert problems(fleet) == {"porch": ()}


def test_a_device_that_was_removed_from_the_broker_is_gone(fleet: Fleet, clock: Clock) -> None:
    hear(fleet, "porch/status", b"online")
    hear(fleet, "porch/health", health(clock))
    hear(fleet, "porch/health", b"", retained=False)
    hear(fleet, "porch/status", b"", retained=False)
    assert fleet.devices() == ()


def test_a_roll_out_is_complete_when_every_device_that_uses_the_model_has_it(fleet: Fleet, clock: Clock) -> None:
    hear(fleet, "a/health", health(clock))
    hear(fleet, "b/health", health(clock, sha256="ff" * 32))
    hear(fleet, "c/health", health(clock, model="fish", sha256="ee" * 32))
    new = ExpectedModel("birds", "3f2a91")
    assert new.missing(fleet.devices()) == ("b/garden: has birds ffffffff",)
    assert new.used_by(fleet.devices()) == 1
    assert ExpectedModel("model", "3f2a91").missing(fleet.devices()) == (
        "b/garden: has birds ffffffff",
        "c/garden: has fish eeeeeeee",
    )
    wanted = {"status": "online", "model": None, "wanted_model": {"name": "birds", "sha256": SHA}}
    hear(fleet, "b/health", health(clock, pipelines={"garden": wanted}), retained=False)
    assert ExpectedModel("model", "3f2a91").missing(fleet.devices())[0] == "b/garden: has no model, and is to get it"
    hear(fleet, "b/health", health(clock), retained=False)
    assert new.missing(fleet.devices()) == ()
    hear(fleet, "d/status", b"online")
    assert new.missing(fleet.devices()) == ("d: its models are not known",)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = ("version", "address", "time", "uptime_s", "board", "outbox", "reasons", "pipelines")


@given(st.dictionaries(st.sampled_from(KEYS), ANY_JSON))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    clock = Clock()
    fleet = Fleet("site", clock)
    fleet.hear(Incoming("site/porch/health", json.dumps(document).encode(), retained=True))
    (device,) = fleet.devices()
    assert device.problems
    assert json.dumps([asdict(device)], allow_nan=False, default=str)
