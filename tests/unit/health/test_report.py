from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.health.board import Board, BoardState, ThrottleFlags, Throttling
from edge_classifierd.health.metrics import Percentiles, PipelineMetrics, PipelineSnapshot, Reason
from edge_classifierd.health.report import (
    EdgeTpuHealth,
    Health,
    MqttHealth,
    OutboxHealth,
    PipelineHealth,
    degradation_changed,
    encode,
)

if TYPE_CHECKING:
    from health_clock import HandClock

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "health.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

FIGURES = PipelineSnapshot(
    fps=9.8765,
    frames=1000,
    inferences=900,
    inference_ms=Percentiles(5.1234, 6.0, 7.9999),
    latency_ms=Percentiles(12.0, 15.0, 31.0),
    dropped=1,
    gated=2,
    skipped=3,
    errors=4,
    restarts=5,
    accelerator="cpu",
    reasons=(),
    ambiguous_share=0.12345,
    hint=None,
)
DRIVEWAY = PipelineHealth("driveway", "online", None, FIGURES, (EdgeTpuHealth("pci:0", 61.34, 500.0),), ("m", "0" * 64))
CALM = ThrottleFlags(under_voltage=False, frequency_capped=False, throttled=False, soft_temperature_limit=False)
WELL = Health(
    version="0.1.0",
    time=datetime(2026, 11, 21, 22, 26, 11, 123456, UTC),
    uptime_s=86400.04,
    clock_synchronised=True,
    pipelines=(DRIVEWAY,),
    outbox=OutboxHealth(depth=3, lost=0, sent=4711, durable=True, durable_reason=None, oldest_age_s=1.26),
    board=BoardState(
        model="Raspberry Pi 5 Model B Rev 1.0",
        temperature_c=48.686,
        throttling=Throttling(now=CALM, since_boot=CALM),
        rss_mb=98.7654,
        available_mb=3000.0,
        load=0.52,
        disk_free_mb=12345.6,
    ),
    mqtt=MqttHealth(connected_since_s=3600.0, reconnects=2),
    address="192.0.2.7",
    configuration_sha256="f" * 64,
)


def decoded(health: Health) -> dict[str, Any]:
    VALIDATOR.validate(document := json.loads(encode(health)))
    assert isinstance(document, dict)
    return document


def with_reasons(*reasons: Reason) -> Health:
    return replace(WELL, pipelines=(replace(DRIVEWAY, figures=replace(FIGURES, reasons=reasons)),))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_problem_of_the_picture_is_a_reason_while_the_camera_delivers() -> None:
    problem = Reason("frozen", "the camera sends the same picture again and again; restart the camera")
    still = replace(DRIVEWAY, figures=replace(FIGURES, picture_problem=problem))
    document = decoded(replace(WELL, pipelines=(still,)))
    assert document["reasons"] == [f"driveway: {problem.sentence}"]
    assert document["pipelines"]["driveway"]["picture"] == "frozen"
    assert degradation_changed(WELL, replace(WELL, pipelines=(still,)))
    offline = decoded(replace(WELL, pipelines=(replace(still, status="offline"),)))
    assert (offline["reasons"], offline["pipelines"]["driveway"]["picture"]) == ([], None)


