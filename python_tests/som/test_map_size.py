"""Tests of the suggested map size: values computed by hand, and properties of all sizes."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext import Grid
from somvae_ext.som import initial_codebook, suggest_map_size


def rows(num_rows: int, *deviations: float, seed: int = 0) -> np.ndarray:
    """Draws rows with exactly these standard deviations along the axes."""
    x = np.random.default_rng(seed).normal(size=(num_rows, len(deviations)))
    x -= x.mean(axis=0)
    q, _ = np.linalg.qr(x)
    return q * math.sqrt(num_rows) * np.array(deviations)


def test_the_number_of_nodes_is_five_times_the_square_root_of_the_rows() -> None:
    size = suggest_map_size(rows(1600, 1.0, 1.0, 0.5))
    assert size == (14, 14)  # 196 nodes, at most 5 * sqrt(1600) = 200
    assert suggest_map_size(rows(400, 2.0, 1.0, 0.5)) == (7, 14)  # 98 nodes, at most 100


def test_sides_are_proportional_to_the_deviations_along_the_principal_axes() -> None:
    assert suggest_map_size(rows(1600, 2.0, 1.0)) == (10, 20)
    rows_of_hexagons, cols = suggest_map_size(rows(1600, 2.0, 1.0), topology="hexagonal")
    assert (rows_of_hexagons, cols) == (11, 18)
    assert cols / (rows_of_hexagons * math.sqrt(3) / 2) == pytest.approx(2, rel=0.1)


def test_the_longer_side_is_along_the_first_principal_axis_of_the_initial_codes() -> None:
    x = torch.from_numpy(rows(1600, 0.5, 3.0, 1.0))
    size = suggest_map_size(x)
    codes = initial_codebook(x, Grid(*size), "pca").view(*size, 3)
    along = (codes[0, -1] - codes[0, 0]).abs()
    assert size.cols > size.rows
    assert along.argmax() == 1


@given(
    st.integers(1, 300),
    st.lists(st.floats(0, 1e3), min_size=1, max_size=5),
    st.sampled_from(["rectangular", "hexagonal"]),
    st.booleans(),
)
def test_a_map_has_at_least_two_nodes_and_at_most_as_many_as_rows(
    num_rows: int, deviations: list[float], topology: Any, periodic: bool
) -> None:
    x = np.random.default_rng(num_rows).normal(size=(num_rows, len(deviations))) * deviations
    size = suggest_map_size(x, topology=topology, periodic=periodic)
    grid = Grid(*size, topology, periodic)  # refuses odd numbers of rows of periodic hexagons
    assert 2 <= grid.num_nodes <= max(2, num_rows)
    assert grid.num_nodes <= math.ceil(5 * math.sqrt(num_rows))


def test_collinear_data_get_a_one_row_map_and_constant_data_the_smallest_map() -> None:
    line = np.outer(np.linspace(0, 1, 100), [1.0, 2.0, 3.0])
    assert suggest_map_size(line) == (1, 50)
    assert suggest_map_size(np.arange(100.0)[:, None]) == (1, 50)
    assert suggest_map_size(np.full((100, 3), 0.1)) == (1, 2)
    assert suggest_map_size(np.zeros((1, 1))) == (1, 2)


def test_the_size_does_not_depend_on_offset_scale_and_order_of_the_features() -> None:
    x = rows(900, 3.0, 2.0, 1.0)
    size = suggest_map_size(x)
    assert size == suggest_map_size(1e6 + x) == suggest_map_size(1e-9 * x) == suggest_map_size(x[:, ::-1].copy())
    assert size == suggest_map_size(torch.from_numpy(x).float()) == suggest_map_size(x.tolist())


def test_gaps_count_as_the_mean_of_their_column() -> None:
    x = rows(900, 2.0, 1.0)
    gaps = x.copy()
    gaps[::10, 0] = np.nan
    gaps[:, 1] += 5
    filled = np.where(np.isnan(gaps), np.nanmean(gaps, axis=0), gaps)
    assert suggest_map_size(gaps) == suggest_map_size(filled)
    assert suggest_map_size(np.full((30, 2), np.nan)) == (1, 2)


def test_a_sample_of_the_rows_is_enough_if_num_rows_is_given() -> None:
    x = rows(40_000, 2.0, 1.0)
    assert suggest_map_size(x) == suggest_map_size(x[::10], num_rows=40_000) == (22, 45)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"x": np.zeros(3)}, "x must have shape [N, D] with at least one row and column, got [3]"),
        ({"x": np.zeros((0, 2))}, "x must have shape [N, D] with at least one row and column, got [0, 2]"),
        ({"x": [[np.inf, 1.0]]}, "x must hold finite values or NaN, got infinity"),
        ({"x": [["a"]]}, "x must hold real numbers"),
        ({"x": np.ones((2, 2)), "num_rows": 0}, "num_rows must be an integer of at least 1, got 0"),
        ({"x": np.ones((2, 2)), "topology": "round"}, "topology must be"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        suggest_map_size(**arguments)
