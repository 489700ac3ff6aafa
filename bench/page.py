"""How long the page takes to its first paint and to its first picture, in a real Chromium on loopback.

    .venv/bin/python bench/page.py [--loads 10]

Needs Debian's chromium, mosquitto and the package's extra `dev`. Each load is a new browser context with an empty
cache, already signed in.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from broker_process import Broker  # noqa: E402 - found only now
from page_device import PASSWORD, PageDevice  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, StorageState

PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
PICTURE = """() => new Promise((done) => {
  const look = () => {
    const canvas = document.querySelector(".stage canvas");
    if (canvas && canvas.ariaLabel.includes(":")) done(performance.now());
    else requestAnimationFrame(look);
  };
  look();
})"""
RECEIVED = """() => {
  const files = performance.getEntriesByType("resource").filter((one) => !one.name.includes("/api/"));
  const [page] = performance.getEntriesByType("navigation");
  return [page, ...files].reduce((sum, one) => sum + one.transferSize, 0);
}"""


def sign_in(browser: Browser, url: str) -> StorageState:
    context = browser.new_context()
    document = {"password": PASSWORD, "stay": True}
    context.request.post(f"{url}api/session", data=document, headers={"Origin": url.rstrip("/")})
    state = context.storage_state()
    context.close()
    return state


def load(browser: Browser, url: str, state: StorageState) -> tuple[float, float, int]:
    """One load: milliseconds to the first paint and to the first picture, bytes of the page's files."""
    context = browser.new_context(storage_state=state, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(url)
    picture = page.evaluate(PICTURE)
    page.wait_for_function(f"{PAINT} !== undefined")
    measured = page.evaluate(PAINT), picture, page.evaluate(RECEIVED)
    context.close()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--loads", type=int, default=10)
    loads = parser.parse_args().loads
    binary = shutil.which("chromium") or sys.exit("there is no chromium; install Debian's package of this name")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        broker = Broker(Path(folder)).start()
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=binary, args=arguments)
        try:
            with PageDevice(Path(folder), broker.port) as device:
                state = sign_in(browser, device.url)
                load(browser, device.url, state)  # the browser's own start
                measured = [load(browser, device.url, state) for _ in range(loads)]
        finally:
            browser.close()
            broker.stop()
    for name, values in zip(("first paint", "first picture"), list(zip(*measured, strict=True))[:2], strict=True):
        print(f"{name:<14} median {statistics.median(values):5.0f} ms   worst {max(values):5.0f} ms")
    print(f"files          {measured[0][2]:,} bytes with their headers")


if __name__ == "__main__":
    main()