def test_a_healthy_daemon_s_document() -> None:
    assert decoded(WELL) == {
        "schema": 1,
        "version": "0.1.0",
        "time": "2026-11-21T22:26:11.123Z",
        "uptime_s": 86400.0,
        "clock_synchronised": True,
        "address": "192.0.2.7",
        "configuration_sha256": "f" * 64,
        "degraded": False,
        "reasons": [],
        "pipelines": {
            "driveway": {
                "status": "online",
                "degraded": False,
                "reasons": [],
                "picture": "ok",
                "model": {"name": "m", "sha256": "0" * 64},
                "wanted_model": None,
                "accelerator": "cpu",
                "fps": 9.88,
                "frames": 1000,
                "inferences": 900,
                "dropped": 1,
                "gated": 2,
                "skipped": 3,
                "errors": 4,
                "restarts": 5,
                "inference_ms": {"p50": 5.12, "p95": 6.0, "p99": 8.0},
                "latency_ms": {"p50": 12.0, "p95": 15.0, "p99": 31.0},
                "ambiguous_share": 0.123,
                "hint": None,
                "edgetpus": {"pci:0": {"temperature_c": 61.3, "clock_mhz": 500.0}},
            }
        },
        "outbox": {"depth": 3, "lost": 0, "sent": 4711, "durable": True, "oldest_age_s": 1.3},
        "board": {
            "model": "Raspberry Pi 5 Model B Rev 1.0",
            "temperature_c": 48.7,
            "throttled": {
                "now": dict.fromkeys(
                    ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"), False
                ),
                "since_boot": dict.fromkeys(
                    ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"), False
                ),
            },
            "memory": {"rss_mb": 98.8, "available_mb": 3000.0},
            "load": 0.52,
            "disk_free_mb": 12346.0,
        },
        "mqtt": {
            "connected_since_s": 3600.0,
            "reconnects": 2,
            "broker": None,
            "protocol": None,
            "reasons": [],
        },
    }


def test_what_is_not_known_is_null(tmp_path: Path, clock: HandClock) -> None:
    health = Health(
        version="0.1.0",
        time=clock.utc(),
        uptime_s=0,
        clock_synchronised=False,
        pipelines=(PipelineHealth("porch", "offline", None, PipelineMetrics(clock).snapshot()),),
        outbox=None,
        board=Board(clock, root=tmp_path).read(),
        mqtt=None,
    )
    document = decoded(health)
    porch = document["pipelines"]["porch"]
    assert (porch["fps"], porch["accelerator"], porch["ambiguous_share"], porch["hint"]) == (None,) * 4
    assert porch["inference_ms"] == {"p50": None, "p95": None, "p99": None}
    assert set(document["board"]["throttled"]["now"].values()) == {None}
    assert document["board"]["memory"] == {"rss_mb": None, "available_mb": None}
    assert (document["outbox"], document["mqtt"]) == (None, None)
    assert not document["degraded"]


@pytest.mark.parametrize(
    "path", [("mqtt",), ("pipelines", "driveway", "fps"), ("board", "memory", "rss_mb"), ("outbox", "lost")]
)
def test_the_schema_refuses_a_document_with_a_key_missing_or_unknown(path: tuple[str, ...]) -> None:
    document = decoded(WELL)
    place = document
    for key in path[:-1]:
        place = place[key]
    value = place.pop(path[-1])
    assert not VALIDATOR.is_valid(document)
    place[path[-1]] = value
    assert VALIDATOR.is_valid(document)
    place["surprise"] = 1
    assert not VALIDATOR.is_valid(document)


def test_every_degraded_part_says_so_with_its_reason() -> None:
    hot = ThrottleFlags(under_voltage=True, frequency_capped=False, throttled=None, soft_temperature_limit=True)
    assert WELL.outbox is not None
    health = replace(
        WELL,
        pipelines=(
            replace(DRIVEWAY, figures=replace(FIGURES, reasons=(Reason("accelerator", "usb:0 hung; on the CPU"),))),
            replace(DRIVEWAY, name="porch", status="offline", status_reason="/dev/video0: no such device"),
        ),
        outbox=replace(WELL.outbox, durable=False, durable_reason="/state: disk full"),
        board=replace(WELL.board, throttling=Throttling(now=hot, since_boot=hot)),
    )
    assert [reason.flag for reason in health.reasons] == [
        "driveway.accelerator",
        "porch.offline",
        "outbox",
        "board.under_voltage",
        "board.soft_temperature_limit",
    ]
    document = decoded(health)
    assert document["degraded"]
    assert document["reasons"][:3] == [
        "driveway: usb:0 hung; on the CPU",
        "porch: /dev/video0: no such device",
        "events would not survive a loss of power: /state: disk full",
    ]
    assert document["pipelines"]["driveway"]["reasons"] == ["usb:0 hung; on the CPU"]
    assert document["pipelines"]["porch"]["degraded"]


def test_what_happened_since_boot_and_is_over_does_not_degrade() -> None:
    over = Throttling(now=CALM, since_boot=ThrottleFlags(True, True, True, True))
    assert not replace(WELL, board=replace(WELL.board, throttling=over)).degraded


