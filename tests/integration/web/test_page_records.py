"""Events, Health and Settings in a real browser: what they show and what their buttons do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from page_device import PageDevice
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_events_come_by_themselves_are_filtered_and_judged(visit: Callable[..., Page]) -> None:
    page = visit("#/events")
    rows = page.locator(".event")
    expect(rows.first).to_be_visible(timeout=15_000)
    before = rows.count()
    expect(rows.nth(before)).to_be_visible(timeout=30_000)  # a new one

    oldest = page.locator(f".event[data-id='{rows.last.get_attribute('data-id')}']")
    oldest.get_by_role("button", name="Wrong").click()
    expect(oldest.get_by_role("button", name="Wrong")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Watch").select_option("dog")
    expect(page.locator(".notice")).to_contain_text("No events match")
    page.get_by_label("Watch").select_option("cat")
    expect(oldest.get_by_role("button", name="Wrong")).to_have_attribute("aria-pressed", "true")

    oldest.get_by_role("button", name=re.compile("Open the picture")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("tr")).to_have_count(5)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_health_examines_on_request(visit: Callable[..., Page]) -> None:
    page = visit("#/health")
    expect(page.locator(".card", has_text="garden").first).to_contain_text("offline")
    expect(page.locator(".log li").first).to_contain_text("garden")

    page.get_by_role("button", name="Examine").click()
    expect(page.locator(".findings li").first).to_be_visible(timeout=90_000)
    expect(page.locator(".findings .failed", has_text="garden")).to_be_visible()
    page.locator("summary").click()
    expect(page.locator("details .figures")).to_contain_text("starlette")


def test_settings_list_what_differs_and_check_a_draft(visit: Callable[..., Page], device: PageDevice) -> None:
    page = visit("#/live/driveway")
    page.get_by_label("Threshold, %").fill("44")
    page.locator(".history form").get_by_role("button", name="Set", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("44")
    page.get_by_role("link", name="Settings", exact=True).click()

    row = page.locator(".lines li", has_text="threshold of cat")
    expect(row).to_contain_text("44")
    row.get_by_role("button", name="As configured").click()
    expect(row).to_have_count(0)
    source = page.locator(".source")
    expect(source).to_contain_text("name: driveway")
    assert device.password not in source.inner_text()
    page.get_by_role("button", name="Reload configuration").click()
    expect(page.locator(".card", has_text="Reloaded")).to_be_visible(timeout=15_000)

    page.locator("summary").click()
    draft = page.get_by_label("Draft of the configuration")
    expect(draft).to_have_value(re.compile("!credential hidden"))
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("details .problems li")).to_have_count(0)
    expect(page.locator("details")).to_contain_text("no mistakes", timeout=15_000)
    draft.fill(draft.input_value() + "colour: red\n")
    page.get_by_role("button", name="Check", exact=True).click()
    problem = page.locator("details .problems li", has_text="colour")
    expect(problem).to_be_visible(timeout=15_000)
    problem.get_by_role("button").click()
    expect(draft).to_be_focused()
    assert draft.evaluate("(one) => one.value.slice(one.selectionStart, one.selectionEnd)") == "colour: red"
