"""The page Live in a real browser: picture, scores, region, threshold, camera switch."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from broker_process import wait_until
from page_device import wait_for_picture
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

WHOLE = {"x": 0, "y": 0, "width": 1, "height": 1}


def driveway(page: Page) -> dict[str, Any]:
    """The pipeline as the API describes it."""
    overview = page.evaluate("fetch('api/overview').then((answer) => answer.json())")
    found: dict[str, Any] = next(one for one in overview["pipelines"] if one["name"] == "driveway")
    return found


def fields(page: Page) -> list[float]:
    """Left, top, width and height in the region editor, in per cent."""
    return [float(one.input_value()) for one in page.locator(".regionpanel input").all()]


def expect_fields(page: Page, wanted: list[float], within: float = 0.01) -> None:
    """Wait for values in the region editor: the browser may handle a movement after the mouse is up."""
    deadline = time.monotonic() + 10
    while fields(page) != pytest.approx(wanted, abs=within) and time.monotonic() < deadline:
        pass
    assert fields(page) == pytest.approx(wanted, abs=within)


def edit_region(page: Page, left: float, top: float, width: float, height: float) -> Locator:
    """Open the region editor and type a region into its fields; return the area of the picture."""
    wait_for_picture(page)  # it gives the area its shape
    page.get_by_role("button", name="Set region").click()
    area = page.locator(".editor")
    expect(area).to_be_visible()
    for number, value in ((0, 0), (1, 0), (2, width), (3, height), (0, left), (1, top)):
        one = page.locator(".regionpanel input").nth(number)
        one.fill(str(value))
        one.press("Tab")
    expect_fields(page, [left, top, width, height])
    return area


def place(area: Locator, x: float, y: float) -> tuple[float, float]:
    """A place in the window, from fractions of an area."""
    box = area.bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def drag(page: Page, area: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*place(area, *start))
    page.mouse.down()
    page.mouse.move(*place(area, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
    page.mouse.move(*place(area, *end))
    page.mouse.up()


def move_content(page: Page, down: int) -> None:
    """Move what the page shows by some pixels, as the notice of a lost link does."""
    page.evaluate("(down) => { document.getElementById('main').style.marginTop = `${down}px`; }", down)


def set_region(page: Page) -> None:
    page.locator(".regionpanel").get_by_role("button", name="Set", exact=True).click()
    expect(page.locator(".editor")).to_have_count(0)
    expect(page.locator(".toast")).to_contain_text("Region set")


@pytest.fixture
def as_configured(visit: Callable[..., Page]) -> Any:
    """Values changed by a test return to those of the file."""
    yield
    page = visit("#/settings")
    for name in ("region", "watches/cat/threshold", "enabled"):
        page.evaluate(
            """(name) => fetch(`api/pipelines/driveway/${name}`,
            {method: "PUT", headers: {"Content-Type": "application/json"}, body: '{"value":null}'})""",
            name,
        )


def test_pictures_and_scores_follow_each_other(visit: Callable[..., Page]) -> None:
    page = visit()
    canvas = page.locator(".stage canvas")
    wait_for_picture(page)
    first = canvas.get_attribute("aria-label")
    page.wait_for_function("(first) => document.querySelector('.stage canvas').ariaLabel !== first", arg=first)

    colours = "(one) => new Set(one.getContext('2d').getImageData(0, 0, one.width, one.height).data).size"
    assert canvas.evaluate(colours) > 50
    score = page.locator(".score .v").first.text_content()
    page.wait_for_function("(score) => document.querySelector('.score .v').textContent !== score", arg=score)
    expect(page.locator(".facts")).to_contain_text("pictures a second")
    expect(page.get_by_role("meter", name=re.compile("Confidence of cat"))).to_have_count(1)


@pytest.mark.usefixtures("as_configured")
def test_region_is_set_with_the_mouse(visit: Callable[..., Page]) -> None:
    page = visit()
    area = edit_region(page, 30, 30, 40, 40)

    drag(page, area, (0.5, 0.5), (0.6, 0.45))  # inside: moves it
    expect_fields(page, [40, 25, 40, 40], 0.6)
    left, top = place(area, 0.8, 0.65)
    page.mouse.move(left + 12, top + 12)  # the handle outside the corner
    page.mouse.down()
    page.mouse.move(*place(area, 0.9, 0.85), steps=3)
    page.mouse.up()
    expect_fields(page, [40, 25, 48, 57.5], 1)
    drag(page, area, (0.05, 0.05), (0.3, 0.2))  # on the empty picture: draws a new one
    expect_fields(page, [5, 5, 25, 15], 0.6)

    set_region(page)
    assert list(driveway(page)["region"].values()) == pytest.approx([0.05, 0.05, 0.25, 0.15], abs=0.01)
    expect(page.locator(".frame").first).to_be_visible()


def test_region_and_threshold_stay_under_the_pointer_when_the_page_moves(visit: Callable[..., Page]) -> None:
    page = visit()
    area = edit_region(page, 30, 30, 40, 40)
    page.mouse.move(*place(area, 0.05, 0.05))
    page.mouse.down()
    move_content(page, 60)
    page.mouse.move(*place(area, 0.3, 0.2))
    page.mouse.up()
    expect_fields(page, [5, 5, 25, 15], 0.6)

    slider = page.get_by_role("slider", name="Threshold of cat")
    page.mouse.move(*place(slider, 0.3, 0.9))  # not in its middle
    page.mouse.down()
    expect(slider).to_be_focused()
    expect(slider).to_have_attribute("aria-valuenow", "50")
    move_content(page, 0)
    page.mouse.move(*place(slider, 0.3, 0.9))
    expect(slider).to_have_attribute("aria-valuenow", "50")
    page.mouse.up()


@pytest.mark.usefixtures("as_configured")
def test_region_is_set_by_touch_on_a_phone(visit: Callable[..., Page]) -> None:
    page = visit(size="phone", touch=True)
    area = edit_region(page, 30, 30, 40, 40)
    touches = page.context.new_cdp_session(page)
    x, y = place(area, 0.5, 0.5)
    moved_x, moved_y = place(area, 0.6, 0.6)

    touches.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for share in (0.5, 1):
        at = {"x": x + share * (moved_x - x), "y": y + share * (moved_y - y)}
        touches.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [at]})
    touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    expect_fields(page, [40, 40, 40, 40], 1)
    set_region(page)
    assert driveway(page)["region"]["x"] == pytest.approx(0.4, abs=0.02)


@pytest.mark.usefixtures("as_configured")
def test_region_is_set_with_keys_and_taken_back(visit: Callable[..., Page]) -> None:
    page = visit()
    edit_region(page, 30, 30, 40, 40)
    page.get_by_role("group", name=re.compile("Region")).focus()

    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    expect_fields(page, [32, 25, 40, 40])
    page.keyboard.press("Tab")  # to the handle of the size
    page.keyboard.press("Shift+ArrowRight")
    expect_fields(page, [32, 25, 45, 40])
    page.keyboard.press("Enter")
    expect(page.locator(".editor")).to_have_count(0)
    expect(page.get_by_role("button", name="Set region")).to_be_focused()
    assert driveway(page)["region"] == {"x": 0.32, "y": 0.25, "width": 0.45, "height": 0.4}

    page.keyboard.press("r")
    page.get_by_role("button", name="Copy as YAML").click()
    expect(page.locator(".toast")).to_contain_text("Copied")
    page.keyboard.press("Escape")
    expect(page.locator(".editor")).to_have_count(0)
    page.get_by_role("button", name="Set region").click()
    page.locator(".regionpanel").get_by_role("button", name="As configured").click()
    expect(page.locator(".editor")).to_have_count(0)
    assert driveway(page)["region"] == WHOLE


def test_region_cannot_leave_the_picture_or_vanish(visit: Callable[..., Page]) -> None:
    page = visit()
    page.get_by_role("button", name="Set region").click()

    moved = page.evaluate(
        """async () => {
          const {moved} = await import("./static/region.js");
          const start = {x: 0.3, y: 0.3, width: 0.4, height: 0.4};
          return [moved(start, "", 5, -5), moved(start, "nw", 9, 9), moved(start, "se", 9, 9)];
        }"""
    )
    assert moved == [
        {"x": 0.6, "y": 0, "width": 0.4, "height": 0.4},
        {"x": 0.65, "y": 0.65, "width": 0.05, "height": 0.05},
        {"x": 0.3, "y": 0.3, "width": 0.7, "height": 0.7},
    ]


@pytest.mark.usefixtures("as_configured")
def test_threshold_is_dragged_typed_and_undone(visit: Callable[..., Page]) -> None:
    page = visit()
    slider = page.get_by_role("slider", name="Threshold of cat")
    expect(slider).to_have_attribute("aria-valuenow", "50")

    slider.focus()
    for key in ("PageUp", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    expect(slider).to_have_attribute("aria-valuenow", "61")
    expect(page.locator(".history p.small")).to_contain_text("At 61")
    assert driveway(page)["watches"][0]["threshold"] == 0.5  # nothing is sent before Set
    form = page.locator(".history form")
    form.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("Threshold of cat: 61")
    assert driveway(page)["watches"][0]["threshold"] == 0.61
    page.get_by_role("button", name="Undo").click()
    expect(slider).to_have_attribute("aria-valuenow", "50")
    assert driveway(page)["watches"][0]["threshold"] == 0.5

    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2 - 30, steps=4)
    page.mouse.up()
    wait_until(lambda: 70 < int(slider.get_attribute("aria-valuenow") or 0) < 90, 10, "a dragged threshold")
    dragged = slider.get_attribute("aria-valuenow")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text(f"Threshold of cat: {dragged}")

    page.get_by_label("Threshold, %").fill("20")
    form.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("Threshold of cat: 20")
    watch = driveway(page)["watches"][0]
    assert (watch["threshold"], watch["release"]) == (0.2, pytest.approx(0.2))  # the release never lies above
    form.get_by_role("button", name="As configured").click()
    expect(slider).to_have_attribute("aria-valuenow", "50")
    expect(form.get_by_role("button", name="As configured")).to_be_hidden()


def test_crossings_are_counted_with_hysteresis(visit: Callable[..., Page]) -> None:
    counted = visit("#/settings").evaluate(
        """async () => {
          const {count} = await import("./static/history.js");
          return count([0.1, 0.7, 0.5, 0.5, null, 0.3, 0.7, null, 0.1], 10, 0.6, 0.4);
        }"""
    )

    assert counted == {"runs": 2, "seconds": 40}


@pytest.mark.usefixtures("as_configured")
def test_camera_is_switched_off_and_on(visit: Callable[..., Page]) -> None:
    page = visit()
    switch = page.get_by_role("switch", name="camera on")
    expect(switch).to_have_attribute("aria-checked", "true")
    wait_for_picture(page)

    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(page.locator(".veil")).to_contain_text("switched off")
    expect(page.locator(".stage canvas")).to_be_hidden()  # what it saw last is not shown
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(page.locator(".stage canvas")).to_be_visible()


@pytest.mark.usefixtures("as_configured")
def test_two_browsers_see_each_others_changes(visit: Callable[..., Page]) -> None:
    one, other = visit(), visit(size="phone", touch=True)
    expect(other.get_by_role("slider")).to_have_attribute("aria-valuenow", "50")

    one.get_by_label("Threshold, %").fill("35")
    one.locator(".history form").get_by_role("button", name="Set", exact=True).click()
    expect(other.get_by_role("slider")).to_have_attribute("aria-valuenow", "35")


def test_hidden_tab_asks_for_no_pictures(visit: Callable[..., Page]) -> None:
    page = visit()
    wait_for_picture(page)
    asked: list[str] = []
    page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", {configurable: true, get: () => true});
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.wait_for_timeout(800)  # what was asked for before may still come
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(600)
    assert not asked

    page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    with page.expect_response(re.compile("frame.jpg")):
        pass
