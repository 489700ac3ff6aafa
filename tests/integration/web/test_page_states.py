"""Signing in, and what the page shows when things are not well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from page_device import PASSWORD, PrefixProxy, wait_for_picture
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from page_device import PageDevice
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

REFUSED = "status 401|status of 401"
AWAY = "ERR_|status 5|status of 5"


def sign_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_right_password_opens_the_page_that_was_asked_for(visit: Callable[..., Page]) -> None:
    page = visit("#/health", session=False, expected=REFUSED)
    field = page.get_by_label("Password", exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("autocomplete", "current-password")
    expect(page.get_by_role("navigation", name="Pages")).to_be_hidden()

    sign_in(page, "something else")
    expect(page.get_by_role("alert").last).to_contain_text("edge-classifierd web password")
    page.get_by_role("button", name="Show or hide the password").click()
    expect(field).to_have_attribute("type", "text")
    sign_in(page)
    expect(page.get_by_role("heading", name="Health", level=1)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Health", level=1)).to_be_visible()


def test_session_that_ends_asks_over_the_page(visit: Callable[..., Page]) -> None:
    page = visit(session=False, expected=REFUSED)
    sign_in(page)
    page.get_by_label("Threshold, %").fill("77")
    page.context.clear_cookies()

    # The next picture is refused.
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_be_visible()
    sign_in(page)
    expect(dialog).to_have_count(0)
    expect(page.get_by_label("Threshold, %")).to_have_value("77")
    with page.expect_response(lambda response: "frame.jpg" in response.url and response.ok):
        pass


def test_signing_out_ends_the_session(visit: Callable[..., Page]) -> None:
    page = visit("#/settings", session=False, expected=REFUSED)
    sign_in(page)
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_label("Password", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_label("Password", exact=True)).to_be_visible()


def test_offline_camera_shows_the_reason(visit: Callable[..., Page]) -> None:
    page = visit("#/live/garden")

    expect(page.locator(".live .notice")).to_contain_text("garden")
    expect(page.locator(".veil")).to_have_text("No picture")
    page.get_by_role("link", name="driveway").click()
    wait_for_picture(page)
    expect(page.locator(".live .notice")).to_have_count(0)


def test_camera_that_fails_keeps_its_last_picture_greyed(visit: Callable[..., Page], device: PageDevice) -> None:
    page = visit("#/live/door", expected="status 503|status of 503")
    wait_for_picture(page, "door")
    aside = device.door.with_name("aside")

    device.door.rename(aside)
    try:
        expect(page.locator(".live .notice")).to_contain_text("door", timeout=30_000)
        expect(page.locator(".stage")).to_have_class(re.compile("old"))
        expect(page.locator(".stage canvas")).to_be_visible()
    finally:
        aside.rename(device.door)
    expect(page.locator(".live .notice")).to_have_count(0, timeout=40_000)
    expect(page.locator(".stage")).not_to_have_class(re.compile("old"))


def test_page_goes_on_after_a_restart_of_the_daemon(visit: Callable[..., Page], device: PageDevice) -> None:
    page = visit(expected=AWAY)
    wait_for_picture(page)

    device.restart()
    expect(page.locator("#banner")).to_contain_text("Not connected", timeout=20_000)
    page.get_by_label("Threshold, %").fill("66")
    page.locator(".history form").get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("#toasts")).to_contain_text("nothing was changed")

    expect(page.locator("#banner")).to_be_hidden(timeout=40_000)
    expect(page.get_by_label("Threshold, %")).to_have_value("66")
    with page.expect_response(lambda response: "frame.jpg" in response.url and response.ok, timeout=20_000):
        pass
    expect(page.get_by_role("heading", name="driveway", exact=True)).to_be_visible()


def test_page_works_behind_a_proxy_that_strips_a_prefix(visit: Callable[..., Page], device: PageDevice) -> None:
    with PrefixProxy(device.port) as proxy:
        page = visit("#/live/driveway", url=proxy.url, session=False)
        sign_in(page)
        wait_for_picture(page)
        page.get_by_role("link", name="Events", exact=True).click()
        expect(page.locator(".event").first).to_be_visible()

        framed = visit("framed", url=proxy.origin, session=False)
        frame = framed.frame_locator("iframe")
        frame.get_by_label("Password", exact=True).fill(PASSWORD)
        frame.get_by_role("button", name="Sign in").click()
        wait_for_picture(frame)
        framed.goto("about:blank")
        page.goto("about:blank")


def test_stream_that_a_proxy_holds_back_is_replaced_by_questions(visit: Callable[..., Page]) -> None:
    page = visit("#/settings")
    page.route("**/api/stream*", lambda _: None)  # neither answered nor refused

    page.goto(page.url.replace("#/settings", "#/live/driveway"))
    page.reload()
    with page.expect_response(re.compile("api/overview$"), timeout=15_000):
        expect(page.locator(".score .v").first).to_be_visible()
    score = page.locator(".score .v").first.text_content()
    page.wait_for_function("(score) => document.querySelector('.score .v').textContent !== score", arg=score)
