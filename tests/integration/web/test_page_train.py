"""Training on the page, the use of versions with every way back, and files that are dropped; no picture is recorded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from broker_process import wait_until
from paho.mqtt import publish
from playwright.sync_api import expect
from taught_versions import add_version
from teach_desk import TeachDesk, column

from edge_classifierd.teaching.training.result import HeldOutResult, VersionComparison

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PICTURES = 12
"""Of each class: enough to train."""


@pytest.fixture(scope="module")
def device(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeachDesk]:
    """A daemon with the models `desk`, ready to be trained, and `birds` and `cups`, which have versions."""
    with TeachDesk(tmp_path_factory.mktemp("device")) as one:
        page = one.signed_in(chromium)
        for model in ("desk", "birds", "cups"):
            made = one.send(page, "POST", "taught", {"name": model, "pipeline": "desk"})
        one.send(page, "POST", "taught/cups/classes", {"name": "cat"})
        made = one.send(page, "GET", "taught/desk")
        classes = {"rocket": made["classes"][0]["id"]}
        for name in ("cat", "coffee"):
            classes[name] = one.send(page, "POST", "taught/desk/classes", {"name": name})["id"]
        for name, class_id in classes.items():
            for jpeg in one.camera.pictures(name)[:PICTURES]:
                one.send(page, "POST", f"taught/desk/pictures?class={class_id}", jpeg)
        measured = HeldOutResult(pictures=20, right=19, balanced=0.95, per_class=(), mistakes=())
        add_version(one.daemon.state, "birds", 1)
        add_version(one.daemon.state, "cups", 1, held_out=measured)
        worse = HeldOutResult(pictures=20, right=11, balanced=0.55, per_class=(), mistakes=())
        against = VersionComparison(1, measured, None)
        add_version(one.daemon.state, "cups", 2, held_out=worse, against=against, worse=True)
        page.context.close()
        yield one


def uses(device: TeachDesk, page: Page, *expected: object) -> None:
    """Wait until the camera uses this model in this version, by a command or not."""

    def now() -> tuple[object, ...]:
        one = device.pipeline(page)
        return one["model"]["name"], one["model"]["version"], "model" in one["overridden"]

    wait_until(lambda: now() == expected, 15, f"{expected}, not {now()}")


def hold_answers(page: Page, path: str) -> None:
    """Keep the answers to a path from the page until it calls `letGo()`; the device has done what it was asked for."""
    page.evaluate(
        """(path) => {
          const ask = window.fetch;
          const free = new Promise((done) => { window.letGo = () => { window.fetch = ask; done(); }; });
          window.fetch = async (address, options) => {
            const answer = await ask(address, options);
            if (address.endsWith(path)) await free;
            return answer;
          };
        }""",
        path,
    )


def drop(page: Page, onto: Locator, *paths: Path) -> None:
    """Drop files or folders as a file manager does."""
    onto.scroll_into_view_if_needed()
    box = onto.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    session.detach()


def test_dropped_files_come_into_the_class_and_a_folder_makes_one(
    visit: Callable[..., Page], device: TeachDesk, tmp_path: Path
) -> None:
    folder = tmp_path / "Officer"
    folder.mkdir()
    files = []
    for number, jpeg in enumerate(device.camera.pictures("officer")[:4]):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(jpeg)
        (folder / f"{number}.jpg").write_bytes(jpeg)
    (folder / "notes.txt").write_text("no picture")
    page = visit("#/teach/cups")
    uploads = page.get_by_role("region", name="Files")

    drop(page, column(page, "cat"), *files[:2])
    expect(uploads).to_contain_text("2 of 2 files · 2 kept")
    expect(column(page, "cat")).to_contain_text("2 pictures")

    drop(page, page.locator(".adding"), folder, files[3])
    expect(column(page, "Officer")).to_contain_text("4 pictures")
    expect(page.locator(".sortcard")).to_contain_text("1 to sortin 1 group")

    page.get_by_role("link", name="Sort them").click()
    expect(page.locator(".sorting")).to_contain_text("group 1 of 1")
    page.keyboard.press("1")
    expect(page.locator(".toast")).to_contain_text("1 picture moved to cat")
    expect(page.locator(".notice")).to_have_text("Everything is sorted.")
    page.get_by_role("status").get_by_role("button", name="Undo").click()
    expect(page.locator(".sorting")).to_contain_text("group 1 of 1")
    page.keyboard.press("Delete")
    expect(page.locator(".toast")).to_contain_text("1 picture moved to the bin")
    page.keyboard.press("Control+z")
    expect(page.locator(".sorting")).to_contain_text("group 1 of 1")
    page.keyboard.press("0")
    expect(page.locator(".toast")).to_contain_text("1 picture moved to nothing of these")


def test_a_training_is_cancelled_while_the_cameras_are_paused(visit: Callable[..., Page], device: TeachDesk) -> None:
    page = visit("#/teach/desk/train", expected=r"status 409: .*frame\.jpg|console error: .*409")
    page.get_by_role("button", name="Accurate").click()
    page.locator(".narrow").get_by_role("button", name=re.compile("^Train")).click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^training desk"))).to_be_visible()

    page.get_by_role("button", name="Pause the cameras meanwhile").click()
    expect(page.get_by_role("button", name="Resume the cameras")).to_be_visible()
    expect(page.locator(".narrow")).to_contain_text(re.compile(r"until \d\d:\d\d at the latest"))
    page.get_by_role("link", name="Live").click()
    expect(page.locator(".veil")).to_contain_text("Paused while a model is trained")

    page.get_by_role("link", name=re.compile("^training desk")).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".toast")).to_have_text("Training cancelled. Nothing was changed.")
    expect(page.locator(".narrow").get_by_role("button", name=re.compile("^Train"))).to_be_enabled()
    assert device.send(page, "GET", "taught/desk/versions") == []
    page.get_by_role("link", name="Live").click()
    expect(page.locator(".veil")).to_be_hidden(timeout=10_000)


def test_undo_gives_a_camera_exactly_its_earlier_model(visit: Callable[..., Page], device: TeachDesk) -> None:
    page = visit("#/teach/birds/compare/1")
    configured = device.pipeline(page)["model"]["name"]
    undo = page.get_by_role("status").get_by_role("button", name="Undo")
    page.get_by_role("button", name="Use version 1").click()
    expect(page.locator(".toast")).to_contain_text("birds, version 1, is in use on desk")
    uses(device, page, "birds", 1, True)
    undo.click()
    expect(page.locator(".toast")).to_contain_text("desk has its configured model again.")
    uses(device, page, configured, None, False)

    page.get_by_role("button", name="Use version 1").click()
    uses(device, page, "birds", 1, True)
    page.goto(f"{device.url}#/teach/cups/compare/1")
    expect(page.get_by_role("heading", level=1)).to_have_text("cups")  # no longer the button of `birds`
    page.get_by_role("button", name="Use version 1").click()
    expect(page.locator(".toast")).to_contain_text("cups, version 1")
    uses(device, page, "cups", 1, True)
    undo.click()
    uses(device, page, "birds", 1, True)
    page.get_by_role("button", name="Use version 1").click()
    page.get_by_role("button", name="Back to birds, version 1").click()
    uses(device, page, "birds", 1, True)

    topic = "edge-classifierd/porch/desk/model/set"
    publish.single(topic, "RESET", qos=1, hostname="127.0.0.1", port=device.broker.port)
    uses(device, page, configured, None, False)


def test_undo_leads_back_however_late_the_answers_come(visit: Callable[..., Page], device: TeachDesk) -> None:
    page = visit("#/teach/birds/compare/1")
    press, in_use = page.get_by_role("button", name="Use version 1"), page.get_by_text("in use on desk").first
    back = page.get_by_role("button", name="Back to the configured model")
    configured = device.pipeline(page)["model"]["name"]

    for _ in range(2):  # the second time the version is in use already when it is put on the camera
        hold_answers(page, "/versions/1/use")
        press.dblclick()  # the second press says nothing new
        expect(in_use).to_be_visible()
        page.evaluate("letGo()")
        back.click()
        uses(device, page, configured, None, False)
    press.click()
    hold_answers(page, "/desk/model")
    back.click()
    press.click()
    page.wait_for_timeout(1000)  # enough for this change, if it did not wait for the one before it
    page.evaluate("letGo()")
    expect(back).to_be_visible()
    uses(device, page, "birds", 1, True)
    back.click()
    uses(device, page, configured, None, False)


def test_a_worse_version_is_used_anyway_and_taken_back(visit: Callable[..., Page], device: TeachDesk) -> None:
    page = visit("#/teach/cups/compare/1", expected=r"503.*frame\.jpg")  # Live, while the model changes
    page.get_by_role("button", name="Use version 1").click()
    uses(device, page, "cups", 1, True)
    page.goto(f"{device.url}#/teach/cups/compare/2")
    expect(page.locator(".notice")).to_have_text("Version 2 does worse than version 1 on the same pictures.")
    page.get_by_role("link", name="Report").focus()
    with page.expect_response(re.compile("/api/overview$")):  # the page reads it again after a change
        device.send(page, "PUT", "pipelines/desk/watches/blue-tit/threshold", {"value": 0.66})
    assert page.evaluate("document.activeElement.textContent") == "Report"
    page.get_by_role("button", name="Use version 2 anyway").click()
    uses(device, page, "cups", 2, True)
    expect(page.locator(".notice")).to_be_hidden()

    page.get_by_role("link", name="Live").click()
    page.get_by_role("button", name="Back to version 1").click()
    uses(device, page, "cups", 1, True)
    expect(page.get_by_role("button", name="Back to version 1")).to_have_count(0)
    page.get_by_role("status").get_by_role("button", name="Undo").click()
    uses(device, page, "cups", 2, True)
    page.goto(f"{device.url}#/teach/cups/compare/2")
    page.get_by_role("button", name="Back to version 1").click()
    uses(device, page, "cups", 1, True)
    assert device.send(page, "GET", "taught/cups")["in_use"] == 1
