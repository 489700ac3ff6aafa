"""Trainings, versions, verdicts and metrics of taught models over HTTP; no training runs here."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from moving_pictures import encoded, picture
from pipelines_scene import until
from test_live import Stream
from test_teach_routes import NOBODY, Birds, birds, page  # noqa: F401 - fixtures

from edge_classifierd.clock import SystemClock
from edge_classifierd.events.schema import EventBox, EventDraft, EventType, ModelIdentity
from edge_classifierd.frames.jpeg import read_header
from edge_classifierd.pipeline.observation.control import CommandOutcome
from edge_classifierd.teaching.training.result import TrainingResult, VersionClass, encode_result
from edge_classifierd.teaching.training.trainer import TrainingRefusedError, TrainingState
from edge_classifierd.teaching.training.versions import Versions
from edge_classifierd.web.teach.trainings import TrainingProgress

if TYPE_CHECKING:
    from web_scene import PageScene


class HandClock(SystemClock):
    """A clock whose seconds a test sets."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


def made(birds: Birds, number: int) -> TrainingResult:  # noqa: F811 - the fixture
    """Add a version whose model is no model."""
    content = b"model %d" % number
    result = TrainingResult(
        version=number, made="2026-11-29T08:00:00.000Z", sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content), seconds=7.5, extractor="fast", learnt_from=30, estimate=False,
        classes=(VersionClass(birds.tit, "tit", "tit", unknown=False),), held_out=None, unknown=None, against=None,
        thresholds={"tit": 0.7}, sentences=("It is good.",),
    )  # fmt: skip
    versions = Versions(birds.page.parts.state)
    folder = versions.make_folder("birds", f"t{number}")
    (folder / "model.tflite").write_bytes(content)
    (folder / "result.json").write_bytes(encode_result(result))
    (folder / "report.html").write_text("<!doctype html><title>birds</title>")
    versions.add("birds", folder, number)
    return result


def versions_of(birds: Birds, path: str = "") -> Any:  # noqa: F811
    return birds.page.get(f"/api/taught/birds/versions{path}").document


def detected(page: PageScene, label: str = "tit", box: EventBox | None = None) -> str:  # noqa: F811
    """Store an event of `driveway` with a picture of 160 × 120 pixels."""
    draft = EventDraft(
        type=EventType.DETECTED, device="porch", pipeline="driveway", watch="cat", label=label, confidence=0.8,
        top=(), time=datetime.now(UTC), clock_synchronised=True, model=ModelIdentity("m", "0" * 64, "r", "cpu"),
        inference_ms=5.0, box=box,
    )  # fmt: skip
    (event,) = page.scene.outbox.append([draft])
    page.parts.records.pictures.add([event.event_id], encoded(picture(5, noise=True)))
    return event.event_id


def verdict(birds: Birds, event_id: str, **body: Any) -> Any:  # noqa: F811
    return birds.send("PUT", f"/api/events/{event_id}/verdict", body)


def test_versions_are_listed_shown_used_and_removed(birds: Birds) -> None:  # noqa: F811
    first, _ = made(birds, 1), made(birds, 2)
    assert [(one["version"], one["in_use"]) for one in versions_of(birds)] == [(2, False), (1, False)]
    used = birds.post("versions/1/use", {})
    assert used.document == {"version": 1, "previous": None, "used_by": []}
    assert birds.post("versions/2/use", {}).document["previous"] == 1
    assert [(one["in_use"], one["previous"]) for one in versions_of(birds)] == [(True, False), (False, True)]
    assert (birds.document["in_use"], birds.document["previous"], birds.document["versions"]) == (2, 1, [2, 1])
    shown = versions_of(birds, "/1")
    assert (shown["sha256"], shown["thresholds"], shown["previous"]) == (first.sha256, {"tit": 0.7}, True)
    assert birds.send("DELETE", "/api/taught/birds/versions/2").code == "in_use"
    assert birds.send("DELETE", "/api/taught/birds/versions/1").status == 204
    assert [one["version"] for one in versions_of(birds)] == [2]


