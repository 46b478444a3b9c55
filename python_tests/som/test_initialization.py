"""Tests of the initial codes of a map: k-means and the layout of its centers, batch SOM codes, and other methods."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import SOMQuantizer
from somvae_ext.som import arrange_on_grid, initial_codebook, initialization, kmeans_centers, som_codes


def blobs(centers: Tensor, each: int = 30, spread: float = 0.01) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (centers[:, None] + spread * torch.randn(len(centers), each, centers.shape[1], generator=generator)).flatten(
        0, 1
    )


def test_the_best_of_several_kmeans_runs_is_returned() -> None:
    z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def inertia(centers: Tensor) -> float:
        return torch.cdist(z, centers).amin(dim=1).square().sum().item()

    several = [inertia(kmeans_centers(z, 9, seed=3, num_tries=num_tries)) for num_tries in (1, 2, 4, 8)]
    assert several == sorted(several, reverse=True)
    assert several[-1] < several[0]
    with pytest.raises(ValueError, match="kmeans_centers: num_tries must be an integer of at least 1, got 0"):
        kmeans_centers(z, 9, num_tries=0)


def test_each_separate_group_gets_one_center() -> None:
    torch.manual_seed(0)
    points = torch.randn(6, 3) * 5
    z = blobs(points)
    centers = kmeans_centers(z, 6)
    means = z.view(6, 30, 3).mean(dim=1)
    nearest = torch.cdist(means, centers).argmin(dim=1)
    assert sorted(nearest.tolist()) == list(range(6))
    torch.testing.assert_close(centers[nearest], means)


def test_the_inertia_is_as_low_as_that_of_scikit_learn() -> None:
    """Both stop in local minima. Over ten seeds each, our best inertia is no worse than scikit-learn's median."""
    z = torch.rand(300, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def inertia(centers: Tensor) -> float:
        return torch.cdist(z, centers).square().amin(dim=1).sum().item()

    ours = [inertia(kmeans_centers(z, 12, seed=seed)) for seed in range(10)]
    theirs = [KMeans(12, n_init=1, random_state=seed).fit(z.numpy()).inertia_ for seed in range(10)]
    assert min(ours) <= np.median(theirs)
    assert max(ours) <= 1.1 * max(theirs)


def test_kmeans_is_determined_by_the_seed() -> None:
    z = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    assert kmeans_centers(z, 8, seed=3).equal(kmeans_centers(z, 8, seed=3))
    assert not kmeans_centers(z, 8, seed=3).equal(kmeans_centers(z, 8, seed=4))


def test_an_empty_center_is_moved() -> None:
    """Two points repeat 50 times each; the single third point must get a center, whatever the seeding draws."""
    z = torch.tensor([[0.0]] * 50 + [[1.0]] * 50 + [[9.0]])
    for seed in range(10):
        assert kmeans_centers(z, 3, seed=seed).sort(dim=0).values.flatten().tolist() == [0, 1, 9]


def test_constant_rows_give_constant_centers() -> None:
    z = torch.full((20, 3), 0.7)
    assert kmeans_centers(z, 4).equal(z[:4])


def test_with_as_many_centers_as_rows_the_centers_are_the_rows() -> None:
    z = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))
    assert kmeans_centers(z, 9).sort(dim=0).values.equal(z.sort(dim=0).values)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(3, 2), "z must have at least num_centers = 4 >= 1 rows, got 3"),
        (torch.zeros(8), r"z must be float32 or float64 of shape \[N, D\], got torch.float32 of \[8\]"),
        (torch.zeros(8, 2, dtype=torch.int64), "got torch.int64"),
        (torch.tensor([[0.0], [1.0], [2.0], [torch.nan]]), "z must hold finite values only"),
    ],
)
def test_invalid_rows_for_kmeans_are_refused(z: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kmeans_centers(z, 4)


# ---- the layout of centers -------------------------------------------------------------------------------------------


def neighbor_distances(codes: Tensor, grid: Grid) -> Tensor:
    """Returns the distances between the codes of all pairs of grid neighbors."""
    neighbors = grid.neighbors()
    return (codes[:, None] - codes[neighbors]).norm(dim=2)[neighbors >= 0]


def shuffled(rows: Tensor) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(7))]


