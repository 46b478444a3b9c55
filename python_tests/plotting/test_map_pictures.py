"""Tests of the pictures of a map: each node's place and color, and which arguments are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import children
import numpy as np
import oracle
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from somvae_ext import Grid
from somvae_ext.evaluation import u_matrix
from somvae_ext.plotting import (
    component_plane_pages,
    plot_codebook_images,
    plot_codebook_rgb,
    plot_component_planes,
    plot_hits,
    plot_labels,
    plot_map_clusters,
    plot_node_values,
    plot_u_matrix,
)
from somvae_ext.plotting._cells import area_centers
from somvae_ext.plotting.palettes import CATEGORIES, OTHERS

Array = NDArray[np.float64]

GRIDS = [Grid(3, 5, topology) for topology in ("rectangular", "hexagonal")]
SHEETS = [
    Grid(*shape, topology) for topology in ("rectangular", "hexagonal") for shape in ((1, 1), (1, 6), (6, 1), (3, 5))
]
ATOL = 1e-12  # coordinates of a few units, each rounded a few times


def cells_of(ax: Axes) -> PolyCollection:
    """Returns the collection of the cells, which are drawn first."""
    first = ax.collections[0]
    assert isinstance(first, PolyCollection)
    return first


def corners_of(drawn: PolyCollection) -> Array:
    return np.array([path.vertices[:-1] for path in drawn.get_paths()])  # the last vertex closes the polygon


def values_in(ax: Axes) -> Array:
    return np.ma.filled(cells_of(ax).get_array(), np.nan)


def legend_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def blobs(grid: Grid, features: int = 4) -> torch.Tensor:
    return torch.randn(grid.num_nodes, features, generator=torch.Generator().manual_seed(0))


def check_nothing_is_cut_off(figure: Any) -> None:
    """Checks that everything drawn lies on the page, including color bars, legends and their texts."""
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


# ---- cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", SHEETS, ids=str)
def test_the_cell_of_each_node_lies_around_its_coordinates_with_row_0_on_top(grid: Grid) -> None:
    ax = plot_node_values(torch.arange(float(grid.num_nodes)), grid)
    corners = corners_of(cells_of(ax))
    expected = oracle.coordinates(grid.rows, grid.cols, grid.topology)
    np.testing.assert_allclose(corners.mean(axis=1), expected, rtol=0, atol=ATOL)
    np.testing.assert_array_equal(values_in(ax), np.arange(grid.num_nodes))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < right
    assert top < bottom
    assert left <= corners[..., 0].min() <= corners[..., 0].max() <= right
    assert top <= corners[..., 1].min() <= corners[..., 1].max() <= bottom
    assert ax.get_aspect() == 1


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_cells_are_regular_and_tile_without_gaps(grid: Grid) -> None:
    corners = corners_of(cells_of(plot_node_values(torch.zeros(15), grid)))
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    side, area = (1, 1) if grid.topology == "rectangular" else (1 / math.sqrt(3), math.sqrt(3) / 2)
    assert corners.shape == (15, 4 if grid.topology == "rectangular" else 6, 2)
    np.testing.assert_allclose(sides, side, rtol=0, atol=ATOL)
    # Nodes lie 1 x 1 or 1 x sqrt(3) / 2 apart. Cells of exactly that area that share their sides leave no gap.
    x, y = corners[..., 0], corners[..., 1]
    np.testing.assert_allclose(
        np.abs((x * np.roll(y, 1, axis=1) - y * np.roll(x, 1, axis=1)).sum(axis=1)) / 2, area, rtol=0, atol=ATOL
    )
    for node, neighbors in enumerate(oracle.neighbor_table(grid.rows, grid.cols, grid.topology, False)):
        for neighbor in neighbors[neighbors >= 0]:
            gaps = np.linalg.norm(corners[node][:, None] - corners[neighbor], axis=2)
            assert (gaps < ATOL).sum() == 2  # two shared corners, so a shared side
            apart = np.linalg.norm(corners[node].mean(axis=0) - corners[neighbor].mean(axis=0))
            assert apart == pytest.approx(1, abs=ATOL)


def test_an_interior_hexagon_has_six_neighbors_at_distance_one() -> None:
    centers = corners_of(cells_of(plot_node_values(torch.zeros(15), GRIDS[1]))).mean(axis=1)
    away = np.linalg.norm(centers - centers[7], axis=1)
    assert (np.abs(away - 1) < ATOL).sum() == 6
    assert np.sort(away)[7] == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, list], ids=["numpy", "torch", "list"])
def test_numeric_values_get_a_color_bar_and_nan_cells_stay_empty(convert: Callable[[Any], Any]) -> None:
    values = [0.0, 1.0, math.nan, 3.0, 4.0, 5.0]
    ax = plot_node_values(convert(values), Grid(2, 3), label="height", vmax=10)
    ax.figure.draw_without_rendering()
    np.testing.assert_array_equal(values_in(ax), values)
    colors = cells_of(ax).get_facecolor()
    assert (colors[:, 3] == [1, 1, 0, 1, 1, 1]).all()
    assert cells_of(ax).get_clim() == (0, 10)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "height"
    outlines = ax.collections[1]
    assert len(outlines.get_paths()) == 1  # the outline of the empty cell
    assert len(outlines.get_facecolor()) == 0


def test_values_that_are_all_missing_draw_an_empty_map() -> None:
    ax = plot_node_values(np.full(6, np.nan), Grid(2, 3))
    assert ax.child_axes == []
    assert len(ax.collections[1].get_paths()) == 6


def test_values_of_any_torch_dtype_are_drawn() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.int64, torch.uint8):
        assert values_in(plot_node_values(torch.arange(6).to(dtype), Grid(2, 3))).tolist() == [0, 1, 2, 3, 4, 5]
    assert values_in(plot_node_values(torch.nn.Parameter(torch.ones(6)), Grid(2, 3))).tolist() == [1] * 6


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        (np.array(["b", "a", None, "b", "c", "a"], dtype=object), None),
        (["b", "a", math.nan, "b", "c", "a"], None),
        (torch.tensor([1, 0, -1, 1, 2, 0]), ["a", "b", "c"]),
        (np.array([1, 0, np.nan, 1, 2, 0]), ["a", "b", "c"]),
    ],
    ids=["None", "NaN", "numbers", "numbers with NaN"],
)
def test_categories_get_a_legend(values: Any, categories: list[str] | None) -> None:
    if isinstance(values, list):
        values = np.array(values, dtype=object)
    ax = plot_node_values(values, Grid(2, 3), categories=categories, label="kind")
    colors = cells_of(ax).get_facecolor()
    legend = ax.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "kind"
    a, b, c = (patch.get_facecolor() for patch in legend.get_patches())
    assert legend_of(ax) == ["a", "b", "c"]
    assert len({a, b, c}) == 3
    np.testing.assert_array_equal(colors, [b, a, (0, 0, 0, 0), b, c, a])
    assert ax.child_axes == []


def test_category_colors_do_not_depend_on_which_categories_occur() -> None:
    some = plot_node_values([2, 2], Grid(1, 2), categories=range(4))
    other = plot_node_values([2, 3], Grid(1, 2), categories=range(4))
    np.testing.assert_array_equal(cells_of(some).get_facecolor()[0], cells_of(other).get_facecolor()[0])
    assert legend_of(other) == ["2", "3"]


def test_booleans_are_categories_and_48_categories_have_distinct_colors() -> None:
    assert legend_of(plot_node_values(torch.tensor([True, False]), Grid(1, 2))) == ["False", "True"]
    colors = cells_of(plot_node_values(np.arange(48), Grid(6, 8), categories=range(48))).get_facecolor()
    assert len(np.unique(colors, axis=0)) == 48


# ---- hits ------------------------------------------------------------------------------------------------------------


def test_hits_are_colored_and_written_and_unused_nodes_are_empty() -> None:
    ax = plot_hits(torch.tensor([3, 0, 1, 12, 7, 0]), Grid(2, 3))
    np.testing.assert_array_equal(values_in(ax), [3, math.nan, 1, 12, 7, math.nan])
    assert cells_of(ax).get_clim() == (0, 12)
    assert {text.get_text(): text.get_position() for text in ax.texts} == {
        "3": (0, 0),
        "1": (2, 0),
        "12": (0, 1),
        "7": (1, 1),
    }
    assert len(plot_hits(np.zeros(6), Grid(2, 3)).texts) == 0


def test_numbers_are_left_out_in_cells_too_small_to_read_them() -> None:
    assert len(plot_hits(torch.ones(100), Grid(10, 10)).texts) == 100
    assert len(plot_hits(torch.ones(4096), Grid(64, 64)).texts) == 0


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_areas_of_hits_are_proportional_to_the_counts(grid: Grid) -> None:
    count = torch.arange(15)
    ax = plot_hits(count, grid, by="area")
    filled = corners_of(ax.collections[1])  # type: ignore[arg-type]
    x, y = filled[..., 0], filled[..., 1]
    area = np.abs((x * np.roll(y, 1, axis=1) - y * np.roll(x, 1, axis=1)).sum(axis=1)) / 2
    np.testing.assert_allclose(area / area[-1], np.arange(1, 15) / 14, rtol=1e-12)
    np.testing.assert_allclose(filled.mean(axis=1), grid.coordinates()[1:], rtol=0, atol=ATOL)


def test_hits_can_be_drawn_over_another_picture() -> None:
    grid = GRIDS[1]
    below = plot_u_matrix(blobs(grid), grid)
    ax = plot_hits(torch.ones(15), grid, below, by="area")
    assert ax is below
    *_, hits = ax.collections
    assert len(hits.get_paths()) == 15
    assert ax.get_title() == "U-matrix"


# ---- U-matrix --------------------------------------------------------------------------------------------------------


def test_rectangular_u_matrix_has_cells_between_two_and_between_four_nodes() -> None:
    codebook = np.array([[0.0], [1.0], [5.0], [2.0], [2.0], [9.0]])
    ax = plot_u_matrix(codebook, Grid(2, 3), connectivity=4)
    drawn = {
        tuple(center): value for center, value in zip(corners_of(cells_of(ax)).mean(axis=1), values_in(ax), strict=True)
    }
    diagonal = 2 * math.sqrt(2)
    picture = [
        [(1 + 2) / 2, 1, (1 + 4 + 1) / 3, 4, (4 + 4) / 2],
        [2, (2 + 1) / diagonal, 1, (8 + 3) / diagonal, 4],
        [(2 + 0) / 2, 0, (0 + 1 + 7) / 3, 7, (4 + 7) / 2],
    ]
    assert len(drawn) == 3 * 5
    for row in range(3):
        for col in range(5):
            assert drawn[col / 2, row / 2] == pytest.approx(picture[row][col])


@pytest.mark.parametrize("connectivity", [4, 8])
def test_an_evenly_spaced_map_has_a_constant_u_matrix(connectivity: Any) -> None:
    plane = np.indices((4, 5)).reshape(2, -1).T * 3.0
    drawn = values_in(plot_u_matrix(plane, Grid(4, 5), connectivity=connectivity))
    np.testing.assert_allclose(drawn, np.full(7 * 9, 3.0), rtol=1e-14)  # each a mean of eight distances
    alone = plot_u_matrix(plane, Grid(4, 5), interstitial=False, connectivity=connectivity)
    assert values_in(alone)[6] == pytest.approx(3 if connectivity == 4 else 3 * (1 + math.sqrt(2)) / 2)


def test_the_u_matrix_uses_and_names_the_requested_metric() -> None:
    codebook = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    ax = plot_u_matrix(codebook, Grid(1, 3), metric="cosine")
    half = 1 - math.sqrt(0.5)
    between = {tuple(c): v for c, v in zip(corners_of(cells_of(ax)).mean(axis=1), values_in(ax), strict=True)}
    assert between[0.5, 0] == pytest.approx(1)
    assert between[1.5, 0] == pytest.approx(half)
    for grid, metric, connectivity, label in (
        (Grid(4, 5), "euclidean", None, "euclidean distance\n(nodes: to 8 neighbors)"),
        (Grid(4, 5), "euclidean", 4, "euclidean distance\n(nodes: to 4 neighbors)"),
        (Grid(4, 5, "hexagonal"), "manhattan", None, "manhattan distance\n(nodes: to 6 neighbors)"),
        (Grid(4, 5), lambda a, b: (a - b).abs().sum(dim=2), None, "custom distance\n(nodes: to 8 neighbors)"),
    ):
        (bar,) = plot_u_matrix(blobs(grid), grid, metric=metric, connectivity=connectivity).child_axes  # type: ignore[arg-type]
        assert bar.get_ylabel() == label


@pytest.mark.parametrize("periodic", [False, True])
def test_hexagonal_u_matrix_tiles_with_half_hexagons_at_nodes_and_between_neighbors(periodic: bool) -> None:
    grid = Grid(4, 5, "hexagonal", periodic)
    ax = plot_u_matrix(blobs(grid), grid)
    corners = corners_of(cells_of(ax))
    centers = corners.mean(axis=1)
    open_pairs = [
        (a, b) for a, near in enumerate(oracle.neighbor_table(4, 5, "hexagonal", False)) for b in near if b > a
    ]
    nodes = oracle.coordinates(4, 5, "hexagonal")
    middles = [(nodes[a] + nodes[b]) / 2 for a, b in open_pairs]
    expected = {tuple(np.round(point, 9)) for point in [*nodes, *middles]}
    assert {tuple(np.round(point, 9)) for point in centers} == expected
    assert len(centers) == len(expected)
    np.testing.assert_allclose(np.linalg.norm(corners - centers[:, None], axis=2), 0.5 / math.sqrt(3), atol=ATOL)
    codes = blobs(grid).double().numpy()
    distances = {
        tuple(np.round(m, 9)): np.linalg.norm(codes[a] - codes[b])
        for m, (a, b) in zip(middles, open_pairs, strict=True)
    }
    for center, value in zip(centers[20:], values_in(ax)[20:], strict=True):
        assert value == pytest.approx(distances[tuple(np.round(center, 9))])
    np.testing.assert_allclose(values_in(ax)[:20], u_matrix(blobs(grid), grid).node)


@pytest.mark.parametrize("grid", [*SHEETS, Grid(2, 2, periodic=True), Grid(2, 3, "hexagonal", True)], ids=str)
def test_u_matrix_of_grids_of_any_shape(grid: Grid) -> None:
    codebook = blobs(grid)
    interstitial = values_in(plot_u_matrix(codebook, grid))
    if grid.topology == "rectangular":
        assert len(interstitial) == (2 * grid.rows - 1) * (2 * grid.cols - 1)
    simple = plot_u_matrix(codebook, grid, interstitial=False)
    np.testing.assert_array_equal(values_in(simple), u_matrix(codebook.double(), grid).node)


# ---- titles, rows and columns ----------------------------------------------------------------------------------------


def numbers_of(ax: Axes) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the positions of the row numbers and of the column numbers."""
    return (
        {text.get_text(): round(at, 9) for at, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)},
        {text.get_text(): round(at, 9) for at, text in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)},
    )


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_row_and_column_numbers_are_at_the_nodes_of_column_0_and_row_0(grid: Grid) -> None:
    rows, columns = numbers_of(plot_hits(torch.ones(15), grid))
    places = oracle.coordinates(3, 5, grid.topology).round(9)
    assert rows == {str(row): places[5 * row, 1] for row in range(3)}
    assert columns == {str(column): places[column, 0] for column in range(5)}


