"""The page of a report on one run or two: tables, pictures and landmarks, on wide and narrow screens."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browser_runs
import numpy as np
import pages
import pytest
from browser_runs import command, fit
from report_oracle import Oracle
from report_page import ExplorerPage

from somvae_ext.cli import fit_map
from somvae_ext.report import map_content
from somvae_ext.store import ResultFolder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

KINDS = list(browser_runs.RUNS)
PAGES = [*KINDS, "comparison"]
WIDE, NARROW = 1280, 390


@pytest.fixture(scope="module")
def smaller_map(run_of: Callable[[str], Path]) -> Path:
    """A map of the same patients as the table-map, with fewer nodes."""
    run = run_of("table-map")
    path = run.with_name("patients.csv")
    written = ["--encoding", "cp1252", "--decimal", "comma", "--na", "k.A.", "--missing", "ignore"]
    columns = ["--id-column", browser_runs.ID, "--label-column", browser_runs.CLASS, "--one-hot", browser_runs.CATEGORY]
    return fit(run.with_name("smaller"), path, "--model", "som", "--size", "4x5", "--epochs", 7, *written, *columns)


@pytest.fixture(scope="module")
def comparison(run_of: Callable[[str], Path], smaller_map: Path, report_of: Callable[[str], Path]) -> Path:
    path = smaller_map.with_name("comparison.html")
    command("report", run_of("table-map"), smaller_map, "--output", path, "--overwrite")
    return path


@pytest.fixture(scope="module")
def path_of(report_of: Callable[[str], Path], comparison: Path) -> Callable[[str], Path]:
    """``path_of(name)`` returns the path of the report on a kind of run, or of the ``comparison``."""
    return lambda name: comparison if name == "comparison" else report_of(name)


@pytest.fixture(scope="module")
def page_of(browser: Browser, path_of: Callable[[str], Path]) -> Iterator[Callable[..., Page]]:
    """``page_of(name, width=1280)`` returns a page with its explorers ready; the tests of this file share it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def page_of(name: str, width: int = WIDE) -> Page:
            page = stack.enter_context(pages.opened(browser, path_of(name), width=width))
            for number in range(1, page.locator(".explorer").count() + 1):
                ExplorerPage(page, number)
            return page

        yield page_of


def rows_of(table: Locator) -> list[list[str]]:
    script = "rows => rows.map(row => Array.from(row.cells, cell => cell.textContent.trim()))"
    rows: list[list[str]] = table.locator("tbody tr").evaluate_all(script)
    return rows


def table(page: Page, caption: str) -> Locator:
    return page.get_by_role("table", name=caption)


# ---- no errors and no requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_every_control_works_without_errors_and_without_a_network(
    name: str, open_page: Callable[..., Page], path_of: Callable[[str], Path]
) -> None:
    page = open_page(path_of(name))
    for number in range(1, page.locator(".explorer").count() + 1):
        explorer = ExplorerPage(page, number)
        for title in explorer.colorings[:8]:
            explorer.color_by(title)
            assert explorer.root.locator(".meaning").inner_text()
        explorer.press("End", "PageDown")
        explorer.search("1")
        for button in explorer.root.locator(".zoom button").all():
            button.click()
    # At the end of the test, open_page fails if there were errors or requests.


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_existing_sections(name: str, page_of: Callable[..., Page]) -> None:
    page = page_of(name)
    links = page.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert links
    for link in links:
        assert link.startswith("#")
        assert page.locator(link).count() == 1