def test_a_refused_model_leaves_the_version_in_use(birds: Birds) -> None:  # noqa: F811
    made(birds, 1)
    made(birds, 2)
    birds.post("versions/1/use", {})
    birds.page.switched = CommandOutcome(problems=("birds: it has no labels",))
    assert birds.post("versions/2/use", {"pipeline": "driveway"}).code == "model_refused"
    assert birds.document["in_use"] == 1


def test_files_of_a_version_are_served_so_that_they_can_do_nothing(birds: Birds) -> None:  # noqa: F811
    made(birds, 1)
    report = birds.page.get("/api/taught/birds/versions/1/report.html")
    assert (report.status, report.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = report.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.endswith("sandbox")
    assert "script-src" not in policy
    model = birds.page.get("/api/taught/birds/versions/1/model.tflite")
    assert (model.body, model.headers["content-disposition"]) == (b"model 1", 'attachment; filename="birds-1.tflite"')
    for name in ("2", "-1", "01x", "9" * 30, "%31/..", "in-use.json"):
        assert birds.page.get(f"/api/taught/birds/versions/{name}/model.tflite").status == 404


def test_a_damaged_version_is_not_used(birds: Birds) -> None:  # noqa: F811
    made(birds, 1)
    (birds.page.parts.state / "taught/birds/versions/1/model.tflite").write_bytes(b"damaged")
    answer = birds.post("versions/1/use", {})
    assert (answer.status, "damaged" in answer.document["error"]["message"]) == (503, True)
    assert birds.document["in_use"] is None


def test_renaming_a_class_renames_it_in_the_version_in_use(birds: Birds) -> None:  # noqa: F811
    made(birds, 1)
    birds.post("versions/1/use", {})
    birds.send("PATCH", f"/api/taught/birds/classes/{birds.tit}", {"name": "great tit"})
    in_use = Versions(birds.page.parts.state).in_use("birds")
    assert in_use is not None
    assert [(one.slug, one.name) for one in in_use.labels] == [("tit", "great tit")]


@pytest.mark.parametrize(
    ("code", "status"), [("busy", 409), ("missing", 422), ("memory", 503)], ids=["busy", "missing", "memory"]
)
def test_a_training_that_cannot_begin_says_why(
    birds: Birds,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    code: Any,
    status: int,
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise TrainingRefusedError(code, "not now")

    for seed in range(10):
        birds.upload(seed)
        birds.upload(100 + seed, birds.unknown)
    assert birds.document["can_train"]
    monkeypatch.setattr("edge_classifierd.teaching.training.trainer.Trainer.start", refuse)
    answer = birds.post("trainings", {})
    assert (answer.status, answer.code, answer.document["error"]["message"]) == (status, code, "not now")


def test_progress_is_sent_at_most_twice_a_second_and_each_new_stage_at_once(birds: Birds) -> None:  # noqa: F811
    stream = Stream(birds.page, "/api/stream")
    stream.next("hello")
    clock = HandClock()
    progress = TrainingProgress(birds.page.page.streams, clock)
    state = TrainingState("01M8JGC35X0D839T5N0EJ273WY", "birds", 1, "looking")
    until(lambda: birds.page.page.streams.count)
    for number in range(10):
        progress.report(replace(state, done=number, of=10))
        clock.now_s += 0.1
    progress.report(replace(state, stage="learning"))
    progress.report(replace(state, stage="finished"))
    sent = [stream.next("training") for _ in range(4)]
    shown = [(one["stage"], one["done"]) for one in sent]
    assert shown == [("looking", 0), ("looking", 5), ("learning", 0), ("finished", 0)]
    assert stream.next("taught") == {"name": "birds"}
    assert progress.results == {"finished": 1, "failed": 0, "cancelled": 0}
    stream.close()


def test_a_training_without_pictures_or_of_another_extractor_is_refused(birds: Birds) -> None:  # noqa: F811
    assert birds.post("trainings", {}).code == "missing"
    for extractor in ("best", None, ["fast"], 5):
        assert birds.post("trainings", {"extractor": extractor}).code == "value_refused"
    assert birds.page.get(f"/api/taught/birds/trainings/{NOBODY}").status == 404


def test_a_right_event_teaches_its_class_and_a_wrong_one_the_chosen_class(birds: Birds) -> None:  # noqa: F811
    event = detected(birds.page)
    kept = verdict(birds, event, value="right").document["kept"]
    assert (kept["model"], kept["class"], kept["name"], kept["kept"]) == ("birds", birds.tit, "tit", True)
    assert [one["source"] for one in birds.listed(birds.tit)] == ["event"]
    kept = verdict(birds, event, value="wrong", **{"class": birds.unknown}).document["kept"]
    assert (kept["class"], kept["name"]) == (birds.unknown, "unknown")
    assert (birds.listed(birds.tit), len(birds.listed(birds.unknown))) == ([], 1)
    assert verdict(birds, event, value="wrong").document["kept"]["class"] is None
    assert [one["guess"]["class"] for one in birds.listed("to_sort")] == ["tit"]
    assert verdict(birds, event, value=None).document == {"value": None, "kept": None}
    assert (birds.listed("to_sort"), len(birds.listed("bin"))) == ([], 1)


def test_a_verdict_without_a_class_a_model_or_a_picture_teaches_nothing(birds: Birds) -> None:  # noqa: F811
    assert verdict(birds, detected(birds.page, "robin"), value="right").document["kept"] is None
    event = detected(birds.page)
    assert verdict(birds, event, value="wrong", **{"class": NOBODY}).code == "no_class"
    assert verdict(birds, event, value="wrong", model="fish").status == 404
    assert verdict(birds, event, value="wrong", model=5).code == "value_refused"
    birds.send("PATCH", "/api/taught/birds", {"pipeline": None})
    assert verdict(birds, event, value="right").document["kept"] is None
    assert verdict(birds, event, value="right", model="birds").document["kept"]["name"] == "tit"


def test_the_drawn_box_of_an_event_is_cut_away(birds: Birds) -> None:  # noqa: F811
    event = detected(birds.page, box=EventBox(0.25, 0.25, 0.5, 0.5))
    kept = verdict(birds, event, value="right").document["kept"]
    header = read_header(birds.page.get(f"/api/taught/birds/pictures/{kept['picture']}.jpg").body)
    assert header is not None
    assert (header.width, header.height) == (74, 56)  # of 80 × 60 inside the box


def test_a_model_that_cannot_be_used_is_refused_with_its_reason(birds: Birds) -> None:  # noqa: F811
    path = "/api/pipelines/driveway/model"
    birds.page.switched = CommandOutcome(problems=("birds: no version is in use",))
    answer = birds.send("PUT", path, {"value": {"taught": "birds"}})
    assert (answer.status, answer.code) == (422, "model_refused")
    assert answer.document["error"]["message"] == "birds: no version is in use"
    assert birds.page.get("/api/overview").document["pipelines"][0]["overridden"] == []
    for value in (5, True, [], {"taught": 5}, {"taught": "birds", "x": 1}, {"path": "/etc/passwd"}, {"taught": "../x"}):
        assert birds.send("PUT", path, {"value": value}).code == "value_refused"


def test_metrics_count_pictures_and_trainings(birds: Birds) -> None:  # noqa: F811
    birds.upload(1)
    text = birds.page.get("/metrics").body.decode()
    assert 'edge_classifierd_taught_pictures{model="birds"} 1.0' in text
    assert "edge_classifierd_training_running 0.0" in text
    assert 'edge_classifierd_trainings_total{result="finished"} 0.0' in text
