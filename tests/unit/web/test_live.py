"""Live pictures, the stream, health, files and metrics, over the real server."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from pipelines_scene import until
from web_scene import PASSWORD, Stream

from edge_classifierd.frames.jpeg import read_header

if TYPE_CHECKING:
    from web_scene import PageScene

UNKNOWN = "01M8JGC35X0D839T5N0EJ273WY"
FRAME = "/api/pipelines/driveway/frame.jpg"


def test_each_picture_is_newer_than_the_one_before(page: PageScene) -> None:
    numbers = [0]
    for _ in range(3):
        answer = page.get(f"{FRAME}?width=320&after={numbers[-1]}")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
        header = read_header(answer.body)
        assert header is not None
        assert header.width <= 320
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", answer.headers["x-captured"])
        numbers.append(int(answer.headers["x-frame"]))
    assert numbers == sorted(set(numbers))


def test_the_view_of_the_region_is_cut_to_it(page: PageScene) -> None:
    page.request("PUT", "/api/pipelines/driveway/region", {"value": {"x": 0, "y": 0, "width": 0.5, "height": 1}})

    def ratio(shows: str) -> float:
        header = read_header(page.get(f"{FRAME}?view={shows}&width=320").body)
        assert header is not None
        return header.width / header.height

    full = ratio("full")
    until(lambda: ratio("region") == pytest.approx(full / 2, rel=0.05))  # a frame of before may be the newest
    page.request("PUT", "/api/pipelines/driveway/region", {"value": None})


@pytest.mark.parametrize(
    "query", ["width=100", "width=x", "width=-1", "view=all", "after=-1", "after=1e3", f"after={10**40}"]
)
def test_a_wrong_query_is_refused(page: PageScene, query: str) -> None:
    answer = page.get(f"{FRAME}?{query}")
    assert (answer.status, answer.code) == (422, "value_refused")


def test_nothing_is_encoded_while_nobody_asks(page: PageScene) -> None:
    page.get(FRAME)
    until(lambda: page.page.viewers.count == 0)
    before, frames = page.page.previews.counts["driveway"], page.control.view()[0].figures.inferences
    until(lambda: page.control.view()[0].figures.inferences > frames + 10)
    assert page.page.previews.counts["driveway"] == before


def test_a_snapshot_is_encoded_once_a_second(page: PageScene) -> None:
    page.get(FRAME)
    began_s, before = time.monotonic(), page.page.previews.counts["driveway"]
    numbers = [page.get("/api/pipelines/driveway/snapshot.jpg").headers["x-frame"]]
    while len(set(numbers)) < 2:
        numbers.append(page.get("/api/pipelines/driveway/snapshot.jpg").headers["x-frame"])
    encoded = page.page.previews.counts["driveway"] - before
    assert encoded == 2
    assert time.monotonic() - began_s >= 0.9


def test_an_mjpeg_stream_sends_pictures(page: PageScene) -> None:
    stream = Stream(page, "/api/pipelines/driveway/stream.mjpeg?width=320")
    try:
        assert stream.answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
        for _ in range(2):
            assert stream.answer.readline() == b"--frame\r\n"
            assert stream.answer.readline() == b"Content-Type: image/jpeg\r\n"
            length = int(stream.answer.readline().split()[1])
            stream.answer.readline()
            assert stream.answer.read(length).startswith(b"\xff\xd8")
            stream.answer.readline()
    finally:
        stream.close()


def test_health_and_the_probe_for_supervisors(page: PageScene) -> None:
    page.parts.records.pictures.add([UNKNOWN], b"\xff\xd8picture")
    document = page.get("/api/health").document
    assert document["store"] == {"bytes": 9, "pictures": 1, "most_bytes": 30_000_000}
    assert document["version"] == "1"
    assert set(document["web"]) == {"viewers", "sessions", "reasons"}
    assert page.get("/healthz", basic=False).document == {"status": "ok"}
    page.health.is_alive = False
    try:
        answer = page.get("/healthz", basic=False)
        assert (answer.status, answer.document) == (503, {"status": "stuck"})
    finally:
        page.health.is_alive = True


def test_history_of_the_last_minute(page: PageScene) -> None:
    document = page.get("/api/pipelines/driveway/history?span=60").document
    assert document["step_s"] == 10.0
    assert len(document["watches"]["cat"]) == 6
    scores = [score for score in document["watches"]["cat"] if score is not None]  # the newest step may have none yet
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    assert page.get("/api/pipelines/driveway/history?span=90000").status == 422


def test_files_are_validated_compressed_and_kept_by_their_build(page: PageScene) -> None:
    index = page.get("/", basic=False)
    build = page.get("/api/overview").document["build"]
    assert index.headers["cache-control"] == "no-cache"
    assert f"app.js?v={build}".encode() in index.body
    assert page.get("/", basic=False, if_none_match=index.headers["etag"]).status == 304
    kept = page.get(f"/static/app.js?v={build}", basic=False, accept_encoding="gzip")
    assert "immutable" in kept.headers["cache-control"]
    assert kept.headers["content-encoding"] == "gzip"
    assert page.get("/static/app.js?v=other", basic=False).headers["cache-control"] == "no-cache"
    assert page.get("/static/secret.key", basic=False).status == 404
    assert page.request("HEAD", "/", basic=False).body == b""


def test_metric_names_and_types_follow_the_conventions(page: PageScene) -> None:
    answer = page.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
    for name, kind in kinds.items():
        assert re.fullmatch(r"(edge_classifierd|process)_[a-z_]+", name)
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|milliseconds|mb|megabytes|percent|mhz)$", name)
    for name, labels in re.findall(r"(?m)^(edge_classifierd_\w+)(?:\{(.*?)\})? ", text):
        assert f"# HELP {re.sub('_(bucket|count|sum)$', '', name)}" in text
        assert "porch" not in labels
    samples = dict(re.findall(r"(?m)^(edge_classifierd_\S+) (\S+)$", text))
    assert samples['edge_classifierd_pipeline_online{pipeline="driveway"}'] == "1.0"
    assert float(samples['edge_classifierd_frames_total{pipeline="driveway",result="classified"}']) > 0
    assert float(samples['edge_classifierd_inference_duration_seconds_count{pipeline="driveway"}']) > 0
    assert samples['edge_classifierd_watch_threshold_ratio{pipeline="driveway",watch="cat"}'] == "0.99"
    documented = set(re.findall(r"`([a-z_]+)`", (page.repository / "docs/web.md").read_text()))
    names = {re.sub("^edge_classifierd_", "", name) for name in kinds if name.startswith("edge_")}
    assert names <= documented


def test_the_token_opens_the_metrics_alone(page: PageScene) -> None:
    token = f"Bearer {page.token}"
    assert page.get("/metrics", basic=False, authorization=token).status == 200
    assert page.get("/metrics", basic=False, authorization="Bearer " + "x" * 20).status == 401
    assert page.get("/api/overview", basic=False, authorization=token).status == 401


def test_a_viewer_too_many_is_refused_until_another_leaves(page: PageScene) -> None:
    origin = f"http://127.0.0.1:{page.port}"
    cookies = [
        page.request("POST", "/api/session", {"password": PASSWORD}, origin=origin).headers["set-cookie"].split(";")[0]
        for _ in range(5)
    ]
    until(lambda: page.page.viewers.count == 0)
    began_s = time.monotonic()
    answers = [page.get(f"{FRAME}?width=320", basic=False, cookie=cookie) for cookie in cookies]
    if time.monotonic() - began_s < 4:  # a slow machine may have lost the first by then
        assert [answer.status for answer in answers] == [200, 200, 200, 200, 503]
        assert answers[4].code == "too_many_viewers"
        assert page.get("/api/overview").document["viewers"] == {"now": 4, "most": 4}
    until(lambda: page.get(FRAME, basic=False, cookie=cookies[4]).status == 200)