def test_the_column_label_of_hexagons_says_that_odd_rows_are_shifted() -> None:
    for grid, label in (
        (GRIDS[0], "column"),
        (GRIDS[1], "column (odd rows: half a cell to the right)"),
        (Grid(1, 6, "hexagonal"), "column"),
    ):
        ax = plot_hits(torch.ones(grid.num_nodes), grid)
        assert " ".join(ax.get_xlabel().split()) == label
        assert ax.get_ylabel() == "row"


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_large_maps_number_some_rows_and_columns_starting_at_0(topology: Any) -> None:
    grid = Grid(128, 128, topology)
    for numbers in numbers_of(plot_hits(torch.ones(grid.num_nodes), grid)):
        assert list(numbers) == [str(number) for number in range(0, 128, 10)]


@pytest.mark.parametrize("picture", ["hits", "values", "u_matrix", "colors", "images", "labels", "clusters"])
def test_every_map_picture_sets_a_title_unless_the_axes_have_one(picture: str) -> None:
    draw: dict[str, Callable[[Axes | None], Axes]] = {
        "hits": lambda ax: plot_hits(torch.ones(15), GRIDS[0], ax),
        "values": lambda ax: plot_node_values(torch.ones(15), GRIDS[0], ax),
        "u_matrix": lambda ax: plot_u_matrix(blobs(GRIDS[0]), GRIDS[0], ax),
        "colors": lambda ax: plot_codebook_rgb(blobs(GRIDS[0]), GRIDS[0], ax),
        "images": lambda ax: plot_codebook_images(blobs(GRIDS[0]), GRIDS[0], (2, 2), ax),
        "labels": lambda ax: plot_labels([0, 1], [0, 0], GRIDS[0], ax),
        "clusters": lambda ax: plot_map_clusters(torch.arange(15) % 2, GRIDS[0], ax),
    }
    assert draw[picture](None).get_title()
    mine = Figure().add_subplot()
    mine.set_title("mine")
    assert draw[picture](mine).get_title() == "mine"


