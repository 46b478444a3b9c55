"""The options that say how a table is written and what its columns are, of ``fit`` and of ``predict``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data import TableFormat

_WRITTEN = ("header", "separator", "decimal", "thousands", "encoding", "na", "comment")
_USES = ("columns", "drop", "label_column", "id_column", "one_hot")
OPTIONS = (*_WRITTEN, *_USES)
"""All of them, by their names in Python, which are those of :class:`~somvae_ext.data.TableFormat`."""

# Signs that a table may have none of; predict takes back by "none" what the training data had.
_ABSENT = ("thousands", "comment")
# What a shell or a reader finds hard to write or see.
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "pipe": "|", "space": " "}


def add_written_options(add: Callable[..., None]) -> None:
    """Adds what says how a table is written."""
    add("--header", "whether the first line names the columns (default: as it looks)", choices=["yes", "no"])
    add(
        "--separator",
        "between cells: a character, or comma, semicolon, tab, bar, space (default: as it looks)",
        type=str,
    )
    add("--decimal", "decimal sign, a point or a comma (default: point)", type=str)
    add("--thousands", "sign between groups of digits, or none (default: none)", type=str)
    add("--encoding", "such as latin-1 or cp1252 (default: UTF-8, or UTF-16 with its mark)", type=str)
    add(
        "--na",
        "what stands for missing values, besides empty cells, NA, NaN, null and none, such as ? or -9999",
        type=str,
        nargs="+",
        metavar="TEXT",
    )
    add("--comment", "what begins a comment, such as #, or none (default: nothing does)", type=str)


def add_use_options(add: Callable[..., None]) -> None:
    """Adds what says which columns are features, and what the others are."""
    named = {"type": str, "nargs": "+", "metavar": "COLUMN"}
    add("--columns", "features, by name, or by number from 0 (default: all that are nothing else)", **named)
    add("--drop", "columns to leave out", **named)
    add("--label-column", "column of classes, which are kept out of the training", type=str, metavar="COLUMN")
    add("--id-column", "column that says what rows are called, which predict writes beside them", type=str,
        metavar="COLUMN")  # fmt: skip
    add("--one-hot", "columns of categories; each category becomes a feature of 0 and 1", **named)


def table_format(options: Namespace, earlier: TableFormat | None = None) -> TableFormat:
    """What the options say, and else an earlier format, such as that of the training data."""
    from somvae_ext.data import TableFormat

    fields: dict[str, Any] = {}
    for name in OPTIONS:
        value = options.get(name)
        if value is not None:
            fields[name] = tuple(value) if isinstance(value, list) else value
    if "header" in fields:
        fields["header"] = fields["header"] == "yes"
    if "separator" in fields:
        fields["separator"] = _SEPARATORS.get(fields["separator"].lower(), fields["separator"])
    if "decimal" in fields:
        fields["decimal"] = {"point": ".", "comma": ","}.get(fields["decimal"].lower(), fields["decimal"])
    for name in _ABSENT:
        if fields.get(name, "").lower() == "none":
            fields[name] = None
    return dataclasses.replace(earlier or TableFormat(), **fields)
