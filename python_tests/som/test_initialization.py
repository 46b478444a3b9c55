"""Codes to start a map from: k-means and the layout of its centres, a batch SOM, and the other starts."""

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


def test_the_best_of_several_starts_of_kmeans_is_taken() -> None:
    z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def inertia(centers: Tensor) -> float:
        return torch.cdist(z, centers).amin(dim=1).square().sum().item()

    several = [inertia(kmeans_centers(z, 9, seed=3, num_tries=num_tries)) for num_tries in (1, 2, 4, 8)]
    assert several == sorted(several, reverse=True)
    assert several[-1] < several[0]
    with pytest.raises(ValueError, match="kmeans_centers: num_tries must be an integer of at least 1, got 0"):
        kmeans_centers(z, 9, num_tries=0)


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


# ---- the layout of centres -------------------------------------------------------------------------------------------


def neighbour_distances(codes: Tensor, grid: Grid) -> Tensor:
    """Distances between the codes of all pairs of grid neighbours."""
    neighbors = grid.neighbors()
    return (codes[:, None] - codes[neighbors]).norm(dim=2)[neighbors >= 0]


def shuffled(rows: Tensor) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(7))]


def lattice(rows: int, cols: int, spacing: tuple[float, float]) -> Tensor:
    """Points of a lattice that is turned in space, float64 ``[rows * cols, 3]``."""
    points = torch.cartesian_prod(torch.arange(rows).double(), torch.arange(cols).double())
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator)).Q
    return points * torch.tensor(spacing, dtype=torch.float64) @ turn[:2]


@pytest.mark.parametrize(("rows", "cols"), [(4, 6), (6, 4), (5, 5), (1, 7), (7, 1), (10, 20)])
def test_centres_on_a_sheet_find_their_places(rows: int, cols: int) -> None:
    """Shuffled points of a lattice lie on the map as on the lattice, maybe mirrored, or a square turned."""
    # The long side is longer in space too; unequal spacing, so that the components of a square lattice are determined.
    points = lattice(rows, cols, (1.0, 1.5) if cols > rows else (1.5, 1.0))
    placed = arrange_on_grid(shuffled(points), Grid(rows, cols)).view(rows, cols, 3)
    points = points.view(rows, cols, 3)
    turned = [points, points.transpose(0, 1)] if rows == cols else [points]
    assert any(placed.equal(sheet.flip(axes)) for sheet in turned for axes in ([], [0], [1], [0, 1]))


def test_centres_on_a_bent_sheet_find_their_places() -> None:
    """Half a cylinder: sorted along principal components its far ends would lie between each other."""
    angle, height = torch.cartesian_prod(torch.linspace(0, torch.pi, 12), torch.linspace(0, 2, 8)).double().T
    points = torch.stack([angle.cos(), angle.sin(), height], dim=1)
    placed = arrange_on_grid(shuffled(points), Grid(12, 8))
    assert neighbour_distances(placed, Grid(12, 8)).max() < 1.01 * neighbour_distances(points, Grid(12, 8)).max()


def test_grid_neighbours_are_alike_where_no_plane_holds_the_centres() -> None:
    """Centres without any structure in 5 dimensions, and hexagons: nearer than in a random order, by a quarter."""
    centers = torch.randn(144, 5, generator=torch.Generator().manual_seed(0))
    for grid in (Grid(12, 12), Grid(12, 12, "hexagonal"), Grid(12, 12, periodic=True)):
        ordered, any_order = (
            neighbour_distances(codes, grid).mean() for codes in (arrange_on_grid(centers, grid), centers)
        )
        assert ordered < 0.75 * any_order


