"""k-means and the layout of its centres on the map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import SOMQuantizer
from somvae_ext.som import kmeans_centers, lay_out


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
