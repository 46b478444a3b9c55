"""Tests of the contingency table of clusters and classes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from somvae_ext.plotting import plot_contingency

LABEL = torch.tensor([0, 0, 0, 1, 1, 2])
INDEX = torch.tensor([3, 3, 0, 0, 0, 1])
SHARES = [[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 0, 1]]  # class shares of clusters 3, 0 and 1


def written(ax: Any) -> dict[tuple[int, int], str]:
    """Returns the numbers written in the cells, keyed by row and column."""
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in ax.texts}


def row_names(ax: Any) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_cells_show_the_counts_and_are_colored_by_the_share_within_their_cluster() -> None:
    ax = plot_contingency(LABEL, INDEX)
    np.testing.assert_allclose(ax.images[0].get_array(), SHARES, rtol=1e-15)
    assert ax.images[0].get_clim() == (0, 1)
    assert written(ax) == {(0, 0): "2", (1, 0): "1", (1, 1): "2", (2, 2): "1"}


def test_unused_clusters_have_rows_that_say_so() -> None:
    ax = plot_contingency(LABEL, INDEX, num_clusters=5)
    assert row_names(ax) == ["3", "0", "1", "unused  2", "unused  4"]
    assert row_names(plot_contingency(LABEL, INDEX)) == ["3", "0", "1"]
    assert row_names(plot_contingency(LABEL, INDEX, order="number")) == ["0", "1", "unused  2", "3"]


def test_rows_are_sorted_by_class_and_purity_or_by_number() -> None:
    label = [1, 0, 0, 1, 1, 1, 0]
    index = [0, 1, 2, 2, 2, 3, 3]
    ax = plot_contingency(label, index)
    assert row_names(ax) == ["1", "3", "0", "2"]  # cluster 3 has a tie, which goes to the first class
    (line,) = ax.lines  # separates the classes
    assert np.asarray(line.get_ydata()).tolist() == [1.5, 1.5]
    by_number = plot_contingency(label, index, order="number")
    assert row_names(by_number) == ["0", "1", "2", "3"]
    assert len(by_number.lines) == 0
    assert np.asarray(by_number.images[0].get_array())[[1, 3, 0, 2]].tolist() == ax.images[0].get_array().tolist()  # type: ignore[union-attr]


def test_many_clusters_have_ticks_at_some_rows_only() -> None:
    cluster = torch.arange(2000) % 1000
    ax = plot_contingency(cluster % 2, cluster)
    expected = [*range(0, 1000, 2), *range(1, 1000, 2)]
    assert len(ax.get_yticks()) < 100
    for tick, name in zip(ax.get_yticks(), row_names(ax), strict=True):
        assert int(name) == expected[round(tick)]


def test_columns_are_the_classes_that_occur_or_are_named() -> None:
    ax = plot_contingency(LABEL * 10, INDEX)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "10", "20"]
    ax = plot_contingency(LABEL, INDEX, names=["shirt", "shoe", "bag", "hat"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["shirt", "shoe", "bag", "hat"]
    assert np.asarray(ax.images[0].get_array()).shape == (3, 4)
    yes = plot_contingency([True, False], [0, 0], names=["no", "yes"])
    assert [label.get_text() for label in yes.get_xticklabels()] == ["no", "yes"]
    assert plot_contingency(np.array(["a", "b"]), [0, 0]).get_xticklabels()[1].get_text() == "b"


@pytest.mark.parametrize("clusters", [1, 10, 64, 1000])
def test_names_are_not_cut_off_and_do_not_overlap(clusters: int) -> None:
    label = torch.arange(clusters * 10) % 10
    names = [f"a class of number {number}" for number in range(10)]
    ax = plot_contingency(label, torch.arange(clusters * 10) // 10, names=names)
    figure: Any = ax.figure
    FigureCanvasAgg(figure).draw()
    ticks = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    boxes = [label.get_window_extent() for tick, label in ticks if 0 <= tick < clusters]  # other labels are not drawn
    for box in (*boxes, *(label.get_window_extent() for label in ax.get_xticklabels())):
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    inside = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] <= above[0] for below, above in pairwise(inside))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), r"label must have shape \[N\] with at least one sample, got \[0\]"),
        (([[0], [1]], [0, 1]), r"label must have shape \[N\] with at least one sample, got \[2, 1\]"),
        (([0, 1], [0, 1, 1]), r"index must have the shape of label, \[2\], got \[3\]"),
        (([0, 1], [0, -1]), "index must hold values from 0 to 0, got -1"),
        (([0, 1], [0.5, 1]), "index must be integers, got float64; convert whole numbers to int64 first"),
        (([0, 1], [0.0, 1.0]), "index must be integers, got float64"),
        ((torch.rand(2), [0, 1]), "label must be integers, booleans or strings, got float32; convert whole numbers"),
        ((["a", float("nan")], [0, 1]), "label must be integers, booleans or strings, got nan at position 1"),
        (([0, 1], ["a", "b"]), "index must be integers, got strings"),
    ],
)
def test_invalid_labels_and_indices_are_refused(arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_contingency(*arguments)


def test_invalid_numbers_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="index must hold values from 0 to 2, got 3"):
        plot_contingency(LABEL, INDEX, num_clusters=3)
    with pytest.raises(ValueError, match="label must hold values from 0 to 1, got 2"):
        plot_contingency(LABEL, INDEX, names=["a", "b"])
    with pytest.raises(ValueError, match="order must be 'class' or 'number', got 'size'"):
        plot_contingency(LABEL, INDEX, order="size")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_clusters must be an integer of at least 1, got 0"):
        plot_contingency(LABEL, INDEX, num_clusters=0)
