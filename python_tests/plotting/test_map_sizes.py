"""Tests of the picture of the errors of maps of several sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from somvae_ext.plotting import plot_map_sizes

SIZES = [(4, 6), (2, 3), (8, 12)]
ERRORS = {
    "quantization_error": np.array([[2, 0.1], [3, 0.2], [1, 0.1]]),
    "topographic_error": np.array([[0.1, 0.02], [0, 0], [0.3, 0.05]]),
    "combined_error": np.array([[4, 0.1], [6, 0.2], [5, 0.3]]),
}


def curves(ax: Axes) -> dict[str, Any]:
    """Returns the data of each curve of both axes, by its label."""
    return {
        container.get_label(): container[0].get_xydata().tolist()
        for axes in ax.figure.axes
        for container in axes.containers
    }


def test_errors_are_drawn_over_the_number_of_nodes_in_ascending_order() -> None:
    drawn = curves(plot_map_sizes(SIZES, **ERRORS))
    assert drawn == {
        "combined error": [[6, 6], [24, 4], [96, 5]],
        "quantization error": [[6, 3], [24, 2], [96, 1]],
        "topographic error (right)": [[6, 0], [24, 0.1], [96, 0.3]],
    }


def test_the_chosen_and_the_suggested_size_are_marked_and_named() -> None:
    ax = plot_map_sizes(SIZES, **ERRORS, chosen=(4, 6), suggested=(5, 7))
    marks = {line.get_label(): line.get_xdata()[0] for line in ax.lines if ":" in str(line.get_label())}
    assert marks == {"chosen: 4 x 6": 24, "auto: 5 x 7": 35}
    legend = ax.get_legend()
    assert legend is not None
    assert {"chosen: 4 x 6", "auto: 5 x 7", "combined error"} < {text.get_text() for text in legend.get_texts()}


def test_axes_are_labeled_and_curves_differ_in_line_style_too() -> None:
    ax = plot_map_sizes(SIZES, **ERRORS)
    left, right = ax.figure.axes
    assert (left.get_xlabel(), left.get_ylabel()) == ("nodes", "distance, of held-out rows")
    assert right.get_ylabel() == "topographic error: share of the rows"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["6", "24", "96"]
    lines = [container[0] for axes in (left, right) for container in axes.containers]
    for look in ("color", "marker", "linestyle"):
        assert len({getattr(line, f"get_{look}")() for line in lines}) == 3


@pytest.mark.parametrize("sizes", [[(2, 2)], [(n, n) for n in range(2, 40)], [(2, 6), (3, 4)]])
def test_one_size_many_sizes_and_sizes_with_equal_node_counts_are_drawn(
    sizes: list[tuple[int, int]], tmp_path: Any
) -> None:
    ax = plot_map_sizes(sizes, *[np.ones((len(sizes), 2))] * 3)
    assert len(ax.get_xticks()) <= 12
    ax.figure.savefig(tmp_path / "sizes.png")


def test_invalid_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="plot_map_sizes: sizes must hold at least one size, got none"):
        plot_map_sizes([], [], [], [])
    with pytest.raises(ValueError, match=r"topographic_error must hold mean and standard error .* = \[3, 2\], got"):
        plot_map_sizes(SIZES, **ERRORS | {"topographic_error": np.zeros(3)})
