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
    SetModel,
    SetRegion,
    SetThreshold,
    TakePicture,
    parse,
)
from edge_classifierd.mqtt.message import Incoming
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Callable

TOPICS = Topics("edge-classifierd", "porch")
WATCHES = {"driveway": frozenset({"dog", "cat"}), "garden": frozenset({"any"})}


class FakeClock:
    """A clock that the test moves."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class FakeClient:
    """Replaces the client: records the handlers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Incoming], None]] = {}

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        self.handlers[topic_filter] = handler


def message(topic: str, payload: bytes = b"", *, retained: bool = False) -> Incoming:
    return Incoming(f"{TOPICS.base}/{topic}", payload, retained)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def commands(client: FakeClient, clock: FakeClock) -> Commands:
    return Commands(client, TOPICS, WATCHES, clock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topic", "payload", "command"),
    [
        ("driveway/enabled/set", b"ON", SetEnabled("driveway", True)),
        ("driveway/enabled/set", b" off\n", SetEnabled("driveway", False)),
        ("driveway/enabled/set", b"RESET", SetEnabled("driveway", None)),
        ("driveway/dog/threshold/set", b" reset\n", SetThreshold("driveway", "dog", None)),
        ("driveway/dog/threshold/set", b"0.75", SetThreshold("driveway", "dog", 0.75)),
        ("driveway/dog/threshold/set", b"1", SetThreshold("driveway", "dog", 1.0)),
        (
            "driveway/region/set",
            b'{"x": 0.1, "y": 0.25, "width": 0.5, "height": 0.7}',
            SetRegion("driveway", Region(0.1, 0.25, 0.5, 0.7)),
        ),
        ("driveway/region/set", b'{"x": 0.7, "height": 1}', SetRegion("driveway", Region(0.7, 0.0, 0.3, 1.0))),
        (
            "driveway/region/set",
            b'{"x": 0.33335, "y": 0, "width": 0.66665, "height": 1}',
            SetRegion("driveway", Region(0.3333, 0.0, 0.6666, 1.0)),
        ),
        ("driveway/region/set", b"Reset", SetRegion("driveway", None)),
        ("driveway/model/set", b" birds-2\n", SetModel("driveway", "birds-2")),
        ("driveway/model/set", b"RESET", SetModel("driveway", None)),
        ("garden/snapshot/set", b"PRESS", TakePicture("garden")),
        ("garden/snapshot/set", b"", TakePicture("garden")),
        ("reload/set", b"PRESS", Reload()),
    ],
)
def test_valid_command_is_parsed(topic: str, payload: bytes, command: object) -> None:
    assert parse(TOPICS, message(topic, payload), WATCHES) == command


