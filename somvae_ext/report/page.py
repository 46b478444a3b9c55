"""Renders the page: one file without a reference to anything outside of it."""

from __future__ import annotations

import datetime
import functools
import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from somvae_ext.extras import needed_by

with needed_by("a page"):
    import bokeh.resources
    import jinja2
    import markupsafe
    import matplotlib as mpl
    from matplotlib.colors import Colormap, to_hex

from somvae_ext._version import __version__
from somvae_ext.grid import Grid
from somvae_ext.plotting.palettes import ACCENT, CATEGORIES, DISTANCES, OTHERS, PALE, PLAIN, TIME, VALUES
from somvae_ext.report.captions import caption_of
from somvae_ext.report.content import Picture, ResultContent
from somvae_ext.report.explorer_plot import AXIS_ROOM, sheet_plot
from somvae_ext.report.metrics import MeasuredMetric
from somvae_ext.report.sprites import data_url

_LONGEST_SHEET = 680  # CSS pixels


class _Cell(NamedTuple):
    text: str
    is_better: bool


class _MetricRow(NamedTuple):
    title: str
    cells: list[_Cell]
    definition: str


def render_page(results: Sequence[ResultContent]) -> str:
    """Renders the HTML of one result, or of several side by side."""
    compared = len(results) > 1
    explorers = [
        (f"run-{number}", result.explorer.to_json(), sheet_plot(result.explorer))
        for number, result in enumerate(results, start=1)
        if result.explorer is not None
    ]
    context = {
        "title": " and ".join(result.name for result in results),
        "results": results,
        "compared": compared,
        "sections": list(_sections(results)),
        "facts": _side_by_side([result.facts for result in results]),
        "data": _side_by_side([result.data for result in results]),
        "config": _side_by_side([result.config for result in results], differing_first=compared),
        "metrics": list(_metrics(results)),
        "pictures": list(_pictures(results)),
        "explorers": explorers,
        "palettes": _palettes(),
        "bokeh": _bokeh_scripts() if explorers else "",
        "script": _resource("explorer.js"),
        "css": markupsafe.Markup(f":root {{ --plain: {PLAIN}; --accent: {ACCENT}; }}\n") + _resource("page.css"),
        "version": __version__,
        "date": datetime.date.today().isoformat(),
        "json": _script_json,
        "data_url": data_url,
        "sheet_width": _sheet_width,
    }
    return _template().render(context)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html")


def _resource(name: str) -> Any:
    text = importlib.resources.files("somvae_ext.report").joinpath(name).read_text(encoding="utf-8")
    # The page's own scripts and styles must not be escaped.
    return text if name.endswith(".html") else markupsafe.Markup(text)


def _script_json(values: Any) -> Any:
    """Serializes values to JSON that is safe inside a script: no text of a user can end the script."""
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return markupsafe.Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _bokeh_scripts() -> Any:
    resources = bokeh.resources.Resources(mode="inline", components=["bokeh"])
    return markupsafe.Markup(resources.render_js())


def _palettes() -> dict[str, Any]:
    scales = {name: _hex_colors(mpl.colormaps[name]) for name in (VALUES, DISTANCES)}
    return {
        "values": scales[VALUES],
        "distances": scales[DISTANCES],
        "time": _hex_colors(TIME),
        "categorical": list(CATEGORIES),
        "other": OTHERS,
        "no_value": to_hex(PALE),
    }


def _hex_colors(colormap: Colormap) -> list[str]:
    return [to_hex(color) for color in colormap(np.linspace(0, 1, 256))]


def _sections(results: Sequence[ResultContent]) -> Iterable[tuple[str, str]]:
    yield "summary", "Summary"
    if any(measured for result in results for measured in result.metrics.values()):
        yield "metrics", "Metrics"
    for number, result in enumerate(results, start=1):
        if result.explorer is not None:
            title = result.explorer.title
            yield f"explorer-{number}", title if len(results) == 1 else f"{title} of {result.name}"
    if any(result.pictures for result in results):
        yield "pictures", "Pictures"
    if any(result.data for result in results):
        yield "data", "Data"
    yield "config", "Config"


def _side_by_side(
    columns: Sequence[Mapping[str, str]], *, differing_first: bool = False
) -> list[tuple[str, list[str]]]:
    """Returns rows of a title and a cell for each result, in the order in which titles first occur."""
    titles = dict.fromkeys(title for column in columns for title in column)
    rows = [(title, [column.get(title, "-") for column in columns]) for title in titles]
    if differing_first:
        rows.sort(key=lambda row: len(set(row[1])) == 1)  # stable: otherwise in order
    return rows


def _metrics(results: Sequence[ResultContent]) -> Iterable[tuple[str, list[_MetricRow]]]:
    splits = dict.fromkeys(split for result in results for split, measured in result.metrics.items() if measured)
    for split in splits:
        measured = [{metric.metric.name: metric for metric in result.metrics.get(split, ())} for result in results]
        names = dict.fromkeys(name for column in measured for name in column)
        columns = [result.name for result in results]
        yield split, [_metric_row(columns, [column.get(name) for column in measured]) for name in names]


def _metric_row(columns: Sequence[str], measured: Sequence[MeasuredMetric | None]) -> _MetricRow:
    """Returns the row of a metric for the results in these columns, with the better value marked if comparable."""
    known = [(column, entry) for column, entry in zip(columns, measured, strict=True) if entry is not None]
    metric = known[0][1].metric
    best: Callable[..., Any] | None = {"higher": max, "lower": min}.get(metric.better or "")
    values = [entry.value for _, entry in known]
    can_be_compared = metric.comparable is not None and {entry.metric.comparable for _, entry in known} == {
        metric.comparable
    }
    is_marked = can_be_compared and best is not None and len(set(values)) > 1
    cells = [
        _Cell("-", False)
        if entry is None
        else _Cell(entry.text, bool(is_marked and best is not None and entry.value == best(values)))
        for entry in measured
    ]
    titles = dict.fromkeys(entry.metric.title for _, entry in known)
    definitions: dict[str, list[str]] = {}
    for column, entry in known:
        definitions.setdefault(entry.metric.definition or entry.metric.meaning, []).append(column)
    definition = metric.definition or metric.meaning
    if len(definitions) > 1:
        definition = " ".join(f"{' and '.join(names)}: {text}" for text, names in definitions.items())
    return _MetricRow(" or ".join(titles), cells, definition)


def _pictures(results: Sequence[ResultContent]) -> Iterable[tuple[str, str, list[tuple[str, Picture]]]]:
    names = dict.fromkeys(picture.name for result in results for picture in result.pictures)
    for name in names:
        shown = [(result.name, picture) for result in results for picture in result.pictures if picture.name == name]
        caption = caption_of(name)
        yield (name, "", shown) if caption is None else (*caption, shown)


def _sheet_width(grid: Grid) -> int:
    """Returns the maximum width of a sheet, in CSS pixels, for which neither side exceeds the limit."""
    width, height = (grid.coordinates().amax(dim=0) + 1).tolist()
    return round(_LONGEST_SHEET * min(1.0, width / height)) + AXIS_ROOM
