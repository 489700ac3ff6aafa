"""Taught models, classes, pictures and recordings over HTTP."""

from __future__ import annotations

import base64
import io
import socket
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from moving_pictures import encoded, picture, with_orientation
from pipelines_scene import until
from test_live import Stream
from web_scene import PASSWORD, PageScene

from edge_classifierd.frames.jpeg import read_header
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from web_scene import Answer

NOBODY = "01M8JGC35X0D839T5N0EJ273WY"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageScene]:
    folder = tmp_path_factory.mktemp("teach")
    with PageScene(folder, static=folder) as made:
        yield made


@pytest.fixture
def birds(page: PageScene) -> Iterator[Birds]:
    made = Birds(page)
    yield made
    page.request("DELETE", "/api/taught/birds")


class Birds:
    """The taught model `birds` with the classes `unknown` and `tit`."""

    def __init__(self, page: PageScene) -> None:
        self.page = page
        assert self.send("POST", "/api/taught", {"name": "birds", "pipeline": "driveway"}).status == 201
        self.tit = self.post("classes", {"name": "tit"}).document["id"]
        self.unknown = next(one["id"] for one in self.document["classes"] if one["unknown"])

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = self.page.get("/api/taught/birds").document
        return document

    def one(self, class_id: str) -> dict[str, Any]:
        return next(one for one in self.document["classes"] if one["id"] == class_id)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return self.page.request(method, path, body, origin=f"http://127.0.0.1:{self.page.port}", **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.send("POST", f"/api/taught/birds/{path}", body, **headers)

    def upload(self, seed: int, place: str | None = None) -> Answer:
        jpeg = encoded(picture(seed, noise=True))
        return self.post(f"pictures?class={place or self.tit}", jpeg, content_type="image/jpeg")

    def listed(self, place: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.get(f"/api/taught/birds/pictures?class={place}").document
        return found


def test_a_model_is_made_listed_renamed_and_removed(page: PageScene) -> None:
    made = page.request("POST", "/api/taught", {"name": "cups", "pipeline": None})
    assert (made.status, made.document["name"], made.document["pipeline"]) == (201, "cups", None)
    assert [one["name"] for one in made.document["classes"]] == ["unknown"]
    assert made.document["can_train"] is False
    assert made.document["missing"]
    assert page.request("POST", "/api/taught", {"name": "cups"}).code == "name_taken"
    changed = page.request("PATCH", "/api/taught/cups", {"name": "mugs", "pipeline": "driveway"})
    assert (changed.status, changed.document["name"], changed.document["pipeline"]) == (200, "mugs", "driveway")
    assert [one["name"] for one in page.get("/api/taught").document] == ["mugs"]
    assert page.get("/api/taught/cups").code == "no_model"
    assert page.request("DELETE", "/api/taught/mugs").status == 204
    assert page.get("/api/taught").document == []


@pytest.mark.parametrize("name", ["", "Birds", "a/b", "..", "a" * 33, "ä", "a\0", 5, None, ["birds"]])
def test_a_wrong_name_of_a_model_is_refused(page: PageScene, name: Any) -> None:
    answer = page.request("POST", "/api/taught", {"name": name})
    assert (answer.status, answer.code) == (422, "value_refused")


def test_a_model_for_an_unknown_pipeline_is_refused(page: PageScene) -> None:
    assert page.request("POST", "/api/taught", {"name": "cups", "pipeline": "garden"}).code == "no_pipeline"


def test_a_class_is_added_renamed_and_removed_into_the_bin(birds: Birds) -> None:
    assert birds.post("classes", {"name": "TIT"}).code == "name_taken"
    assert birds.post("classes", {"name": "x" * 61}).status == 422
    renamed = birds.send("PATCH", f"/api/taught/birds/classes/{birds.tit}", {"name": "blue tit"})
    assert (renamed.document["name"], renamed.document["slug"]) == ("blue tit", "tit")
    birds.upload(1)
    removed = birds.send("DELETE", f"/api/taught/birds/classes/{birds.tit}")
    assert removed.status == 200
    assert birds.document["bin"] == 1
    assert birds.post("undo", {"step": removed.document["step"]}).status == 200
    assert birds.one(birds.tit)["pictures"] == 1
    assert birds.send("DELETE", f"/api/taught/birds/classes/{NOBODY}").code == "no_class"


def test_an_uploaded_picture_is_kept_once_and_shown(birds: Birds) -> None:
    added = birds.upload(1)
    assert (added.status, added.document["kept"]) == (201, True)
    picture_id = added.document["id"]
    assert birds.upload(1).document == {"kept": False, "like": picture_id}
    (listed,) = birds.listed(birds.tit)
    assert (listed["id"], listed["class"], listed["source"]) == (picture_id, birds.tit, "upload")
    path = f"/api/taught/birds/pictures/{picture_id}.jpg"
    full, thumb = birds.page.get(path), birds.page.get(f"{path}?size=thumb")
    assert full.headers["content-type"] == "image/jpeg"
    header = read_header(full.body)
    assert header is not None
    assert (header.width, header.height) == (160, 120)
    assert read_header(thumb.body) is not None
    again = birds.page.get(path, if_none_match=full.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert birds.page.get(f"{path}?size=huge").status == 422


def test_what_a_file_says_of_its_place_is_neither_stored_nor_served(birds: Birds) -> None:
    jpeg = with_orientation(encoded(picture(1, noise=True)), 6)
    added = birds.post(f"pictures?class={birds.tit}", jpeg, content_type="image/jpeg")
    served = birds.page.get(f"/api/taught/birds/pictures/{added.document['id']}.jpg").body
    header = read_header(served)
    assert header is not None
    assert (header.exif, header.width, header.height) == (b"", 120, 160)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"no picture", "image/jpeg", 422),
        (b"", "image/jpeg", 422),
        (b"\xff\xd8\xff\xd9", "image/jpeg", 422),
        (b"<svg/>", "image/svg+xml", 415),
        (b"{}", "application/json", 415),
    ],
)
def test_what_is_no_picture_is_refused(birds: Birds, content: bytes, kind: str, status: int) -> None:
    assert birds.post(f"pictures?class={birds.tit}", content, content_type=kind).status == status
    assert birds.listed(birds.tit) == []


