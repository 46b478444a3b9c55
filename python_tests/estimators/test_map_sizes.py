"""Comparison of map sizes on held-out rows: the measurements, the choice, and errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from somvae_ext.data import Scaling
from somvae_ext.estimators import SOM, Estimate, MeasuredSize, SizeComparison, map_sizes, tune_size
from somvae_ext.som import MapSize, suggest_map_size

RANDOM = np.random.default_rng(0)
CLOUD = RANDOM.normal(size=(240, 6)).astype(np.float32)
CURVE = np.linspace(0, 1, 240)[:, None] ** [1.0, 2.0] + RANDOM.normal(0, 1e-3, (240, 2))


def standard(x: Any) -> Scaling:
    return Scaling.fit("standard", [x], x.shape[1])


def comparison_of(*combined: tuple[float, float]) -> SizeComparison:
    rows = [
        MeasuredSize(MapSize(2, 2 + number), Estimate(1, 0), Estimate(0, 0), Estimate(*error))
        for number, error in enumerate(combined)
    ]
    return SizeComparison(tuple(rows), MapSize(9, 9), 8)


def test_each_fold_is_held_out_once_and_measured_as_the_estimator_does() -> None:
    comparison = tune_size(CLOUD, [(3, 4)], folds=4, random_state=1)
    fold = map_sizes._assign_folds(240, 4, None, 1)
    assert np.bincount(fold).tolist() == [60] * 4
    errors = []
    for held_out in range(4):
        som = SOM(3, 4, random_state=1).fit(CLOUD[fold != held_out])
        x = CLOUD[fold == held_out]
        errors.append((som.quantization_error(x), som.topographic_error(x), som.combined_error(x)))
    (row,) = comparison.table
    for estimate, values in zip(row[1:], np.array(errors).T, strict=True):
        assert estimate == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1) / 2))


def test_the_smallest_map_within_a_standard_error_of_the_least_is_chosen() -> None:
    comparison = comparison_of((5.0, 0.1), (3.05, 0.01), (3.0, 0.06), (4.0, 2.0))
    assert comparison.best.size == (2, 3)
    assert comparison.least.size == (2, 4)
    assert comparison.reason == (
        "2 x 3 is the smallest map whose combined error, 3.05, is within a standard error, 0.06, of the least, 3 of "
        "2 x 4"
    )
    assert comparison_of((5.0, 9.0), (3.0, 0.1), (4.0, 0.1)).reason == (
        "2 x 3 has the least combined error, 3, and no smaller map comes within its standard error"
    )


def test_the_reason_says_if_the_best_size_is_an_end_of_the_ladder() -> None:
    assert comparison_of((5.0, 0.1), (4.0, 0.1)).reason.endswith(
        "the largest one tried, and a larger one may be better"
    )
    assert comparison_of((3.0, 0.1), (4.0, 0.1)).reason.endswith(
        "the smallest one tried, and a smaller one may do as well"
    )
    assert ";" not in comparison_of((3.0, 0.1)).reason


def test_for_high_dimensional_data_a_map_of_moderate_size_is_chosen() -> None:
    x = load_breast_cancer().data
    sizes = [(3, 3), (5, 5), (7, 7), (10, 10), (18, 18)]
    comparison = tune_size(x, sizes, fit_scaling=standard)
    assert comparison.best.size in [(5, 5), (7, 7), (10, 10)]
    fit = [row.quantization_error.mean for row in comparison.table]
    assert fit == sorted(fit, reverse=True)


def test_for_two_dimensional_data_the_largest_map_is_chosen() -> None:
    x = np.random.default_rng(0).random((600, 2))
    assert tune_size(x, [(3, 3), (5, 5), (9, 9)]).best.size == (9, 9)


def test_by_default_a_ladder_around_the_rule_of_thumb_is_tried() -> None:
    comparison = tune_size(CLOUD)
    nodes = [row.num_nodes for row in comparison.table]
    suggested = suggest_map_size(CLOUD)
    assert comparison.suggested == suggested
    assert suggested in [row.size for row in comparison.table]
    assert nodes == sorted(set(nodes))
    assert max(nodes) <= 160  # at most as many nodes as training rows
    assert min(nodes) < 0.2 * suggested.rows * suggested.cols
    lines = {row.size.rows for row in tune_size(CURVE[:, :1]).table}
    assert lines == {1}
    hexagons = tune_size(CLOUD, som=SOM(4, 4, topology="hexagonal", periodic=True))
    assert all(row.size.rows % 2 == 0 for row in hexagons.table)


def test_sizes_are_unique_and_ordered_by_their_number_of_nodes() -> None:
    suggested = suggest_map_size(CLOUD)
    comparison = tune_size(CLOUD, [(4, 4), "auto", (2, 2), suggested, (4, 4)], folds=2)
    assert [row.size for row in comparison.table] == [(2, 2), (4, 4), suggested]


def test_the_scaling_is_fitted_to_the_training_rows() -> None:
    seen: list[int] = []

    def fit(x: Any) -> Scaling:
        seen.append(len(x))
        return standard(x)

    scaled = tune_size(1000 + 50 * CLOUD, [(3, 3)], folds=2, fit_scaling=fit)
    assert seen == [240, 120, 120]  # all rows for the suggestion, then the training rows of each fold
    assert 0.5 < scaled.table[0].quantization_error.mean < 3


def test_rows_of_a_group_are_held_out_together() -> None:
    groups = np.repeat(np.arange(12), 20)
    fold = map_sizes._assign_folds(240, 3, groups, 0)
    assert all(len(set(fold[groups == group])) == 1 for group in range(12))
    assert sorted(np.bincount(fold)) == [80, 80, 80]
    assert tune_size(CLOUD, [(3, 3)], groups=groups) != tune_size(CLOUD, [(3, 3)])


def test_the_estimators_parameters_are_used_and_it_stays_unfitted() -> None:
    som = SOM(7, 8, topology="hexagonal", metric="manhattan", n_epochs=3, random_state=5)
    comparison = tune_size(CLOUD, [(3, 3)], som=som)
    assert comparison.connectivity == 6
    assert (som.n_rows, som.n_cols) == (7, 8)
    assert not hasattr(som, "codebook_")


@pytest.mark.parametrize("kind", [torch.from_numpy, lambda x: x.tolist(), lambda x: x])
def test_arrays_of_any_kind_give_the_same_comparison(kind: Any) -> None:
    expected = tune_size(CLOUD.astype(np.float64), [(3, 3)], folds=2).table[0]
    assert tune_size(kind(CLOUD), [(3, 3)], folds=2).table[0].combined_error == pytest.approx(
        expected.combined_error, rel=1e-4
    )


def test_each_finished_map_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    tune_size(CLOUD, [(2, 3), (3, 3)], folds=2, verbose=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(
        r"map 1/4: size 2x3, quantization_error \S+, topographic_error \S+, combined_error \S+, \S+ s", lines[0]
    )
    tune_size(CLOUD, [(2, 3)], folds=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"X": np.zeros(3)}, "X must have shape [N, D] with at least one row and column, got [3]"),
        ({"sizes": []}, "sizes must hold at least one size, got none"),
        ({"sizes": ["big"]}, "sizes must hold rows and columns or 'auto', got 'big'"),
        ({"sizes": [(3,)]}, "sizes must hold rows and columns or 'auto', got (3,)"),
        ({"sizes": [(1, 1)]}, "sizes must have at least 2 nodes"),
        ({"sizes": [(0, 4)]}, "sizes must be an integer of at least 1, got 0"),
        ({"folds": 1}, "folds must be an integer of at least 2, got 1"),
        ({"folds": 241}, "folds must be at most the 240 rows, got 241"),
        ({"groups": np.zeros(240)}, "folds must be at most the 1 groups of rows, got 3"),
        ({"groups": np.zeros(3)}, "groups must have shape [N] = [240], got [3]"),
        ({"som": SOM(sigma_final=-1)}, "sigma_final must be a finite number above 0, got -1"),
        ({"sizes": [(3, 4)], "som": SOM(4, 4, topology="hexagonal", periodic=True)}, "rows must be even"),
    ],
)
def test_invalid_comparisons_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        tune_size(**{"X": CLOUD, "sizes": [(2, 2)]} | arguments)
