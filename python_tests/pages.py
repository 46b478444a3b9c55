"""Opens pages from a file in headless Chromium, records their errors and finds accessibility violations.

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

# The names in Debian, Ubuntu and Google's packages; .ci/run and the Makefile look for the same names.
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

AXE = Path(__file__).parent / "browser/node_modules/axe-core/axe.min.js"
"""axe-core, which ``npm ci`` in python_tests/browser installs."""


def chromium() -> str | None:
    """Returns the path of an installed Chromium, or None."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name)) is not None), None)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Runs the installed Chromium without a window; Playwright does not download one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to sandbox root's processes
        browser = playwright.chromium.launch(executable_path=chromium(), args=as_root)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, path: Path, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """Opens a page from a file, in a window of ``width`` x ``height`` pixels and without a network.

    Raises:
        AssertionError: on exit, if there were errors in the console, uncaught exceptions, or requests for anything but
            the file itself and the data embedded in it. The message lists them all.
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
        # Listen on the context, not on the page, to include workers and pages that this page opens.
        context.on("console", watch_console)
        context.on("weberror", lambda error: faults.append(f"exception: {error.error}"))
        context.on("request", watch_requests)
        context.on("page", lambda page: page.on("websocket", lambda socket: faults.append(f"request: {socket.url}")))
        page = context.new_page()
        page.goto(address)
        yield page
        page.evaluate("() => new Promise((done) => setTimeout(done))")  # lets pending events arrive
    finally:
        context.close()
    assert not faults, f"{path.name}, {width} pixels wide: " + "; ".join(faults)


def accessibility_faults(page: Page) -> list[str]:
    """Lists axe-core's serious and critical violations on the page in its present state: rule, help and elements."""
    page.evaluate(AXE.read_text(encoding="utf-8"))  # the page's content security policy would block a script element
    violations = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        f"{violation['id']}: {violation['help']}: {[node['target'] for node in violation['nodes']]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
