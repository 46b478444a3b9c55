"""How a table is written in its file, and what its columns are."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

from somvae_ext.config_checks import check_fields, config_from_section


@dataclasses.dataclass(frozen=True)
class TableFormat:
    """How a table is written in its file, and what its columns are.

    ``na`` and the fields from ``columns`` on apply to all tables, the others to text. A column is given by its name, or
    by its number from 0 if no column has that name.

    Args:
        header: whether the first line names the columns; by default its cells decide, see
            :mod:`somvae_ext.data.header`.
        separator: one character between the cells, or a space for any amount of white space; by default a comma,
            semicolon, tab, bar or white space, whichever splits the first lines into equally many cells.
        decimal: the decimal sign, a point or a comma.
        thousands: the sign between groups of digits.
        encoding: by default UTF-8, or UTF-16 where the file begins with its byte order mark.
        na: texts that stand for a missing value, besides an empty cell, NA, N/A, NaN, null and none in any case. A
            number such as -9999 is compared as a number.
        comment: the character that begins a comment, which goes to the end of its line.
        columns: the features; by default all columns without another use.
        drop: columns that are left out.
        label_column: the column of classes.
        id_column: the column of row names.
        one_hot: columns of categories, each of which becomes a feature of zeros and ones.

    Raises:
        ValueError: a field that holds something else, two equal signs, or a column with two uses.
    """

    header: bool | None = None
    separator: str | None = None
    decimal: str = "."
    thousands: str | None = None
    encoding: str | None = None
    na: tuple[str, ...] = ()
    comment: str | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    label_column: str | None = None
    id_column: str | None = None
    one_hot: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("separator", "thousands", "comment"):
            value = getattr(self, name)
            if value is not None and (len(value) != 1 or value in '"\n\r'):
                raise ValueError(f"TableFormat: {name} must be one character, got {value!r}")
        if self.decimal not in (".", ","):
            raise ValueError(f"TableFormat: decimal must be '.' or ',', got {self.decimal!r}")
        signs = ("separator", "decimal", "thousands", "comment")
        for at, name in enumerate(signs):
            for other in signs[:at]:
                if getattr(self, name) is not None and getattr(self, name) == getattr(self, other):
                    raise ValueError(f"TableFormat: {name} must differ from {other}, got {getattr(self, name)!r} twice")
        if self.encoding is not None:
            try:
                "a".encode(self.encoding)
            except (LookupError, ValueError):
                raise ValueError(
                    f"TableFormat: encoding must be one that Python knows, such as 'latin-1', got {self.encoding!r}"
                ) from None
        uses: dict[str, str] = {}
        for use, name in self._uses():
            if name in uses and {uses[name], use} != {"columns", "one_hot"}:  # a feature by its categories
                raise ValueError(f"TableFormat: a column must have one use, got {name!r} in {uses[name]} and {use}")
            uses[name] = use

    def _uses(self) -> list[tuple[str, str]]:
        named = [("label_column", self.label_column), ("id_column", self.id_column)]
        lists = {"columns": self.columns or (), "drop": self.drop, "one_hot": self.one_hot}
        return [(use, name) for use, name in named if name is not None] + [
            (use, name) for use, names in lists.items() for name in dict.fromkeys(names)
        ]

    @property
    def named_columns(self) -> dict[str, str]:
        """The use of each column that is given one, by the name of the column."""
        return {name: use for use, name in self._uses()}

    def to_dict(self) -> dict[str, Any]:
        """Returns the format as JSON's types, which :meth:`from_dict` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Makes the format from what :meth:`to_dict` returned.

        Raises:
            ValueError: ``values`` are not such a format.
        """
        return config_from_section(cls, values)
