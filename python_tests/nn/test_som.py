"""nn.SOM: winners, the training rule, and custom functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from somvae_ext import estimators
from somvae_ext.nn import SOM
from somvae_ext.som import fastsom_gaussian, gaussian, schedule_value

EPS = torch.finfo(torch.float64).eps


def manhattan(x: Tensor, codebook: Tensor) -> Tensor:
    return (x - codebook).abs().sum(dim=-1)


def bubble(grid_distance: Tensor, sigma: float) -> Tensor:
    return (grid_distance <= sigma).to(grid_distance)


def make(rows: int = 3, cols: int = 4, **options: object) -> SOM:
    torch.manual_seed(0)
    return SOM(rows, cols, 5, **options).double()


def data(rows: int = 20) -> Tensor:
    return torch.rand(rows, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# ---- winners ---------------------------------------------------------------------------------------------------------


def test_forward_gives_row_and_column_of_the_nearest_code() -> None:
    som, x = make(), data()
    _, index = oracle.best_codes(oracle.squared_distances(x.numpy(), som.codebook.numpy()), 1)
    winners = som(x)
    assert winners.dtype == torch.int64
    assert winners.tolist() == [[node // 4, node % 4] for node in index[:, 0]]


def test_a_custom_distance_gets_expanded_tensors_and_determines_the_winner() -> None:
    shapes = []

    def distance(x: Tensor, codebook: Tensor) -> Tensor:
        shapes.append((tuple(x.shape), tuple(codebook.shape)))
        return manhattan(x, codebook)

    som, x = make(metric=distance), data()
    expected = [np.abs(som.codebook.numpy() - row).sum(axis=1).argmin() for row in x.numpy()]
    assert [row * 4 + col for row, col in som(x).tolist()] == expected
    assert shapes == [((20, 1, 5), (1, 12, 5))]


def test_rows_are_processed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    som, x = make(metric=manhattan, neighborhood=bubble), data()
    again = make(metric=manhattan, neighborhood=bubble)
    whole = som.update(x, 0.5, 1.5)
    monkeypatch.setattr("somvae_ext.som.metrics._TILE_VALUES", 130)  # two rows of 12 x 5
    monkeypatch.setattr("somvae_ext.som.neighborhoods._TILE_VALUES", 30)  # a few nodes of up to 12 winners
    assert again.update(x, 0.5, 1.5).equal(whole)
    torch.testing.assert_close(again.codebook, som.codebook, rtol=20 * EPS, atol=20 * EPS)


@pytest.mark.parametrize("distance", ["euclidean", manhattan])
def test_ties_and_nan_go_to_the_first_node(distance: object) -> None:
    som = make(metric=distance)
    som.codebook[:] = som.codebook[0]
    x = data(3)
    x[1, 2] = torch.nan
    assert som(x).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("distance", ["euclidean", manhattan])
def test_a_code_with_a_nan_never_wins(distance: object) -> None:
    som, x = make(metric=distance), data()
    row, col = som(x)[0].tolist()
    som.codebook[row * 4 + col, 1] = torch.nan
    assert [row, col] not in som(x).tolist()


@pytest.mark.parametrize("distance", ["euclidean", manhattan])
def test_no_samples_have_no_winners(distance: object) -> None:
    som = make(metric=distance)
    before = som.codebook.clone()
    assert som.update(data(0), 0.5, 1.0).shape == (0, 2)
    assert som.codebook.equal(before)


# ---- the training rule -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "theta"),
    [
        ("gaussian", lambda d, sigma: math.exp(-(d**2) / (2 * sigma**2))),
        ("fastsom_gaussian", lambda d, sigma: math.exp(-(d**2) / sigma**2)),
        (bubble, lambda d, sigma: float(d <= sigma)),
    ],
)
@pytest.mark.parametrize(
    ("topology", "periodic"), [("rectangular", False), ("rectangular", True), ("hexagonal", False), ("hexagonal", True)]
)
def test_update_is_the_mean_over_the_batch_of_the_neighborhood_times_the_difference(
    topology: str, periodic: bool, name: object, theta: object
) -> None:
    som, x = make(4, 4, topology=topology, periodic=periodic, neighborhood=name), data()
    alpha, sigma = 0.3, 1.2
    codebook = som.codebook.numpy().copy()
    gap = oracle.grid_distance(4, 4, topology, periodic)
    _, winner = oracle.best_codes(oracle.squared_distances(x.numpy(), codebook), 1)
    expected = codebook.copy()
    for v in range(16):
        steps = [theta(gap[u, v], sigma) * (row - codebook[v]) for row, u in zip(x.numpy(), winner[:, 0], strict=True)]
        expected[v] += alpha * sum(steps) / len(x)

    winners = som.update(x, alpha, sigma)
    assert winners.tolist() == [[u // 4, u % 4] for u in winner[:, 0]]
    # Sums of 20 samples of size one; the exponent, at most 8, has an error of as many roundings.
    np.testing.assert_allclose(som.codebook.numpy(), expected, rtol=0, atol=100 * EPS)


def test_the_two_gaussians_differ_by_the_factor_2() -> None:
    distance = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(gaussian(distance, 1.0), torch.tensor([1, math.exp(-0.5), math.exp(-2)]).double())
    torch.testing.assert_close(fastsom_gaussian(distance, 1.0), torch.tensor([1, math.exp(-1), math.exp(-4)]).double())
    torch.testing.assert_close(fastsom_gaussian(distance, math.sqrt(2)), gaussian(distance, 1.0))


def test_training_unfolds_the_map() -> None:
    torch.manual_seed(0)
    som, x = SOM(5, 5, 2), torch.rand(400, 2)

    def errors() -> tuple[float, float]:
        """Returns the mean distance of samples to their codes, and of codes to their grid neighbors' codes."""
        row, col = som(x).T
        neighbors = som.grid.neighbors()
        gaps = (som.codebook[:, None] - som.codebook[neighbors]).norm(dim=2)[neighbors >= 0]
        return (x - som.codebook[row * 5 + col]).norm(dim=1).mean().item(), gaps.mean().item()

    before = errors()
    for step in range(60):
        som.update(x, alpha=1.0, sigma=2.5 * 0.2 ** (step / 60))
    after = errors()
    assert after[0] < before[0]
    assert after[1] < 0.6 * before[1]