def lattice(rows: int, cols: int, spacing: tuple[float, float]) -> Tensor:
    """Returns the points of a rotated plane lattice, float64 ``[rows * cols, 3]``."""
    points = torch.cartesian_prod(torch.arange(rows).double(), torch.arange(cols).double())
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator)).Q
    return points * torch.tensor(spacing, dtype=torch.float64) @ turn[:2]


@pytest.mark.parametrize(("rows", "cols"), [(4, 6), (6, 4), (5, 5), (1, 7), (7, 1), (10, 20)])
def test_centers_on_a_plane_lattice_are_laid_out_as_on_the_lattice(rows: int, cols: int) -> None:
    """Shuffled points of a lattice are laid out as on the lattice, up to mirroring and, for a square, transposition."""
    # The longer side of the grid is also longer in space, and unequal spacing makes the principal components unique.
    points = lattice(rows, cols, (1.0, 1.5) if cols > rows else (1.5, 1.0))
    placed = arrange_on_grid(shuffled(points), Grid(rows, cols)).view(rows, cols, 3)
    points = points.view(rows, cols, 3)
    turned = [points, points.transpose(0, 1)] if rows == cols else [points]
    assert any(placed.equal(sheet.flip(axes)) for sheet in turned for axes in ([], [0], [1], [0, 1]))


def test_centers_on_a_bent_sheet_are_laid_out_without_folds() -> None:
    """On half a cylinder, sorting along principal components would interleave the two ends."""
    angle, height = torch.cartesian_prod(torch.linspace(0, torch.pi, 12), torch.linspace(0, 2, 8)).double().T
    points = torch.stack([angle.cos(), angle.sin(), height], dim=1)
    placed = arrange_on_grid(shuffled(points), Grid(12, 8))
    assert neighbor_distances(placed, Grid(12, 8)).max() < 1.01 * neighbor_distances(points, Grid(12, 8)).max()


def test_grid_neighbors_are_close_for_centers_that_do_not_lie_on_a_plane() -> None:
    """Neighbors' distances are a quarter smaller than in random order, for unstructured centers in 5 dimensions."""
    centers = torch.randn(144, 5, generator=torch.Generator().manual_seed(0))
    for grid in (Grid(12, 12), Grid(12, 12, "hexagonal"), Grid(12, 12, periodic=True)):
        ordered, any_order = (
            neighbor_distances(codes, grid).mean() for codes in (arrange_on_grid(centers, grid), centers)
        )
        assert ordered < 0.75 * any_order


def test_the_assignment_has_the_smallest_sum_of_squared_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compares the assignment to the trained map's codes with all 720 permutations."""
    trained: list[Tensor] = []
    train = initialization.train_batch

    def recorded(*args: Any, **options: Any) -> Any:
        codes, history = train(*args, **options)
        trained.append(codes)
        return codes, history

    monkeypatch.setattr(initialization, "train_batch", recorded)
    for seed in range(5):
        centers = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        placed = arrange_on_grid(centers, Grid(2, 3))
        # The map is trained on scaled and centered centers.
        scaled = centers / centers.abs().max()
        scaled = scaled - scaled.mean(dim=0)
        sums = {
            chosen: (trained[-1] - scaled[list(chosen)]).square().sum().item()
            for chosen in itertools.permutations(range(6))
        }
        assert placed.equal(centers[list(min(sums, key=lambda chosen: sums[chosen]))])


