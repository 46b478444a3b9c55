"""Sources of rows: arrays in memory and on disk, and batches."""

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


def some(rows: int = 20, dim: int = 3) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))


def joined(rows: ArrayRows | StreamRows) -> Tensor:
    return torch.cat([chunk.x for chunk in rows.chunks()])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("somvae_ext.som.rows._CHUNK_VALUES", 21)  # seven rows of three


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("batch", [1, 4, 7, 13, 20])
def test_arrays_and_batches_of_any_size_come_in_the_same_chunks(batch: int) -> None:
    x = some()
    stream = StreamRows(DataLoader(TensorDataset(x), batch_size=batch), 3, FLOAT32)
    for rows in (ArrayRows(x, FLOAT32), ArrayRows(x.numpy(), FLOAT32), stream):
        assert [len(chunk.x) for chunk in rows.chunks()] == [7, 7, 6]
        assert joined(rows).equal(x)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "f2", "u1", "i8", "?"])
def test_arrays_of_numbers_of_any_kind_and_layout(dtype: str) -> None:
    array = (5 * some(6, 4).numpy()).astype(dtype)
    for view in (array, np.asfortranarray(array), array[::-1], array[::2, 1:], np.broadcast_to(array[0], (3, 4))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert joined(ArrayRows(view, FLOAT32)).equal(torch.from_numpy(view.astype(np.float32)))


def test_an_array_that_fits_is_not_copied() -> None:
    x = some()
    (chunk,) = ArrayRows(x, FLOAT32).chunks()
    assert chunk.x.data_ptr() == x.data_ptr()
    array = x.numpy()
    (chunk,) = ArrayRows(array, FLOAT32).chunks()
    assert chunk.x.data_ptr() == array.ctypes.data


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_mapped_file_is_read_chunk_by_chunk(tmp_path: Path, mode: str) -> None:
    x = some(2000)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)  # type: ignore[arg-type]
    if mode == "c":  # what was written to it stays, though no file holds it
        mapped[0, 0] = x[0, 0] = 9.0
    rows = ArrayRows(mapped, FLOAT32)
    assert joined(rows).equal(x)
    assert joined(rows).equal(x)


def test_batches_of_an_array_are_all_rows_once_in_an_order_that_the_seed_draws() -> None:
    x = torch.arange(20.0)[:, None]
    orders = []
    for seed in (0, 0, 1):
        batches = list(ArrayRows(x, FLOAT32).batches(6, torch.Generator().manual_seed(seed)))
        assert [len(batch.x) for batch in batches] == [6, 6, 6, 2]
        orders.append(torch.cat([batch.x for batch in batches])[:, 0].tolist())
        assert sorted(orders[-1]) == list(range(20))
    assert orders[0] == orders[1] != orders[2]


def test_weights_go_with_their_rows() -> None:
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
def test_a_value_that_cannot_be_is_named_with_row_and_column(value: float) -> None:
    x = some()
    x[16, 1] = value
    what = "NaN" if value != value else "infinity" if abs(value) == float("inf") else r"1\.000e\+30"
    named = RowFormat(torch.float32, torch.device("cpu"), columns=["a", "b", "c"])
    for row_format, column in ((FLOAT32, "1"), (named, "'b'")):
        with pytest.raises(ValueError, match=f"X must hold .*got {what} in row 16, column {column};"):
            ArrayRows(x, row_format)
        with pytest.raises(ValueError, match=f"got {what} in row 16, column {column};"):
            list(StreamRows(x.split(5), 3, row_format).chunks())


def test_values_that_only_overflow_in_float32_are_refused_there() -> None:
    x = np.full((2, 2), 1e300)
    with pytest.raises(ValueError, match="got infinity in row 0, column 0"):
        ArrayRows(x, FLOAT32)


def test_missing_values_may_be_ignored_but_for_rows_of_nothing_else() -> None:
    row_format = RowFormat(torch.float32, torch.device("cpu"), missing="ignore")
    x = some()
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
def test_weights_that_are_none_are_refused(weight: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArrayRows(some(), FLOAT32, weight=np.array(weight))


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_mapped_file_is_let_go_of_as_it_is_read(tmp_path: Path, mode: str) -> None:
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
    # A sample of 1 MiB whose pieces map 64 KiB around each of 1,024 rows, or a chunk; not the file.
    assert int(done.stdout) < 90e6


def test_batches_that_cannot_be_trained_on_are_refused() -> None:
    def generator() -> Iterator[Tensor]:
        yield some()

    with pytest.raises(ValueError, match="anew for every epoch, got an iterator"):
        read_first_batch(generator())
    with pytest.raises(ValueError, match="at least one batch, got none"):
        read_first_batch([])
    with pytest.raises(ValueError, match=r"batches of shape \[n, D\], got \[3\]"):
        read_first_batch([torch.ones(3)])
    with pytest.raises(ValueError, match=r"batches of shape \[n, 3\], got \[2, 4\]"):
        list(StreamRows([some(), torch.ones(2, 4)], 3, FLOAT32).chunks())
    with pytest.raises(ValueError, match="X must hold real numbers, got strings"):
        read_first_batch([np.array([["a"]])])
    with pytest.raises(ValueError, match="at least one row in every epoch, got none"):
        list(StreamRows([some(0)], 3, FLOAT32).chunks())