def test_a_loop_of_updates_equals_the_estimators_training_on_a_loader() -> None:
    """The codebooks are bitwise equal, also with a custom distance and neighborhood."""
    loader = DataLoader(TensorDataset(data(50)), batch_size=16)
    functions: dict[str, Any] = {"metric": manhattan, "neighborhood": bubble}
    layer = make(**functions)
    estimator = estimators.SOM(
        *(3, 4),
        **functions,
        algorithm="minibatch",
        init=layer.codebook.clone(),
        n_epochs=5,
        sigma_initial=2.0,
        sigma_final=0.5,
        sigma_schedule="exponential",
        alpha_initial=0.5,
        alpha_final=0.01,
        alpha_schedule="linear",
    ).fit(loader)
    for epoch in range(5):
        alpha = schedule_value("linear", epoch, 5, 0.5, 0.01)
        sigma = schedule_value("exponential", epoch, 5, 2.0, 0.5)
        for (x,) in loader:
            layer.update(x, alpha, sigma)
    assert layer.codebook.equal(torch.as_tensor(estimator.codebook_))


def test_the_codebook_is_saved_but_is_not_a_parameter() -> None:
    som, other = make(), SOM(3, 4, 5).double()
    other.load_state_dict(som.state_dict())
    assert other.codebook.equal(som.codebook)
    assert list(som.parameters()) == []


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_invalid_arguments_are_refused() -> None:
    som, x = make(), data()
    with pytest.raises(ValueError, match="dim must be an integer of at least 1, got 0"):
        SOM(3, 3, 0)
    with pytest.raises(ValueError, match=r"metric must be one of 'euclidean', .* or a function, got 'cosinus'"):
        SOM(3, 3, 2, metric="cosinus")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"neighborhood must be one of 'gaussian', .* or a function, got 'hat'"):
        SOM(3, 3, 2, neighborhood="hat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x must have shape \[N, D\] with D = 5, got \[20, 4\]"):
        som(x[:, :4])
    with pytest.raises(ValueError, match=r"alpha must be a finite number of at least 0, got -0\.1"):
        som.update(x, -0.1, 1.0)
    with pytest.raises(ValueError, match="sigma must be a finite number above 0, got 0"):
        som.update(x, 0.1, 0)
    with pytest.raises(ValueError, match=r"metric must give \[N, K\] = \[20, 12\], got \[20, 12, 5\]"):
        make(metric=lambda x, codebook: x - codebook)(x)
    with pytest.raises(ValueError, match=r"neighborhood must give \[M, U\] = \[12, \d+\], got \[12\]"):
        make(neighborhood=lambda distance, sigma: distance[:, 0]).update(x, 0.1, 1.0)
    for wrong, came in ((x.numpy(), "ndarray"), (x.tolist(), "list"), (None, "NoneType")):
        for use in (som, lambda x: som.update(x, 0.1, 1.0)):
            with pytest.raises(ValueError, match=f"^SOM: x must be a tensor, got {came}; convert it with torch.as_ten"):
                use(wrong)
    with pytest.raises(ValueError, match="SOM: x must be dense, got a tensor of layout sparse_coo; call its"):
        som(x.to_sparse())
    x[7, 2], before = torch.nan, som.codebook.clone()
    with pytest.raises(ValueError, match="x must hold finite values only, got NaN or infinity in row 7"):
        som.update(x, 0.1, 1.0)
    assert som.codebook.equal(before)