@pytest.mark.parametrize("grid", [Grid(3, 4), Grid(1, 12), Grid(4, 3, "hexagonal"), Grid(2, 6, periodic=True)])
def test_the_layout_is_a_permutation_independent_of_the_order_of_the_centers(grid: Grid) -> None:
    torch.manual_seed(0)
    centers = torch.randn(12, 5, dtype=torch.float64)
    placed = arrange_on_grid(centers, grid)
    assert placed.sort(dim=0).values.equal(centers.sort(dim=0).values)
    assert {tuple(row) for row in placed.tolist()} == {tuple(row) for row in centers.tolist()}
    assert arrange_on_grid(centers[torch.randperm(12)], grid).equal(placed)


def test_the_layout_does_not_depend_on_offset_and_scale() -> None:
    """Scales are powers of two, which round nothing; squares overflow or underflow in the centers' dtype."""
    centers = torch.randint(-50, 50, (12, 5), generator=torch.Generator().manual_seed(0)).float()
    placed = arrange_on_grid(centers, Grid(3, 4))
    for scale in (2.0**-100, 2.0**100):
        assert arrange_on_grid(scale * centers, Grid(3, 4)).equal(scale * placed)
    assert arrange_on_grid(centers + 2**16, Grid(3, 4)).equal(placed + 2**16)


def test_the_layout_does_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    centers = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))
    square = lattice(16, 16, (1.0, 1.0))  # has many ties
    try:
        layouts = []
        for number in (1, 4):
            torch.set_num_threads(number)
            layouts.append(
                (
                    arrange_on_grid(centers, Grid(20, 20)),
                    arrange_on_grid(square, Grid(16, 16)),
                    som_codes(centers, Grid(6, 6)),
                )
            )
    finally:
        torch.set_num_threads(threads)
    assert all(one.equal(other) for one, other in zip(*layouts, strict=True))


