"""Pages in a headless Chromium: opened from a file, listened to, and searched for faults of accessibility.

with launched() as browser, opened(browser, Path("report.html"), width=390) as page:
    page.get_by_role("button", name="Hits").click()
    assert accessibility_faults(page) == []
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# As Debian, Ubuntu and Google call it; .ci/run and the Makefile look for the same.
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

AXE = Path(__file__).parent / "browser/node_modules/axe-core/axe.min.js"
"""axe-core, which ``npm ci`` in python_tests/browser fetches."""


def chromium() -> str | None:
    """The path of an installed Chromium."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name)) is not None), None)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """The installed Chromium, without a window; None of Playwright's own is downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to give root a sandbox
        browser = playwright.chromium.launch(executable_path=chromium(), args=as_root)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, path: Path, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page that was loaded from a file, in a window of so many pixels and without a network.

    Raises:
        AssertionError: at the end, with all that was wrong since: errors in the console, exceptions that nothing
            caught, and requests for anything but the file and what it holds.
    """
    address = path.resolve().as_uri()
    faults: list[str] = []

    def watch_console(message: Any) -> None:
        if message.type == "error":
            faults.append(f"console: {message.text}")

    def watch_requests(request: Any) -> None:
        url = request.url
        if url.partition("#")[0] != address and not url.startswith(("data:", "blob:")):
            faults.append(f"request: {url}")

    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    try:
        # Of the context, not of the page: so those of workers and of pages that the page opens are heard, too.
        context.on("console", watch_console)
        context.on("weberror", lambda error: faults.append(f"exception: {error.error}"))
        context.on("request", watch_requests)
        context.on("page", lambda page: page.on("websocket", lambda socket: faults.append(f"request: {socket.url}")))
        page = context.new_page()
        page.goto(address)
        yield page
        page.evaluate("() => new Promise((done) => setTimeout(done))")  # what has happened is told before this ends
    finally:
        context.close()
    assert not faults, f"{path.name}, {width} pixels wide: " + "; ".join(faults)


def accessibility_faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical on a page as it is now: the rule, and the elements that break it."""
    page.evaluate(AXE.read_text(encoding="utf-8"))  # unlike a script element, allowed under any content policy
    violations = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        f"{violation['id']}: {violation['help']}: {[node['target'] for node in violation['nodes']]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