# ---- accessibility ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_serious_fault(
    name: str,
    width: int,
    page_of: Callable[..., Page],
    accessibility_faults: Callable[[Page], list[str]],
) -> None:
    page = page_of(name, width)
    explorer = ExplorerPage(page)
    explorer.press("Home", "PageUp", "ArrowRight")
    explorer.search("1")
    if name == "series":
        explorer.root.get_by_role("combobox", name="Series").select_option(index=1)
    assert accessibility_faults(page) == []
    if (classes := "class") in explorer.colorings:
        explorer.color_by(classes)
        assert accessibility_faults(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_landmarks_and_headings_in_order(name: str, page_of: Callable[..., Page]) -> None:
    page = page_of(name)
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    levels = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_skips_to_the_content(name: str, page_of: Callable[..., Page]) -> None:
    page = page_of(name)
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the content"
    assert skip.bounding_box()["x"] >= 0  # type: ignore[index]  # visible while it has the focus
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


# ---- screens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_nothing_extends_beyond_a_narrow_screen(name: str, page_of: Callable[..., Page]) -> None:
    page = page_of(name, NARROW)
    ExplorerPage(page).search("1")
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW


@pytest.mark.parametrize("name", KINDS)
def test_the_details_are_beside_the_map_or_below_it_on_a_narrow_screen(name: str, page_of: Callable[..., Page]) -> None:
    for width in (WIDE, NARROW):
        explorer = ExplorerPage(page_of(name, width))
        sheet, details = explorer.map.bounding_box(), explorer.details.bounding_box()
        assert sheet is not None
        assert details is not None
        if width == WIDE:
            assert details["x"] >= sheet["x"] + sheet["width"]
        else:
            assert details["y"] >= sheet["y"] + sheet["height"]
        assert details["x"] + details["width"] <= width


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", ["series", "table-map"])
def test_no_word_of_a_heading_is_broken(name: str, width: int, page_of: Callable[..., Page]) -> None:
    page = page_of(name, width)
    script = """cells => cells.flatMap(cell => {
        const text = cell.firstChild;
        if (!(text instanceof Text)) return [];
        return [...text.data.matchAll(/[^\\s-]+/g)].filter(({ index, 0: word }) => {
            const range = document.createRange();
            range.setStart(text, index);
            range.setEnd(text, index + word.length);
            return new Set(Array.from(range.getClientRects(), (part) => part.top)).size > 1;
        }).map(({ 0: word }) => word);
    })"""
    assert page.locator("thead th, #metrics th").evaluate_all(script) == []


@pytest.mark.parametrize("name", ["table-map", "hexagonal-map"])
def test_a_tap_selects_the_node_under_it(
    name: str, browser: Any, path_of: Callable[[str], Path], oracle_of: Callable[[str], Oracle]
) -> None:
    context = browser.new_context(viewport={"width": NARROW, "height": 800}, has_touch=True, offline=True)
    try:
        page = context.new_page()
        page.goto(path_of(name).as_uri())
        explorer = ExplorerPage(page)
        explorer.map.scroll_into_view_if_needed()
        oracle = oracle_of(name)
        target = 2 * oracle.sheet.cols + 3
        page.touchscreen.tap(*explorer.pixel_of(*oracle.sheet.place(target)))
        explorer.wait_until(f"document.querySelector('.explorer').dataset.node === '{target}'")
    finally:
        context.close()


# ---- tables and pictures ---------------------------------------------------------------------------------------------


def leaves(config: Any, prefix: str = "") -> Iterator[str]:
    """Yields the dotted name of every setting of a config."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_shown(name: str, page_of: Callable[..., Page], run_of: Callable[[str], Path]) -> None:
    page = page_of(name)
    shown = dict(rows_of(table(page, "Every setting of the training")))
    assert set(shown) == set(leaves(ResultFolder.open(run_of(name)).config))
    assert all(shown.values())


def test_settings_have_their_values(page_of: Callable[..., Page]) -> None:
    page = page_of("series")
    rows = dict(rows_of(table(page, "Every setting of the training")))
    expected = {
        "model.rows": "4", "model.cols": "5", "training.epochs": "10", "training.revive": "no",
        "data.feature_names": "pulse, pressure, oxygen <%>",
    }  # fmt: skip
    assert {setting: rows[setting] for setting in expected} == expected


def measured(text: str) -> float:
    """Parses the value of a metric on the page: ``"0.912"``, or ``"78 of 80"`` for a fraction."""
    part, _, whole = text.partition(" of ")
    return float(part) / float(whole or 1)


@pytest.mark.parametrize("name", KINDS)
def test_every_metric_is_shown_with_its_definition(
    name: str, page_of: Callable[..., Page], run_of: Callable[[str], Path]
) -> None:
    page = page_of(name)
    for split, figures in ResultFolder.open(run_of(name)).evaluations.items():
        rows = rows_of(table(page, f"On {split} data"))
        shown = [measured(value) for _, value, _ in rows]
        for figure in figures.values():
            assert any(value == pytest.approx(figure, abs=6e-4, rel=6e-4) for value in shown)
        # Training does not measure the error of the other connectivity; the report does.
        assert len(rows) - len(figures) == (name in ("table-map", "large-map"))
        assert all(definition.endswith(".") and len(definition) > 20 for _, _, definition in rows)


def test_the_model_and_its_training_data_are_shown(page_of: Callable[..., Page]) -> None:
    page = page_of("table-map")
    facts = dict(rows_of(table(page, "What was trained, and on what")))
    assert facts["data"] == "patients.csv"  # without its folder, which is private
    assert facts["rows"] == "300"
    assert facts["classes"].split(", ") == sorted(browser_runs.CLASSES)
    assert facts["id column"] == browser_runs.ID
    assert all(name in facts["features"] for name in browser_runs.FEATURES)
    assert "300 rows of 8 features" in page.get_by_role("banner").inner_text()


def test_how_the_data_were_read_is_shown(page_of: Callable[..., Page]) -> None:
    page = page_of("table-map")
    data = " ".join(f"{title} {text}" for title, text in rows_of(table(page, "How the data were read")))
    for part in (browser_runs.ID, browser_runs.CLASS, browser_runs.CATEGORY, "300"):
        assert part in data


def test_pictures_are_whole_and_described(page_of: Callable[..., Page]) -> None:
    page = page_of("series")
    pictures = page.locator("#pictures img")
    script = "all => all.map(one => one.decode().then(() => [one.alt, one.naturalWidth, one.clientWidth, one.width]))"
    shown = page.evaluate(f"Promise.all(({script})(Array.from(document.querySelectorAll('#pictures img'))))")
    assert len(shown) == pictures.count() >= 5
    assert all(alt and natural > 200 and 0 < client <= WIDE for alt, natural, client, _ in shown)
    assert len({alt for alt, *_ in shown}) == len(shown)


# ---- two runs --------------------------------------------------------------------------------------------------------


def test_a_comparison_has_a_column_for_each_run(page_of: Callable[..., Page]) -> None:
    page = page_of("comparison")
    facts = table(page, "What was trained, and on what")
    assert facts.locator("thead th").all_inner_texts() == ["what", "run", "smaller"]
    by_title = {title: cells for title, *cells in rows_of(facts)}
    assert by_title["model"] == ["som, 8 x 8 nodes, rectangular", "som, 4 x 5 nodes, rectangular"]
    assert by_title["rows"] == ["300", "300"]


def test_a_comparison_marks_what_differs(page_of: Callable[..., Page]) -> None:
    page = page_of("comparison")
    for settings in page.locator(".facts-table").all():
        script = "rows => rows.map(row => row.classList.contains('differs'))"
        marked = settings.locator("tbody tr").evaluate_all(script)
        assert marked == [first != second for _, first, second in rows_of(settings)]
        assert any(marked) or "Data" in settings.locator("xpath=ancestor::section[1]").inner_text()


def test_a_comparison_begins_with_the_settings_that_differ(page_of: Callable[..., Page]) -> None:
    page = page_of("comparison")
    rows = rows_of(table(page, "Every setting of the training, those that differ first"))
    differs = [first != second for _, first, second in rows]
    assert differs == sorted(differs, reverse=True)
    assert {"parameters.n_rows", "parameters.n_cols", "parameters.n_epochs"} <= {
        title for (title, *_), differ in zip(rows, differs, strict=True) if differ
    }


def test_a_comparison_marks_the_better_figure(
    page_of: Callable[..., Page], run_of: Callable[[str], Path], smaller_map: Path
) -> None:
    page = page_of("comparison")
    scores = [
        ResultFolder.open(run).evaluations["train"]["nmi_arithmetic"] for run in (run_of("table-map"), smaller_map)
    ]
    title = page.get_by_role("rowheader", name="NMI", exact=True)
    row = page.locator("#metrics tbody tr").filter(has=title).first
    marked = row.locator("td.number").evaluate_all("cells => cells.map(cell => cell.classList.contains('better'))")
    assert marked == [score == max(scores) for score in scores]
    assert row.locator(".better .tag").inner_text() == "better"  # in words, not by its style alone


def test_values_that_depend_on_the_number_of_nodes_are_not_called_better(page_of: Callable[..., Page]) -> None:
    rows = page_of("comparison").locator("#metrics tbody tr")
    for title in ("quantization error", "purity", "nodes used"):
        row = rows.filter(has_text=title).first
        assert row.locator("td.number").count() == 2
        assert row.locator(".better").count() == 0


def test_the_explorers_of_a_comparison_do_not_disturb_each_other(
    page_of: Callable[..., Page], oracle_of: Callable[[str], Oracle]
) -> None:
    page = page_of("comparison")
    first, second = ExplorerPage(page, 1), ExplorerPage(page, 2)
    first.press("Home", "PageUp")
    assert second.press("End", "PageDown") == 19
    assert (first.node, second.node) == (0, 19)
    before = first.colors
    second.color_by("class")
    assert first.colors == before
    assert len(second.colors) == 20
    first.click_at(*oracle_of("table-map").sheet.place(42))
    assert (first.node, second.node) == (42, 19)


def test_a_comparison_shows_the_pictures_of_both(page_of: Callable[..., Page]) -> None:
    page = page_of("comparison")
    captions = [picture.locator("figcaption").all_inner_texts() for picture in page.locator("article.picture").all()]
    assert ["run", "smaller"] in captions
    texts = page.locator("#pictures img").evaluate_all("images => images.map(image => image.alt)")
    assert len(set(texts)) == len(texts)
    assert all("of run" in text or "of smaller" in text for text in texts)


# ---- large maps ------------------------------------------------------------------------------------------------------


def test_the_explorer_of_a_large_map_is_small(report_of: Callable[[str], Path]) -> None:
    assert report_of("large-map").stat().st_size < 6e6  # without pictures


@pytest.mark.slow
def test_the_page_of_a_large_map_is_small(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    command("report", run_of("large-map"), "--output", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 10e6


@pytest.fixture(scope="module")
def image_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report, without pictures, on a 64 x 64 map of 4,096 images of 28 x 28 pixels, each a spot and noise."""
    generator = np.random.default_rng(0)
    pixel = np.arange(28)
    (x, y), spread = generator.uniform(6, 22, (2, 4096, 1)), generator.uniform(2, 5, (4096, 1))
    spots = np.exp(-(((pixel - y) / spread) ** 2))[:, :, None] * np.exp(-(((pixel - x) / spread) ** 2))[:, None, :]
    images = (0.7 * spots + 0.3 * generator.random(spots.shape)).astype(np.float32)
    folder = tmp_path_factory.mktemp("images")
    np.save(folder / "images.npy", images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_map, "save_map_pictures", lambda *arguments, **options: [])
        patch.setattr(map_content, "pictures_of", lambda figures: [])
        run = fit(folder / "run", folder / "images.npy", "--model", "som", "--size", "64x64", "--epochs", 2)
        command("report", run)
    return run / "report.html"


def test_a_large_map_of_images_is_small(image_map: Path) -> None:
    assert image_map.stat().st_size < 20e6


def test_a_large_map_of_images_works(open_page: Callable[..., Page], image_map: Path) -> None:
    explorer = ExplorerPage(open_page(image_map))
    assert len(explorer.wait_for_images()) == 64
    explorer.click_at(40, -20)
    assert explorer.node == 20 * 64 + 40
    rows = explorer.table("nearest")
    assert explorer.details.get_by_role("img").count() == 1 + min(len(rows), 2)
