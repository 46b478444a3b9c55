"""Fitting warns about a map that has collapsed, and not about healthy ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets

from somvae_ext.estimators import SOM


def standard(x: Any) -> Any:
    x = np.asarray(x, dtype=np.float64)
    deviation = x.std(axis=0)
    return ((x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)).astype(np.float32)


RANDOM = np.random.default_rng(0)
WINE = standard(datasets.load_wine().data)
CENTERS = RANDOM.normal(size=(5, 6))[RANDOM.integers(0, 5, 400)]
HEALTHY = {
    **{
        name: standard(getattr(datasets, f"load_{name}")().data)
        for name in ("digits", "wine", "iris", "breast_cancer", "diabetes")
    },
    "tight clusters": standard(CENTERS + 1e-4 * RANDOM.normal(size=(400, 6))),
    "six different rows": standard(RANDOM.normal(size=(6, 3))[RANDOM.integers(0, 6, 300)]),
    "mostly zeros": np.where(RANDOM.random((400, 1)) < 0.95, 0, RANDOM.random((400, 4))).astype(np.float32),
    "binary": RANDOM.integers(0, 2, (300, 4)).astype(np.float32),
    "equal rows": np.ones((50, 2), dtype=np.float32),
    "three rows": np.eye(3, dtype=np.float32),
    "heavy tails": standard(RANDOM.standard_cauchy((400, 3))),
    "a small cluster": standard(np.r_[RANDOM.normal(size=(390, 3)), 30 + RANDOM.normal(size=(10, 3))]),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("size", [(2, 2), (5, 5), (10, 10)])
def test_healthy_maps_cause_no_warning(name: str, size: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SOM(*size, random_state=0).fit(HEALTHY[name])


@pytest.mark.parametrize(
    "parameters",
    [
        {"sigma_initial": 10, "sigma_final": 10},
        {"sigma_initial": 20, "sigma_final": 15, "topology": "hexagonal"},
        {"metric": lambda x, codes: 0 * (x - codes).sum(dim=-1)},
    ],
)
def test_a_collapsed_map_causes_a_warning_at_the_users_line(parameters: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match=r"SOM: the map has collapsed: its rows .* over \S+ of 100 nodes") as caught:
        SOM(10, 10, random_state=0, **parameters).fit(WINE)
    (warning,) = caught
    assert warning.filename == __file__
    assert "try a smaller sigma_final, a larger n_epochs or another init" in str(warning.message)


def test_tensors_cause_the_warning_but_not_fits_without_labels() -> None:
    wide = {"sigma_initial": 10, "sigma_final": 10}
    with pytest.warns(UserWarning, match="the map has collapsed"):
        SOM(10, 10, **wide).fit(torch.from_numpy(WINE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SOM(10, 10, compute_labels=False, **wide).fit(WINE)
        SOM(10, 10, **wide).fit([WINE[:90], WINE[90:]])