def test_lines_between_cells_are_thinner_on_larger_maps_and_absent_on_the_largest() -> None:
    strengths = []
    for side in (5, 20, 30, 128):
        grid = Grid(side, side)
        _, *lines = plot_node_values(torch.rand(grid.num_nodes), grid).collections
        strengths.append([(drawn.get_linewidths()[0], drawn.get_alpha()) for drawn in lines])
    assert [len(lines) for lines in strengths] == [1, 1, 1, 0]
    (thick, opaque), (medium, _), (thin, pale) = (lines[0] for lines in strengths[:3])
    assert thick > medium > thin > 0
    assert opaque > pale > 0


# ---- component planes ------------------------------------------------------------------------------------------------


def test_component_planes_show_each_feature_under_its_name() -> None:
    grid, names = GRIDS[1], ["width", "height", "depth", "mass"]
    codebook = blobs(grid)
    axes = plot_component_planes(codebook, grid, names=names)
    assert [ax.get_title() for ax in axes] == names
    for feature, ax in enumerate(axes):
        np.testing.assert_array_equal(values_in(ax), codebook[:, feature].double())
    assert len({ax.figure for ax in axes}) == 1


def test_component_planes_are_drawn_in_the_order_of_the_chosen_features() -> None:
    grid = GRIDS[0]
    codebook = blobs(grid)
    axes = plot_component_planes(codebook, grid, names=["a", "b", "c", "d"], features=["c", 0, np.int64(1)])
    assert [ax.get_title() for ax in axes] == ["c", "a", "b"]
    np.testing.assert_array_equal(values_in(axes[0]), codebook[:, 2].double())
    assert len(axes[0].figure.axes) == 3  # the last panels of the layout stay empty
    assert [ax.get_title() for ax in plot_component_planes(codebook, grid, features=[3])] == ["feature 3"]