def test_a_layout_in_parts_is_an_ordered_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps that are too large for one assignment are laid out in parts."""
    grid, points = Grid(9, 14), lattice(9, 14, (1.0, 1.1))
    at_once = arrange_on_grid(shuffled(points), grid)
    monkeypatch.setattr(initialization, "_MAX_ASSIGNED_NODES", 10)
    in_parts = arrange_on_grid(shuffled(points), grid)
    assert {tuple(row) for row in in_parts.tolist()} == {tuple(row) for row in points.tolist()}
    assert neighbor_distances(in_parts, grid).mean() < 1.1 * neighbor_distances(at_once, grid).mean()


@pytest.mark.parametrize(
    "centers",
    [
        torch.full((12, 3), 0.7),
        torch.zeros(12, 1),
        torch.arange(12.0)[:, None] * torch.tensor([1.0, 2.0]),
        torch.arange(12.0)[:, None].expand(12, 2) // 4,
        torch.full((12, 2), 3e38) * torch.tensor([1.0, -1.0]),
    ],
    ids=["equal", "zeros", "line", "repeated", "huge"],
)
@pytest.mark.parametrize("grid", [Grid(3, 4), Grid(12, 1), Grid(4, 3, "hexagonal"), Grid(2, 6, periodic=True)], ids=str)
def test_degenerate_centers_are_laid_out(centers: Tensor, grid: Grid) -> None:
    assert sorted(arrange_on_grid(centers, grid).tolist()) == sorted(centers.tolist())


def test_centers_on_a_line_fill_a_two_dimensional_map_without_folds() -> None:
    line = torch.arange(64.0)[:, None]
    placed = arrange_on_grid(shuffled(line), Grid(8, 8)).view(8, 8)
    for steps in (placed.diff(dim=0), placed.diff(dim=1)):
        assert (steps > 0).all() or (steps < 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_layout_keeps_the_dtype_and_accepts_a_single_node(dtype: torch.dtype) -> None:
    centers = torch.tensor([[0.5, 2.0]], dtype=dtype)
    placed = arrange_on_grid(centers, Grid(1, 1))
    assert placed.equal(centers)
    assert placed.dtype == dtype


@pytest.mark.cuda
def test_centers_on_a_gpu_are_laid_out_as_on_the_cpu() -> None:
    centers = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    placed = arrange_on_grid(centers.cuda(), Grid(3, 4))
    assert placed.is_cuda
    assert placed.cpu().equal(arrange_on_grid(centers, Grid(3, 4)))


@pytest.mark.parametrize(
    ("centers", "message"),
    [
        (torch.zeros(5, 2), r"shape \[K, D\] with K = 6 nodes and D >= 1, got torch.float32 of \[5, 2\]"),
        (torch.zeros(6), r"got torch.float32 of \[6\]"),
        (torch.zeros(6, 0), r"got torch.float32 of \[6, 0\]"),
        (torch.zeros(6, 2, dtype=torch.int64), "centers must be floating"),
        (torch.full((6, 2), torch.inf), "centers must hold finite values only"),
    ],
)
def test_invalid_centers_are_refused(centers: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"arrange_on_grid: .*{message}"):
        arrange_on_grid(centers, Grid(2, 3))


def test_kmeans_initialization_starts_ordered() -> None:
    """Grid neighbors are much closer than arbitrary nodes."""
    z = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    quantizer = SOMQuantizer(Grid(6, 6), 2)
    quantizer.initialize_kmeans(z, seed=0)
    codebook, neighbors = quantizer.codebook.detach(), quantizer.grid.neighbors()
    near = (codebook[:, None] - codebook[neighbors]).norm(dim=2)[neighbors >= 0].mean()
    assert near < 0.5 * torch.pdist(codebook).mean()


# ---- codes of a batch SOM --------------------------------------------------------------------------------------------


def test_som_codes_are_better_ordered_than_laid_out_kmeans_centers() -> None:
    """The topographic error, computed from all distances, is near 0 for the SOM's codes."""
    grid = Grid(6, 6)
    z = torch.rand(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def error(codes: Tensor) -> float:
        best = torch.cdist(z, codes).topk(2, dim=1, largest=False).indices
        return (~grid.are_neighbors(best[:, 0], best[:, 1], 4)).double().mean().item()

    ordered = error(som_codes(z, grid))
    assert ordered < 0.05
    assert ordered < error(arrange_on_grid(kmeans_centers(z, 36), grid))


def test_som_codes_match_the_batch_rule() -> None:
    """Computes 20 epochs of equation 8 from the same plane, while sigma falls from 2 to 0.7."""
    grid = Grid(4, 3)
    z = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor([3, 2, 1.0])
    codes = initial_codebook(z, grid, "pca")
    place = torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0)).double()
    for epoch in range(20):
        sigma = 2 * (0.7 / 2) ** (epoch / 19)
        weight = torch.exp(-torch.cdist(place, place).square() / (2 * sigma**2))[torch.cdist(z, codes).argmin(dim=1)]
        codes = weight.T @ z / weight.sum(dim=0)[:, None]
    torch.testing.assert_close(som_codes(z, grid), codes, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "grid", [Grid(1, 1), Grid(1, 5), Grid(4, 4), Grid(3, 4, "hexagonal"), Grid(4, 4, periodic=True)], ids=str
)
def test_som_codes_of_few_or_equal_rows_stay_within_the_range_of_the_rows(grid: Grid, dtype: torch.dtype) -> None:
    for few in (torch.tensor([[1.0, -2.0]]), torch.full((9, 2), 0.3), torch.arange(5.0)[:, None], torch.randn(40, 3)):
        z = few.to(dtype)
        codes = som_codes(z, grid)
        assert codes.shape == (grid.num_nodes, z.shape[1])
        assert codes.dtype == dtype
        # Each addition in a sum over rows and in a sum over nodes is rounded.
        slack = (len(z) + grid.num_nodes) * torch.finfo(dtype).eps * z.abs().max()
        assert (codes >= z.amin(dim=0) - slack).all()
        assert (codes <= z.amax(dim=0) + slack).all()


def test_som_codes_have_no_gradient_and_are_reproducible() -> None:
    z = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    codes = som_codes(z, Grid(3, 3))
    assert not codes.requires_grad
    assert som_codes(z, Grid(3, 3)).equal(codes)


