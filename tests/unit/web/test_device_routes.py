"""Past events, models, the configuration and the doctor over HTTP."""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pipelines_scene import until

from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity
from edge_classifierd.web.device import examination

if TYPE_CHECKING:
    from pathlib import Path

    from web_scene import Answer, PageScene

UNKNOWN = "01M8JGC35X0D839T5N0EJ273WY"


def detect(page: PageScene, watch: str = "cat", *, picture: bool = False) -> str:
    draft = EventDraft(
        type=EventType.DETECTED, device="porch", pipeline="driveway", watch=watch, label="tabby", confidence=0.8,
        top=(), time=datetime.now(UTC), clock_synchronised=True, model=ModelIdentity("m", "0" * 64, "r", "cpu"),
        inference_ms=5.0,
    )  # fmt: skip
    (event,) = page.scene.outbox.append([draft])
    if picture:
        page.parts.records.pictures.add([event.event_id], b"\xff\xd8jpeg")
    return event.event_id


def change(page: PageScene, method: str, path: str, body: Any = None) -> Answer:
    return page.request(method, path, body, origin=f"http://127.0.0.1:{page.port}")


def test_events_are_listed_newest_first_with_their_pictures(page: PageScene) -> None:
    ids = [detect(page, picture=True), detect(page, "dog"), detect(page)]
    page.scene.outbox.acknowledge([1, 2])
    listed = page.get("/api/events?limit=2").document
    assert [one["event_id"] for one in listed["events"]] == ids[:0:-1]
    assert listed["more"]
    older = page.get(f"/api/events?before={ids[1]}").document
    assert [(one["event_id"], one["picture"], one["verdict"]) for one in older["events"]] == [(ids[0], True, None)]
    assert not older["more"]
    assert older["events"][0]["label"] == "tabby"
    assert [one["event_id"] for one in page.get("/api/events?watch=dog").document["events"]] == [ids[1]]
    assert len(page.get("/api/events?pipeline=&watch=&before=").document["events"]) == 3
    assert page.get("/api/events?pipeline=garden").document == {"events": [], "more": False}
    picture = page.get(f"/api/events/{ids[0]}/picture.jpg")
    assert (picture.body, picture.headers["content-type"]) == (b"\xff\xd8jpeg", "image/jpeg")
    assert page.get(f"/api/events/{ids[1]}/picture.jpg").status == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "before=yesterday"])
def test_a_wrong_query_is_refused(page: PageScene, query: str) -> None:
    answer = page.get(f"/api/events?{query}")
    assert (answer.status, answer.code) == (422, "value_refused")


def test_a_verdict_is_stored_with_the_events_and_leaves_with_them(page: PageScene) -> None:
    event_id = detect(page)
    path = f"/api/events/{event_id}/verdict"
    page.scene.outbox.append((), {f"verdict/{'0' * 26}": "right"})  # of an event that is gone
    assert change(page, "PUT", path, {"value": "wrong"}).document == {"value": "wrong", "kept": None}
    assert page.get("/api/events?limit=1").document["events"][0]["verdict"] == "wrong"
    assert page.scene.outbox.state("verdict/") == {event_id: "wrong"}
    assert change(page, "PUT", path, {"value": None}).status == 200
    assert page.get("/api/events?limit=1").document["events"][0]["verdict"] is None
    for body in ({}, {"value": "maybe"}, {"value": ["right"]}):
        assert change(page, "PUT", path, body).status == 422
    assert change(page, "PUT", f"/api/events/{UNKNOWN}/verdict", {"value": "right"}).code == "no_event"


def test_models_are_listed_with_their_users(page: PageScene) -> None:
    used, other = page.get("/api/models").document
    assert (used["kind"], used["used_by"], used["classes"], used["licence"]) == (
        "bundled", ["driveway"], 1000, "Apache-2.0",
    )  # fmt: skip
    assert len(used["sha256"]) == 64
    assert used["bytes"] > 1_000_000
    assert (other["kind"], other["used_by"]) == ("bundled", [])


def test_the_configuration_is_shown_without_secrets_and_with_its_problems(page: PageScene) -> None:
    config = page.parts.records.config
    before = config.read_text()
    config.write_text(before + "mqtt:\n  username: me\n  password: hunter2\n  port: 99999\n")
    try:
        shown = page.get("/api/configuration").document
    finally:
        config.write_text(before)
    assert "password: ***" in shown["text"]
    assert "hunter2" not in str(shown)
    (problem,) = shown["problems"]
    assert shown["text"].splitlines()[problem["line"] - 1] == "  port: 99999"
    assert problem["key"] == "mqtt.port"
    assert shown["writable"]
    assert page.get("/api/configuration").document["problems"] == []


