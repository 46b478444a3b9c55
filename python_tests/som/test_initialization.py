"""k-means and the layout of its centres on the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import SOMQuantizer
from somvae_ext.som import initial_codebook, kmeans_centers, lay_out


def blobs(centers: Tensor, each: int = 30, spread: float = 0.01) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (centers[:, None] + spread * torch.randn(len(centers), each, centers.shape[1], generator=generator)).flatten(
        0, 1
    )


def test_separate_groups_get_a_centre_each() -> None:
    torch.manual_seed(0)
    points = torch.randn(6, 3) * 5
    z = blobs(points)
    centers = kmeans_centers(z, 6)
    means = z.view(6, 30, 3).mean(dim=1)
    nearest = torch.cdist(means, centers).argmin(dim=1)
    assert sorted(nearest.tolist()) == list(range(6))
    torch.testing.assert_close(centers[nearest], means)


def test_the_inertia_is_that_of_scikit_learn() -> None:
    """Both stop in local minima: over ten seeds each, the best of ours is no worse than the median of theirs."""
    z = torch.rand(300, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def inertia(centers: Tensor) -> float:
        return torch.cdist(z, centers).square().amin(dim=1).sum().item()

    ours = [inertia(kmeans_centers(z, 12, seed=seed)) for seed in range(10)]
    theirs = [KMeans(12, n_init=1, random_state=seed).fit(z.numpy()).inertia_ for seed in range(10)]
    assert min(ours) <= np.median(theirs)
    assert max(ours) <= 1.1 * max(theirs)


def test_a_seed_repeats_itself() -> None:
    z = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    assert kmeans_centers(z, 8, seed=3).equal(kmeans_centers(z, 8, seed=3))
    assert not kmeans_centers(z, 8, seed=3).equal(kmeans_centers(z, 8, seed=4))


def test_a_centre_that_wins_nothing_moves() -> None:
    """Two distinct points repeat; the third, alone, must get a centre whatever the seeding drew."""
    z = torch.tensor([[0.0]] * 50 + [[1.0]] * 50 + [[9.0]])
    for seed in range(10):
        assert kmeans_centers(z, 3, seed=seed).sort(dim=0).values.flatten().tolist() == [0, 1, 9]


def test_constant_rows_give_constant_centres() -> None:
    z = torch.full((20, 3), 0.7)
    assert kmeans_centers(z, 4).equal(z[:4])


def test_as_many_centres_as_rows_are_the_rows() -> None:
    z = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))
    assert kmeans_centers(z, 9).sort(dim=0).values.equal(z.sort(dim=0).values)


@pytest.mark.parametrize(("rows", "cols"), [(4, 6), (6, 4), (5, 5), (1, 7), (7, 1)])
def test_centres_on_a_sheet_find_their_places(rows: int, cols: int) -> None:
    """Shuffled points of a lattice that is turned in space lie on the map as on the lattice, maybe mirrored."""
    torch.manual_seed(0)
    # The long side is longer in space too; unequal spacing, so that the components of a square lattice are determined.
    spacing = torch.tensor([1.0, 1.5] if cols > rows else [1.5, 1.0], dtype=torch.float64)
    lattice = torch.cartesian_prod(torch.arange(rows).double(), torch.arange(cols).double()) * spacing
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    points = lattice @ turn[:2]
    placed = lay_out(points[torch.randperm(len(points))], Grid(rows, cols)).view(rows, cols, 3)
    points = points.view(rows, cols, 3)
    mirrors = [points, points.flip(0), points.flip(1), points.flip(0, 1)]
    assert any(placed.equal(mirror) for mirror in mirrors)


def test_the_layout_is_a_permutation_that_does_not_depend_on_the_order() -> None:
    torch.manual_seed(0)
    centers = torch.randn(12, 5, dtype=torch.float64)
    placed = lay_out(centers, Grid(3, 4))
    assert placed.sort(dim=0).values.equal(centers.sort(dim=0).values)
    assert lay_out(centers[torch.randperm(12)], Grid(3, 4)).equal(placed)


def test_the_map_starts_ordered() -> None:
    """Grid neighbours are much nearer to each other than nodes in general."""
    z = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    quantizer = SOMQuantizer(Grid(6, 6), 2)
    quantizer.initialize_kmeans(z, seed=0)
    codebook, neighbors = quantizer.codebook.detach(), quantizer.grid.neighbors()
    near = (codebook[:, None] - codebook[neighbors]).norm(dim=2)[neighbors >= 0].mean()
    assert near < 0.5 * torch.pdist(codebook).mean()


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(3, 2), "z must have at least num_centers = 4 >= 1 rows, got 3"),
        (torch.zeros(8), r"z must be float32 or float64 of shape \[N, D\], got torch.float32 of \[8\]"),
        (torch.zeros(8, 2, dtype=torch.int64), "got torch.int64"),
        (torch.tensor([[0.0], [1.0], [2.0], [torch.nan]]), "z must hold finite values only"),
    ],
)
def test_what_has_no_centres_is_refused(z: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kmeans_centers(z, 4)


# ---- the other starts ------------------------------------------------------------------------------------------------


def stretched(rows: int = 3000) -> Tensor:
    """Along (3, 4) / 5 with deviation 10, across with 2, about (100, -50)."""
    generator = torch.Generator().manual_seed(0)
    along, across = torch.randn(2, rows, 1, dtype=torch.float64, generator=generator)
    axes = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
    return 10 * along * axes[0] + 2 * across * axes[1] + torch.tensor([100.0, -50.0], dtype=torch.float64)


@pytest.mark.parametrize(("rows", "cols"), [(3, 9), (9, 3)])
def test_a_plane_has_its_long_side_along_the_data_and_their_mean_and_width(rows: int, cols: int) -> None:
    x = stretched()
    codebook = initial_codebook(x, Grid(rows, cols), "pca").view(rows, cols, 2)
    steps = codebook.diff(dim=1 if cols > rows else 0)
    along = steps / steps.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(along[..., 0].abs(), torch.full_like(along[..., 0], 0.6), rtol=0, atol=0.02)
    torch.testing.assert_close(codebook.mean(dim=(0, 1)), x.mean(dim=0), rtol=1e-9, atol=1e-9)
    reach = (codebook[-1, -1] - codebook[0, 0]).norm() / 2
    assert reach.item() == pytest.approx((3 * (10**2 + 2**2)) ** 0.5, rel=0.05)


def test_a_plane_of_many_features_is_that_of_few() -> None:
    x = torch.zeros(400, 1500, dtype=torch.float64)
    x[:, [700, 20]] = stretched(400)
    wide = initial_codebook(x, Grid(4, 6), "pca")
    narrow = initial_codebook(x[:, [700, 20]], Grid(4, 6), "pca")
    # The sign of a direction is taken from its largest part, which is the same one.
    torch.testing.assert_close(wide[:, [700, 20]], narrow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_plane_through_few_rows_or_one_feature(rows: int) -> None:
    for x in (torch.randn(rows, 3), torch.randn(5, 1), torch.full((4, 2), 3.0)):
        assert initial_codebook(x, Grid(3, 4, "hexagonal"), "pca").isfinite().all()


def test_random_codes_lie_within_the_data_and_the_seed_draws_them() -> None:
    x = stretched()
    first, again, other = (initial_codebook(x, Grid(5, 5), "random", seed=seed) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert (first >= x.amin(dim=0)).all()
    assert (first <= x.amax(dim=0)).all()


def test_samples_are_rows_each_once_where_there_are_enough() -> None:
    x = torch.arange(12.0)[:, None]
    assert initial_codebook(x, Grid(3, 4), "samples")[:, 0].sort().values.equal(x[:, 0])
    few = initial_codebook(x[:2], Grid(3, 4), "samples")
    assert set(few[:, 0].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("init", ["pca", "random", "samples", "kmeans"])
def test_rows_of_weight_zero_and_missing_values_take_no_part(init: Any) -> None:
    x = torch.cat([stretched(300), torch.full((300, 2), 1e6, dtype=torch.float64)])
    weight = (torch.arange(600) < 300).double()
    assert initial_codebook(x, Grid(3, 3), init, weight=weight).equal(initial_codebook(x[:300], Grid(3, 3), init))
    holes = stretched(300)
    holes[::3, 1] = torch.nan
    codebook = initial_codebook(holes, Grid(3, 3), init)
    assert codebook.isfinite().all()
    assert codebook[:, 1].mean().item() == pytest.approx(-50, abs=8)


def test_weights_of_zero_only_are_refused() -> None:
    with pytest.raises(ValueError, match="sample_weight must be above 0 for at least one row"):
        initial_codebook(torch.ones(3, 2), Grid(2, 2), "pca", weight=torch.zeros(3))
