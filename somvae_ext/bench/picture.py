"""Rows as a picture: how long every contestant takes beside ours, and how far ours is from its ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.bench.rows import Row
from somvae_ext.bench.timing import threads_text
from somvae_ext.extras import needed_by
from somvae_ext.store import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X<>ph"
ROW_HEIGHT = 0.26  # inches


def draw(rows: Sequence[Row], title: str) -> Figure | None:
    """Dots for each row, on a logarithmic axis of times relative to ours; None where there is nothing to draw.

    A ceiling stands where a call with the same work would be at its rate.

    Raises:
        MissingLibraryError: matplotlib is missing.
    """
    with needed_by("a picture"):
        from matplotlib.figure import Figure

        from somvae_ext.plotting.palettes import GUIDE, INK, MUTED, PALE, category_colors

    shown = [
        row for row in rows if row.ours in row.samples and (row.others or (row.rate() is not None and row.ceilings))
    ]
    if not shown:
        return None
    names = list(dict.fromkeys(name for row in shown for name in row.others))
    ceilings = list(dict.fromkeys(name for row in shown if row.rate() is not None for name in row.ceilings))
    figure = Figure(figsize=(10, 1.6 + ROW_HEIGHT * len(shown)), layout="constrained")
    ax = figure.subplots()
    ax.axvline(1, color=INK, linewidth=1.2, zorder=1)
    ax.hlines(range(len(shown)), 0, 1, color=PALE, linewidth=0.8, transform=ax.get_yaxis_transform(), zorder=0)
    colors = category_colors(len(names))
    for name, color, number in zip(names, colors, range(len(names)), strict=True):
        places = [(row.speedup(name), line) for line, row in enumerate(shown) if name in row.others]
        marker = MARKERS[number % len(MARKERS)]
        ax.plot(*zip(*places, strict=True), marker, color=color, markersize=6, label=name, zorder=3)
    for number, name in enumerate(ceilings):
        # A ceiling of rate c does our work in work / c, which over our time is our rate over c.
        places = [
            (rate / row.ceiling_rate(name), line)
            for line, row in enumerate(shown)
            if name in row.ceilings and (rate := row.rate()) is not None
        ]
        x, y = zip(*places, strict=True)
        ax.plot(
            x,
            y,
            "|",
            color=(INK, MUTED, GUIDE)[number % 3],
            markersize=11,
            markeredgewidth=2.2,
            label=f"{name} (ceiling)",
        )
    ax.set_xscale("log")
    ax.set_ylim(len(shown) - 0.5, -0.5)
    several = len({row.threads for row in shown}) > 1
    labels = [row.label + (f", {threads_text(row.threads)}" if several and row.threads else "") for row in shown]
    ax.set_yticks(range(len(shown)), labels, fontsize=8)
    ax.set_xlabel("time over that of ours; the line at 1 is ours, right of it is slower")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def save_picture(path: Path, rows: Sequence[Row], title: str) -> Path | None:
    """The path of the picture, or None where there is nothing to draw.

    Raises:
        MissingLibraryError: matplotlib is missing.
    """
    figure = draw(rows, title)
    return None if figure is None else save_figure(path, figure)
