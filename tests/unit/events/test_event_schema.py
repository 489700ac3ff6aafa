"""The event on the wire: what the schema in docs/ says, and back."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from event_samples import sample
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.errors import PayloadError
from edge_classifierd.events.pipeline_state import PipelineState, encode_state
from edge_classifierd.events.schema import (
    EventBox,
    EventDraft,
    EventType,
    ModelIdentity,
    RankedLabel,
    decode,
    encode,
    number,
)

if TYPE_CHECKING:
    from pathlib import Path

EVENT_ID = "01JD8X0000ABCDEFGHJKMNPQRS"
share = st.floats(0, 1)
ranked = st.builds(RankedLabel, st.integers(0, 2000), st.text(), share)
drafts = st.builds(
    EventDraft,
    type=st.sampled_from(EventType),
    device=st.text(min_size=1),
    pipeline=st.text(min_size=1),
    watch=st.text(min_size=1),
    label=st.text(),
    confidence=share,
    top=st.lists(ranked, max_size=5).map(tuple),
    time=st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    clock_synchronised=st.booleans(),
    model=st.builds(ModelIdentity, st.text(), st.just("0" * 64), st.text(), st.text()),
    inference_ms=st.floats(0, 1e6),
    active_s=st.none() | st.floats(0, 1e9),
    box=st.none() | st.builds(EventBox, share, share, share, share),
)


@cache
def schema(repository: Path, name: str) -> Any:
    document = json.loads((repository / "docs" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@given(drafts, st.none() | st.integers(1, 2**53))
def test_every_event_fits_the_published_schema_and_comes_back(
    repository: Path, draft: EventDraft, seq: int | None
) -> None:
    event = number(draft, seq=seq, event_id=EVENT_ID)
    payload = encode(event)
    schema(repository, "event").validate(json.loads(payload))
    back = decode(payload)
    assert encode(back) == payload
    assert (back.seq, back.durable) == (seq, seq is not None)
    assert back.confidence == pytest.approx(draft.confidence, abs=5e-5)
    assert back.top[:1] == tuple(dataclasses.replace(one, confidence=round(one.confidence, 4)) for one in draft.top[:1])


def test_an_event_has_the_documented_form() -> None:
    assert json.loads(encode(number(sample(active_s=12.3456), seq=4711, event_id=EVENT_ID))) == {
        "schema": 1, "event_id": EVENT_ID, "seq": 4711, "durable": True, "type": "cleared", "device": "porch",
        "pipeline": "driveway", "watch": "dog", "label": "Labrador retriever", "confidence": 0.83,
        "top": [{"index": 208, "label": "Labrador retriever", "confidence": 0.71}],
        "time": "2026-11-21T22:26:11.123Z", "clock_synchronised": True,
        "model": {"name": "efficientnet_lite0_int8", "sha256": "9f2c" * 16, "runtime": "ai-edge-litert 2.3.0",
                  "accelerator": "cpu"},
        "inference_ms": 5.1, "active_s": 12.346, "box": None,
    }  # fmt: skip


def test_the_schema_refuses_wrong_values(repository: Path) -> None:
    document = json.loads(encode(number(sample(), seq=1, event_id=EVENT_ID)))
    wrong_values = {"seq": 0, "event_id": "1", "type": "seen", "confidence": 1.2, "time": "yesterday", "more": 1}
    for key, wrong in wrong_values.items():
        with pytest.raises(jsonschema.ValidationError):
            schema(repository, "event").validate({**document, key: wrong})


@given(st.binary() | st.text() | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_garbage_is_refused_with_one_sentence(payload: bytes | str) -> None:
    with pytest.raises(PayloadError, match="not an event"):
        decode(payload)


@given(st.data())
def test_an_event_with_one_wrong_value_is_refused(data: st.DataObject) -> None:
    document = json.loads(encode(number(sample(), seq=1, event_id=EVENT_ID)))
    key = data.draw(st.sampled_from(["seq", "event_id", "type", "label", "top", "time", "model", "confidence"]))
    nothing = {} if key == "seq" else None
    document[key] = data.draw(st.sampled_from([nothing, {}, ["x"], True if key != "confidence" else "x"]))
    with pytest.raises(PayloadError):
        decode(json.dumps(document))


def test_numbers_are_rounded_to_their_accuracy() -> None:
    draft = dataclasses.replace(sample(active_s=1.23456), confidence=0.123456, inference_ms=5.12345)
    document = json.loads(encode(number(draft, seq=1, event_id=EVENT_ID)))
    assert (document["confidence"], document["inference_ms"], document["active_s"]) == (0.1235, 5.12, 1.235)


@pytest.mark.parametrize("key", ["confidence", "inference_ms", "active_s"])
@pytest.mark.parametrize("value", ["1" * 400, "1e999", "NaN", "-" + "1" * 5000])
def test_a_number_too_large_for_a_float_is_refused(key: str, value: str) -> None:
    document = {**json.loads(encode(number(sample(), seq=1, event_id=EVENT_ID))), key: "HERE"}
    with pytest.raises(PayloadError):
        decode(json.dumps(document).replace('"HERE"', value))


def test_keys_of_a_later_version_are_ignored() -> None:
    document = json.loads(encode(number(sample(), seq=1, event_id=EVENT_ID)))
    assert decode(json.dumps({**document, "zone": "gate"})).watch == "dog"


@pytest.mark.parametrize("key", ["confidence", "inference_ms", "active_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_carry_is_refused_before_it_is_numbered(key: str, value: float) -> None:
    wrong: dict[str, Any] = {key: value}
    with pytest.raises(ValueError, match="not finite"):
        dataclasses.replace(sample(), **wrong)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        dataclasses.replace(sample(), time=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@given(st.none() | st.text(), st.none() | share, st.lists(ranked, max_size=5), st.lists(st.text(), unique=True))
def test_every_state_fits_the_published_schema(
    repository: Path, label: str | None, confidence: float | None, top: list[RankedLabel], active: list[str]
) -> None:
    state = PipelineState(
        label=label, confidence=confidence, top=tuple(top), active=tuple(active), since=datetime(2026, 1, 1, tzinfo=UTC)
    )
    schema(repository, "state").validate(json.loads(encode_state(state)))
