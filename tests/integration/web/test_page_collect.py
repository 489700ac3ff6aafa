"""Teach's first step in a real browser: recording, choosing, moving, files; and all steps on three sizes of screen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from daemon_process import PHOTOS
from page_device import faults
from playwright.sync_api import expect
from teach_desk import TeachDesk, add_class, column, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def device(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeachDesk]:
    """A daemon with one camera, and the model `desk` with the class `cat`."""
    with TeachDesk(tmp_path_factory.mktemp("device")) as one:
        page = one.signed_in(chromium)
        page.goto(f"{one.url}#/teach")
        page.get_by_label("Name", exact=True).fill("Desk")  # the page makes it `desk`
        page.get_by_role("button", name="Begin").click()
        add_class(page, "cat")
        record(page, "cat", 8)
        page.context.close()
        yield one


def pictures(page: Page, name: str) -> int:
    """The number of pictures that a column states."""
    text = column(page, name).locator(".small.n").text_content() or ""
    return int(re.match(r"[\d,]+", text)[0])  # type: ignore[index]


def test_chosen_pictures_are_moved_by_keys_and_come_back(visit: Callable[..., Page]) -> None:
    page = visit("#/teach/desk")
    cells = column(page, "cat").locator(".cell")
    expect(cells.nth(7)).to_be_visible()
    before = pictures(page, "cat")

    cells.nth(1).click()
    cells.nth(4).click(modifiers=["Shift"])
    expect(page.locator(".chosenbar")).to_contain_text("4 chosen")
    page.keyboard.press("0")
    expect(page.locator(".toast")).to_contain_text("4 pictures moved to nothing of these")
    expect(column(page, "cat")).to_contain_text(f"{before - 4} pictures")
    page.get_by_role("status").get_by_role("button", name="Undo").click()
    expect(column(page, "cat")).to_contain_text(f"{before} pictures")

    cells.first.click()
    page.keyboard.press("Delete")
    expect(column(page, "cat")).to_contain_text(f"{before - 1} pictures")
    page.keyboard.press("Control+z")
    expect(column(page, "cat")).to_contain_text(f"{before} pictures")

    cells.first.click()
    page.locator(".chosenbar").get_by_role("button", name="Bin").click()
    expect(column(page, "cat")).to_contain_text(f"{before - 1} pictures")
    page.get_by_role("link", name="Bin", exact=True).click()
    page.locator(".bin .cell").click()
    page.locator(".chosenbar").get_by_role("button", name="→ cat").click()
    expect(page.locator(".notice")).to_contain_text("The bin is empty")


def test_the_bin_is_emptied_at_once_if_wanted(visit: Callable[..., Page]) -> None:
    page = visit("#/teach/desk")
    before = pictures(page, "cat")
    column(page, "cat").locator(".cell").first.click()
    page.keyboard.press("Delete")
    expect(column(page, "cat")).to_contain_text(f"{before - 1} pictures")
    page.get_by_role("link", name="Bin", exact=True).click()
    page.get_by_role("button", name="Empty now").click()
    dialog = page.get_by_role("dialog", name="Empty")
    expect(dialog).to_contain_text("Remove 1 picture for good?")
    dialog.get_by_role("button", name="Empty").click()
    expect(page.locator(".notice")).to_contain_text("The bin is empty")


def test_key_records_while_it_is_held_and_a_tap_counts_down(visit: Callable[..., Page]) -> None:
    page = visit("#/teach/desk")
    hold = column(page, "cat").locator(".hold")
    expect(column(page, "cat").locator(".cell").first).to_be_visible()
    before = pictures(page, "cat")

    page.keyboard.down("1")
    expect(hold).to_have_text(re.compile(r"[1-9]\d* kept"), timeout=10_000)
    page.keyboard.up("1")
    expect(page.locator(".toast")).to_contain_text("kept")
    page.wait_for_function("() => document.querySelector('.toast button') !== null")
    page.get_by_role("status").get_by_role("button", name="Undo").click()
    expect(column(page, "cat")).to_contain_text(f"{before} pictures")

    hold.click(delay=20)
    expect(hold).to_contain_text("Starts in 3")
    hold.click(delay=20)
    expect(hold).to_have_text("Hold to record")
    hold.click(delay=20)
    expect(hold).to_contain_text("kept", timeout=10_000)
    page.keyboard.press("Escape")
    expect(hold).to_have_text("Hold to record")


def test_the_whole_picture_is_recorded_if_wanted(visit: Callable[..., Page], device: TeachDesk) -> None:
    page = visit("#/teach/desk")
    tag, choice = page.locator(".tag"), page.get_by_role("group", name="Picture")
    expect(tag).to_have_text("desk")
    expect(choice).to_be_hidden()
    device.send(page, "PUT", "pipelines/desk/region", {"value": {"x": 0.2, "y": 0, "width": 0.5, "height": 1}})
    expect(tag).to_have_text("desk · region")
    choice.get_by_role("button", name="Whole picture").click()
    expect(tag).to_have_text("desk · whole picture")
    with page.expect_request(lambda request: request.url.endswith("/recordings")) as begun:
        page.keyboard.down("1")
    assert begun.value.post_data_json["view"] == "full"
    page.keyboard.up("1")
    expect(page.locator(".toast")).to_contain_text("too similar")
    device.send(page, "PUT", "pipelines/desk/region", {"value": None})
    expect(tag).to_have_text("desk")
    expect(choice).to_be_hidden()


def test_files_are_kept_or_refused_with_the_reason(visit: Callable[..., Page], tmp_path: Path) -> None:
    page = visit("#/teach/desk")
    add_class(page, "astronaut")
    damaged = tmp_path / "notes.jpg"
    damaged.write_text("no picture")
    again = tmp_path / "again.jpg"
    again.write_bytes((PHOTOS / "officer.jpg").read_bytes())

    column(page, "astronaut").locator("input").set_input_files([PHOTOS / "officer.jpg", again, damaged])
    uploads = page.get_by_role("region", name="Files")
    expect(uploads).to_contain_text("3 of 3 files · 1 kept · 1 too similar · 1 refused")
    expect(uploads.locator("li")).to_contain_text("notes.jpg this browser cannot read it")
    expect(column(page, "astronaut")).to_contain_text("1 picture ")

    column(page, "astronaut").get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("Neil")
    page.get_by_role("dialog").get_by_role("button", name="OK").click()
    expect(column(page, "Neil")).to_be_visible()
    column(page, "Neil").get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(column(page, "Neil")).to_have_count(0)


@pytest.mark.parametrize(
    ("size", "scheme"),
    [("phone", "light"), ("phone", "dark"), ("tablet", "light"), ("desktop", "light"), ("desktop", "dark")],
)
def test_every_step_can_be_read_and_operated(visit: Callable[..., Page], size: str, scheme: str) -> None:
    page = visit("#/teach/desk", size=size, scheme=scheme, touch=size != "desktop")
    for step, content in (("collect", ".cell"), ("train", "table"), ("compare", ".notice"), ("bin", ".card, .notice")):
        page.evaluate("(step) => { location.hash = `#/teach/desk/${step}`; }", step)
        expect(page.locator(f"main {content}").first).to_be_visible()

        assert faults(page, "lowContrast") == [], step
        assert faults(page, "unnamed") == [], step
        assert page.locator("h1").count() == 1, step
        for width in {"phone": (320, 390), "tablet": (820,), "desktop": (1280,)}[size]:
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") == width, step
        if size != "desktop":
            assert faults(page, "small") == [], step


def test_wrong_asks_what_it_is_and_what_is_skipped_is_sorted(visit: Callable[..., Page], device: TeachDesk) -> None:
    device.camera.show("coffee")  # an event of the watch `any`
    page = visit("#/events")
    try:
        event = page.locator(".event:has(img)")
        expect(event.first).to_be_visible(timeout=20_000)
        expect(event.nth(1)).to_be_visible(timeout=30_000)
    finally:
        device.camera.show("cat")
    first, second = (page.locator(f"[data-id='{event.nth(n).get_attribute('data-id')}']") for n in (0, 1))

    first.get_by_role("button", name="Wrong").click()
    dialog = page.get_by_role("dialog", name="What is it?")
    dialog.get_by_role("button", name="nothing of these").click()
    expect(page.locator(".toast")).to_have_text("Kept for teaching desk: nothing of these")
    second.get_by_role("button", name="Wrong").click()
    dialog.get_by_role("button", name="Skip").click()

    page.goto(f"{device.url}#/teach/desk")
    expect(column(page, "nothing of these")).to_contain_text("1 picture ")
    page.get_by_role("link", name="Sort them").click()
    expect(page.locator(".sorting")).to_contain_text("group 1 of 1")
    page.keyboard.press("1")
    expect(page.locator(".notice")).to_have_text("Everything is sorted.")
    page.get_by_role("main").get_by_role("button", name="Undo").click()
    expect(page.locator(".sorting")).to_contain_text("group 1 of 1")


def test_collected_pictures_are_brought_in_to_be_sorted(visit: Callable[..., Page], device: TeachDesk) -> None:
    page = visit("#/teach/desk")
    page.get_by_role("button", name="Bring in collected").click()
    expect(page.locator(".toast")).to_contain_text("collected nothing")

    folder = device.daemon.state / "collected" / "desk" / "cup"
    folder.mkdir(parents=True)
    (folder / "2026-11-29_10-00-00-000000.jpg").write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    page.get_by_role("button", name="Bring in collected").click()
    expect(page.locator(".toast").last).to_contain_text("1 collected picture to sort")
    expect(page.locator(".sortcard")).to_contain_text(re.compile(r"[12] to sort"))
    assert not list(folder.iterdir())
