"""The screenshots of README and docs: taken from a daemon that looks at the bundled photographs.

    EDGE_CLASSIFIERD_SCREENSHOTS=docs/images .venv/bin/pytest tests/integration/web/test_page_screenshots.py

writes them; otherwise the test only takes them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from page_device import wait_for_picture
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

DESKTOP = {"width": 1040, "height": 680}
SHOTS = (
    ("page-live.jpg", "#/live/driveway", "desktop", "light"),
    ("page-live-phone.jpg", "#/live/driveway", "phone", "dark"),
    ("page-events.jpg", "#/events", "desktop", "light"),
)


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot[0])
def test_screenshot_shows_the_page(visit: Callable[..., Page], tmp_path: Path, shot: tuple[str, str, str, str]) -> None:
    name, route, size, scheme = shot
    page = visit(route, size=DESKTOP if size == "desktop" else size, scheme=scheme)
    chosen = os.environ.get("EDGE_CLASSIFIERD_SCREENSHOTS")
    folder = Path(chosen or tmp_path)
    if "live" in route:
        wait_for_picture(page)
        page.get_by_role("button", name="2 min").click()
        if chosen and size == "desktop":
            page.wait_for_timeout(60_000)  # a history to look at
        expect(page.locator(".score.on")).to_be_visible(timeout=15_000)
        page.evaluate("scrollTo(0, 0)")
    else:
        expect(page.locator(".event .thumb img").first).to_be_visible(timeout=15_000)
    page.screenshot(path=folder / name, type="jpeg", quality=60)

    assert 10_000 < (folder / name).stat().st_size < 90_000