@pytest.mark.parametrize(
    ("incoming", "reason"),
    [
        (message("driveway/enabled/set", b"maybe"), "'maybe' is not ON, OFF or RESET"),
        (message("driveway/enabled/set", b""), "is not ON, OFF"),
        (message("driveway/enabled/set", b"ON", retained=True), "retained"),
        (message("reload/set", b"PRESS", retained=True), "retained"),
        (message("driveway/dog/threshold/set", b"nan"), "not above 0"),
        (message("driveway/dog/threshold/set", b"0"), "not above 0"),
        (message("driveway/dog/threshold/set", b"1.01"), "at most 1"),
        (message("driveway/dog/threshold/set", b"60 %"), "neither a number"),
        (message("driveway/cow/threshold/set", b"0.5"), "no watch 'cow'; there are cat, dog"),
        (message("attic/enabled/set", b"ON"), "no pipeline 'attic'; there are driveway, garden"),
        (message("attic/region/set", b"{}"), "no pipeline 'attic'"),
        (message("driveway/region/set", b'{"x": 0.5, "width": 0.6}'), "is neither RESET nor a region inside the"),
        (message("driveway/region/set", b'{"x": NaN}'), "nor a region"),
        (message("driveway/region/set", b'{"x": "0.1"}'), "nor a region"),
        (message("driveway/region/set", b'{"left": 0.1}'), "nor a region"),
        (message("driveway/region/set", b"[0.1, 0.1, 0.5, 0.5]"), "nor a region"),
        (message("driveway/region/set", b""), "'' is neither"),
        (message("driveway/region/set", b"[" * 250), "nor a region"),
        (message("driveway/region/set", b'{"width": 0.00001}'), "smaller than 0.0001"),
        (message("garden/snapshot/set", b"RESET"), "'RESET' is not PRESS"),
        (message("attic/model/set", b"birds"), "no pipeline 'attic'"),
        (message("driveway/model/set", b"../birds"), "'../birds' is neither the name of a taught model nor RESET"),
        (message("driveway/model/set", b""), "'' is neither"),
        (message("garden/snapshot/set", b"now"), "'now' is not PRESS"),
        (message("driveway/enabled/set", b"\xff"), "not text"),
        (message("driveway/enabled/set", b"O" * 10_000_000), "10,000,000 bytes"),
        (message("driveway/dog/state/set", b"ON"), "no such command"),
    ],
)
def test_invalid_command_is_refused_with_a_reason(incoming: Incoming, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        parse(TOPICS, incoming, WATCHES)


def test_refusal_is_logged_once_a_minute_for_each_topic(
    commands: Commands, client: FakeClient, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    handler = client.handlers[f"{TOPICS.base}/+/enabled/set"]
    for _ in range(50):
        handler(message("driveway/enabled/set", b"maybe"))
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    clock.now_s = 61.0
    handler(message("driveway/enabled/set", b"maybe"))
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 2
    assert commands.take() is None


def test_flood_on_invented_topics_is_logged_at_most_64_times_a_minute(
    client: FakeClient, clock: FakeClock, commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    handler = client.handlers[f"{TOPICS.base}/+/enabled/set"]
    for minute in (0.0, 61.0):
        clock.now_s = minute
        caplog.clear()
        for count in range(1000):
            handler(message(f"x{count}/enabled/set", b"ON"))
        assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 64
    assert commands.take() is None


def test_flood_is_limited_to_the_rate(commands: Commands, client: FakeClient, clock: FakeClock) -> None:
    handler = client.handlers[f"{TOPICS.base}/+/enabled/set"]
    taken = []
    for second in range(4):
        clock.now_s = float(second)
        for _ in range(500):
            handler(message("driveway/enabled/set", b"ON"))
        taken.append(0)
        while commands.take() is not None:
            taken[-1] += 1
    assert taken == [40, 20, 20, 20]
    clock.now_s = 3.1
    handler(message("driveway/enabled/set", b"OFF"))
    assert commands.take() == SetEnabled("driveway", False)


def test_queue_is_bounded(commands: Commands, client: FakeClient, clock: FakeClock) -> None:
    for second in range(10):
        clock.now_s = float(second)
        for _ in range(20):
            client.handlers[f"{TOPICS.base}/+/enabled/set"](message("driveway/enabled/set", b"ON"))
    taken = 0
    while commands.take() is not None:
        taken += 1
    assert taken == 64


levels = st.sampled_from(
    [
        "driveway",
        "garden",
        "dog",
        "any",
        "enabled",
        "threshold",
        "region",
        "model",
        "snapshot",
        "reload",
        "set",
        "x",
        "",
    ]
)
payloads = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([b"ON", b"OFF", b"RESET", b"0.5", b"PRESS", b"1e-9", b"inf", b"-0", b"{}", b'{"y": 0.99999}']),
)


@given(st.lists(levels, min_size=1, max_size=5), payloads, st.booleans())
def test_any_message_is_a_command_or_a_refusal(path: list[str], payload: bytes, retained: bool) -> None:
    try:
        command = parse(TOPICS, message("/".join(path), payload, retained=retained), WATCHES)
    except RefusedError:
        return
    assert not retained
    assert path[-1] == "set"
    if isinstance(command, SetThreshold):
        assert command.threshold is None or 0 < command.threshold <= 1
        assert command.watch in WATCHES[command.pipeline]
    elif isinstance(command, SetRegion) and command.region is not None:
        region = command.region
        assert 0 <= region.x < region.x + region.width <= 1 + 1e-9
        assert 0 <= region.y < region.y + region.height <= 1 + 1e-9
        assert command.pipeline in WATCHES
    elif not isinstance(command, Reload):
        assert command.pipeline in WATCHES
