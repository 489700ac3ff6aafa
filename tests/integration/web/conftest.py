"""A daemon with the page, and a real Chromium that reports every console message and failed request."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import Broker
from page_device import PASSWORD, PageDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Response, StorageState

SIZES = {
    "phone": {"width": 390, "height": 844},
    "tablet": {"width": 820, "height": 1180},
    "desktop": {"width": 1280, "height": 800},
}


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Debian's Chromium, with a temporary folder of its own, because it does not remove all of its files."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("there is no chromium; Debian's package has this name")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        variables = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("chromium"))}
        browser = playwright.chromium.launch(executable_path=binary, args=arguments, env=variables)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def device(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageDevice]:
    """A daemon with the page and three cameras, of which `garden` is offline."""
    assert chromium.is_connected()  # no daemon is started for tests that are skipped
    folder = tmp_path_factory.mktemp("device")
    broker = Broker(folder).start()
    try:
        with PageDevice(folder, broker.port) as one:
            yield one
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, device: PageDevice) -> StorageState:
    """The cookie of a session."""
    context = chromium.new_context()
    origin = {"Origin": device.url.rstrip("/")}
    answer = context.request.post(f"{device.url}api/session", data={"password": PASSWORD, "stay": True}, headers=origin)
    assert answer.status == 204, answer.text()
    state = context.storage_state()
    context.close()
    return state


class Problems:
    """What went wrong in a page: messages on its console, exceptions, refused and failed requests."""

    def __init__(self, page: Page, expected: str | None) -> None:
        self.found: list[str] = []
        self._expected = expected
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._add(f"exception: {error}"))
        page.on("response", self._response)
        # The page itself ends requests that it needs no longer.
        page.on(
            "requestfailed", lambda one: "ERR_ABORTED" in str(one.failure) or self._add(f"{one.url}: {one.failure}")
        )

    def _console(self, message: ConsoleMessage) -> None:
        self._add(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._add(f"status {response.status}: {response.url}")

    def _add(self, problem: str) -> None:
        if self._expected is None or not re.search(self._expected, problem):
            self.found.append(problem)


@pytest.fixture
def visit(chromium: Browser, device: PageDevice, signed_in: StorageState) -> Iterator[Callable[..., Page]]:
    """Return a function that opens the page in a browser of its own; problems fail the test."""
    opened: list[tuple[Any, Problems]] = []

    def open_page(
        route: str = "#/live/driveway",
        *,
        size: str | dict[str, int] = "desktop",
        scheme: str = "light",
        url: str | None = None,
        session: bool = True,
        touch: bool = False,
        expected: str | None = None,
    ) -> Page:
        context = chromium.new_context(
            viewport=SIZES[size] if isinstance(size, str) else size,  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            has_touch=touch,
            is_mobile=touch,
            reduced_motion="reduce",
            storage_state=signed_in if session else None,
        )
        context.set_default_timeout(15_000)
        page = context.new_page()
        opened.append((context, Problems(page, expected)))
        page.goto((url or device.url) + route)
        return page

    yield open_page
    for context, _ in opened:
        context.close()
    assert not [problem for _, problems in opened for problem in problems.found]