def test_a_file_that_is_gone_is_a_problem(page: PageScene) -> None:
    config = page.parts.records.config
    aside = config.rename(config.with_suffix(".aside"))
    try:
        shown = page.get("/api/configuration").document
    finally:
        aside.rename(config)
    assert shown["text"] == ""
    assert "no such file" in shown["problems"][0]["message"].lower()


def check(page: PageScene, text: Any) -> Any:
    return change(page, "POST", "/api/check", {"text": text}).document


def test_a_draft_is_checked_and_nothing_is_written(page: PageScene) -> None:
    good = page.parts.records.config.read_text()
    before = {file: file.stat().st_mtime_ns for file in page.parts.state.iterdir()}
    assert check(page, good) == {"problems": []}
    (problem,) = check(page, good + "mqtt: {port: 99999}\n")["problems"]
    assert (problem["key"], problem["line"]) == ("mqtt.port", len(good.splitlines()) + 1)
    (problem,) = check(page, good.replace("281", "labrador"))["problems"]
    assert problem["key"] == "pipelines[0].watches[0].labels[0]"
    assert check(page, "a: [")["problems"]
    assert check(page, 7)["error"]["field"] == "text"
    assert change(page, "POST", "/api/check", {"text": "x" * 64_000}).code == "too_large"
    after = {file: file.stat().st_mtime_ns for file in page.parts.state.iterdir()}
    database = {file for file in after if file.name.startswith("outbox.")}
    assert {file: at for file, at in after.items() if file not in database} == {
        file: at for file, at in before.items() if file not in database
    }


def test_a_draft_reveals_no_file(page: PageScene, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("tiger lily\nhunter2\n")
    good = page.parts.records.config.read_text()
    drafts = [
        good + f"mqtt: {{port: !file {secret}}}\n",
        good + f"mqtt: {{host: !file {secret}, tls: {{ca_file: {secret}}}}}\n",
        good.replace("threads: 1", f"labels: {secret}").replace("281", "tiger"),
        good.replace("threads: 1", f"path: {secret}"),
    ]
    for draft in drafts:
        assert draft != good
        answer = str(check(page, draft))
        assert "hunter2" not in answer
        assert "lily" not in answer
        missing = str(check(page, draft.replace(str(secret), str(tmp_path / "absent"))))
        assert missing.replace("absent", "secret.txt") == answer, "whether a file exists is not shown either"


def test_the_newest_warnings_come_first(page: PageScene) -> None:
    recent = page.parts.records.warnings
    recent.install()
    try:
        logging.getLogger("x").warning("first")
        logging.getLogger("x").error("second")
    finally:
        recent.remove()
    newest = page.get("/api/log").document["warnings"][:2]
    assert [(one["level"], one["message"]) for one in newest] == [("error", "second"), ("warning", "first")]


def test_versions_are_shown(page: PageScene) -> None:
    shown = page.get("/api/versions").document
    assert shown["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"numpy", "av", "paho-mqtt"} <= shown["packages"].keys()


def doctor(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(examination, "COMMAND", [sys.executable, "-c", program])


def test_the_doctor_runs_in_a_child_with_the_configuration(page: PageScene, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor(monkeypatch, "import json, sys; print(json.dumps({'ok': False, 'findings': sys.argv[1:], 'more': 1}))")
    answer = change(page, "POST", "/api/doctor")
    arguments = ["doctor", "--json", "--config", str(page.parts.records.config)]
    assert answer.document == {"ok": False, "findings": arguments}


def test_a_doctor_that_fails_is_reported(page: PageScene, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor(monkeypatch, "import sys; sys.exit(3)")
    answer = change(page, "POST", "/api/doctor")
    assert (answer.status, answer.code) == (503, "failed")
    assert "code 3" in answer.document["error"]["message"]


def test_only_one_doctor_runs_at_a_time(page: PageScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    doctor(
        monkeypatch,
        f"import os, time; os.mkfifo({str(go)!r}); os.rename({str(go)!r}, {str(begun)!r}); open({str(begun)!r}).read();"
        'print(\'{"ok": true, "findings": []}\')',
    )
    answers: list[Answer] = []
    first = threading.Thread(target=lambda: answers.append(change(page, "POST", "/api/doctor")))
    first.start()
    until(begun.exists)
    assert change(page, "POST", "/api/doctor").code == "busy"
    begun.open("w").close()
    first.join(20)
    assert answers[0].document["ok"] is True
