"""Every page on phone, tablet and desktop, light and dark: width, contrast, labels, order of the focus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from page_device import faults
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGES = {
    "live/driveway": "Live: driveway",
    "events": "Events",
    "teach": "Teach",
    "models": "Models",
    "health": "Health",
    "settings": "Settings",
}


def shown(page: Page, route: str) -> None:
    """Go to a page and wait until it is complete."""
    page.evaluate("(route) => { location.hash = `#/${route}`; }", route)
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[route])
    page.wait_for_load_state("networkidle") if route in {"models", "settings"} else page.wait_for_timeout(300)


@pytest.mark.parametrize(
    ("size", "scheme"),
    [("phone", "light"), ("phone", "dark"), ("tablet", "dark"), ("desktop", "light"), ("desktop", "dark")],
)
def test_every_page_can_be_read_and_operated(visit: Callable[..., Page], size: str, scheme: str) -> None:
    page = visit(size=size, scheme=scheme, touch=size != "desktop")
    for route in PAGES:
        shown(page, route)

        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), route
        assert faults(page, "lowContrast") == [], route
        assert faults(page, "unnamed") == [], route
        assert page.locator("h1").count() == 1, route
        assert page.evaluate("document.querySelectorAll('main, header, nav').length") >= 3, route
        if size != "desktop":
            assert faults(page, "small") == [], route
        if size == "phone":
            tops = "[...document.querySelectorAll('.pages svg')].map((one) => one.getBoundingClientRect().top)"
            assert len(set(page.evaluate(tops))) == 1
            for width in (320, 360, 390):
                page.set_viewport_size({"width": width, "height": 844})
                assert page.evaluate("document.documentElement.scrollWidth") == width, route


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_button_can_be_read_under_the_pointer(visit: Callable[..., Page], scheme: str) -> None:
    page = visit(size="desktop", scheme=scheme)
    for route in PAGES:
        shown(page, route)
        for at in range(page.locator(".btn:visible:enabled").count()):
            page.locator(".btn:visible:enabled").nth(at).hover()
            assert faults(page, "lowContrast") == [], route


def test_focus_goes_through_the_page_in_its_order(visit: Callable[..., Page]) -> None:
    page = visit("#/live/driveway")
    expect(page.get_by_role("slider")).to_be_visible()
    expect(page.locator(".event .thumb").first).to_be_visible()
    order = []
    for _ in range(24):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))
        visible = "document.activeElement.getBoundingClientRect().width > 0"
        assert page.evaluate(visible), order[-1]

    assert order[:21] == [
        "Skip to the content", "porch", "Live", "Events", "Teach", "Models", "Health", "Settings", "driveway",
        "garden", "door", "Set region", "Publish picture", "Full size", "Whole picture", "What the model gets",
        "camera on", "cat", "dog", "2 min", "1 h",
    ]  # fmt: skip
    assert order[21:] == ["24 h", "Threshold of cat", ""]  # the field of the threshold has a label of its own


def test_chosen_appearance_stays(visit: Callable[..., Page]) -> None:
    page = visit("#/settings", scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(246, 247, 249)"

    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ground) == "rgb(15, 19, 26)"
    page.reload()
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(ground) == "rgb(15, 19, 26)"
    page.get_by_role("button", name="Automatic").click()
    assert page.evaluate(ground) == "rgb(246, 247, 249)"
