"""Tests of the mosaic of the decoded map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from somvae_ext.plotting import plot_decoded_map


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 1, 4, 5), (2, 3, 3, 4, 5)])
def test_each_node_is_drawn_at_its_row_and_column_with_row_0_on_top(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    mosaic = np.asarray(plot_decoded_map(images).images[0].get_array())
    assert mosaic.shape[:2] == (2 * 4, 3 * 5)
    for row in range(2):
        for col in range(3):
            tile = mosaic[row * 4 : (row + 1) * 4, col * 5 : (col + 1) * 5]
            image = images[row, col].numpy()
            expected = np.moveaxis(image, 0, -1).squeeze() if len(shape) == 5 else image
            np.testing.assert_array_equal(tile, expected)


def test_the_map_is_drawn_on_the_given_axes_with_the_hits() -> None:
    given = Figure().add_subplot()
    ax = plot_decoded_map(torch.rand(2, 2, 4, 4), hits=torch.tensor([[1, 2], [30, 4]]), ax=given)
    assert ax is given
    assert [text.get_text() for text in ax.texts] == ["1", "2", "30", "4", "numbers: samples that the node won"]


def test_the_map_uses_no_pyplot_and_is_saved_without_a_display(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plot_decoded_map(torch.rand(2, 2, 4, 4)).figure.savefig(tmp_path / "map.png")
    assert plt.get_fignums() == before
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must have shape .*, got \[2, 2, 64\]"):
        plot_decoded_map(torch.rand(2, 2, 64))
    with pytest.raises(ValueError, match=r"hits must have shape \[R, C\] = \[2, 2\], got \[4\]"):
        plot_decoded_map(torch.rand(2, 2, 4, 4), hits=torch.ones(4))