def test_component_planes_are_arranged_in_several_columns() -> None:
    axes = plot_component_planes(blobs(Grid(8, 8), 12), Grid(8, 8))
    rows, cols = axes[0].get_subplotspec().get_gridspec().get_geometry()
    assert rows * cols >= 12
    assert 3 <= cols <= 6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("grid", SHEETS, ids=str)
def test_component_planes_fit_on_the_page_without_overlap(grid: Grid) -> None:
    axes = plot_component_planes(blobs(grid, 7), grid)
    axes[0].figure.draw_without_rendering()
    check_nothing_is_cut_off(axes[0].figure)
    boxes = [ax.get_tightbbox() for ax in axes]
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


def test_pages_of_component_planes_are_numbered_and_cover_all_features() -> None:
    grid, codebook = GRIDS[1], blobs(GRIDS[1], 50)
    pages = list(component_plane_pages(codebook, grid))
    assert [page.get_suptitle() for page in pages] == [f"Component planes, page {page} of 3" for page in (1, 2, 3)]
    panels = [[ax.get_title() for ax in page.axes] for page in pages]
    assert [len(page) for page in panels] == [24, 24, 2]
    assert [name for page in panels for name in page] == [f"feature {number}" for number in range(50)]
    np.testing.assert_array_equal(values_in(pages[2].axes[1]), codebook[:, 49].double())


def test_a_single_page_of_component_planes_has_no_page_number() -> None:
    (page,) = component_plane_pages(blobs(GRIDS[0]), GRIDS[0], names=["a", "b", "c", "d"], features=["d", 1])
    assert page.get_suptitle() == "Component planes"
    assert [ax.get_title() for ax in page.axes] == ["d", "b"]


