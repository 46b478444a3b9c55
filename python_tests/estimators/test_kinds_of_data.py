"""Training data of every kind: equal values give equal maps, and data that cannot be used are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from somvae_ext.estimators import SOM
from somvae_ext.som import rows as som_rows

NAMES = ["length", "width", "height", "weight"]


class Recorder:
    """A sliceable array, like those of HDF5 and zarr, that records the number of reads and of rows in the largest."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.most_rows = self.reads = 0

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        assert isinstance(rows, slice)
        part = self._values[rows]
        self.most_rows = max(self.most_rows, len(part))
        self.reads += 1
        return part


def values(rows: int = 400, dtype: type = np.float32) -> NDArray[Any]:
    return np.random.default_rng(7).normal(size=(rows, 4)).astype(dtype)


def memory_mapped(x: NDArray[Any], folder: Path) -> NDArray[Any]:
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


KINDS: dict[str, Callable[[NDArray[Any], Path], Any]] = {
    "numpy": lambda x, _: x,
    "columns first": lambda x, _: np.asfortranarray(x),
    "pandas": lambda x, _: pd.DataFrame(x, columns=NAMES),
    "polars": lambda x, _: pl.DataFrame(x, schema=NAMES),
    "pyarrow": lambda x, _: pa.table({name: x[:, column] for column, name in enumerate(NAMES)}),
    "torch": lambda x, _: torch.from_numpy(x),
    "memory-mapped": memory_mapped,
    "sliced": lambda x, _: Recorder(x),
    "list of rows": lambda x, _: x.tolist(),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_values_make_the_same_map(kind: str, dtype: type, tmp_path: Path) -> None:
    if kind == "list of rows" and dtype is np.float32:
        return  # Python's numbers are float64
    x = values(dtype=dtype)
    expected = SOM(4, 5, random_state=0).fit(x)
    given = KINDS[kind](x, tmp_path)
    som = SOM(4, 5, random_state=0).fit(given)
    np.testing.assert_array_equal(np.asarray(som.codebook_), expected.codebook_)
    np.testing.assert_array_equal(np.asarray(som.predict(given)), expected.labels_)
    named = kind in ("pandas", "polars", "pyarrow")
    assert list(getattr(som, "feature_names_in_", [])) == (NAMES if named else [])


def test_tables_with_columns_in_another_order_are_refused() -> None:
    x = values()
    som = SOM(3, 3, random_state=0).fit(pl.DataFrame(x, schema=NAMES))
    with pytest.raises(ValueError, match="feature names"):
        som.predict(pl.DataFrame(x, schema=NAMES).select(NAMES[::-1]))


@pytest.mark.parametrize("table", [pl.DataFrame, pa.table, pd.DataFrame])
def test_a_missing_value_of_a_table_is_missing(table: Callable[[dict[str, Any]], Any]) -> None:
    columns = {"a": [1.0, 2.0, None, 4.0], "b": [4, None, 2, 1]}
    with_nan = np.array([[1, 4], [2, np.nan], [np.nan, 2], [4, 1]])
    som = SOM(2, 2, missing="ignore", random_state=0).fit(table(columns))
    np.testing.assert_array_equal(som.codebook_, SOM(2, 2, missing="ignore", random_state=0).fit(with_nan).codebook_)
    with pytest.raises(ValueError, match=r"got NaN in row 1, column 'b'"):
        SOM(2, 2).fit(table(columns))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pl.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}), "must hold numbers, got String in column 'b'; leave it out"),
        (pa.table({"a": [1.0], "when": [pa.scalar(0, pa.timestamp("s"))]}), "in column 'when'; leave it out"),
        (pl.DataFrame({"a": [1.0]}).lazy(), "must be a table in memory, got LazyFrame; call its collect"),
        (pl.DataFrame({"a": pl.Series([], dtype=pl.Float64)}), r"at least one row and one column, got \[0, 1\]"),
        (torch.eye(3).to_sparse(), "must be dense, got a tensor of layout sparse_coo; call its to_dense"),
        (np.zeros((3, 4, 5)), r"must have shape \[N, D\], got \[3, 4, 5\]; give batches as a list of arrays"),
        ([[1.0, 2.0], [3.0]], "X must be an array, got list"),
        (np.ma.array(np.ones((3, 2)), mask=[[0, 0], [1, 0], [0, 0]]), "must not be masked, got 1 masked of 6 values"),
        ([torch.eye(3).to_sparse()] * 2, "must be dense, got a tensor of layout sparse_coo"),
        ([torch.eye(3) * 1j] * 2, "must hold real numbers, got torch.complex64"),
        (torch.eye(3) * 1j, "must hold real numbers, got torch.complex64"),
        ([np.ma.array(np.ones((3, 2)), mask=np.eye(3, 2))], "must not be masked, got 2 masked of 6 values"),
        ([pl.DataFrame({"a": ["u"]})], "must hold numbers, got String in column 'a'"),
        (Recorder(np.array([["a"], ["b"]])), "X must hold numbers, at least one row and one column, got <U1"),
        (Recorder(np.zeros((0, 2))), r"got float64 of \[0, 2\]"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused_with_one_sentence(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SOM(2, 2).fit(given)


@pytest.mark.parametrize("algorithm", ["batch", "minibatch"])
@pytest.mark.parametrize("init", ["pca", "samples"])
def test_a_sliceable_array_is_never_read_whole(algorithm: str, init: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(som_rows, "_CHUNK_VALUES", 400)  # 100 rows
    monkeypatch.setattr(som_rows, "_SPACING_ROWS", 100)
    monkeypatch.setattr(som_rows, "_MAX_VALUES_SKIPPED", 4)  # rows that are not consecutive are read separately
    x = values(950)
    sliced = Recorder(x)
    options: dict[str, Any] = {"algorithm": algorithm, "init": init, "n_epochs": 3, "random_state": 0}
    monkeypatch.setattr(SOM, "_initial_codebook", starting_from_fewer_rows(SOM._initial_codebook))
    som = SOM(4, 5, **options).fit(sliced)
    np.testing.assert_array_equal(som.codebook_, SOM(4, 5, **options).fit(x).codebook_)
    assert sliced.most_rows <= 100


def test_rows_for_the_start_are_read_in_few_slices() -> None:
    """The start uses every 24th row, but none is read by a slice of its own."""
    x = np.random.default_rng(0).normal(size=(100_000, 4)).astype(np.float32)
    sliced = Recorder(x)
    options: dict[str, Any] = {"n_epochs": 1, "compute_labels": False}
    som = SOM(3, 3, **options).fit(sliced)
    np.testing.assert_array_equal(som.codebook_, SOM(3, 3, **options).fit(x).codebook_)
    assert sliced.reads < 20


def starting_from_fewer_rows(start: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a map start from a sample of 60 rows, as if the 950 rows were too many."""

    def patched(self: SOM, rows: Any, *others: Any) -> Any:
        sample = rows.sample
        rows.sample = lambda wanted, processes: sample(60, processes)
        return start(self, rows, *others)

    return patched


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: [x, "label"]])
@pytest.mark.parametrize("sequence", [list, tuple])
def test_a_list_of_arrays_is_a_list_of_batches(sequence: type, wrap: Callable[[Any], Any]) -> None:
    x = values(500)
    parts = sequence(wrap(part) for part in np.split(x, [120, 121, 300]))
    start = x[:20]
    som = SOM(4, 5, init=start, random_state=0).fit(parts)
    np.testing.assert_array_equal(som.codebook_, SOM(4, 5, init=start, random_state=0).fit(x).codebook_)


# ---- values that the dtype cannot distinguish --------------------------------------------------------------------


def messages_of(x: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SOM(3, 3, random_state=0).fit(x)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("x", "column", "spacing"),
    [
        (np.arange(300)[:, None] + 2**60, "0", "256"),
        (np.arange(300, dtype=np.uint64)[:, None] + 2**63, "0", "2048"),
        ((1e8 + 10 * np.random.default_rng(0).normal(size=(300, 2))).astype(np.float32), "0, and 1 more columns", "8"),
        (np.full((300, 1), 1e8, dtype=np.float32), "0", "8"),
        (pd.DataFrame({"a": np.linspace(0, 1, 300), "time": 1.7e18 + np.arange(300)}), "'time'", "256"),
        (torch.arange(300)[:, None] - 2**58, "0", "64"),
        ([(np.arange(100.0) + 1e16)[:, None]], "0", "2"),
        ((3000 + 10 * np.random.default_rng(0).random((300, 1))).astype(np.float16), "0", "2"),
        ((100 + torch.rand(300, 1, generator=torch.Generator().manual_seed(0)) * 5).bfloat16(), "0", "0.5"),
    ],
)
def test_values_that_the_dtype_cannot_distinguish_cause_a_warning(x: Any, column: str, spacing: str) -> None:
    (message,) = [message for message in messages_of(x) if "multiples" in message]
    assert f"got column {column}, whose values are multiples of {spacing} there; subtract an offset" in message


@pytest.mark.parametrize(
    "x",
    [
        values(),
        np.random.default_rng(0).integers(0, 2, size=(300, 3)),
        np.full((300, 2), 2026.0, dtype=np.float32),
        np.random.default_rng(0).integers(-(2**62), 2**62, size=(300, 2)),
        (1e4 + np.random.default_rng(0).random((300, 2))).astype(np.float64),
        np.random.default_rng(0).normal(size=(300, 2)).astype(np.float16),
        torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).bfloat16(),
        np.array([[0.1 + 0.2], [0.3], [0.3]]),
        np.zeros((5, 2), dtype=bool),
    ],
)
def test_other_values_cause_no_warning(x: Any) -> None:
    assert messages_of(x) == []


# ---- a column without any value ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["batch", "minibatch"])
@pytest.mark.parametrize("as_batches", [False, True])
def test_a_column_without_any_value_is_refused(algorithm: str, as_batches: bool) -> None:
    x = values()
    x[:, 2] = np.nan
    given: Any = np.split(x, 4) if as_batches else x
    with pytest.raises(
        ValueError, match="at least one value in each column, got only NaN in column 2; drop the column"
    ):
        SOM(3, 3, missing="ignore", algorithm=algorithm, random_state=0).fit(given)  # type: ignore[arg-type]


def test_a_column_with_values_only_in_rows_of_weight_zero_is_refused() -> None:
    x = values(6)
    x[:3, 1] = np.nan
    weight = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="got only NaN in column 1"):
        SOM(2, 2, missing="ignore").fit(x, sample_weight=weight)


@pytest.mark.parametrize("as_batches", [False, True])
def test_a_column_may_have_its_values_in_later_rows(as_batches: bool) -> None:
    x = values(40)
    x[:20, 1] = np.nan
    som = SOM(2, 2, missing="ignore", init="samples", random_state=0).fit(np.split(x, 4) if as_batches else x)
    assert np.isfinite(som.codebook_).all()


def test_only_the_first_step_needs_a_value_in_each_column() -> None:
    x, without = values(20), values(20)
    without[:, 0] = np.nan
    with pytest.raises(ValueError, match="got only NaN in column 0"):
        SOM(2, 2, missing="ignore").partial_fit(without)
    som = SOM(2, 2, missing="ignore", random_state=0).partial_fit(x)
    before = som.codebook_.copy()
    som.partial_fit(without)
    np.testing.assert_array_equal(som.codebook_[:, 0], before[:, 0])
    assert np.isfinite(som.codebook_).all()


# ---- neighbors ---------------------------------------------------------------------------------------------------


def test_the_topographic_error_counts_eight_neighbors_unless_told_otherwise() -> None:
    x = values(800)
    som = SOM(6, 7, track_topographic_error=True, random_state=0).fit(x)
    with_4, with_8 = (som.topographic_error(x, connectivity=number) for number in (4, 8))
    assert with_8 < with_4
    assert som.topographic_error(x) == with_8
    assert som.history_[-1]["topographic_error_8"] < with_4
    with pytest.raises(ValueError, match="connectivity"):
        som.topographic_error(x, connectivity=6)
    hexagons = SOM(6, 7, topology="hexagonal", random_state=0).fit(x)
    assert hexagons.topographic_error(x) == hexagons.topographic_error(x, connectivity=6)
