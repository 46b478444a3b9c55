"""The curves of a training and the picture of a transition matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from somvae_ext.plotting import plot_losses, plot_quality, plot_transitions

HISTORY = [
    {
        "epoch": epoch,
        "train": {"total": 2.0 / epoch, "som": 0.0},
        "validation": {"total": 3.0 / epoch, "som": 0.0},
        "usage": 0.25 * epoch,
        "metrics": {"purity": 0.1 * epoch},
    }
    for epoch in (1, 2, 3)
]


def test_losses_are_drawn_for_training_and_validation_and_zero_terms_left_out() -> None:
    ax = plot_losses(HISTORY)
    training, validation = ax.lines
    np.testing.assert_array_equal(training.get_xydata(), [[1, 2], [2, 1], [3, 2 / 3]])
    np.testing.assert_array_equal(validation.get_xydata(), [[1, 3], [2, 1.5], [3, 1]])
    assert training.get_color() == validation.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["total"]


def test_quality_is_drawn_for_what_was_measured() -> None:
    ax = plot_quality(HISTORY, ax=Figure().add_subplot())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["validation purity", "usage in training"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.25, 0.5, 0.75])
    without_labels = [{name: record[name] for name in ("epoch", "train", "usage")} for record in HISTORY]
    assert len(plot_quality(without_labels).lines) == 1


def test_a_transition_matrix_has_its_row_as_row_and_probabilities_from_0_to_1() -> None:
    matrix = torch.tensor([[0.9, 0.1], [0.0, 1.0]])
    image = plot_transitions(matrix).images[0]
    np.testing.assert_array_equal(np.asarray(image.get_array()), matrix.numpy())
    assert image.get_clim() == (0, 1)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="history must hold at least one record, got none"):
        plot_losses([])
    with pytest.raises(ValueError, match=r"matrix must have shape \[K, K\], got \[2, 3\]"):
        plot_transitions(torch.ones(2, 3))