# ---- the codes themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_codes_with_three_features_are_drawn_as_rgb_colors(grid: Grid) -> None:
    codebook = torch.rand(15, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ax = plot_codebook_rgb(codebook, grid)
    np.testing.assert_array_equal(cells_of(ax).get_facecolor(), np.hstack([codebook, np.ones((15, 1))]))
    np.testing.assert_allclose(
        corners_of(cells_of(ax)).mean(axis=1), oracle.coordinates(3, 5, grid.topology), rtol=0, atol=ATOL
    )


@pytest.mark.parametrize("features", [5, 40])
def test_codes_with_more_features_are_colored_by_their_principal_components(features: int) -> None:
    codebook = blobs(GRIDS[0], features).double().numpy() + 100
    colors = cells_of(plot_codebook_rgb(codebook, GRIDS[0])).get_facecolor()[:, :3]
    centered = codebook - codebook.mean(axis=0)
    left, size, _ = np.linalg.svd(centered, full_matrices=False)
    for component in range(3):
        score = left[:, component] * size[component]
        score *= np.sign(score[np.abs(score).argmax()])
        expected = (score - score.min()) / np.ptp(score)
        np.testing.assert_allclose(colors[:, component], expected, rtol=0, atol=1e-9)


def test_components_that_do_not_vary_are_gray() -> None:
    line = np.arange(15.0)[:, None] * [1, 2, 3, 4] + 1000
    colors = cells_of(plot_codebook_rgb(line, GRIDS[0])).get_facecolor()
    np.testing.assert_allclose(np.sort(colors[:, 0]), np.linspace(0, 1, 15), rtol=0, atol=1e-9)
    assert (colors[:, 1:3] == 0.5).all()
    assert (cells_of(plot_codebook_rgb(np.zeros((15, 1)), GRIDS[0])).get_facecolor()[:, :3] == 0.5).all()


def test_images_of_codes_are_drawn_at_their_nodes() -> None:
    codebook = torch.rand(15, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = plot_codebook_images(codebook, GRIDS[0], (4, 3)).images[0]
    mosaic = np.asarray(image.get_array())
    for node in range(15):
        row, col = divmod(node, 5)
        np.testing.assert_array_equal(mosaic[4 * row : 4 * row + 4, 3 * col : 3 * col + 3].ravel(), codebook[node])
    assert image.get_extent() == [-0.5, 4.5, 2.5, -0.5]


@pytest.mark.parametrize("shape", [(4, 3), (1, 4, 3), (3, 4, 6), (2, 6)])
def test_images_on_hexagons_are_shifted_by_half_a_cell_in_odd_rows(shape: tuple[int, ...]) -> None:
    height, width = shape[-2:]
    colored = shape[0] == 3 and len(shape) == 3
    codebook = torch.rand(15, math.prod(shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ax = plot_codebook_images(codebook, GRIDS[1], shape)
    image = ax.images[0]
    mosaic = np.ma.filled(image.get_array(), np.nan)
    left, right, bottom, top = image.get_extent()
    per_pixel = mosaic.shape[1] / (right - left)  # mosaic pixels per column of the map
    assert mosaic.shape[0] == 3 * height
    for node, (x, y) in enumerate(oracle.coordinates(3, 5, "hexagonal")):
        first = round((x - 0.5 - left) * per_pixel)
        step = round(per_pixel / width)
        rows = slice(node // 5 * height, (node // 5 + 1) * height)
        tile = mosaic[rows, first : first + width * step : step]
        expected = codebook[node].reshape(-1, height, width).numpy()
        np.testing.assert_array_equal(np.moveaxis(tile[..., :3], -1, 0) if colored else tile[None], expected)
        assert (y - top) / (bottom - top) == pytest.approx((node // 5 + 0.5) / 3)
    outside = mosaic[:height, -(mosaic.shape[1] // 11) :]
    assert (outside[..., 3] == 0).all() if colored else np.isnan(outside).all()
    pixel = np.array([(right - left) / mosaic.shape[1] * round(per_pixel / width), (bottom - top) / mosaic.shape[0]])
    assert pixel[1] * ax.get_aspect() == pytest.approx(pixel[0])  # pixels are square on the page


def test_codes_outside_0_to_1_are_all_scaled_by_the_same_factor() -> None:
    codebook = np.arange(24.0).reshape(6, 4) - 3
    mosaic = np.asarray(plot_codebook_images(codebook, Grid(2, 3), (2, 2)).images[0].get_array())
    assert (mosaic.min(), mosaic.max()) == (0, 1)
    assert mosaic[0, 1] == pytest.approx(1 / 23)
    assert (np.asarray(plot_codebook_images(np.full((6, 4), 7.0), Grid(2, 3), (2, 2)).images[0].get_array()) == 0).all()


def test_hits_are_written_on_the_images_of_codes() -> None:
    ax = plot_codebook_images(torch.rand(6, 4), Grid(2, 3), (2, 2), hits=torch.arange(6))
    *numbers, caption = [text.get_text() for text in ax.texts]
    assert numbers == ["0", "1", "2", "3", "4", "5"]
    assert " ".join(caption.split()) == "numbers: samples that the node won"


# ---- labels and clusters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [None, ["cat", "dog", "emu"]])
def test_majority_labels_are_paler_at_mixed_nodes(names: list[str] | None) -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 2, 0])
    nodes = torch.tensor([0, 0, 1, 1, 3, 3, 3, 3])
    ax = plot_labels(labels, nodes, Grid(2, 3), names=names)
    colors = cells_of(ax).get_facecolor()
    legend = ax.get_legend()
    assert legend is not None
    assert legend_of(ax) == (["0", "2"] if names is None else ["cat", "emu"])
    first, third = (np.array(patch.get_facecolor()) for patch in legend.get_patches())
    np.testing.assert_allclose(colors[0], first)  # pure
    white = np.ones(4)
    # A tie goes to the first label; 0.2 + 0.8 * purity of the color remains.
    np.testing.assert_allclose(colors[1], white - 0.6 * (white - first))
    np.testing.assert_allclose(colors[3], white - 0.8 * (white - third))
    assert (colors[[2, 4, 5], 3] == 0).all()


def test_labels_may_be_strings() -> None:
    ax = plot_labels(["b", "a", "b"], [0, 1, 1], Grid(1, 3))
    assert legend_of(ax) == ["a", "b"]


def cell_texts(ax: Axes) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text() for text in ax.texts}


def test_letters_are_short_names_or_letters_that_the_legend_explains() -> None:
    short = plot_labels(["1", "7", "7"], [0, 1, 1], Grid(1, 3), by="letter")
    assert cell_texts(short) == {(0, 0): "1", (1, 0): "7"}
    assert legend_of(short) == ["1", "7"]
    long = plot_labels(["trouser", "coat", "coat"], [0, 1, 1], Grid(1, 3), by="letter")
    assert cell_texts(long) == {(0, 0): "b", (1, 0): "a"}
    assert legend_of(long) == ["a  coat", "b  trouser"]


def test_pie_pieces_are_proportional_to_the_shares_and_run_clockwise_from_the_top() -> None:
    ax = plot_labels([0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 1, 1], Grid(1, 3), by="pie")
    *_, pieces = ax.collections
    corners = corners_of(pieces)  # type: ignore[arg-type]
    x, y = corners[..., 0], corners[..., 1]
    area = np.abs((x * np.roll(y, 1, axis=1) - y * np.roll(x, 1, axis=1)).sum(axis=1)) / 2
    # Drawing a piece of angle a with chords loses the fraction a^2 / 24^2 / 6 of its area.
    np.testing.assert_allclose(area, math.pi * 0.44**2 * np.array([3 / 4, 1 / 4, 1 / 2, 1 / 2]), rtol=0.01)
    assert corners[2, :, 0].min() >= 1 - ATOL  # the right half
    colors = pieces.get_facecolor()
    legend = ax.get_legend()
    assert legend is not None
    patches = [patch.get_facecolor() for patch in legend.get_patches()]
    np.testing.assert_array_equal(colors, [patches[0], patches[1], patches[1], patches[2]])


def test_a_pie_of_one_label_is_a_disc_and_small_cells_are_colored_instead() -> None:
    ax = plot_labels([4, 4], [0, 0], Grid(1, 2), by="pie")
    corners = corners_of(ax.collections[-1])[0]  # type: ignore[arg-type]
    np.testing.assert_allclose(np.linalg.norm(corners, axis=1), 0.44)
    large = plot_labels([0, 1], [0, 0], Grid(128, 128), by="pie")
    assert len(cells_of(large).get_paths()) == 128 * 128


def test_with_more_labels_than_colors_each_has_a_letter_or_the_rarest_are_merged() -> None:
    names = [f"class {number}" for number in range(12)]
    nodes = np.arange(78)
    labels = np.repeat(np.arange(12), np.arange(1, 13))  # class k has k + 1 nodes
    ax = plot_labels(labels, nodes, Grid(6, 13), names=names)
    assert len(cell_texts(ax)) == 78
    assert legend_of(ax) == [f"{letter}  {name}" for letter, name in zip("abcdefghijkl", names, strict=True)]
    large = plot_labels(labels, nodes, Grid(100, 100), names=names)
    assert len(cell_texts(large)) == 0
    assert legend_of(large) == [*names[2:], "2 others"]
    assert (cells_of(large).get_facecolor()[:3] == to_rgba(OTHERS)).all()
    pies = plot_labels(labels, nodes, Grid(6, 13), names=names, by="pie")
    assert legend_of(pies) == [*names[2:], "2 others"]


def test_with_very_many_labels_only_the_most_frequent_have_colors_and_letters() -> None:
    labels = np.concatenate([np.arange(200), np.arange(50, 100)])
    ax = plot_labels(labels, np.arange(250), Grid(10, 25))
    assert legend_of(ax)[-1] == "150 others"
    assert len(legend_of(ax)) == 51
    assert len(cell_texts(ax)) == 100


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_each_area_of_a_cluster_has_its_number_inside(grid: Grid) -> None:
    cluster = np.array([0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 2, 1, 1, 1, -1])
    ax = plot_map_clusters(cluster, grid)
    places = {tuple(place): node for node, place in enumerate(oracle.coordinates(3, 5, grid.topology))}
    nodes = {places[min(places, key=lambda at: math.dist(at, place))]: text for place, text in cell_texts(ax).items()}
    assert all(str(cluster[node]) == text for node, text in nodes.items())
    assert sorted(nodes.values()) == ["0", "0", "1", "2"]  # cluster 0 has two areas; -1 gets no number
    if grid.topology == "rectangular":
        assert nodes[7] == "1"  # the only interior node


def test_cluster_numbers_are_at_the_widest_place_and_left_out_if_they_do_not_fit() -> None:
    grid = Grid(128, 128)
    cluster = np.zeros((128, 128), int)
    cluster[5:8, 5:60] = 1  # narrow; the next line widens its right end
    cluster[1:12, 60:71] = 1
    cluster[100, 100] = 2
    ax = plot_map_clusters(cluster.ravel(), grid)
    texts = {text: place for place, text in cell_texts(ax).items()}
    x, y = texts["1"]
    assert x > 60
    assert y == 6
    assert set(texts) == {"0", "1"}


@pytest.mark.parametrize("grid", [Grid(6, 7), Grid(6, 7, "hexagonal"), Grid(6, 8, "hexagonal", True)], ids=str)
def test_areas_match_a_flood_fill(grid: Grid) -> None:
    group = torch.randint(3, (grid.num_nodes,), generator=torch.Generator().manual_seed(1)).numpy()
    table = oracle.neighbor_table(grid.rows, grid.cols, grid.topology, False)
    expected, seen = set(), set()
    for start in range(grid.num_nodes):
        area, waiting = set(), [start]
        while waiting and start not in seen:
            node = waiting.pop()
            if node not in area:
                area.add(node)
                waiting += [n for n in table[node] if n >= 0 and group[n] == group[node]]
        seen |= area
        if area:
            expected.add(frozenset(area))
    centers, _ = area_centers(grid, group)
    assert len(centers) == len(expected)
    assert all(sum(node in area for node in centers.tolist()) == 1 for area in expected)


def test_clusters_are_colored_and_separated_by_borders() -> None:
    cluster = np.array([0, 0, 1, 0, 0, 1])
    ax = plot_map_clusters(cluster, Grid(2, 3))
    colors = cells_of(ax).get_facecolor()
    assert (colors[cluster == 0] == colors[0]).all()
    assert (colors[cluster == 1] == to_rgba(CATEGORIES[1])).all()
    assert legend_of(ax) == ["0", "1"]
    (borders,) = [drawn for drawn in ax.collections if isinstance(drawn, LineCollection)]
    ends = sorted(sorted(map(tuple, segment)) for segment in borders.get_segments())
    assert ends == [[(1.5, -0.5), (1.5, 0.5)], [(1.5, 0.5), (1.5, 1.5)]]


@pytest.mark.parametrize("periodic", [False, True])
def test_borders_on_hexagons_are_the_sides_shared_by_cells_of_two_clusters(periodic: bool) -> None:
    grid = Grid(4, 5, "hexagonal", periodic)
    cluster = torch.randint(3, (20,), generator=torch.Generator().manual_seed(0)) - 1  # -1: in no cluster
    ax = plot_map_clusters(cluster, grid)
    corners = corners_of(cells_of(ax)).round(9)
    sides: dict[frozenset[tuple[float, ...]], list[int]] = {}
    for node, polygon in enumerate(corners):
        for a, b in pairwise([*map(tuple, polygon), tuple(polygon[0])]):
            sides.setdefault(frozenset([a, b]), []).append(node)
    expected = {side for side, nodes in sides.items() if len({int(cluster[node]) for node in nodes}) == 2}
    (borders,) = [drawn for drawn in ax.collections if isinstance(drawn, LineCollection)]
    segments = [frozenset(map(tuple, segment.round(9))) for segment in borders.get_segments()]
    assert len(segments) == len(set(segments))
    assert set(segments) == expected
    assert (cells_of(ax).get_facecolor()[cluster == -1, 3] == 0).all()


# ---- all of them -----------------------------------------------------------------------------------------------------

PICTURES: dict[str, Callable[[Grid, Axes | None], Axes]] = {
    "plot_node_values": lambda grid, ax: plot_node_values(torch.rand(grid.num_nodes), grid, ax),
    "plot_hits": lambda grid, ax: plot_hits(torch.ones(grid.num_nodes), grid, ax),
    "plot_hits by area": lambda grid, ax: plot_hits(torch.ones(grid.num_nodes), grid, ax, by="area"),
    "plot_u_matrix": lambda grid, ax: plot_u_matrix(blobs(grid), grid, ax),
    "plot_codebook_rgb": lambda grid, ax: plot_codebook_rgb(blobs(grid), grid, ax),
    "plot_codebook_images": lambda grid, ax: plot_codebook_images(blobs(grid), grid, (2, 2), ax),
    "plot_labels": lambda grid, ax: plot_labels([0, 1], [0, 0], grid, ax),
    "plot_labels by letter": lambda grid, ax: plot_labels(
        torch.arange(grid.num_nodes) % 20, torch.arange(grid.num_nodes), grid, ax, by="letter"
    ),
    "plot_labels by pie": lambda grid, ax: plot_labels([0, 1], [0, 0], grid, ax, by="pie"),
    "plot_map_clusters": lambda grid, ax: plot_map_clusters(torch.arange(grid.num_nodes) % 2, grid, ax),
}


@pytest.mark.filterwarnings("error")  # such as the warning about a layout that does not fit
@pytest.mark.parametrize("grid", SHEETS, ids=str)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_can_be_saved_for_every_grid(picture: str, grid: Grid, tmp_path: Path) -> None:
    ax = PICTURES[picture](grid, None)
    ax.figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    check_nothing_is_cut_off(ax.figure)


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_draws_on_the_given_axes_and_uses_no_pyplot(picture: str) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    given = Figure().add_subplot()
    assert PICTURES[picture](GRIDS[1], given) is given
    assert plt.get_fignums() == before


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("picture", PICTURES)
def test_large_maps_are_drawn_with_few_artists(picture: str, topology: Any) -> None:
    ax = PICTURES[picture](Grid(128, 96, topology), None)
    assert len(ax.get_children()) < 30
    assert max(ax.figure.get_size_inches()) < 15


def test_importing_plotting_imports_neither_scikit_learn_nor_pyplot() -> None:
    code = "import sys, somvae_ext.plotting; assert not {'sklearn', 'matplotlib.pyplot'} & set(sys.modules)"
    done = children.run("-W", "ignore", "-c", code, imported=children.TORCH)
    assert done.returncode == 0, done.stderr


CODEBOOK = torch.zeros(6, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: plot_node_values(torch.ones(5), g), r"plot_node_values: values must .* 6 nodes, got \[5\]"),
        (lambda g: plot_node_values([0, 1, 2, math.inf, 4, 5], g), r"finite, or NaN for no value, got inf at node 3"),
        (lambda g: plot_node_values([0, 1, 2, 3, 0, 1], g, categories="abc"), r"whole numbers from -1 to 2, got 3"),
        (lambda g: plot_node_values([0.5] * 6, g, categories="abc"), r"whole numbers from -1 to 2, got 0.5"),
        (
            lambda g: plot_node_values(list("abcabc"), g, categories="abc"),
            r"must be whole numbers where names are given",
        ),
        (lambda g: plot_hits(torch.ones(2, 3), g), r"plot_hits: count must .* 6 nodes, got \[2, 3\]"),
        (lambda g: plot_hits([1, -2, 1, 1, 1, 1], g), r"count must be finite and not negative, got -2.0 at node 1"),
        (lambda g: plot_hits([1, math.nan, 1, 1, 1, 1], g), r"finite and not negative, got nan at node 1"),
        (lambda g: plot_hits(torch.ones(6), g, by="size"), r"by must be 'color' or 'area', got 'size'"),
        (lambda g: plot_u_matrix(CODEBOOK[:5], g), r"plot_u_matrix: codebook must .* 6 nodes, got \[5, 4\]"),
        (lambda g: plot_u_matrix(CODEBOOK.log() * 0, g), r"codebook must be finite, got nan in feature 0 of node 0"),
        (lambda g: plot_component_planes(CODEBOOK, g, names=["a"]), r"names must .* codebook's 4 features, got 1"),
        (
            lambda g: plot_component_planes(CODEBOOK, g, names=["width", "b", "c", "d"], features=["widht"]),
            r"features must be among the names, got 'widht'; did you mean 'width'\?",
        ),
        (lambda g: plot_component_planes(CODEBOOK, g, features=[4]), r"names or numbers from 0 to 3, got 4"),
        (lambda g: component_plane_pages(CODEBOOK, g, features=[]), r"component_plane_pages: .* at least one of the 4"),
        (lambda g: component_plane_pages(CODEBOOK, g, per_page=145), r"per_page must be .* 1 to 144, got 145"),
        (lambda g: plot_labels([0, 1], [0, 1], g, by="size"), r"by must be 'color', 'letter' or 'pie', got 'size'"),
        (lambda g: plot_component_planes(CODEBOOK, g, features=[]), r"1 to 144 of the 4 features, got 0"),
        (lambda g: plot_component_planes(torch.zeros(6, 200), g), r"1 to 144 of the 200 features, got 200"),
        (lambda g: plot_codebook_rgb(torch.zeros(6), g), r"plot_codebook_rgb: codebook must .* got \[6\]"),
        (lambda g: plot_codebook_images(CODEBOOK, g, (3, 3)), r"image_shape must be .* codebook's 4 .* got \(3, 3\)"),
        (lambda g: plot_codebook_images(CODEBOOK, g, (2, 2, 1)), r"image_shape must be .* got \(2, 2, 1\)"),
        (
            lambda g: plot_codebook_images(CODEBOOK, g, (2, 2), hits=[1]),
            r"plot_codebook_images: hits must .* got \[1\]",
        ),
        (lambda g: plot_labels([0, 1], [0], g), r"same shape \[N\] with N of at least 1, got \[2\] and \[1\]"),
        (lambda g: plot_labels([], [], g), r"N of at least 1, got \[0\] and \[0\]"),
        (lambda g: plot_labels([0, 1], [0, 6], g), r"nodes must hold values from 0 to 5, got 6"),
        (lambda g: plot_labels([0, 1], [0.0, 1.0], g), r"nodes must be integers, got float64"),
        (lambda g: plot_labels([0, math.nan], [0, 1], g), r"integers, booleans or strings, got nan at position 1"),
        (lambda g: plot_labels(np.array(["a", None]), [0, 1], g), r"booleans or strings, got None at position 1"),
        (lambda g: plot_labels(torch.rand(2), [0, 1], g), r"plot_labels: labels must .* strings, got float32; convert"),
        (
            lambda g: plot_labels([0.0, 1.0], [0, 1], g, names="ab"),
            r"plot_labels: labels must be integers, got float64",
        ),
        (
            lambda g: plot_u_matrix(CODEBOOK, g, connectivity=6),
            r"connectivity must be 4 or 8 on a rectangular .* got 6",
        ),
        (lambda g: plot_u_matrix([[0, 1], [2]], g), r"plot_u_matrix: codebook must be an array, got list: "),
        (
            lambda g: plot_labels([0, 3], [0, 1], g, names=["a", "b"]),
            r"labels must hold values from 0 to 1, got 3",
        ),
        (
            lambda g: plot_map_clusters(np.zeros(5, int), g),
            r"plot_map_clusters: cluster must .* 6 nodes, got \[5\]",
        ),
        (lambda g: plot_map_clusters(np.zeros(6), g), r"plot_map_clusters: cluster must be integers, got float64"),
        (lambda g: plot_map_clusters([0, 1, 2, 0, -2, 1], g), r"cluster must hold integers of at least -1, got -2"),
    ],
)
def test_invalid_arguments_are_refused(call: Callable[[Grid], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Grid(2, 3))
