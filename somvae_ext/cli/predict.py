"""``somvae predict``: write the nodes, clusters or encodings of the user's own data as CSV or Parquet."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_output
from somvae_ext.cli.predict_map import write_map_predictions
from somvae_ext.cli.predict_model import write_model_predictions
from somvae_ext.cli.table_output import check_ending

if TYPE_CHECKING:
    from jsonargparse import Namespace

_STDIN = "-"


def run(options: Namespace) -> None:
    from somvae_ext.store import ResultFolder

    check_output(options.output, may_replace=options.overwrite)
    check_ending(options.output)
    if options.output is not None and _is_same_file(options.output, options.data):
        raise ValueError(f"--output must be another file than the data, got {options.output} for both")
    folder = ResultFolder.open(options.run)
    predict = write_map_predictions if folder.kind == "map" else write_model_predictions
    with _data_file(options.data) as path:
        predict(folder, options, path)


def _is_same_file(output: str, data: str) -> bool:
    return Path(output).exists() and Path(data).exists() and Path(output).samefile(data)


@contextlib.contextmanager
def _data_file(data: str) -> Iterator[Path]:
    """Yields the path of the data; standard input (CSV) is copied to a temporary file, because it is read twice."""
    if data != _STDIN:
        yield Path(data)
        return
    with tempfile.TemporaryDirectory(prefix="somvae-") as folder:
        path = Path(folder) / "standard-input.csv"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield path
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "standard input")) from error
