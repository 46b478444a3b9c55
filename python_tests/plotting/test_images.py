"""Tests of sheets of images: where each image is drawn, and which arguments are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from somvae_ext.plotting import plot_image_rows, plot_images, plot_reconstructions

Array = NDArray[Any]


def covered(ax: Axes) -> Array:
    """Returns the mask of the sheet's pixels that images cover."""
    sheet = np.asarray(ax.images[0].get_array())
    return ~np.isnan(sheet) if sheet.ndim == 2 else sheet[..., 3] == 1


def starts(line: Array) -> list[int]:
    """Returns the indices at which runs of True begin."""
    return np.flatnonzero(np.diff(line.astype(int), prepend=0) == 1).tolist()


def tiles(ax: Axes, height: int, width: int) -> list[Array]:
    """Returns the images of a sheet, row by row."""
    sheet, cover = np.asarray(ax.images[0].get_array()), covered(ax)
    lefts = starts(cover[0])
    return [
        sheet[top : top + height, left : left + width]
        for top in starts(cover[:, 0])
        for left in lefts
        if cover[top, left]
    ]


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5)])
def test_images_are_drawn_in_order_in_rows_of_eight(shape: tuple[int, ...]) -> None:
    images = torch.rand(19, *shape)
    drawn = tiles(plot_images(images), 4, 5)
    assert len(drawn) == 19
    for image, tile in zip(images.numpy(), drawn, strict=True):
        if len(shape) == 3 and shape[0] == 3:
            np.testing.assert_array_equal(tile[..., :3], np.moveaxis(image, 0, -1))
            assert (tile[..., 3] == 1).all()
        else:
            np.testing.assert_array_equal(tile, image.reshape(4, 5))


def test_fewer_than_eight_images_leave_no_empty_space() -> None:
    ax = plot_images(torch.rand(3, 4, 5))
    assert starts(covered(ax)[0]) == [0, 6, 12]
    assert covered(ax).shape == (4, 17)


def test_values_are_clipped_to_the_unit_interval() -> None:
    image = torch.tensor([[[-1.0, 0.25], [0.5, 2.0]]])
    (tile,) = tiles(plot_images(image), 2, 2)
    assert tile.tolist() == [[0, 0.25], [0.5, 1]]
    assert plot_images(image).images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_all_floating_dtypes_are_drawn(dtype: torch.dtype) -> None:
    image = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]], dtype=dtype, requires_grad=True)
    (tile,) = tiles(plot_images(image), 2, 2)
    assert tile.tolist() == [[0, 0.25], [0.5, 1]]


def test_reconstructions_are_right_of_their_originals_and_closer_to_them_than_pairs_are() -> None:
    x, reconstruction = torch.rand(6, 1, 8, 8), torch.rand(6, 1, 8, 8)
    ax = plot_reconstructions(x, reconstruction)
    drawn = tiles(ax, 8, 8)
    assert len(drawn) == 12
    for row in range(6):
        np.testing.assert_array_equal(drawn[2 * row], x[row, 0].numpy())
        np.testing.assert_array_equal(drawn[2 * row + 1], reconstruction[row, 0].numpy())
    gaps = np.diff(starts(covered(ax)[0])) - 8
    assert gaps.tolist() == [1, 3, 1, 3, 1, 3, 1]  # four pairs in a row


def test_at_most_the_first_24_pairs_are_shown() -> None:
    x = torch.rand(30, 8, 8)
    assert len(tiles(plot_reconstructions(x, x), 8, 8)) == 48
    drawn = tiles(plot_reconstructions(x, x, num_pairs=2), 8, 8)
    assert len(drawn) == 4
    np.testing.assert_array_equal(drawn[2], x[1].numpy())


def test_a_table_draws_each_row_as_a_row_of_images_with_its_label() -> None:
    images = torch.rand(3, 2, 8, 8)
    ax = plot_image_rows(images, row_labels=["zero", 1, "two"], column_labels=["a", "b"])
    for image, tile in zip(images.flatten(0, 1).numpy(), tiles(ax, 8, 8), strict=True):
        np.testing.assert_array_equal(tile, image)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["zero", "1", "two"]
    assert ax.get_yticks().tolist() == [4, 13, 22]  # the centers of images of 8 pixels, one pixel apart
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    assert ax.get_xticks().tolist() == [4, 13]


@pytest.mark.parametrize("rows", [1, 10, 30])
def test_labels_are_not_cut_off(rows: int) -> None:
    labels = [f"epoch {row}" for row in range(rows)]
    ax = plot_image_rows(torch.rand(rows, 10, 8, 8), row_labels=labels, column_labels=range(10))
    ax.set_xlabel("expert")
    figure = ax.figure
    canvas = FigureCanvasAgg(figure)  # type: ignore[arg-type]
    canvas.draw()
    for artist in (*ax.get_yticklabels(), *ax.get_xticklabels(), ax.xaxis.label):
        box = artist.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height


def test_two_tables_fit_side_by_side_on_one_figure() -> None:
    left, right = Figure(layout="compressed").subplots(1, 2)
    assert plot_image_rows(torch.rand(10, 8, 8, 8), ax=left) is left
    assert plot_image_rows(torch.rand(10, 8, 8, 8), ax=right) is right


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        (lambda: plot_images(torch.rand(4, 64)), r"plot_images: images must have shape \[N, H, W\], .*, got \[4, 64\]"),
        (lambda: plot_images(torch.rand(4, 2, 8, 8)), r"or \[N, 3, H, W\] with at least one image, got \[4, 2, 8, 8\]"),
        (lambda: plot_images(torch.rand(0, 8, 8)), r"with at least one image, got \[0, 8, 8\]"),
        (lambda: plot_images(torch.full((1, 2, 2), torch.nan)), "images must be finite, got nan"),
        (
            lambda: plot_reconstructions(torch.rand(4, 8, 8), torch.rand(3, 8, 8)),
            r"reconstruction must have the shape of x, \[4, 8, 8\], got \[3, 8, 8\]",
        ),
        (
            lambda: plot_reconstructions(torch.rand(1, 8, 8), torch.rand(1, 8, 8), num_pairs=0),
            "num_pairs must be an integer of at least 1, got 0",
        ),
        (lambda: plot_image_rows(torch.rand(4, 8, 8)), r"images must have shape \[R, C, H, W\], .*, got \[4, 8, 8\]"),
        (
            lambda: plot_image_rows(torch.rand(2, 4, 8, 8), row_labels=["a"]),
            "row_labels must name each of the 2 rows, got 1 names",
        ),
        (
            lambda: plot_image_rows(torch.rand(2, 4, 8, 8), column_labels=range(2)),
            "column_labels must name each of the 4 columns, got 2 names",
        ),
    ],
)
def test_invalid_images_are_refused(plot: Callable[[], Axes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot()
