"""Changes by the page have the same effect as commands over MQTT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pipelines_scene import until
from web_scene import PageScene

from edge_classifierd.pipeline.observation.control import CommandOutcome
from edge_classifierd.web.limits import TokenBucket

if TYPE_CHECKING:
    from pathlib import Path

    from web_scene import Answer

AT = "/api/pipelines/driveway"


def put(page: PageScene, path: str, value: Any) -> Answer:
    return page.request("PUT", f"{AT}/{path}", {"value": value})


def pipeline_of(page: PageScene) -> dict[str, Any]:
    document: dict[str, Any] = page.get("/api/overview").document["pipelines"][0]
    return document


def test_a_threshold_is_set_published_and_reset(page: PageScene) -> None:
    answer = put(page, "watches/cat/threshold", 0.42)
    assert (answer.status, answer.document) == (200, {"value": 0.42, "configured": 0.99, "overridden": True})
    assert page.scene.retained("driveway")["cat/threshold"] == b"0.42"
    assert page.scene.saved_state.commands("driveway").thresholds == {"cat": 0.42}
    shown = pipeline_of(page)
    assert shown["overridden"] == ["cat.threshold"]
    assert shown["watches"][0]["threshold"] == 0.42
    assert shown["watches"][0]["release"] <= 0.42
    assert put(page, "watches/cat/threshold", None).document == {"value": 0.99, "configured": 0.99, "overridden": False}
    assert page.scene.retained("driveway")["cat/threshold"] == b"0.99"


def test_a_region_is_set_published_and_reset(page: PageScene) -> None:
    region = {"x": 0.1, "y": 0.2, "width": 0.5, "height": 0.6}
    whole = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0}
    assert put(page, "region", region).document == {"value": region, "configured": whole, "overridden": True}
    assert json.loads(page.scene.retained("driveway")["region"]) == region
    assert pipeline_of(page)["region"] == region
    assert put(page, "region", None).document == {"value": whole, "configured": whole, "overridden": False}


def test_a_camera_is_switched_off_and_on(page: PageScene) -> None:
    assert put(page, "enabled", False).document == {"value": False, "configured": True, "overridden": True}
    assert page.scene.retained("driveway")["enabled"] == b"OFF"
    until(lambda: not pipeline_of(page)["online"])
    for path in ("frame.jpg", "snapshot.jpg", "stream.mjpeg"):
        answer = page.get(f"{AT}/{path}")
        assert (answer.status, answer.code) == (409, "off")
    assert put(page, "enabled", None).document == {"value": True, "configured": True, "overridden": False}
    until(lambda: pipeline_of(page)["online"])
    assert page.get(f"{AT}/frame.jpg").status == 200


@pytest.mark.parametrize("value", [0, -1, 1.01, True, "0.5", [], {}, "x" * 500])
def test_a_wrong_threshold_is_refused_as_over_mqtt(page: PageScene, value: Any) -> None:
    before = page.scene.retained("driveway")["cat/threshold"]
    answer = put(page, "watches/cat/threshold", value)
    assert (answer.status, answer.code, answer.document["error"]["field"]) == (422, "value_refused", "value")
    assert page.scene.retained("driveway")["cat/threshold"] == before


@pytest.mark.parametrize("body", [b'{"value": NaN}', b'{"value": Infinity}', b"{}", b'{"value": 1, "x": 2}'])
def test_a_body_of_another_form_is_refused(page: PageScene, body: bytes) -> None:
    assert page.request("PUT", f"{AT}/watches/cat/threshold", body).status == 422


@pytest.mark.parametrize(
    "value",
    [True, "x", [], {"x": 2}, {"x": 0.5, "width": 0.6}, {"x": -0.1}, {"left": 0}, {"x": "a"}, {"width": 0}, 5],
)
def test_a_wrong_region_is_refused(page: PageScene, value: Any) -> None:
    assert put(page, "region", value).status == 422
    assert page.request("POST", f"{AT}/try", {"region": value}).status == 422


@pytest.mark.parametrize("value", [1, 0, "on", [], {}])
def test_a_wrong_switch_is_refused(page: PageScene, value: Any) -> None:
    assert put(page, "enabled", value).status == 422


def test_an_unknown_pipeline_or_watch_is_not_found(page: PageScene) -> None:
    assert page.request("PUT", "/api/pipelines/garden/enabled", {"value": True}).code == "no_pipeline"
    assert put(page, "watches/dog/threshold", 0.5).code == "no_watch"


def test_a_region_is_tried_without_being_set(page: PageScene) -> None:
    answer = page.request("POST", f"{AT}/try", {"region": {"x": 0.2, "y": 0.2, "width": 0.3, "height": 0.3}})
    assert answer.status == 200
    assert len(answer.document["top"]) == 5
    assert 0 <= answer.document["watches"]["cat"] <= 1
    assert pipeline_of(page)["overridden"] == []


def test_a_picture_is_published(page: PageScene) -> None:
    page.scene.broker.retained.pop("edge-classifierd/porch/driveway/image", None)
    assert page.request("POST", f"{AT}/snapshot").status == 202
    until(lambda: page.scene.retained("driveway").get("image", b"").startswith(b"\xff\xd8"))


def test_a_reload_reports_what_changed_or_every_mistake(page: PageScene) -> None:
    page.reloads = CommandOutcome(changed=2)
    assert page.request("POST", "/api/reload").document == {"changed": 2}
    page.reloads = CommandOutcome(problems=("c.yaml:1:1: web: wrong",))
    answer = page.request("POST", "/api/reload")
    assert (answer.status, answer.code) == (422, "configuration")
    assert answer.document["error"]["problems"] == ["c.yaml:1:1: web: wrong"]


def test_more_changes_than_twenty_a_second_have_to_wait(page: PageScene) -> None:
    commands = page.page.commands
    usual, commands.changes = commands.changes, TokenBucket(1, 1000.0, page.scene.clock)
    try:
        assert put(page, "watches/cat/threshold", None).status == 200
        answer = put(page, "watches/cat/threshold", None)
        assert (answer.status, answer.code) == (429, "too_many_changes")
        assert 900 <= int(answer.headers["retry-after"]) <= 1000
    finally:
        commands.changes = usual


def test_one_frame_is_classified_while_nothing_moves(tmp_path: Path) -> None:
    motion = {"enabled": True, "refresh": "1h", "hold": "100ms"}
    with PageScene(tmp_path, static=tmp_path, camera={"motion": motion}) as page:
        until(lambda: pipeline_of(page)["resting"] is not None)
        resting = pipeline_of(page)["resting"]
        assert (resting["why"], resting["until"][-1]) == ("gate", "Z")
        until(lambda: page.get(f"{AT}/history?span=60").document["resting"])
        before = page.control.view()[0].figures.inferences
        assert page.request("POST", f"{AT}/look").status == 202
        until(lambda: page.control.view()[0].figures.inferences == before + 1)


def test_a_camera_outside_its_active_times_is_shown_as_resting(tmp_path: Path) -> None:
    with PageScene(tmp_path, static=tmp_path, camera={"active": ["06:00-12:00", "12:00-22:30"]}) as page:
        assert pipeline_of(page)["resting"] is None
        page.scene.wall_clock.set_to(23)
        until(lambda: pipeline_of(page)["resting"] is not None)
        assert pipeline_of(page)["resting"] == {"why": "schedule", "until": "2026-11-29T06:00:00.000Z"}
        answer = page.get(f"{AT}/frame.jpg")
        assert (answer.status, answer.code) == (409, "off")
        until(lambda: len(page.get(f"{AT}/history?span=60").document["resting"]) == 1)
        page.scene.wall_clock.is_synchronised = False
        page.scene.wall_clock.since_boot_s = 10
        until(lambda: pipeline_of(page)["resting"] == {"why": "schedule", "until": None})
