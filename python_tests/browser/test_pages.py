"""The tests' own checks of pages: each kind of fault is found on a page that has only that one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The discard port. Chromium refuses to connect to it, and the pages have no network anyway.
ELSEWHERE = "http://127.0.0.1:9/x"
DOT = "data:image/gif;base64," + base64.b64encode(b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;").decode()


def written(path: Path, body: str) -> Path:
    page = f'<!doctype html><html lang="en"><title>A page</title><main><h1>A page</h1>{body}</main></html>'
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


FAULTS = {
    "console: no": "<script>console.error('no')</script>",
    "exception: no": "<script>throw Error('no')</script>",
    "exception: later": "<script>Promise.reject(Error('later'))</script>",
    f"request: {ELSEWHERE}": f"<script>fetch('{ELSEWHERE}').catch(() => 0)</script>",
    f"request: {ELSEWHERE}?script": f"<script src='{ELSEWHERE}?script'></script>",
    f"request: {ELSEWHERE}?picture": f"<img alt='x' src='{ELSEWHERE}?picture'>",
    f"request: {ELSEWHERE}?style": f"<link rel='stylesheet' href='{ELSEWHERE}?style'>",
    f"request: {ELSEWHERE}?frame": f"<iframe title='x' src='{ELSEWHERE}?frame'></iframe>",
    "request: ws://127.0.0.1:9/x": "<script>new WebSocket('ws://127.0.0.1:9/x')</script>",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_page_is_reported(fault: str, browser: Browser, path: Path) -> None:
    with pytest.raises(AssertionError) as reported, opened(browser, written(path, FAULTS[fault])):
        pass
    assert fault in str(reported.value).partition(": ")[2].split("; ")


def test_a_request_for_another_file_is_reported(browser: Browser, path: Path) -> None:
    written(other := path.with_name("other.html"), "")
    with (
        pytest.raises(AssertionError) as reported,
        opened(browser, written(path, "<a href='other.html'>x</a>")) as page,
    ):
        page.get_by_role("link").click()
    assert f"request: {other.as_uri()}" in str(reported.value)


def test_an_error_after_loading_is_reported(browser: Browser, path: Path) -> None:
    button = "<button onclick='console.error(1)'>x</button>"
    with pytest.raises(AssertionError, match="console: 1"), opened(browser, written(path, button)) as page:
        page.get_by_role("button").click()


def test_a_failing_test_is_not_hidden_by_the_faults_of_its_page(browser: Browser, path: Path) -> None:
    with pytest.raises(KeyError), opened(browser, written(path, "<script>throw Error('no')</script>")):
        raise KeyError


def test_embedded_data_are_not_reported_as_requests(open_page: Callable[..., Page], path: Path) -> None:
    script = "fetch(URL.createObjectURL(new Blob(['in itself']))).then(r => r.text()).then(t => document.title = t)"
    page = open_page(written(path, f"<img alt='A dot' src='{DOT}'><script>{script}</script><a href='#x'>x</a>"))
    page.get_by_role("link").click()
    page.wait_for_function("document.title === 'in itself'")
    assert page.get_by_role("img").evaluate("image => image.naturalWidth") == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_a_window_is_as_wide_as_it_should_be(width: int, open_page: Callable[..., Page], path: Path) -> None:
    assert open_page(written(path, ""), width=width).evaluate("innerWidth") == width


def test_an_image_without_alternative_text_violates_accessibility(
    open_page: Callable[..., Page], path: Path, accessibility_faults: Callable[[Page], list[str]]
) -> None:
    (fault,) = accessibility_faults(open_page(written(path, f"<img src='{DOT}'>")))
    assert fault.startswith("image-alt: ")
    assert accessibility_faults(open_page(written(path, f"<img alt='A dot' src='{DOT}'>"))) == []


def test_low_contrast_text_violates_accessibility(
    open_page: Callable[..., Page], path: Path, accessibility_faults: Callable[[Page], list[str]]
) -> None:
    (fault,) = accessibility_faults(open_page(written(path, "<p style='color: #aaa; background: #fff'>Pale</p>")))
    assert fault.startswith("color-contrast: ")