def test_a_pipeline_meant_to_be_offline_does_not_degrade() -> None:
    assert not replace(WELL, pipelines=(replace(DRIVEWAY, status="offline"),)).degraded


def test_health_is_due_when_a_flag_comes_or_goes_and_not_when_words_or_figures_change() -> None:
    slow, slower = Reason("accelerator", "usb:0 hung"), Reason("accelerator", "usb:0 hung twice")
    assert degradation_changed(None, WELL)
    assert not degradation_changed(WELL, replace(WELL, uptime_s=9e9, pipelines=()))
    assert degradation_changed(WELL, with_reasons(slow))
    assert not degradation_changed(with_reasons(slow), with_reasons(slower))
    assert degradation_changed(with_reasons(slow), with_reasons(slow, Reason("other", "usb:0 hung")))
    assert degradation_changed(with_reasons(slow), WELL)


def test_the_same_flag_on_another_pipeline_is_a_change() -> None:
    reason = Reason("accelerator", "usb:0 hung")
    broken = replace(FIGURES, reasons=(reason,))
    porch = replace(DRIVEWAY, name="porch")
    before = replace(WELL, pipelines=(replace(DRIVEWAY, figures=broken), porch))
    after = replace(WELL, pipelines=(DRIVEWAY, replace(porch, figures=broken)))
    assert degradation_changed(before, after)


POSITIVE = st.floats(0, 1e12)
COUNT = st.integers(0, 2**60)
FLAGS = st.builds(ThrottleFlags, *[st.none() | st.booleans()] * 4)
SENTENCE = st.text(min_size=1)
DOCUMENTS = st.builds(
    Health,
    version=st.text(),
    time=st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds it
    uptime_s=POSITIVE,
    clock_synchronised=st.booleans(),
    pipelines=st.lists(
        st.builds(
            PipelineHealth,
            name=st.text(),
            status=st.sampled_from(["online", "offline"]),
            status_reason=st.none() | SENTENCE,
            figures=st.builds(
                PipelineSnapshot,
                fps=st.none() | POSITIVE,
                frames=COUNT,
                inferences=COUNT,
                inference_ms=st.none() | st.builds(Percentiles, POSITIVE, POSITIVE, POSITIVE),
                latency_ms=st.none() | st.builds(Percentiles, POSITIVE, POSITIVE, POSITIVE),
                dropped=COUNT,
                gated=COUNT,
                skipped=COUNT,
                errors=COUNT,
                restarts=COUNT,
                accelerator=st.none() | st.text(),
                reasons=st.lists(st.builds(Reason, SENTENCE, SENTENCE), max_size=2).map(tuple),
                ambiguous_share=st.none() | st.floats(0, 1),
                hint=st.none() | st.text(),
            ),
        ),
        max_size=3,
        unique_by=lambda pipeline: pipeline.name,
    ).map(tuple),
    outbox=st.none()
    | st.builds(
        OutboxHealth,
        depth=COUNT,
        lost=COUNT,
        sent=COUNT,
        durable=st.booleans(),
        durable_reason=st.none() | SENTENCE,
        oldest_age_s=st.none() | POSITIVE,
    ),
    board=st.builds(
        BoardState,
        model=st.none() | st.text(),
        temperature_c=st.none() | st.floats(-300, 300),
        throttling=st.none() | st.builds(Throttling, FLAGS, FLAGS),
        rss_mb=st.none() | POSITIVE,
        available_mb=st.none() | POSITIVE,
        load=st.none() | POSITIVE,
        disk_free_mb=st.none() | POSITIVE,
    ),
    mqtt=st.none() | st.builds(MqttHealth, connected_since_s=st.none() | POSITIVE, reconnects=COUNT),
)


@given(DOCUMENTS)
def test_every_document_is_valid_and_as_degraded_as_its_reasons(health: Health) -> None:
    document = decoded(health)
    assert document["degraded"] == bool(document["reasons"])
    assert set(document["pipelines"]) == {pipeline.name for pipeline in health.pipelines}
    assert not degradation_changed(health, health)
