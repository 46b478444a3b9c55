"""Describes what a result folder holds, in lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from somvae_ext.data import TableFormat
    from somvae_ext.data.tables import Missing
    from somvae_ext.store import ResultFolder

_MOST_NAMES = 20  # of features or classes that are written out
_DATA_TITLES = {
    "data", "read as", "rows", "features", "label column", "id column", "left out", "one-hot columns",
    "missing values", "classes", "split", "scaling",
}  # fmt: skip


def describe_result(folder: ResultFolder) -> dict[str, str]:
    """Describes a result by names and values: kind, model, data, features, scaling and epochs.

    Raises:
        ValueError: the folder's config describes nothing that this version knows.
    """
    return _describe_map(folder) if folder.kind == "map" else _describe_model(folder)


def describe_data(lines: dict[str, str]) -> dict[str, str]:
    """Returns the lines of :func:`describe_result` that are about the data."""
    return {title: text for title, text in lines.items() if title in _DATA_TITLES}


def describe_folder(folder: ResultFolder) -> dict[str, str]:
    """Describes the result, the metrics of its evaluations, and its files."""
    lines = describe_result(folder)
    lines |= {f"on {split}": _format_figures(figures) for split, figures in folder.evaluations.items()}
    files = sorted(path.name for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    return lines | {"files": ", ".join(files)}


def _describe_map(folder: ResultFolder) -> dict[str, str]:
    from somvae_ext.estimators import MapRecord
    from somvae_ext.estimators.saved_map import is_complete

    record = MapRecord.from_folder(folder)
    parameters = record.parameters.values
    lines = {
        "kind": "map",
        "model": f"som, {record.grid.describe()}",
        "data": record.data.name if record.data is not None else "not known",
    }
    if is_complete(folder):
        lines["rows"] = str(int(folder.load_file("nodes")["hits"].sum()))
    image_shape = None if record.data is None else record.data.image_shape
    lines["features"] = _describe_features(record.feature_names, image_shape or (record.dim,))
    if record.data is not None:
        lines |= _describe_columns(record.data.table, record.data.missing)
    if record.classes is not None:
        lines["classes"] = _abbreviate(record.classes)
    lines["scaling"] = record.scaling.kind
    # Training may end before the last epoch, by --tol.
    lines["epochs"] = _describe_epochs(folder, parameters["n_epochs"], complete=is_complete(folder))
    return lines


def _describe_model(folder: ResultFolder) -> dict[str, str]:
    from somvae_ext.training import RunRecord

    record = RunRecord.from_folder(folder)
    data, config = record.data, record.config
    grid = getattr(config, "grid", None)
    nodes = "" if grid is None else f", {grid.describe()}"
    lines = {
        "kind": "model",
        "model": f"{record.model.name}{nodes}",
        "data": data.name,
        "read as": "series of frames" if data.kind == "series" else "single samples",
        "features": _describe_features(data.feature_names, config.input_shape),
    }
    lines |= _describe_columns(data.table, data.missing)
    lines["split"] = f"{data.split}, fold {data.fold}" if data.split == "folds" else data.split
    lines["scaling"] = data.scaling.kind
    lines["epochs"] = _describe_epochs(folder, record.training.epochs, complete="test" in folder.evaluations)
    return lines


def _describe_columns(table: TableFormat, missing: Missing) -> dict[str, str]:
    """Describes the columns of a table that are not plain features, and how missing values were treated."""
    from somvae_ext.data.descriptions import describe_missing

    named = {
        "label column": table.label_column,
        "id column": table.id_column,
        "left out": ", ".join(table.drop),
        "one-hot columns": ", ".join(table.one_hot),
        "missing values": "" if missing == "error" else describe_missing(missing),
    }
    return {title: text for title, text in named.items() if text}


def _describe_features(names: tuple[str, ...] | None, shape: Sequence[int]) -> str:
    if names is not None:
        return f"{len(names)}: {_abbreviate(names)}"
    return str(shape[0]) if len(shape) == 1 else f"images {' x '.join(map(str, shape))}"


def _abbreviate(names: tuple[str, ...]) -> str:
    num_omitted = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {num_omitted} more" if num_omitted > 0 else "")


def _describe_epochs(folder: ResultFolder, planned: int, *, complete: bool) -> str:
    done = max(folder.epochs, default=0)
    if complete:
        return f"{done}"
    return f"{done} of {planned}; somvae fit --resume {folder.path} goes on"


def _format_figures(evaluation: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in evaluation.items() if isinstance(value, (int, float)))
