from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.mqtt.commands import (
    Commands,
    RefusedError,
    Reload,
    SetEnabled,
    SetThreshold,
    TakePicture,
    parse,
)
from edge_classifierd.mqtt.message import Incoming
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

TOPICS = Topics("edge-classifierd", "porch")
WATCHES = {"driveway": frozenset({"dog", "cat"}), "garden": frozenset({"any"})}


class StillClock:
    """A clock that moves when told."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class Workers:
    """The session's part: keeps the handlers, says what is put into it."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Incoming], None]] = {}

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        self.handlers[topic_filter] = handler


def said(topic: str, payload: bytes = b"", *, retained: bool = False) -> Incoming:
    return Incoming(f"{TOPICS.base}/{topic}", payload, retained)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def line() -> Workers:
    return Workers()


@pytest.fixture
def commands(line: Workers, clock: StillClock) -> Commands:
    return Commands(line, TOPICS, WATCHES, clock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topic", "payload", "command"),
    [
        ("driveway/enabled/set", b"ON", SetEnabled("driveway", True)),
        ("driveway/enabled/set", b" off\n", SetEnabled("driveway", False)),
        ("driveway/enabled/set", b"RESET", SetEnabled("driveway", None)),
        ("driveway/dog/threshold/set", b" reset\n", SetThreshold("driveway", "dog", None)),
        ("driveway/dog/threshold/set", b"0.75", SetThreshold("driveway", "dog", 0.75)),
        ("driveway/dog/threshold/set", b"1", SetThreshold("driveway", "dog", 1.0)),
        ("garden/snapshot/set", b"PRESS", TakePicture("garden")),
        ("garden/snapshot/set", b"", TakePicture("garden")),
        ("reload/set", b"PRESS", Reload()),
    ],
)
def test_valid_commands_are_understood(topic: str, payload: bytes, command: object) -> None:
    assert parse(TOPICS, said(topic, payload), WATCHES) == command


@pytest.mark.parametrize(
    ("incoming", "reason"),
    [
        (said("driveway/enabled/set", b"maybe"), "'maybe' is not ON, OFF or RESET"),
        (said("driveway/enabled/set", b""), "is not ON, OFF"),
        (said("driveway/enabled/set", b"ON", retained=True), "retained"),
        (said("reload/set", b"PRESS", retained=True), "retained"),
        (said("driveway/dog/threshold/set", b"nan"), "not above 0"),
        (said("driveway/dog/threshold/set", b"0"), "not above 0"),
        (said("driveway/dog/threshold/set", b"1.01"), "at most 1"),
        (said("driveway/dog/threshold/set", b"60 %"), "neither a number"),
        (said("driveway/cow/threshold/set", b"0.5"), "no watch 'cow'; there are cat, dog"),
        (said("attic/enabled/set", b"ON"), "no pipeline 'attic'; there are driveway, garden"),
        (said("garden/snapshot/set", b"RESET"), "'RESET' is not PRESS"),
        (said("garden/snapshot/set", b"now"), "'now' is not PRESS"),
        (said("driveway/enabled/set", b"\xff"), "not text"),
        (said("driveway/enabled/set", b"O" * 10_000_000), "10,000,000 bytes"),
        (said("driveway/dog/state/set", b"ON"), "no such command"),
    ],
)
def test_anything_else_is_refused_with_its_reason(incoming: Incoming, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        parse(TOPICS, incoming, WATCHES)


def test_a_refusal_is_said_once_a_minute_for_each_topic(
    commands: Commands, line: Workers, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    handler = line.handlers[f"{TOPICS.base}/+/enabled/set"]
    for _ in range(50):
        handler(said("driveway/enabled/set", b"maybe"))
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    clock.now_s = 61.0
    handler(said("driveway/enabled/set", b"maybe"))
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 2
    assert commands.take() is None


def test_a_flood_over_invented_topics_is_said_64_times_a_minute_at_most(
    line: Workers, clock: StillClock, commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    handler = line.handlers[f"{TOPICS.base}/+/enabled/set"]
    for minute in (0.0, 61.0):
        clock.now_s = minute
        caplog.clear()
        for count in range(1000):
            handler(said(f"x{count}/enabled/set", b"ON"))
        assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 64
    assert commands.take() is None


def test_a_flood_is_cut_to_its_rate_and_the_next_second_is_free_again(
    commands: Commands, line: Workers, clock: StillClock
) -> None:
    handler = line.handlers[f"{TOPICS.base}/+/enabled/set"]
    taken = []
    for second in range(4):
        clock.now_s = float(second)
        for _ in range(500):
            handler(said("driveway/enabled/set", b"ON"))
        taken.append(0)
        while commands.take() is not None:
            taken[-1] += 1
    assert taken == [40, 20, 20, 20]
    clock.now_s = 3.1
    handler(said("driveway/enabled/set", b"OFF"))
    assert commands.take() == SetEnabled("driveway", False)


def test_no_more_commands_wait_than_there_is_room_for(commands: Commands, line: Workers, clock: StillClock) -> None:
    for second in range(10):
        clock.now_s = float(second)
        for _ in range(20):
            line.handlers[f"{TOPICS.base}/+/enabled/set"](said("driveway/enabled/set", b"ON"))
    taken = 0
    while commands.take() is not None:
        taken += 1
    assert taken == 64


levels = st.sampled_from(
    ["driveway", "garden", "dog", "any", "enabled", "threshold", "snapshot", "reload", "set", "x", ""]
)
payloads = st.one_of(
    st.binary(max_size=80), st.sampled_from([b"ON", b"OFF", b"RESET", b"0.5", b"PRESS", b"1e-9", b"inf", b"-0"])
)


@given(st.lists(levels, min_size=1, max_size=5), payloads, st.booleans())
def test_any_message_is_a_valid_command_or_a_refusal(path: list[str], payload: bytes, retained: bool) -> None:
    try:
        command = parse(TOPICS, said("/".join(path), payload, retained=retained), WATCHES)
    except RefusedError:
        return
    assert not retained
    assert path[-1] == "set"
    if isinstance(command, SetThreshold):
        assert command.threshold is None or 0 < command.threshold <= 1
        assert command.watch in WATCHES[command.pipeline]
    elif not isinstance(command, Reload):
        assert command.pipeline in WATCHES
