"""Drives a report in a browser as a reader would, with clicks and keys, and reads what the page then shows.

explorer = ExplorerPage(page)
explorer.click_at(*oracle.sheet.place(7))
assert explorer.node == 7
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


class ExplorerPage:
    """The explorer of one result of the page; ``number`` counts from 1."""

    def __init__(self, page: Page, number: int = 1) -> None:
        self.page = page
        self.root: Locator = page.locator(f"#run-{number}")
        self._document = f"Bokeh.documents[{number - 1}]"
        page.locator(f"#run-{number}[data-ready=yes]").wait_for(timeout=20_000)

    def wait_until(self, condition: str) -> None:
        """Waits for a condition in JavaScript. The page's security policy blocks Playwright's own way of waiting."""
        look = f"() => ({condition}) ? done(true) : Date.now() < end ? setTimeout(look, 10) : done(false)"
        script = f"() => new Promise(done => {{ const end = Date.now() + 10_000; const look = {look}; look(); }})"
        assert self.page.evaluate(script), f"{condition} has not come true"

    def wait_for_images(self) -> list[str]:
        """Waits until the sheet shows images, and returns the URL of each row's strip of images."""
        self.wait_until(f"{self._document}.get_model_by_name('strips').data.url.length > 0")
        urls: list[str] = self.source("strips")["url"]
        return urls

    @property
    def map(self) -> Locator:
        """The sheet, the element that receives keys."""
        return self.root.locator(".map")

    @property
    def details(self) -> Locator:
        return self.root.locator(".details")

    @property
    def node(self) -> int:
        """The selected node."""
        return int(self.root.get_attribute("data-node") or "-1")

    @property
    def heading(self) -> str:
        return self.details.locator(".node-name").inner_text()

    @property
    def announcement(self) -> str:
        """What a screen reader announces when another node is selected."""
        return self.root.locator(".announcement").inner_text()

    @property
    def facts(self) -> dict[str, str]:
        terms, values = (self.details.locator(f".facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
        return dict(zip(terms, values, strict=True))

    def table(self, name: str) -> list[list[str]]:
        """All rows of a table of the details; an empty list if a sentence stands in its place."""
        part = self.details.locator(f".{name}")
        if (button := part.locator(".show-all")).count():
            button.click()
        rows = "rows => rows.map(row => Array.from(row.cells, cell => cell.innerText.trim()))"
        cells: list[list[str]] = part.locator("tbody tr").evaluate_all(rows)
        return cells

    def head(self, name: str) -> list[str]:
        """The head of a table of the details."""
        return self.details.locator(f".{name} thead th").all_inner_texts()

    # Actions.

    def click_at(self, x: float, y: float) -> None:
        """Clicks a point of the sheet, given in data coordinates."""
        self.map.scroll_into_view_if_needed()
        before = self._taps()
        self.page.mouse.click(*self.pixel_of(x, y))
        self.wait_until(f"{self._document}.taps > {before}")

    def pixel_of(self, x: float, y: float) -> tuple[float, float]:
        """The position on the screen, in pixels, of a point given in data coordinates."""
        script = f"""([x, y]) => {{
            const plot = {self._document}.get_model_by_name("sheet");
            const view = Bokeh.index.get_by_id(plot.id);
            const {{ x: left, y: top }} = view.el.getBoundingClientRect();
            const {{ bbox }} = view.frame;
            const share = (value, {{ start, end }}) => (value - start) / (end - start);
            return [
                left + bbox.left + share(x, plot.x_range) * bbox.width,
                top + bbox.top + (1 - share(y, plot.y_range)) * bbox.height,
            ];
        }}"""
        left, top = self.page.evaluate(script, [x, y])
        return left, top

    def _taps(self) -> int:
        """How often the sheet has been tapped since this method was first called."""
        taps: int = self.page.evaluate(f"""() => {{
            const document = {self._document};
            if (document.taps === undefined) {{
                document.taps = 0;
                const sheet = document.get_model_by_name("sheet");
                for (const name of ["tap", "doubletap"]) sheet.on_event(name, () => document.taps++);
            }}
            return document.taps;
        }}""")
        return taps

    def press(self, *keys: str) -> int:
        """Presses keys on the sheet and returns the node then selected."""
        for key in keys:
            self.map.press(key)
        return self.node

    def select(self, node: int, cols: int) -> None:
        """Selects a node with keys alone."""
        self.press("Home", "PageUp", *["ArrowDown"] * (node // cols), *["ArrowRight"] * (node % cols))

    def color_by(self, title: str) -> None:
        self.root.locator(".color-by").select_option(label=title)

    def search(self, text: str) -> str:
        """Searches for a text and returns the message about the result."""
        self.root.get_by_role("searchbox").fill(text)
        self.root.get_by_role("searchbox").press("Enter")
        return self.search_result

    @property
    def search_result(self) -> str:
        return self.root.locator(".search-result").inner_text()

    @property
    def matches(self) -> Locator:
        """The samples among which the reader can choose after a search."""
        return self.root.locator(".match")

    # What is drawn.

    @property
    def colorings(self) -> list[str]:
        """The quantities by which nodes can be colored."""
        return self.root.locator(".color-by option").all_inner_texts()

    @property
    def legend(self) -> list[str]:
        """The ends of the color scale, or the names of categories."""
        return [text for text in self.root.locator(".legend > span, .legend li").all_inner_texts() if text]

    def source(self, name: str) -> dict[str, Any]:
        """The columns of one of Bokeh's data sources."""
        columns: dict[str, Any] = self.page.evaluate(f"""() => {{
            const {{ data }} = {self._document}.get_model_by_name("{name}");
            const columns = data instanceof Map ? [...data] : Object.entries(data);
            return Object.fromEntries(columns.map(([name, values]) => [name, Array.from(values)]));
        }}""")
        return columns

    @property
    def colors(self) -> list[str]:
        """The color of each node."""
        colors: list[str] = self.source("nodes")["color"]
        return colors

    @property
    def ranges(self) -> tuple[float, float, float, float]:
        """The visible part of the sheet: left, right, bottom and top."""
        script = f"""() => {{
            const {{ x_range, y_range }} = {self._document}.get_model_by_name("sheet");
            return [x_range.start, x_range.end, y_range.start, y_range.end];
        }}"""
        left, right, bottom, top = self.page.evaluate(script)
        return left, right, bottom, top

    @property
    def inner_size(self) -> tuple[float, float]:
        """Width and height of the sheet without its axes, in pixels, after it has adapted to the page."""
        self.page.wait_for_timeout(300)
        width, height = self.page.evaluate(f"""() => {{
            const {{ inner_width, inner_height }} = {self._document}.get_model_by_name("sheet");
            return [inner_width, inner_height];
        }}""")
        return width, height

    @property
    def ticks(self) -> tuple[list[float], list[float]]:
        """The positions of the numbers on the axes of the columns and of the rows."""
        columns, rows = self.page.evaluate(
            f"""() => ["columns", "rows"].map(name => {self._document}.get_model_by_name(name).ticker.ticks)"""
        )
        return columns, rows
