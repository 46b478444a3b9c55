"""Rows as a table: ours in absolute figures, then how many times as long each other contestant takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from somvae_ext.bench.rows import Row
from somvae_ext.bench.timing import threads_text


def table(rows: Sequence[Row]) -> str:
    """The table of one suite; a ``~`` marks figures with a note below."""
    others = list(dict.fromkeys(name for row in rows for name in row.others))
    with_threads = len({row.threads for row in rows}) > 1
    header = ["case", *(["threads"] if with_threads else []), "ms", "rate", "of ceiling", "MiB", *others]
    lines = [header, *(cells(row, others, with_threads) for row in rows)]
    used = [column for column in range(len(header)) if column < 1 or any(line[column] for line in lines[1:])]
    lines = [[line[column] for column in used] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(used))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join([*(line.rstrip() for line in text), *notes(rows)])


def cells(row: Row, others: Sequence[str], with_threads: bool) -> list[str]:
    return [
        row.label,
        *([str(row.threads or "")] if with_threads else []),
        milliseconds(row),
        "" if (rate := row.rate()) is None else f"{rate:.1f} {row.unit}",
        "" if (share := row.share_of_ceiling()) is None else f"{share:.0%}",
        "" if (peak := row.extra.get("peak_extra_bytes", {}).get(row.ours)) is None else f"{peak / 2**20:.1f}",
        *(ratio(row, name) for name in others),
    ]


def milliseconds(row: Row) -> str:
    return f"{row.seconds() * 1e3:.4g}" if row.ours in row.samples else ""


def ratio(row: Row, name: str) -> str:
    if name not in row.samples or row.ours not in row.samples:
        return ""
    return f"{'~' if name in row.notes else ''}{row.speedup(name):.2f}x"


def notes(rows: Iterable[Row]) -> list[str]:
    """Each note once, with the first row it belongs to."""
    labels_of: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, note in row.notes.items():
            labels_of.setdefault((name, note), []).append(row.label)
    return [
        f"  {name}: {note} ({labels[0]}{f' and {len(labels) - 1} more' if len(labels) > 1 else ''})"
        for (name, note), labels in labels_of.items()
    ]


def progress_line(row: Row, elapsed: float) -> str:
    """The progress line of a row that has been measured."""
    threads = f", {threads_text(row.threads)}" if row.threads else ""
    fastest = min((row.seconds(name), name) for name in (row.ours, *row.others)) if row.ours in row.samples else None
    figure = f": {milliseconds(row)} ms" if fastest else ""
    if fastest and fastest[1] != row.ours:
        figure += f", {fastest[1]} {fastest[0] * 1e3:.4g} ms"
    return f"{elapsed:6.1f} s  {row.suite}: {row.label}{threads}{figure}"