def test_the_assignment_has_the_smallest_sum_of_squared_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all 720 permutations, to the codes of the map that was trained."""
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
        # The map is trained on centres that are scaled and centred.
        scaled = centers / centers.abs().max()
        scaled = scaled - scaled.mean(dim=0)
        sums = {
            chosen: (trained[-1] - scaled[list(chosen)]).square().sum().item()
            for chosen in itertools.permutations(range(6))
        }
        assert placed.equal(centers[list(min(sums, key=lambda chosen: sums[chosen]))])


@pytest.mark.parametrize("grid", [Grid(3, 4), Grid(1, 12), Grid(4, 3, "hexagonal"), Grid(2, 6, periodic=True)])
def test_the_layout_is_a_permutation_that_does_not_depend_on_the_order(grid: Grid) -> None:
    torch.manual_seed(0)
    centers = torch.randn(12, 5, dtype=torch.float64)
    placed = arrange_on_grid(centers, grid)
    assert placed.sort(dim=0).values.equal(centers.sort(dim=0).values)
    assert {tuple(row) for row in placed.tolist()} == {tuple(row) for row in centers.tolist()}
    assert arrange_on_grid(centers[torch.randperm(12)], grid).equal(placed)


def test_the_layout_does_not_depend_on_offset_and_scale() -> None:
    """By powers of two, which round nothing; also where squares overflow or vanish in the dtype of the centres."""
    centers = torch.randint(-50, 50, (12, 5), generator=torch.Generator().manual_seed(0)).float()
    placed = arrange_on_grid(centers, Grid(3, 4))
    for scale in (2.0**-100, 2.0**100):
        assert arrange_on_grid(scale * centers, Grid(3, 4)).equal(scale * placed)
    assert arrange_on_grid(centers + 2**16, Grid(3, 4)).equal(placed + 2**16)


def test_the_layout_does_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    centers = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))
    square = lattice(16, 16, (1.0, 1.0))  # full of ties
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


def test_a_layout_in_parts_is_a_permutation_and_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of maps that are too large for one assignment."""
    grid, points = Grid(9, 14), lattice(9, 14, (1.0, 1.1))
    at_once = arrange_on_grid(shuffled(points), grid)
    monkeypatch.setattr(initialization, "_MAX_ASSIGNED_NODES", 10)
    in_parts = arrange_on_grid(shuffled(points), grid)
    assert {tuple(row) for row in in_parts.tolist()} == {tuple(row) for row in points.tolist()}
    assert neighbour_distances(in_parts, grid).mean() < 1.1 * neighbour_distances(at_once, grid).mean()


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
def test_degenerate_centres_are_laid_out(centers: Tensor, grid: Grid) -> None:
    assert sorted(arrange_on_grid(centers, grid).tolist()) == sorted(centers.tolist())


def test_a_line_fills_a_map_of_two_dimensions_without_folds() -> None:
    line = torch.arange(64.0)[:, None]
    placed = arrange_on_grid(shuffled(line), Grid(8, 8)).view(8, 8)
    for steps in (placed.diff(dim=0), placed.diff(dim=1)):
        assert (steps > 0).all() or (steps < 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_centres_keep_their_dtype_and_one_node_takes_one_centre(dtype: torch.dtype) -> None:
    centers = torch.tensor([[0.5, 2.0]], dtype=dtype)
    placed = arrange_on_grid(centers, Grid(1, 1))
    assert placed.equal(centers)
    assert placed.dtype == dtype


@pytest.mark.cuda
def test_centres_on_a_gpu_are_laid_out_as_on_the_cpu() -> None:
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
def test_what_cannot_be_laid_out_is_refused(centers: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"arrange_on_grid: .*{message}"):
        arrange_on_grid(centers, Grid(2, 3))


def test_the_map_starts_ordered() -> None:
    """Grid neighbours are much nearer to each other than nodes in general."""
    z = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    quantizer = SOMQuantizer(Grid(6, 6), 2)
    quantizer.initialize_kmeans(z, seed=0)
    codebook, neighbors = quantizer.codebook.detach(), quantizer.grid.neighbors()
    near = (codebook[:, None] - codebook[neighbors]).norm(dim=2)[neighbors >= 0].mean()
    assert near < 0.5 * torch.pdist(codebook).mean()


# ---- codes of a batch SOM --------------------------------------------------------------------------------------------


def test_codes_of_a_sheet_are_ordered_and_laid_out_centres_less_so() -> None:
    """The topographic error, by two searches over all distances: near 0 for the SOM's codes."""
    grid = Grid(6, 6)
    z = torch.rand(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def error(codes: Tensor) -> float:
        best = torch.cdist(z, codes).topk(2, dim=1, largest=False).indices
        return (~grid.are_neighbors(best[:, 0], best[:, 1], 4)).double().mean().item()

    ordered = error(som_codes(z, grid))
    assert ordered < 0.05
    assert ordered < error(arrange_on_grid(kmeans_centers(z, 36), grid))


def test_codes_are_those_of_the_written_rule() -> None:
    """Equation 8, node by node, from the same plane: sigma from 2 down to .7 in 20 epochs."""
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
def test_codes_of_few_or_equal_rows_are_finite_and_lie_within_the_rows(grid: Grid, dtype: torch.dtype) -> None:
    for few in (torch.tensor([[1.0, -2.0]]), torch.full((9, 2), 0.3), torch.arange(5.0)[:, None], torch.randn(40, 3)):
        z = few.to(dtype)
        codes = som_codes(z, grid)
        assert codes.shape == (grid.num_nodes, z.shape[1])
        assert codes.dtype == dtype
        # A sum over rows and one over nodes are rounded at each step.
        slack = (len(z) + grid.num_nodes) * torch.finfo(dtype).eps * z.abs().max()
        assert (codes >= z.amin(dim=0) - slack).all()
        assert (codes <= z.amax(dim=0) + slack).all()


def test_codes_are_made_without_gradient_and_repeat_themselves() -> None:
    z = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    codes = som_codes(z, Grid(3, 3))
    assert not codes.requires_grad
    assert som_codes(z, Grid(3, 3)).equal(codes)


@pytest.mark.cuda
def test_codes_on_a_gpu_are_near_those_of_the_cpu() -> None:
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
def test_what_no_map_is_trained_on_is_refused(z: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        som_codes(z, Grid(2, 2))


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
