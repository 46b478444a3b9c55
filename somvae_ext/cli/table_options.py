"""The options of ``fit`` and ``predict`` for the format of a table and the use of its columns."""

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
"""All these options, by their names in Python, which are the fields of :class:`~somvae_ext.data.TableFormat`."""

# Signs that a table may lack; in predict, "none" overrides the sign that the training data had.
_ABSENT = ("thousands", "comment")
# Names for separators that are hard to type in a shell, or hard to see.
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "pipe": "|", "space": " "}


def add_written_options(add: Callable[..., None], *, of_training_data: bool = True) -> None:
    """Adds the options for the format of a table; other data have the format of the training data by default."""

    def default(text: str) -> str:
        return f"(default: {text if of_training_data else 'as in the training data'})"

    add("--header", f"whether the first line names the columns {default('detected')}", choices=["yes", "no"])
    add(
        "--separator",
        f"separator between cells: a character, or comma, semicolon, tab, bar or space {default('detected')}",
        type=str,
    )
    add("--decimal", f"decimal separator, a point or a comma {default('point')}", type=str)
    add("--thousands", f"thousands separator, or none {default('none')}", type=str)
    add(
        "--encoding",
        f"encoding of the text, such as latin-1 or cp1252 {default('UTF-8, or UTF-16 with a byte order mark')}",
        type=str,
    )
    add(
        "--na",
        "texts for missing values, such as ? or -9999, besides empty cells, NA, NaN, null and none",
        type=str,
        nargs="+",
        metavar="TEXT",
    )
    add("--comment", f"sign that begins a comment, such as #, or none {default('none')}", type=str)


def add_use_options(add: Callable[..., None]) -> None:
    """Adds the options for which columns are features, and what the others are."""
    named = {"type": str, "nargs": "+", "metavar": "COLUMN"}
    add("--columns", "columns of features, by name, or by number from 0 (default: all without another use)", **named)
    add("--drop", "columns to leave out", **named)
    add("--label-column", "column of class labels, which is not a feature", type=str, metavar="COLUMN")
    add("--id-column", "column with the names of the rows, which predict writes too", type=str, metavar="COLUMN")
    add("--one-hot", "columns of categories; each category becomes a feature with values 0 and 1", **named)


def table_format(options: Namespace, earlier: TableFormat | None = None) -> TableFormat:
    """Returns the format that the options describe; the rest is that of ``earlier``, such as of the training data."""
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