def test_a_picture_that_would_take_too_much_memory_is_refused_by_its_header(birds: Birds) -> None:
    jpeg = bytearray(encoded(picture(1, noise=True)))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\xff\xff\xff"  # 65,535 pixels a side
    answer = birds.post(f"pictures?class={birds.tit}", bytes(jpeg), content_type="image/jpeg")
    assert (answer.status, answer.code) == (422, "value_refused")
    assert "too large" in answer.document["error"]["message"]


def test_two_uploads_run_at_a_time_and_a_third_is_put_off(birds: Birds) -> None:
    authorization = base64.b64encode(f":{PASSWORD}".encode()).decode()
    head = (
        f"POST /api/taught/birds/pictures HTTP/1.1\r\nHost: 127.0.0.1:{birds.page.port}\r\n"
        f"Authorization: Basic {authorization}\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"
    )
    slow = [socket.create_connection(("127.0.0.1", birds.page.port)) for _ in range(2)]
    try:
        for connection in slow:
            connection.sendall(head.encode())
        until(lambda: birds.upload(1).status == 503)
        answer = birds.upload(1)
        assert (answer.code, answer.headers["retry-after"]) == ("busy", "1")
    finally:
        for connection in slow:
            connection.close()
    until(lambda: birds.upload(1).status in {200, 201})


def test_pictures_are_moved_and_moved_back(birds: Birds) -> None:
    ids = [birds.upload(seed, "to_sort").document["id"] for seed in (1, 2, 3)]
    assert birds.document["to_sort"] == 3
    step = birds.post("moves", {"pictures": ids[:2], "to": birds.tit}).document["step"]
    assert birds.one(birds.tit)["pictures"] == 2
    assert birds.document["newest_step"] == step
    assert birds.post("moves", {"pictures": ids[2:], "to": "bin"}).status == 200
    assert [one["id"] for one in birds.listed("bin")] == ids[2:]
    assert birds.post("undo", {"step": step}).status == 200
    assert birds.document["to_sort"] == 2
    assert birds.post("undo", {"step": step}).status == 410
    assert birds.send("DELETE", "/api/taught/birds/bin").document == {"removed": 1}
    assert birds.page.get(f"/api/taught/birds/pictures/{ids[2]}.jpg").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pictures": [], "to": "bin"},
        {"pictures": [NOBODY] * 501, "to": "bin"},
        {"pictures": ["../x"], "to": "bin"},
        {"pictures": [5], "to": "bin"},
        {"pictures": [NOBODY], "to": None},
        {"pictures": [NOBODY], "to": ["bin"]},
    ],
)
def test_a_wrong_move_is_refused(birds: Birds, body: Any) -> None:
    answer = birds.post("moves", body)
    assert (answer.status, answer.code) == (422, "value_refused")


@pytest.mark.parametrize("step", [None, "1", True, -1, 10**30, 1.5])
def test_a_wrong_step_is_refused(birds: Birds, step: Any) -> None:
    assert birds.post("undo", {"step": step}).status == 422


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "after=x", "class=%00", f"class={NOBODY}"])
def test_a_wrong_list_is_refused(birds: Birds, query: str) -> None:
    assert birds.page.get(f"/api/taught/birds/pictures?{query}").status in {404, 422}


