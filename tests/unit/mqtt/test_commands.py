from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.mqtt.commands import (
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

TOPICS = Topics("edge-classifierd", "porch")
WATCHES = {"driveway": frozenset({"dog", "cat"}), "garden": frozenset({"any"})}


def message(topic: str, payload: bytes = b"", *, retained: bool = False) -> Incoming:
    return Incoming(f"{TOPICS.base}/{topic}", payload, retained)


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
        (message("driveway/enable/set", b"ON"), "no such command; there are enabled, region"),
    ],
)
def test_invalid_command_is_refused_with_a_reason(incoming: Incoming, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        parse(TOPICS, incoming, WATCHES)


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
