"""Makes a table of the columns of a file: decides which are features, labels or row names, and which are left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.column_values import describe_non_numeric, find_fill_value, to_classes, to_numbers, to_texts
from somvae_ext.data.descriptions import abbreviate_names, pluralize
from somvae_ext.data.id_columns import describe_id
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing, Table
from somvae_ext.data.text_table import Columns

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

_MAX_NAMED = 8  # columns without numbers that an error names, those with the same advice counted once
_MAX_ALIKE = 3  # of columns with the same advice, those that it names
_MAX_CATEGORIES = 1000
# Names of columns that predictions have besides that of the row names.
_RESERVED_NAMES = {"node", "row", "column", "code", "category", "probability", "class", "cluster", "series", "frame"}


class _Feature(NamedTuple):
    """A column that is a feature, or whose categories are features."""

    column: int
    name: str
    categories: tuple[str, ...] | None = None  # None: the numbers are the feature


class TableAssembler:
    """Makes a table of the columns of a file.

    Args:
        path: the file.
        columns: its columns; their values are released as they become numbers.
        table_format: what the columns are.
        missing: ``"drop"`` leaves out rows with a gap or without a label.
        features: names of the features of a model's training data, see :func:`~somvae_ext.data.read_table`.
        first_row: number in the file of the first row, if ``columns`` hold a part of the file; None for the whole file.
        first_part: the assembler of the first part of the file, which has chosen the column of row names; None for the
            first part itself.
    """

    def __init__(
        self,
        path: Path,
        columns: Columns,
        table_format: TableFormat,
        missing: Missing,
        features: Sequence[str] | None,
        first_row: int | None = None,
        first_part: TableAssembler | None = None,
    ) -> None:
        self.path, self.table_format, self.missing, self.training_features = path, table_format, missing, features
        self.first_row, self._first_part = first_row, first_part
        self.values: list[Any] = columns.values
        self.has_names, self.read_as = columns.has_names, columns.read_as
        self.renamed: list[str] = []
        self.names = self._unique_names(columns.names)
        self._numbers_of_names = {name: at for at, name in reversed(list(enumerate(self.names)))}
        self._id_at: int | None = None
        self.number_columns: list[int] = []
        """The columns that features are read from as numbers; known after :meth:`table`."""
        self.left_out: list[str] = []
        self.notes: list[str] = []
        self.id_like: dict[str, str] = {}  # why a column looks like an id, by its name
        self.num_rows = self._trim_blank_rows() if first_row is None else len(self.values[0])

    def table(self, line_of: Callable[[int], int] | None) -> Table:
        """Makes the table.

        Args:
            line_of: gives the line of the file that holds a row, for messages; None for a file without lines.

        Raises:
            ValueError: a column does not exist, or holds what it should not.
        """
        label_at = self._column_for("label_column", self.table_format.label_column)
        id_at = self._column_for("id_column", self.table_format.id_column)
        dropped = self._columns_for("drop", self.table_format.drop)
        id_at = self._id_at = self._choose_unnamed_id(id_at, {label_at, *dropped})
        one_hot = self._columns_for("one_hot", self.table_format.one_hot)
        chosen = None if self.table_format.columns is None else self._columns_for("columns", self.table_format.columns)
        others = {at for at in (label_at, id_at, *dropped) if at is not None}
        self._check_one_use(label_at, id_at, dropped, [*one_hot, *(chosen or [])])
        features = self._feature_columns(others, set(one_hot), chosen)
        label = None if label_at is None else self._read_label(label_at, line_of)
        row_keys = None if id_at is None else self._id_texts(id_at)
        if self.training_features is None:
            self.left_out += [self.names[at] for at in dropped]
        x, names = self._feature_values(features, line_of)
        # Column numbers are names if the format refers to columns by them.
        has_known_names = self.has_names or self.table_format.named_columns or self.training_features is not None
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{self.path}: features must have different names, got {twice!r} twice; rename the column")
        table_names = names if has_known_names else None
        numbers = None if self.first_row is None else np.arange(self.first_row, self.first_row + self.num_rows)
        table = Table(
            self.path, x, table_names, label, row_keys, self._describe(names, id_at), row_numbers=numbers,
            line_of=line_of,
        )  # fmt: skip
        table.format = self._resolve_format(label_at, id_at, dropped, one_hot, chosen)
        if label is not None:
            name = self.names[label_at] if label_at is not None else ""
            table.add_description("labels", f"{name}: {_describe_classes(label)}")
        if self.missing == "drop":
            is_object = label is not None and label.dtype == object
            unlabeled = np.array([value is None for value in label]) if label is not None and is_object else None
            table = table.drop_incomplete_rows(extra=unlabeled, may_be_empty=self.first_row is not None)
            if table.label is not None and table.label.dtype == object:
                table.label = _to_class_numbers(table.label)
        return table

    @property
    def id_column(self) -> str | None:
        """The one of :attr:`column_names` that holds the row names, or None; known after :meth:`table`."""
        return None if self._id_at is None else self.column_names[self._id_at]

    @property
    def column_names(self) -> list[str]:
        """Distinct names of all columns of the file; known after :meth:`table`."""
        return [f"column {at}" if name[:1] in ("", "\0") else name for at, name in enumerate(self.names)]

    def _columns_for(self, use: str, names: Sequence[str]) -> list[int]:
        """Returns the numbers of the columns with these names, each once."""
        numbers = [self._column_for(use, name) for name in names]
        return list(dict.fromkeys(at for at in numbers if at is not None))

    def _check_one_use(
        self, label_at: int | None, id_at: int | None, dropped: Sequence[int], features: Sequence[int]
    ) -> None:
        """Refuses a column that is given two uses, once by its name and once by its number."""
        uses: dict[int, str] = {}
        for use, numbers in (
            ("label_column", [label_at]),
            ("id_column", [id_at]),
            ("drop", dropped),
            ("columns or one_hot", list(dict.fromkeys(features))),
        ):
            for at in numbers:
                if at in uses:
                    raise ValueError(
                        f"{self.path}: a column must have one use, got {self.names[at]!r} in {uses[at]} and {use}"
                    )
                if at is not None:
                    uses[at] = use

    def _resolve_format(
        self,
        label_at: int | None,
        id_at: int | None,
        dropped: Sequence[int],
        one_hot: Sequence[int],
        chosen: Sequence[int] | None,
    ) -> TableFormat:
        """Returns the format completed with the names found in this file, so that other files are read alike."""
        if self.training_features is not None:
            return self.table_format

        def name(at: int | None) -> str | None:
            return None if at is None else self.names[at] or None

        return dataclasses.replace(
            self.table_format,
            # A file with names does not decide this for others: they may have none.
            header=self.table_format.header if self.has_names else False,
            label_column=name(label_at),
            id_column=name(id_at),
            drop=tuple(self.names[at] for at in dropped),
            one_hot=tuple(self.names[at] for at in one_hot),
            columns=None if chosen is None else tuple(self.names[at] for at in chosen),
        )

    def _column_for(self, use: str, name: str | None) -> int | None:
        """Returns the number of the column with this name."""
        if name is None:
            return None
        if name in self._numbers_of_names:
            return self._numbers_of_names[name]
        may_be_numbers = self.training_features is None or not self.has_names
        if may_be_numbers and name.isdecimal() and int(name) < len(self.names):
            return int(name)
        if self.training_features is not None:
            return None
        known = ", ".join(self.names) if self.has_names else f"0 to {len(self.names) - 1}, as the file has no names"
        raise ValueError(f"{self.path}: {use} must be one of its columns {known}, got {name!r}")

    def _choose_unnamed_id(self, id_at: int | None, used: set[int | None]) -> int | None:
        """Decides what columns without a name are; a column of text holds the row names, if no other does.

        pandas and R write the numbers or names of rows as a column without a name, and lines that end with a separator
        have an empty one.

        Returns:
            The number of the column of row names, or None.
        """
        last = len(self.names) - 1
        for at, name in enumerate(self.names):
            is_unnamed = not name or (
                not self.has_names and at == last > 0 and self.values[at].null_count == self.num_rows
            )
            if not is_unnamed or at == id_at or at in used:
                continue
            if self._name_unnamed(at) in (self.training_features or ()):
                self._set_name(at)
                continue
            if self._first_part is not None:
                if at == self._first_part._id_at:
                    id_at = at
                else:
                    self.names[at] = f"\0{at}"
                continue
            numbers = to_numbers(self.values[at], self.table_format)
            if numbers is None and id_at is None:
                id_at = at
            elif numbers is not None and (np.isnan(numbers).all() or _numbers_rows(numbers)):
                what = "is empty" if np.isnan(numbers).all() else "numbers the rows"
                if self.training_features is None:
                    self.left_out.append(f"column {at}, which has no name and {what}")
                self.names[at] = f"\0{at}"
            else:
                self._set_name(at)
                self.notes.append(f"column {at} has no name and is trained on as {self.names[at]!r}")
        return id_at

    def _name_unnamed(self, at: int) -> str:
        """Returns the name that a column without a name gets as a feature."""
        return str(at) if str(at) not in self._numbers_of_names else f"column {at}"

    def _set_name(self, at: int) -> None:
        self.names[at] = self._name_unnamed(at)
        self._numbers_of_names[self.names[at]] = at

    def _feature_columns(self, others: set[int], one_hot: set[int], chosen: Sequence[int] | None) -> list[_Feature]:
        if self.training_features is not None:
            return self._trained_features(self.training_features)
        if chosen is None:
            at = [at for at in range(len(self.names)) if at not in others and not self.names[at].startswith("\0")]
        else:
            at = [*chosen, *sorted(one_hot - set(chosen))]
            used = {*at, *others}
            rest = [name for number, name in enumerate(self.names) if number not in used and name[:1] != "\0"]
            self.left_out += rest
        if not at:
            raise ValueError(
                f"{self.path}: must hold a column of features besides {self._describe_others(others)}, got none"
            )
        return [
            _Feature(column, self.names[column], self._categories_of(column) if column in one_hot else None)
            for column in at
        ]

    def _describe_others(self, others: set[int]) -> str:
        return ", ".join(repr(self.names[at]) for at in sorted(others)) or "those that are left out"

    def _trained_features(self, training_features: Sequence[str]) -> list[_Feature]:
        """Finds the columns of the features that a model was trained on, whatever their order in the file."""
        categories_by_source = source_columns(training_features, self.table_format)
        sources = list(categories_by_source)
        categories = {
            name: list(values) for name, values in categories_by_source.items() if name in self.table_format.one_hot
        }
        if not self.has_names:
            numbers = self._features_by_position(sources)
            return [
                _Feature(at, name, _find_categories(categories, name))
                for at, name in zip(numbers, sources, strict=True)
            ]
        absent = [name for name in sources if name not in self._numbers_of_names]
        known_names = {*sources, *self.table_format.named_columns}
        unknown = [name for name in self.names if name not in known_names and name[:1] not in ("", "\0")]
        if absent:
            parts = [
                f"{what} {', '.join(map(repr, names))}"
                for what, names in (("without", absent), ("with the unknown", unknown))
                if names
            ]
            other_signs = [sign for sign in ",;\t|" if len(self.names) == 1 and sign in self.names[0]]
            advice = f"; if {other_signs[0]!r} separates them, set separator={other_signs[0]!r}" if other_signs else ""
            raise ValueError(
                f"{self.path}: columns must be those of the training data, in any order, got a table "
                f"{' and '.join(parts)}{advice}"
            )
        self.left_out += unknown
        return [_Feature(self._numbers_of_names[name], name, _find_categories(categories, name)) for name in sources]

    def _features_by_position(self, sources: Sequence[str]) -> list[int]:
        """Finds the features in a file without names, by the numbers of their columns in the training file."""
        width = len(self.names) - sum(name.startswith("\0") for name in self.names)
        if self.table_format.header is False and all(name.isdecimal() for name in sources):
            numbers = [int(name) for name in sources]
            others = [self.table_format.label_column, self.table_format.id_column, *self.table_format.drop]
            trained_width = len(sources) + sum(name is not None for name in others)
            if max(numbers) < width and (width == trained_width or self.table_format.columns is not None):
                return numbers
        reserved_columns = {
            at
            for use in ("label_column", "id_column")
            if (at := self._column_for(use, getattr(self.table_format, use))) is not None
        }
        for free in (list(range(width)), [at for at in range(width) if at not in reserved_columns]):
            if len(free) == len(sources):
                return free
        raise ValueError(
            f"{self.path}: rows must have {len(sources)} features, as the training data had, got {width} columns "
            "without names"
        )

    def _categories_of(self, at: int) -> tuple[str, ...]:
        categories = sorted({text for text in to_texts(self._plain_values("one_hot", at)) if text is not None})
        if not 1 <= len(categories) <= _MAX_CATEGORIES:
            raise ValueError(
                f"{self.path}: one_hot must name columns of 1 to {_MAX_CATEGORIES} categories, got {len(categories)} "
                f"in {self.names[at]!r}"
            )
        return tuple(categories)

    def _feature_values(
        self, features: Sequence[_Feature], line_of: Callable[[int], int] | None
    ) -> tuple[NDArray[np.float64], list[str]]:
        """Returns ``x`` ``[N, D]`` and the names of its columns; releases the values read, column by column."""
        dim = sum(1 if feature.categories is None else len(feature.categories) for feature in features)
        x = np.empty((self.num_rows, dim))
        names: list[str] = []
        for feature in features:
            values = self.values[feature.column]
            if feature.categories is not None:
                x[:, len(names) : len(names) + len(feature.categories)] = self._one_hot_values(feature, values, line_of)
                names += [f"{feature.name}={category}" for category in feature.categories]
                continue
            numbers = to_numbers(values, self.table_format)
            if numbers is None:
                raise self._explain_non_numeric(features, line_of)
            x[:, len(names)] = numbers
            self.number_columns.append(feature.column)
            self.values[feature.column] = values.slice(0, 0)
            if self.training_features is None:
                self._note_suspicious(feature.name, numbers)
            names.append(feature.name)
        # If most columns of a file without names look like ids, they are features.
        if self.has_names or 2 * len(self.id_like) <= dim or self.id_like.keys() == {"0"}:
            self.notes += [
                f"column {name} {what} and is trained on; if it is no feature, set id_column={name!r} or "
                f"drop={[name]!r}"
                for name, what in self.id_like.items()
            ]
        return x, names

    def _one_hot_values(
        self, feature: _Feature, values: pa.ChunkedArray, line_of: Callable[[int], int] | None
    ) -> NDArray[np.float64]:
        assert feature.categories is not None
        number = {category: at for at, category in enumerate(feature.categories)}
        result = np.zeros((self.num_rows, len(number)))
        for row, text in enumerate(to_texts(values)):
            if text is None:
                result[row] = np.nan
            elif text in number:
                result[row, number[text]] = 1
            else:
                raise ValueError(
                    f"{self.path}: column {feature.name!r} must hold one of the categories {', '.join(number)} of the "
                    f"training data, got {text!r} in {self._row_text(row, line_of)}"
                )
        return result

    def _explain_non_numeric(self, features: Sequence[_Feature], line_of: Callable[[int], int] | None) -> ValueError:
        """Makes one error about all columns that hold no numbers, so that users need not find them one by one."""
        non_numeric = [
            (feature, self.values[feature.column])
            for feature in features
            if feature.categories is None and to_numbers(self.values[feature.column], self.table_format) is None
        ]
        columns_by_advice: dict[str, list[tuple[str, str]]] = {}
        for feature, values in non_numeric:
            name = repr(feature.name)
            what, advice = describe_non_numeric(values, self.table_format)
            if self.training_features is not None and "{name" in advice:  # whose use cannot be chosen anew
                advice = "the training data have numbers there"
            advice = advice.replace("{names}", f"[{name}]").replace("{name}", name)
            if len(non_numeric) == 1:
                place = self._row_text(_first_non_number(values, self.table_format), line_of)
                return ValueError(
                    f"{self.path}: column {name} must hold numbers, got {what}, first in {place}; {advice}"
                )
            columns_by_advice.setdefault(advice, []).append((name, what))
        descriptions, named = [], 0
        for advice, columns in list(columns_by_advice.items())[:_MAX_NAMED]:
            names = ", ".join(name for name, _ in columns[:_MAX_ALIKE])
            if len(columns) > _MAX_ALIKE:
                names += f" and {len(columns) - _MAX_ALIKE} more"
            descriptions.append(f"in {names} {columns[0][1]}: {advice}")
            named += len(columns)
        omitted_columns = f"; and {len(non_numeric) - named} more columns" if len(non_numeric) > named else ""
        return ValueError(f"{self.path}: columns must hold numbers, got {'; '.join(descriptions)}{omitted_columns}")

    def _note_suspicious(self, name: str, numbers: NDArray[np.float64]) -> None:
        """Notes a column that looks like an id or holds a fill value."""
        what = describe_id(numbers, name if self.has_names else None)
        if what is not None:
            self.id_like[name] = what
        fill = find_fill_value(numbers)
        if fill is not None:
            value, count = f"{fill[0]:g}", fill[1]
            self.notes.append(
                f"column {name} holds {value} {count} times; if that stands for missing values, set na={[value]!r}"
            )

    def _read_label(self, at: int, line_of: Callable[[int], int] | None) -> NDArray[Any] | None:
        values = self._plain_values("label_column", at)
        label = to_classes(values)
        if label is not None or self.training_features is not None:  # data other than the training data may lack labels
            return label
        texts = to_texts(values)
        if self.missing == "drop":
            return np.array(texts, dtype=object)
        row = texts.index(None)
        raise ValueError(
            f"{self.path}: every row must have a label, got none in {self._row_text(row, line_of)}; fill it in, or "
            "leave such rows out with missing='drop'"
        )

    def _plain_values(self, use: str, at: int) -> pa.ChunkedArray:
        """Returns the values of a column that is read as text; refuses nested ones."""
        import pyarrow as pa

        values = self.values[at]
        if pa.types.is_nested(values.type):
            raise ValueError(
                f"{self.path}: {use} must name a column of text or numbers, got {values.type} in {self.names[at]!r}"
            )
        return values

    def _id_texts(self, at: int) -> dict[str, Sequence[Any]]:
        name = self.names[at] or "id"
        ids = ["" if text is None else text for text in to_texts(self._plain_values("id_column", at))]
        return {"id" if name in _RESERVED_NAMES else name: ids}

    def _row_text(self, row: int, line_of: Callable[[int], int] | None) -> str:
        row += self.first_row or 0
        line = 0 if line_of is None else line_of(row)
        return f"row {row} (line {line})" if line else f"row {row}"

    def _unique_names(self, names: Sequence[str]) -> list[str]:
        """Makes the names unique, as pandas does: a repeated one gets a number at its end."""
        result: list[str] = []
        used, original = set(), set(names)
        for name in names:
            new, count = name, 0
            while name and (new in used or (new != name and new in original)):
                count += 1
                new = f"{name}.{count}"
            used.add(new)
            result.append(new)
            if new != name:
                self.renamed.append(new)
        return result

    def _trim_blank_rows(self) -> int:
        """Cuts off empty rows at the end, which spreadsheets write; returns how many rows are left."""
        rows = len(self.values[0])
        end = rows
        while end > 1 and not any(column[end - 1].is_valid for column in self.values):
            end -= 1
        if end < rows:
            self.values = [column.slice(0, end) for column in self.values]
            self.left_out.append(f"{rows - end} empty rows at the end")
        return end

    def _describe(self, names: Sequence[str], id_at: int | None) -> dict[str, str]:
        text = f"{self.path}: {pluralize(self.num_rows, 'row')} of {pluralize(len(names), 'feature')}"
        description = {"data": f"{text}, {self.read_as}" if self.read_as else text}
        if self.has_names:
            description["features"] = abbreviate_names(names)
        if id_at is not None:
            description["rows"] = f"called by column {self.names[id_at]}" if self.names[id_at] else "called by names"
        if self.left_out:
            description["left out"] = abbreviate_names(self.left_out)
        if self.renamed:
            self.notes.append(f"names that come twice have become {', '.join(self.renamed)}")
        if self.notes:
            description["note"] = "\n".join(self.notes)  # one sentence each
        return description


def source_columns(features: Sequence[str], table_format: TableFormat) -> dict[str, list[str]]:
    """Returns the columns that features come from, in their order, each with its categories, if it has any."""
    sources: dict[str, list[str]] = {}
    for name in features:
        source = max(
            (column for column in table_format.one_hot if name.startswith(f"{column}=")), key=len, default=None
        )
        if source is None:
            sources[name] = []
        else:
            sources.setdefault(source, []).append(name.removeprefix(f"{source}="))
    return sources


def _numbers_rows(numbers: NDArray[np.float64]) -> bool:
    """Whether numbers are distinct integers, as the index of pandas is, even after rows were shuffled."""
    return bool((numbers == np.floor(numbers)).all()) and len(np.unique(numbers)) == len(numbers)


def _find_categories(categories: dict[str, list[str]], name: str) -> tuple[str, ...] | None:
    return tuple(categories[name]) if name in categories else None


def _first_non_number(values: pa.ChunkedArray, table_format: TableFormat) -> int:
    """Returns the first row whose cell is not a number."""
    import pyarrow as pa

    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return 0
    low, high = 0, len(values)
    while high - low > 1:  # binary search: the row is from low to high - 1
        middle = (low + high) // 2
        if to_numbers(values.slice(low, middle - low), table_format) is None:
            high = middle
        else:
            low = middle
    return low


def _to_class_numbers(label: NDArray[Any]) -> NDArray[Any]:
    import pyarrow as pa

    classes = to_classes(pa.chunked_array([pa.array(label.tolist())]))
    assert classes is not None
    return classes


def _describe_classes(label: NDArray[Any]) -> str:
    classes = sorted({str(value) for value in label.tolist() if value is not None})
    return f"{len(classes)} classes ({abbreviate_names(classes)})"