def test_the_export_can_be_imported_again(birds: Birds, tmp_path: Path) -> None:
    ids = {birds.upload(seed).document["id"] for seed in range(3)}
    birds.upload(9, "to_sort")
    answer = birds.page.get("/api/taught/birds/export.zip")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="birds.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert ids <= {name.rpartition("/")[2].removesuffix(".jpg") for name in names}
    file = tmp_path / "birds.zip"
    file.write_bytes(answer.body)
    store = TeachingStore(birds.page.parts.state, birds.page.scene.clock)
    imported, refused = store.import_(file, "again")
    store.close()
    assert (imported.to_sort, sum(one.pictures for one in imported.classes), refused) == (1, 3, ())
    assert birds.send("DELETE", "/api/taught/again").status == 204


def test_collected_pictures_of_the_pipeline_are_taken_to_be_sorted(
    birds: Birds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = birds.page.parts.pipeline("driveway").plan.section.collect
    monkeypatch.setitem(collect.__dict__, "path", tmp_path)  # it is in the state directory of a service
    folder = tmp_path / "driveway/robin"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(encoded(picture(1, noise=True)))
    assert birds.post("collected").document == {"taken": 1, "left": 0}
    assert [one["source"] for one in birds.listed("to_sort")] == ["collected"]
    birds.send("PATCH", "/api/taught/birds", {"pipeline": None})
    assert birds.post("collected").document == {"taken": 0, "left": 0}


def test_a_held_button_records_the_camera_into_the_class(birds: Birds) -> None:
    stream = Stream(birds.page, "/api/stream")
    begun = birds.post("recordings", {"class": birds.tit, "pipeline": "driveway"})
    assert (begun.status, begun.document["kept"], begun.document["ended"]) == (201, 0, None)
    path = f"/api/taught/birds/recordings/{begun.document['id']}"
    assert birds.post("recordings", {"class": birds.tit, "pipeline": "driveway"}).code == "busy"
    until(lambda: birds.send("PUT", path).document["similar"] >= 2)  # the camera of the tests shows one picture
    ended = birds.send("DELETE", path).document
    assert (ended["kept"], ended["ended"], ended["ends_in_s"]) == (1, "released", 0.0)
    assert birds.send("PUT", path).document == ended
    (listed,) = birds.listed(birds.tit)
    assert (listed["recording"], listed["source"], listed["id"]) == (ended["id"], "camera", ended["newest"])
    first = stream.next("recording")
    assert (first["id"], first["class"]) == (ended["id"], birds.tit)
    assert stream.next("taught") == {"name": "birds"}
    stream.close()
    assert birds.post("undo", {"step": ended["step"]}).status == 200
    assert birds.listed(birds.tit) == []


def test_a_recording_is_of_the_region_or_of_the_whole_picture(birds: Birds) -> None:
    region = "/api/pipelines/driveway/region"
    assert birds.send("PUT", region, {"value": {"x": 0, "y": 0, "width": 0.5, "height": 1}}).status == 200
    widths = {}
    for view in ("full", "region"):
        begun = birds.post("recordings", {"class": birds.tit, "pipeline": "driveway", "view": view}).document
        path = f"/api/taught/birds/recordings/{begun['id']}"
        until(lambda path=path: birds.send("PUT", path).document["kept"])
        newest = birds.send("DELETE", path).document["newest"]
        header = read_header(birds.page.get(f"/api/taught/birds/pictures/{newest}.jpg").body)
        assert header is not None
        widths[view] = header.width
    assert widths["full"] == 2 * widths["region"]
    for wrong in ("half", 5, None, ["full"]):
        body = {"class": birds.tit, "pipeline": "driveway", "view": wrong}
        assert birds.post("recordings", body).code == "value_refused"
    birds.send("PUT", region, {"value": None})


def test_a_recording_needs_a_class_and_a_camera_that_delivers(birds: Birds) -> None:
    for body in ({}, {"class": birds.tit}, {"class": 5, "pipeline": "driveway"}):
        assert birds.post("recordings", body).status == 422
    assert birds.post("recordings", {"class": NOBODY, "pipeline": "driveway"}).code == "no_class"
    assert birds.post("recordings", {"class": birds.tit, "pipeline": "garden"}).code == "no_pipeline"
    birds.send("PUT", "/api/pipelines/driveway/enabled", {"value": False})
    assert birds.post("recordings", {"class": birds.tit, "pipeline": "driveway"}).code == "off"
    birds.send("PUT", "/api/pipelines/driveway/enabled", {"value": None})


def test_without_teach_there_are_no_routes_and_the_page_says_so(tmp_path: Path) -> None:
    with PageScene(tmp_path, static=tmp_path, teach=False) as page:
        assert page.get("/api/overview").document["features"] == {"teach": False}
        assert page.get("/api/taught").status == 404
