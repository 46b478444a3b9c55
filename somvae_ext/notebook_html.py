"""Renders a result for a notebook as HTML: a line of facts, pictures and a table. All text is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from somvae_ext.extras import MissingLibraryError, needed_by

_DPI, _PAGE_DPI = 144, 96  # of the file, for high-resolution screens, and of the page
# Notebooks store their outputs: this keeps two pictures and scikit-learn's diagram below 300 KB.
_LARGEST_PNG = 90_000
_SMALLER = (256, 1.0), (64, 1.0), (64, 0.67), (64, 0.4)  # (colors, scale), tried in turn on larger pictures

_BOX = "font-family: sans-serif; font-size: 13px; line-height: 1.4; max-width: 70em; margin: 0 0 0.5em 0"
_ROW = "display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start; margin: 0.5em 0"
_IMAGE = "display: block; max-width: 100%; height: auto"
_COLUMNS = "columns: 16em; column-gap: 2em; margin: 0.3em 0"
_FIELD = "display: flex; justify-content: space-between; gap: 1em; break-inside: avoid"


class Picture(NamedTuple):
    """A picture: its caption, which is also its alternative text, and the function that draws it."""

    caption: str
    draw: Callable[[], Figure]


class View(NamedTuple):
    """The parts of a result that are shown: its name, a line of facts, pictures, and a table with its own title."""

    title: str
    facts: Sequence[str]
    pictures: Sequence[Picture] = ()
    table_title: str = ""
    table: Mapping[str, str] = {}


def render(make_view: Callable[[], View], *, below: str = "") -> str:
    """Renders a view as HTML.

    No error is raised, because showing a result in a notebook must not end in a traceback: a part that cannot be made
    is replaced by a sentence that says so.

    Args:
        make_view: makes the view.
        below: HTML to put below it.
    """
    try:
        parts = _render_parts(make_view())
    except Exception as error:
        parts = [_paragraph(f"This result cannot be shown: {_describe_error(error)}")]
    return f'<div style="{_BOX}">{"".join(parts)}</div>{below}'


def _render_parts(view: View) -> list[str]:
    facts = " · ".join(html.escape(fact) for fact in view.facts)
    parts = [f"<div><b>{html.escape(view.title)}</b>{' · ' if facts else ''}{facts}</div>"]
    try:
        figures = [_render_picture(picture) for picture in view.pictures]
    except MissingLibraryError as error:
        parts.append(_paragraph(f"No pictures: {error}"))
    else:
        if figures:
            parts.append(f'<div style="{_ROW}">{"".join(figures)}</div>')
    if view.table:
        parts.append(_render_table(view))
    return parts


def _render_picture(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    try:
        png, width = _draw_png(picture)
    except MissingLibraryError:
        raise
    except Exception as error:
        return _paragraph(f"{picture.caption}: the picture cannot be drawn: {_describe_error(error)}")
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    image = f'<img src="{source}" alt="{caption}" width="{width}" style="{_IMAGE}">'
    return f'<figure style="margin: 0">{image}<figcaption style="opacity: 0.7">{caption}</figcaption></figure>'


def _draw_png(picture: Picture) -> tuple[bytes, int]:
    """Draws a PNG file of bounded size; also returns the width in page pixels at which text has its nominal size."""
    figure = picture.draw()
    with needed_by("a picture"):
        from PIL import Image

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.03, transparent=False)
    sheet = Image.open(file).convert("RGB")
    png, page_width = file.getvalue(), round(sheet.width * _PAGE_DPI / _DPI)
    for num_colors, scale in _SMALLER:
        if len(png) <= _LARGEST_PNG:
            break
        size = max(1, round(sheet.width * scale)), max(1, round(sheet.height * scale))
        file = io.BytesIO()
        # MAXCOVERAGE keeps rare colors, such as those of a color bar.
        smaller = (sheet if scale == 1 else sheet.resize(size)).quantize(num_colors, Image.Quantize.MAXCOVERAGE)
        smaller.save(file, "png", optimize=True)
        png = file.getvalue()
    return png, page_width


def _render_table(view: View) -> str:
    fields = "".join(
        f'<div style="{_FIELD}"><span style="opacity: 0.7">{html.escape(name)}</span>'
        f"<span>{html.escape(value)}</span></div>"
        for name, value in view.table.items()
    )
    summary = f'<summary style="cursor: pointer">{html.escape(view.table_title)}</summary>'
    return f'<details open>{summary}<div style="{_COLUMNS}">{fields}</div></details>'


def _paragraph(text: str) -> str:
    return f"<div>{html.escape(text)}</div>"


def _describe_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
