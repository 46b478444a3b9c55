"""Data that do not span a plane use the whole map, as well as with any random start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from somvae_ext import Grid
from somvae_ext.estimators import SOM
from somvae_ext.som import are_collinear, initial_codebook


def one_column(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.normal(size=(300, 1))


def collinear_columns(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.normal(size=(300, 1)) * [1.0, -2.0]


def constant_columns(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.hstack([np.full((300, 1), 7.0), rng.normal(size=(300, 1)), np.full((300, 1), -3.0)])


def few_rows(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.normal(size=(5, 4))


def columns_of_very_different_scales(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.normal(size=(300, 4)) * [1e-10, 1.0, 1e10, 1.0]


KINDS = [one_column, collinear_columns, constant_columns, few_rows, columns_of_very_different_scales]


@pytest.mark.parametrize("periodic", [False, True], ids=["open", "periodic"])
@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", KINDS)
def test_the_whole_map_is_used(make, dtype: type, topology: str, periodic: bool) -> None:  # type: ignore[no-untyped-def]
    """The error is at most a tenth above that of the best of ten random starts.

    Errors of single fits scatter. On rare data sets, which are not among these, the difference is larger.
    """
    x = make(np.random.default_rng(3)).astype(dtype)
    side = 10 if make is few_rows else 6

    def fitted(init: str, seed: int) -> SOM:
        return SOM(side, side, topology=topology, periodic=periodic, init=init, random_state=seed).fit(x)

    som = fitted("pca", 0)
    distinct_codes, distinct_rows = (len(np.unique(values, axis=0)) for values in (som.codebook_, x))
    assert distinct_codes >= 0.9 * min(side * side, distinct_rows)
    best = min(fitted("random", seed).quantization_error_ for seed in range(10))
    factor = 1.25 if make is columns_of_very_different_scales else 1.1
    assert som.quantization_error_ <= factor * best + 1e-6 * np.ptp(x)


@pytest.mark.parametrize("init", ["pca", "random", "samples", "kmeans"])
@pytest.mark.parametrize("neighborhood", ["gaussian", "square", "bubble", "triangle"])
@pytest.mark.parametrize("make", [one_column, constant_columns])
def test_every_start_and_every_neighborhood_use_the_whole_map(make, neighborhood: str, init: str) -> None:  # type: ignore[no-untyped-def]
    x = make(np.random.default_rng(4)).astype(np.float32)
    som = SOM(5, 7, init=init, neighborhood=neighborhood, random_state=0).fit(x)
    assert len(np.unique(som.codebook_, axis=0)) >= 0.9 * 35


@pytest.mark.parametrize("algorithm", ["minibatch", "partial_fit"])
def test_mini_batches_and_partial_fit_use_the_whole_map(algorithm: str) -> None:
    x = one_column(np.random.default_rng(5)).astype(np.float32)
    som = SOM(5, 7, algorithm="minibatch", batch_size=len(x), random_state=0).fit(x)
    if algorithm == "partial_fit":
        whole, som = som, SOM(5, 7, random_state=0)
        for _ in range(som.n_epochs):
            som.partial_fit(x)
        # The steps are the same except for the order of the rows.
        np.testing.assert_allclose(som.codebook_, whole.codebook_, rtol=0, atol=1e-4)
    assert len(np.unique(som.codebook_)) >= 0.9 * 35


def test_data_without_any_extent_give_one_code() -> None:
    som = SOM(3, 4, random_state=0).fit(np.full((20, 3), 5.0))
    np.testing.assert_allclose(som.codebook_, 5.0)


@pytest.mark.parametrize("grid", [Grid(4, 6), Grid(6, 4), Grid(4, 6, topology="hexagonal"), Grid(1, 5), Grid(5, 1)])
def test_the_start_on_a_line_is_evenly_spread_and_smooth_on_the_grid(grid: Grid) -> None:
    """Codes are distinct and equally spaced, and grid neighbors are next to each other or at most one line apart."""
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    codes = initial_codebook(x, grid, "pca")[:, 0]
    steps = codes.sort().values.diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-12, atol=0)
    sheet = codes.view(grid.rows, grid.cols)
    across = max(grid.rows, grid.cols) if min(grid.rows, grid.cols) == 1 else min(grid.rows, grid.cols)
    for axis in (0, 1):
        assert (sheet.diff(dim=axis).abs() <= (across + 0.5) * steps.mean()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_line_is_distinguished_from_a_thin_plane(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    along, beside = (
        torch.randn(50, 1, generator=generator, dtype=dtype),
        torch.randn(50, 1, generator=generator, dtype=dtype),
    )
    direction, other = torch.tensor([[3.0, 4.0, 0.0]], dtype=dtype), torch.tensor([[0.0, 0.0, 1.0]], dtype=dtype)
    resolved = torch.finfo(dtype).eps ** 0.5
    assert are_collinear(10 + along * direction)
    assert are_collinear(along * direction + 0.1 * resolved * beside * other)
    assert not are_collinear(along * direction + 100 * resolved * beside * other)


def test_partial_fit_follows_a_width_that_is_set_between_calls() -> None:
    x = one_column(np.random.default_rng(6)).astype(np.float32)
    som, other = (SOM(5, 7, random_state=0).partial_fit(x) for _ in range(2))
    som.set_params(sigma_initial=3.0).partial_fit(x)
    other.partial_fit(x)
    assert not np.array_equal(som.codebook_, other.codebook_)
