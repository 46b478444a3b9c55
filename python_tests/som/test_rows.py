"""Tests of the sources of rows: arrays in memory and on disk, and batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import children
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from somvae_ext.processes import Processes
from somvae_ext.som import ArrayRows, RowFormat, StreamRows, read_first_batch

FLOAT32 = RowFormat(torch.float32, torch.device("cpu"))
ALONE = Processes.single()


def draw(rows: int = 20, dim: int = 3) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))


def joined(rows: ArrayRows | StreamRows) -> Tensor:
    return torch.cat([chunk.x for chunk in rows.chunks()])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("somvae_ext.som.rows._CHUNK_VALUES", 21)  # seven rows of three


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("batch", [1, 4, 7, 13, 20])
def test_arrays_and_batches_of_any_size_are_read_in_the_same_chunks(batch: int) -> None:
    x = draw()
    stream = StreamRows(DataLoader(TensorDataset(x), batch_size=batch), 3, FLOAT32)
    for rows in (ArrayRows(x, FLOAT32), ArrayRows(x.numpy(), FLOAT32), stream):
        assert [len(chunk.x) for chunk in rows.chunks()] == [7, 7, 6]
        assert joined(rows).equal(x)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "f2", "u1", "i8", "?"])
def test_arrays_of_any_numeric_dtype_and_layout_are_read(dtype: str) -> None:
    array = (5 * draw(6, 4).numpy()).astype(dtype)
    for view in (array, np.asfortranarray(array), array[::-1], array[::2, 1:], np.broadcast_to(array[0], (3, 4))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert joined(ArrayRows(view, FLOAT32)).equal(torch.from_numpy(view.astype(np.float32)))


def test_an_array_that_fits_is_not_copied() -> None:
    x = draw()
    (chunk,) = ArrayRows(x, FLOAT32).chunks()
    assert chunk.x.data_ptr() == x.data_ptr()
    array = x.numpy()
    (chunk,) = ArrayRows(array, FLOAT32).chunks()
    assert chunk.x.data_ptr() == array.ctypes.data


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_mapped_file_is_read_chunk_by_chunk(tmp_path: Path, mode: str) -> None:
    x = draw(2000)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)  # type: ignore[arg-type]
    if mode == "c":  # copy-on-write: changes are in memory only and must not be lost
        mapped[0, 0] = x[0, 0] = 9.0
    rows = ArrayRows(mapped, FLOAT32)
    assert joined(rows).equal(x)
    assert joined(rows).equal(x)


def test_batches_of_an_array_hold_each_row_once_in_an_order_drawn_from_the_seed() -> None:
    x = torch.arange(20.0)[:, None]
    orders = []
    for seed in (0, 0, 1):
        batches = list(ArrayRows(x, FLOAT32).batches(6, torch.Generator().manual_seed(seed)))
        assert [len(batch.x) for batch in batches] == [6, 6, 6, 2]
        orders.append(torch.cat([batch.x for batch in batches])[:, 0].tolist())
        assert sorted(orders[-1]) == list(range(20))
    assert orders[0] == orders[1] != orders[2]


def test_weights_stay_with_their_rows() -> None:
    x = torch.arange(20.0)[:, None]
    rows = ArrayRows(x, FLOAT32, weight=2 * x[:, 0].numpy())
    for chunk in (*rows.batches(6, torch.Generator().manual_seed(0)), *rows.chunks(), rows.sample(7, ALONE)):
        assert chunk.weight is not None
        assert chunk.weight.equal(2 * chunk.x[:, 0].double())


def test_a_sample_is_spread_over_all_rows() -> None:
    x = torch.arange(100.0)[:, None]
    assert ArrayRows(x, FLOAT32).sample(4, ALONE).x[:, 0].tolist() == [0, 25, 50, 75]
    assert ArrayRows(x, FLOAT32).sample(200, ALONE).x.equal(x)
    stream = StreamRows(x.split(30), 1, FLOAT32)
    assert stream.sample(40, ALONE).x.equal(x[:40])


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_the_error_for_an_invalid_value_names_its_row_and_column(value: float) -> None:
    x = draw()
    x[16, 1] = value
    what = "NaN" if value != value else "infinity" if abs(value) == float("inf") else r"1\.000e\+30"
    named = RowFormat(torch.float32, torch.device("cpu"), columns=["a", "b", "c"])
    for row_format, column in ((FLOAT32, "1"), (named, "'b'")):
        with pytest.raises(ValueError, match=f"X must hold .*got {what} in row 16, column {column};"):
            ArrayRows(x, row_format)
        with pytest.raises(ValueError, match=f"got {what} in row 16, column {column};"):
            list(StreamRows(x.split(5), 3, row_format).chunks())


def test_float64_values_that_overflow_in_float32_are_refused() -> None:
    x = np.full((2, 2), 1e300)
    with pytest.raises(ValueError, match="got infinity in row 0, column 0"):
        ArrayRows(x, FLOAT32)


def test_missing_values_may_be_ignored_except_in_rows_without_values() -> None:
    row_format = RowFormat(torch.float32, torch.device("cpu"), missing="ignore")
    x = draw()
    assert not ArrayRows(x, row_format).has_gaps
    x[3, 1:] = torch.nan
    assert ArrayRows(x, row_format).has_gaps
    x[5, 0] = torch.inf
    with pytest.raises(ValueError, match="got infinity in row 5, column 0"):
        ArrayRows(x, row_format)
    x[5] = torch.nan
    with pytest.raises(ValueError, match="at least one value in each row, got only NaN in row 5"):
        ArrayRows(x, row_format)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0] * 19, r"sample_weight must have shape \[N\] = \[20\], got \[19\]"),
        ([1.0] * 19 + [-1.0], "sample_weight must hold finite numbers of at least 0, got -1.0 in row 19"),
        ([float("nan")] + [1.0] * 19, "sample_weight must hold finite numbers of at least 0, got nan in row 0"),
    ],
)
def test_invalid_weights_are_refused(weight: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArrayRows(draw(), FLOAT32, weight=np.array(weight))


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_the_pages_of_a_mapped_file_are_released_while_it_is_read(tmp_path: Path, mode: str) -> None:
    np.save(tmp_path / "x.npy", np.ones((1_000_000, 32), dtype=np.float32))  # 122 MiB
    program = f"""
