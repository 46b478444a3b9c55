"""Draws rows: the times of all contestants relative to ours, and how far ours is from its ceilings."""

from __future__ import annotations

import itertools
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
    """Draws a line of dots for each case, in a column for each number of threads, or None if there is nothing to draw.

    Dots are times relative to ours on a logarithmic axis. A ceiling is marked at the time that the same work would take
    at its rate.

    Raises:
        MissingLibraryError: matplotlib is missing.
    """
    with needed_by("a picture"):
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogFormatter

        from somvae_ext.plotting.palettes import GUIDE, INK, MUTED, PALE, category_colors

    shown = [
        row for row in rows if row.ours in row.samples and (row.others or (row.rate() is not None and row.ceilings))
    ]
    if not shown:
        return None
    names = list(dict.fromkeys(name for row in shown for name in row.others))
    ceilings = list(dict.fromkeys(name for row in shown if row.rate() is not None for name in row.ceilings))
    styles = dict(zip(names, zip(itertools.cycle(MARKERS), category_colors(len(names)), strict=False), strict=False))
    lines = {label: line for line, label in enumerate(dict.fromkeys(row.label for row in shown))}
    columns = list(dict.fromkeys(row.threads for row in shown))
    figure = Figure(figsize=(6 + 4 * len(columns), 1.6 + ROW_HEIGHT * len(lines)), layout="constrained")
    axes = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    for ax, threads in zip(axes, columns, strict=True):
        column = [row for row in shown if row.threads == threads]
        ax.axvline(1, color=INK, linewidth=1.2, zorder=1)
        ax.hlines(range(len(lines)), 0, 1, color=PALE, linewidth=0.8, transform=ax.get_yaxis_transform(), zorder=0)
        for name, (marker, color) in styles.items():
            places = [(row.speedup(name), lines[row.label]) for row in column if name in row.others]
            ax.plot(*_coordinates(places), marker, color=color, markersize=6, label=name, zorder=3)
        for name, color in zip(ceilings, itertools.cycle((INK, MUTED, GUIDE)), strict=False):
            # At the rate c of a ceiling our work takes work / c; divided by our time, that is our rate / c.
            places = [
                (rate / row.ceiling_rate(name), lines[row.label])
                for row in column
                if name in row.ceilings and (rate := row.rate()) is not None
            ]
            label = f"{name} (ceiling)"
            ax.plot(*_coordinates(places), "|", color=color, markersize=11, markeredgewidth=2.2, label=label)
        ax.set_xlabel("time divided by ours; right of 1 is slower", fontsize=9)
        if threads:
            ax.set_title(threads_text(threads), fontsize=9)
    axes[0].set_xscale("log")
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    axes[0].set_yticks(range(len(lines)), list(lines), fontsize=8)
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[0].xaxis.set_minor_formatter(LogFormatter())  # labels within a single decade
    figure.suptitle(title, fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _coordinates(places: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    return [x for x, _ in places], [y for _, y in places]


def save_picture(path: Path, rows: Sequence[Row], title: str) -> Path | None:
    """Saves the picture and returns its path, or None if there is nothing to draw.

    Raises:
        MissingLibraryError: matplotlib is missing.
    """
    figure = draw(rows, title)
    return None if figure is None else save_figure(path, figure)
