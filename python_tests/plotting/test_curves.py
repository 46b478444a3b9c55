"""Tests of the training curves and of the picture of a transition matrix."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from somvae_ext.plotting import (
    plot_iterations,
    plot_losses,
    plot_map_training,
    plot_order,
    plot_quality,
    plot_transitions,
)
from somvae_ext.plotting.curves import has_order_metrics

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


def test_losses_of_training_and_validation_are_drawn_without_terms_that_are_zero() -> None:
    ax = plot_losses(HISTORY)
    training, validation = ax.lines
    np.testing.assert_array_equal(training.get_xydata(), [[1, 2], [2, 1], [3, 2 / 3]])
    np.testing.assert_array_equal(validation.get_xydata(), [[1, 3], [2, 1.5], [3, 1]])
    assert training.get_color() == validation.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["total"]


def history_of(*losses: float) -> list[dict[str, Any]]:
    return [{"epoch": epoch, "train": {"total": loss}} for epoch, loss in enumerate(losses, start=1)]


def test_positive_losses_have_a_logarithmic_scale_of_at_most_six_decades() -> None:
    ax = plot_losses(history_of(100.0, 0.01))
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 0.01
    assert plot_losses(history_of(100.0, 1e-30)).get_ylim()[0] == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize("least", [0.0, -3.0, -2000.0])
def test_losses_that_are_not_all_positive_are_drawn_too(least: float) -> None:
    ax = plot_losses(history_of(100.0, least, 5.0))
    assert ax.get_yscale() == "symlog"
    low, high = ax.get_ylim()
    assert low <= least
    assert high >= 100
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [100, least, 5])
    ax.figure.savefig(io.BytesIO())  # type: ignore[call-arg]


def test_losses_that_are_all_zero_leave_the_axes_empty() -> None:
    assert len(plot_losses(history_of(0.0, 0.0)).lines) == 0


def iterations_of(*epochs: list[float], first: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "step": 1,
            "losses": {"total": values, "kl": [2 * value for value in values], "som": [0.0] * len(values)},
        }
        for epoch, values in enumerate(epochs, start=first)
    ]


def test_each_step_of_a_short_run_is_drawn_at_its_fraction_of_the_epoch() -> None:
    ax = plot_iterations(iterations_of([4.0, 3.0], [2.0, 1.0, 0.5, 0.25], first=3))
    total, kl = ax.lines
    np.testing.assert_allclose(total.get_xdata(), [2.5, 3, 3.25, 3.5, 3.75, 4])
    np.testing.assert_array_equal(total.get_ydata(), [4, 3, 2, 1, 0.5, 0.25])
    np.testing.assert_array_equal(kl.get_ydata(), [8, 6, 4, 2, 1, 0.5])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["total", "kl"]
    assert (ax.get_ylabel(), ax.get_xlim()) == ("loss of a step", (2, 4))


def test_steps_of_a_long_run_are_drawn_as_means_with_their_range() -> None:
    values = np.random.default_rng(0).uniform(1, 2, (2, 1250))
    ax = plot_iterations(iterations_of(*values.tolist()))
    assert ax.get_ylabel() == "loss (means and range of 3 steps)"
    parts = [values.ravel()[start : start + 3] for start in range(0, 2500, 3)]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [part.mean() for part in parts], rtol=1e-14)
    outline = ax.collections[0].get_paths()[0].vertices
    assert outline[:, 1].min() == values.min()
    assert outline[:, 1].max() == values.max()


def test_inconsistent_iterations_are_refused() -> None:
    with pytest.raises(ValueError, match="records must hold at least one record, got none"):
        plot_iterations([])
    with pytest.raises(ValueError, match="records must hold losses, but that of epoch 1 has none"):
        plot_iterations([{"epoch": 1}])
    with pytest.raises(ValueError, match="must be total of the same steps, but those of epoch 2 are kl of 1"):
        plot_iterations([{"epoch": 1, "losses": {"total": [1.0]}}, {"epoch": 2, "losses": {"kl": [1.0]}}])
    with pytest.raises(ValueError, match="those of epoch 1 are total of 2, kl of 1"):
        plot_iterations([{"epoch": 1, "losses": {"total": [1.0, 2.0], "kl": [1.0]}}])


METRICS = {"usage": 0.75, "nmi_arithmetic": 0.5, "perplexity": 4.0, "acc": 0.6, "purity": 0.7}


def labels_of(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_nmi_comes_first_is_drawn_bolder_and_names_its_averaging() -> None:
    ax = plot_quality([{"epoch": 1, "validation": {}, "metrics": METRICS}])
    assert labels_of(ax) == [
        "validation NMI (arithmetic mean of the entropies)",
        "validation ACC",
        "validation purity",
        "validation usage",
    ]
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths[0] > max(widths[1:])


def test_the_perplexity_is_drawn_relative_to_the_number_of_clusters() -> None:
    ax = plot_quality([{"epoch": 1, "metrics": METRICS}], num_clusters=8)
    assert labels_of(ax)[-1] == "training perplexity / 8 clusters"
    assert ax.lines[-1].get_ydata().tolist() == [0.5]
    assert "perplexity" not in "".join(labels_of(plot_quality([{"epoch": 1, "metrics": METRICS}])))


def test_an_epoch_without_a_metric_leaves_a_gap() -> None:
    ax = plot_quality([{"epoch": 1, "metrics": {"acc": 0.5}}, {"epoch": 2, "metrics": {"purity": 0.5}}])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.5, np.nan])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [np.nan, 0.5])


def test_the_axis_covers_custom_metrics_of_any_range() -> None:
    low, high = plot_quality([{"epoch": 1, "metrics": {"a": -2.0, "b": 7.0}}]).get_ylim()
    assert (low, high) == (-2, 7)


def test_only_recorded_metrics_are_drawn() -> None:
    ax = plot_quality(HISTORY, ax=Figure().add_subplot())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["validation purity", "usage in training"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.25, 0.5, 0.75])
    without_labels = [{name: record[name] for name in ("epoch", "train", "usage")} for record in HISTORY]
    assert len(plot_quality(without_labels).lines) == 1


ORDER = {
    "transition_mass_within_1": 0.3,
    "moves_within_1": 0.4,
    "order": 0.5,
    "topographic_error_8": 0.1,
    "topographic_error_4": 0.2,
}


def test_the_order_of_a_map_has_separate_axes() -> None:
    history = [{"epoch": 1, "validation": {}, "metrics": METRICS | ORDER}]
    ax = plot_order(history)
    assert labels_of(ax) == [
        "topographic error, 4 neighbors",
        "topographic error, 8 neighbors",
        "order (distance of neighbors / of all nodes)",
        "moves within distance 1",
        "learned moves within distance 1",
    ]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.2], [0.1], [0.5], [0.4], [0.3]]
    assert ax.get_ylabel() == "order of the map, validation data"
    assert labels_of(plot_quality(history)) == labels_of(plot_quality([history[0] | {"metrics": METRICS}]))


def test_expected_and_observed_moves_share_a_color_and_differ_in_line_style() -> None:
    ax = plot_order([{"epoch": 1, "metrics": ORDER}])
    moves, learned = ax.lines[-2:]
    assert (moves.get_linestyle(), learned.get_linestyle()) == ("-", "--")
    assert moves.get_color() == learned.get_color()
    assert ax.get_ylabel() == "order of the map, training data"


def test_an_epoch_without_order_leaves_a_gap() -> None:
    ax = plot_order([{"epoch": 1, "metrics": {}}, {"epoch": 2, "metrics": {"order": 0.5}}])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [np.nan, 0.5])
    assert ax.get_ylim() == (0, 1.02)


def test_static_images_and_frames_share_a_color_and_differ_in_line_style() -> None:
    metrics = METRICS | {"static_nmi_arithmetic": 0.55, "static_purity": 0.8}
    ax = plot_quality([{"epoch": 1, "metrics": metrics}])
    lines = dict(zip(labels_of(ax), ax.lines, strict=True))
    for frames, images in (
        ("training NMI (arithmetic mean of the entropies)", "training NMI, static images"),
        ("training purity", "training purity, static images"),
    ):
        assert lines[frames].get_color() == lines[images].get_color()
        assert (lines[frames].get_linestyle(), lines[images].get_linestyle()) == ("-", "--")
    assert len({line.get_color() for line in ax.lines}) == len(ax.lines) - 2


def test_has_order_metrics_finds_order_in_any_epoch() -> None:
    assert has_order_metrics([{"epoch": 1}, {"epoch": 2, "metrics": {"order": 0.5}}])
    assert not has_order_metrics([{"epoch": 1}, {"epoch": 2, "metrics": METRICS}])


MAP_HISTORY: list[dict[str, Any]] = [
    {"epoch": 1, "sigma": 4.0, "quantization_error": 2.0},
    {"epoch": 2, "sigma": 1.0, "quantization_error": 1.5},
]


def test_map_training_has_a_panel_for_each_recorded_quantity() -> None:
    errors, widths = plot_map_training(MAP_HISTORY)
    assert errors.get_title() == "Training of the map"
    # An epoch's error is measured with the codes at its start; its width holds during the whole epoch.
    assert errors.lines[0].get_xydata().tolist() == [[0, 2], [1, 1.5]]
    assert widths.lines[0].get_xydata().tolist() == [[0, 4], [1, 1], [2, 1]]
    tracked = [record | {"topographic_error_6": 0.1, "alpha": 0.5} for record in MAP_HISTORY]
    labels = [" ".join(ax.get_ylabel().split()) for ax in plot_map_training(tracked)]
    assert labels == [
        "quantization error",
        "topographic error (6 neighbors)",
        "width of the neighborhood",
        "learning rate",
    ]


def test_errors_of_the_trained_map_are_marked_at_the_last_epoch() -> None:
    errors, order, _ = plot_map_training(MAP_HISTORY, {"quantization_error": 1.2, "topographic_error_8": 0.25})
    assert errors.lines[-1].get_xydata().tolist() == [[2, 1.2]]
    assert [line.get_xydata().tolist() for line in order.lines] == [[[2, 0.25]]]
    assert [text.get_text() for ax in (errors, order) for text in ax.texts] == ["1.2", "0.25"]


def test_a_transition_matrix_is_drawn_untransposed_with_colors_from_0_to_1() -> None:
    matrix = torch.tensor([[0.9, 0.1], [0.0, 1.0]])
    image = plot_transitions(matrix).images[0]
    np.testing.assert_array_equal(np.asarray(image.get_array()), matrix.numpy())
    assert image.get_clim() == (0, 1)


def test_invalid_histories_and_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match="history must hold at least one record, got none"):
        plot_losses([])
    with pytest.raises(ValueError, match="history must hold metrics or usage, got records without"):
        plot_quality(history_of(1.0))
    with pytest.raises(ValueError, match="history must hold metrics or usage, got records without"):
        plot_quality([{"epoch": 1, "metrics": ORDER}])
    with pytest.raises(ValueError, match="history must hold metrics of the order of a map, got records without"):
        plot_order([{"epoch": 1, "metrics": METRICS}])
    with pytest.raises(ValueError, match="plot_map_training: history must hold at least one record, got none"):
        plot_map_training([])
    with pytest.raises(ValueError, match="plot_map_training: history must hold records of a map's training"):
        plot_map_training([{"epoch": 1, "train": {"total": 1.0}}])
    with pytest.raises(ValueError, match=r"matrix must have shape \[K, K\], got \[2, 3\]"):
        plot_transitions(torch.ones(2, 3))
    assert plot_transitions(np.eye(3)).images[0].get_array().tolist() == np.eye(3).tolist()  # type: ignore[union-attr]