import numpy as np, resource, torch
import somvae_ext.som.rows as rows
from somvae_ext.processes import Processes
from somvae_ext.som import ArrayRows, RowFormat
rows._CHUNK_VALUES = 1 << 21  # 8 MiB
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
source = ArrayRows(np.load("x.npy", mmap_mode={mode!r}), RowFormat(torch.float32, torch.device("cpu")))
source.sample(8192, Processes.single())
assert sum(chunk.x.sum().item() for chunk in source.chunks()) == 32e6
print(peak() - before)
"""
    done = children.run("-c", program, imported=children.TORCH, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # The peak holds a chunk, or a sample of 1 MiB plus 64 KiB mapped around each of 1,024 rows, but not the file.
    assert int(done.stdout) < 90e6


def test_invalid_batches_are_refused() -> None:
    def generator() -> Iterator[Tensor]:
        yield draw()

    with pytest.raises(ValueError, match="anew for every epoch, got an iterator"):
        read_first_batch(generator())
    with pytest.raises(ValueError, match="at least one batch, got none"):
        read_first_batch([])
    with pytest.raises(ValueError, match=r"batches of shape \[n, D\], got \[3\]"):
        read_first_batch([torch.ones(3)])
    with pytest.raises(ValueError, match=r"batches of shape \[n, 3\], got \[2, 4\]"):
        list(StreamRows([draw(), torch.ones(2, 4)], 3, FLOAT32).chunks())
    with pytest.raises(ValueError, match="X must hold real numbers, got strings"):
        read_first_batch([np.array([["a"]])])
    with pytest.raises(ValueError, match="at least one row in every epoch, got none"):
        list(StreamRows([draw(0)], 3, FLOAT32).chunks())
