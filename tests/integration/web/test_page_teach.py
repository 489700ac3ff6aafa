"""Teach in a real browser, end to end: three things and `unknown` with clicks alone, events on MQTT, and roll back.

    EDGE_CLASSIFIERD_SCREENSHOTS=docs/images .venv/bin/pytest tests/integration/web/test_page_teach.py

writes the pictures of docs/teach-your-own.md.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from broker_process import Subscriber, wait_until
from page_device import faults
from playwright.sync_api import expect
from teach_desk import TeachDesk, add_class, column, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # training yields to whatever else runs

THINGS = {"cat": "cat", "coffee mug": "coffee", "rocket": "rocket"}
PICTURES = 15


@pytest.fixture(scope="module")
def device(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeachDesk]:
    """A daemon with a camera before which the test puts things; nothing is taught yet, and nothing is watched."""
    assert chromium.is_connected()
    with TeachDesk(tmp_path_factory.mktemp("device")) as one:
        yield one


@pytest.fixture
def events(device: TeachDesk) -> Iterator[Subscriber]:
    """A subscriber to all topics of the device."""
    one = Subscriber(device.broker.port)
    yield one
    one.close()


def shot(page: Page, name: str) -> None:
    """Write a picture for the documentation, where one is wanted."""
    folder = os.environ.get("EDGE_CLASSIFIERD_SCREENSHOTS")
    if folder:
        page.wait_for_load_state("networkidle") if "compare" in name else page.wait_for_timeout(1000)
        page.screenshot(path=Path(folder) / name, type="jpeg", quality=35)


def train(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Train")).click()
    page.locator(".narrow").get_by_role("button", name=re.compile("^Train")).click()
    expect(page.get_by_role("heading", name=re.compile(r"^Version \d"))).to_be_visible(timeout=240_000)


def use(page: Page, version: int) -> None:
    page.get_by_role("button", name=re.compile(rf"^Use version {version}")).click()
    expect(page.locator(".toast")).to_contain_text(f"version {version}, is in use")


def detected(events: Subscriber, since: int) -> list[str]:
    """The watches that were detected, after the first `since` events."""
    texts = [json.loads(payload) for topic, payload, _ in events.messages if topic.endswith("/event")]
    return [event["watch"] for event in texts[since:] if event["type"] == "detected"]


def number_of_events(events: Subscriber) -> int:
    return sum(topic.endswith("/event") for topic, *_ in events.messages)


def shows(device: TeachDesk, events: Subscriber, photograph: str, watch: str) -> None:
    """Put a thing before the camera, and wait for its event."""
    start = number_of_events(events)
    device.camera.show(photograph)
    wait_until(lambda: watch in detected(events, start), 20, f"an event of {watch}")
    assert detected(events, start) == [watch]


def test_clicks_alone_teach_three_things_and_roll_back(
    visit: Callable[..., Page], device: TeachDesk, events: Subscriber
) -> None:
    page = visit("#/live/desk", size={"width": 1120, "height": 680})
    page.get_by_role("link", name="Teach it something").click()
    page.get_by_label("Name", exact=True).fill("desk")
    page.get_by_role("button", name="Begin").click()
    for name, photograph in THINGS.items():
        add_class(page, name)
        device.camera.show(photograph)
        page.wait_for_timeout(500)  # the camera's next pictures
        record(page, name, PICTURES)
    device.camera.show("officer")
    page.wait_for_timeout(500)
    record(page, "nothing of these", PICTURES)
    device.camera.show("cat")
    page.evaluate("scrollTo(0, 0)")
    shot(page, "teach-collect.jpg")
    if "EDGE_CLASSIFIERD_SCREENSHOTS" in os.environ:
        phone = visit("#/teach/desk", size="phone", scheme="dark")
        shot(phone, "teach-phone.jpg")
        phone.close()

    device.camera.show("officer")
    train(page)
    expect(page.locator(".sentences li").first).to_contain_text("right")
    use(page, 1)
    for name, photograph in THINGS.items():
        shows(device, events, photograph, name.replace(" ", "-"))
    start = number_of_events(events)
    device.camera.show("officer")
    wait_until(lambda: number_of_events(events) > start, 20, "the rocket is gone")
    assert detected(events, start) == []

    page.get_by_role("link", name="1 Collect").click()
    column(page, "rocket").get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(column(page, "rocket")).to_have_count(0)
    train(page)
    for check in ("lowContrast", "unnamed"):
        assert faults(page, check) == []
    shot(page, "teach-compare.jpg")
    use(page, 2)
    start = number_of_events(events)
    device.camera.show("rocket")
    shows(device, events, "cat", "cat")  # the rocket came before
    assert "rocket" not in detected(events, start)

    page.get_by_role("link", name="Models", exact=True).click()
    page.locator(".lines li", has_text="Version 1").get_by_role("button", name="Use").click()
    expect(page.locator(".toast")).to_contain_text("version 1, is in use")
    shows(device, events, "rocket", "rocket")
