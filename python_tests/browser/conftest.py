"""Fixtures for report pages in a browser, and for the runs that the pages show.

Tests in this folder are marked ``browser``. They are skipped without Chromium, and tests of accessibility also without
axe-core. With ``SOMVAE_EXT_TEST_BROWSER=1``, which .ci/run sets after it has installed both, they fail instead.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pages
import pytest
from browser_runs import RUNS, command
from report_oracle import ORACLES, Oracle
from report_page import ExplorerPage

from somvae_ext.report import map_content, model_content

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REQUIRED = os.environ.get("SOMVAE_EXT_TEST_BROWSER") == "1"


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("browser")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if pages.chromium() is None:
        skip_or_fail(f"needs a Chromium, and none of {', '.join(pages.CHROMIUM_NAMES)} is on the PATH")


def skip_or_fail(reason: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(f"{reason}, though SOMVAE_EXT_TEST_BROWSER=1", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one file.

    It must not live for the whole session: while it runs, Playwright's event loop makes ``asyncio.run`` fail in the
    tests of other files.
    """
    with pages.launched() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``open_page(path, width=1280, height=900)`` opens a page; its errors and requests fail the test at the end."""
    with contextlib.ExitStack() as stack:

        def open_page(path: Path, **size: int) -> Page:
            return stack.enter_context(pages.opened(browser, path, **size))

        yield open_page


@pytest.fixture
def accessibility_faults() -> Callable[[Page], list[str]]:
    """:func:`pages.accessibility_faults`; skips the test without axe-core."""
    if not pages.AXE.exists():
        skip_or_fail("needs axe-core, which 'npm ci' in python_tests/browser installs")
    return pages.accessibility_faults


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``run_of(kind)`` returns the folder of a run of :data:`browser_runs.RUNS`, trained at the first call."""
    return functools.cache(lambda kind: RUNS[kind](tmp_path_factory.mktemp(kind) / "run"))


DRAWN = "series"
"""The run whose report has pictures. Drawing takes most of the time, so the other reports have none."""


@pytest.fixture(scope="session")
def report_of(run_of: Callable[[str], Path]) -> Callable[[str], Path]:
    """``report_of(kind)`` returns the path of the report on :func:`run_of`, written at the first call."""

    @functools.cache
    def report_of(kind: str) -> Path:
        run = run_of(kind)
        with pytest.MonkeyPatch.context() as patch:
            if kind != DRAWN:
                for module in (map_content, model_content):
                    patch.setattr(module, "pictures_of", lambda figures: [])
            command("report", run)
        return run / "report.html"

    return report_of


@pytest.fixture(scope="session")
def oracle_of(run_of: Callable[[str], Path]) -> Callable[[str], Oracle]:
    """``oracle_of(kind)`` returns the true facts about :func:`run_of`."""
    return functools.cache(lambda kind: ORACLES[kind](run_of(kind)))


@pytest.fixture(scope="module")
def explorer_of(browser: Browser, report_of: Callable[[str], Path]) -> Iterator[Callable[[str], ExplorerPage]]:
    """``explorer_of(kind)`` returns the explorer of a page that the tests of a file share.

    Each test must set the explorer's state itself and not rely on what another test has left.
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def explorer_of(kind: str) -> ExplorerPage:
            return ExplorerPage(stack.enter_context(pages.opened(browser, report_of(kind))))

        yield explorer_of
