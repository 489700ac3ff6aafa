"""A daemon with the page and one camera before which a test puts things, and what a test does on the page Teach."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self

from broker_process import Broker, free_port, wait_until
from daemon_process import Daemon, write_config
from page_device import PASSWORD, PageDevice
from teach_camera import TeachCamera

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page


class TeachDesk(PageDevice):
    """The device `porch` with the pipeline `desk`, which watches nothing yet."""

    def __init__(self, folder: Path) -> None:
        self.broker = Broker(folder)
        self.camera = TeachCamera("cat", "coffee", "rocket", "officer")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.password = PASSWORD
        source = {"type": "snapshot", "url": self.camera.url, "interval": "0.1s"}
        self.config = write_config(
            folder / "config.yaml",
            self.broker.port,
            {"name": "desk", "source": source, "model": {"threads": 1}, "watches": []},
            web={"listen": f"127.0.0.1:{self.port}", "password": PASSWORD},
        )

    def __enter__(self) -> Self:
        self.broker.start()
        self.daemon = Daemon(self.config)
        self.daemon.__enter__()
        try:
            wait_until(self.answers, 40, f"the page at {self.url}: {self.daemon.log}")
        except BaseException:
            self.__exit__()  # the camera's thread would keep the tests from ending
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.__exit__()
        self.camera.stop()
        self.broker.stop()

    def signed_in(self, browser: Browser) -> Page:
        """Return a page of a browser that has a session; the caller closes its context."""
        context = browser.new_context()
        origin = {"Origin": self.url.rstrip("/")}
        answer = context.request.post(
            f"{self.url}api/session", data={"password": PASSWORD, "stay": True}, headers=origin
        )
        assert answer.status == 204, answer.text()
        return context.new_page()

    def send(self, page: Page, method: str, path: str, body: Any = None) -> Any:
        """Send a request with the session of a page: JSON, or a JPEG; return the document."""
        kind = {"Content-Type": "image/jpeg"} if isinstance(body, bytes) else {}
        headers = {"Origin": self.url.rstrip("/"), **kind}
        answer = page.request.fetch(f"{self.url}api/{path}", method=method, data=body, headers=headers)
        assert answer.ok, (path, answer.status, answer.text())
        return answer.json() if answer.status != 204 else None

    def pipeline(self, page: Page) -> Any:
        """Return the document of the camera `desk`."""
        return self.send(page, "GET", "overview")["pipelines"][0]


def column(page: Page, name: str) -> Locator:
    """The column of a class."""
    return page.get_by_role("region", name=name, exact=True)


def add_class(page: Page, name: str) -> None:
    """Add a class with the form."""
    page.get_by_label("Name of the class").fill(name)
    page.get_by_role("button", name="Add", exact=True).click()
    from playwright.sync_api import expect

    expect(column(page, name)).to_be_visible()
    page.locator("main").focus()


def record(page: Page, name: str, least: int) -> None:
    """Hold the button of a class until so many pictures are kept."""
    from playwright.sync_api import expect

    hold = column(page, name).locator(".hold")
    hold.scroll_into_view_if_needed()
    hold.hover()
    page.mouse.down()
    try:
        expect(hold).to_have_class(re.compile("rec"))
        page.wait_for_function(
            "([button, least]) => Number(button.textContent.match(/(\\d+) kept/)?.[1]) >= least",
            arg=[hold.element_handle(), least],
            timeout=40_000,
        )
    finally:
        page.mouse.up()
    expect(page.locator(".toast")).to_contain_text("kept")