@pytest.mark.cuda
def test_som_codes_on_a_gpu_are_close_to_those_of_the_cpu() -> None:
    z = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes = som_codes(z.cuda(), Grid(4, 4))
    assert codes.is_cuda
    torch.testing.assert_close(codes.cpu(), som_codes(z, Grid(4, 4)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(8), r"som_codes: z must be float32 or float64 of shape \[N, D\], got torch.float32 of \[8\]"),
        (torch.zeros(8, 2, dtype=torch.float16), "som_codes: .* got torch.float16"),
        (torch.zeros(0, 2), r"som_codes: z must have at least one row and one column, got \[0, 2\]"),
        (torch.zeros(4, 0), r"got \[4, 0\]"),
        (torch.full((4, 2), torch.nan), "som_codes: z must hold finite values only"),
        (torch.full((4, 2), 1e30), "so that their squares add up in float32"),
    ],
)
def test_invalid_rows_for_som_codes_are_refused(z: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        som_codes(z, Grid(2, 2))


# ---- other methods ---------------------------------------------------------------------------------------------------


def stretched(rows: int = 3000) -> Tensor:
    """Draws normal rows around (100, -50) with standard deviation 10 along (3, 4) / 5 and 2 across it."""
    generator = torch.Generator().manual_seed(0)
    along, across = torch.randn(2, rows, 1, dtype=torch.float64, generator=generator)
    axes = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
    return 10 * along * axes[0] + 2 * across * axes[1] + torch.tensor([100.0, -50.0], dtype=torch.float64)


@pytest.mark.parametrize(("rows", "cols"), [(3, 9), (9, 3)])
def test_the_pca_plane_is_aligned_with_the_data_in_direction_mean_and_width(rows: int, cols: int) -> None:
    x = stretched()
    codebook = initial_codebook(x, Grid(rows, cols), "pca").view(rows, cols, 2)
    steps = codebook.diff(dim=1 if cols > rows else 0)
    along = steps / steps.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(along[..., 0].abs(), torch.full_like(along[..., 0], 0.6), rtol=0, atol=0.02)
    torch.testing.assert_close(codebook.mean(dim=(0, 1)), x.mean(dim=0), rtol=1e-9, atol=1e-9)
    reach = (codebook[-1, -1] - codebook[0, 0]).norm() / 2
    assert reach.item() == pytest.approx((3 * (10**2 + 2**2)) ** 0.5, rel=0.05)


def test_constant_features_do_not_change_the_pca_plane() -> None:
    x = torch.zeros(400, 1500, dtype=torch.float64)
    x[:, [700, 20]] = stretched(400)
    wide = initial_codebook(x, Grid(4, 6), "pca")
    narrow = initial_codebook(x[:, [700, 20]], Grid(4, 6), "pca")
    # The largest component determines the sign of a direction, and it is the same feature in both.
    torch.testing.assert_close(wide[:, [700, 20]], narrow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2])
def test_the_pca_plane_of_few_rows_or_one_feature_is_finite(rows: int) -> None:
    for x in (torch.randn(rows, 3), torch.randn(5, 1), torch.full((4, 2), 3.0)):
        assert initial_codebook(x, Grid(3, 4, "hexagonal"), "pca").isfinite().all()


def test_random_codes_lie_within_the_data_and_depend_on_the_seed() -> None:
    x = stretched()
    first, again, other = (initial_codebook(x, Grid(5, 5), "random", seed=seed) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert (first >= x.amin(dim=0)).all()
    assert (first <= x.amax(dim=0)).all()


def test_samples_are_distinct_rows_if_there_are_enough() -> None:
    x = torch.arange(12.0)[:, None]
    assert initial_codebook(x, Grid(3, 4), "samples")[:, 0].sort().values.equal(x[:, 0])
    few = initial_codebook(x[:2], Grid(3, 4), "samples")
    assert set(few[:, 0].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("init", ["pca", "random", "samples", "kmeans"])
def test_rows_of_weight_zero_and_missing_values_are_ignored(init: Any) -> None:
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
