"""Curves of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import set_title
from somvae_ext.plotting.palettes import CATEGORIES, INK, MUTED

_SIZE = (6, 3.5)  # inches
_PANEL = 1.5  # height of one of several stacked panels
_ROOM_FOR_EPOCHS = 0.42  # below the axes
_MOST_AMONG_LINES, _LONGEST_IN_COLUMNS = 4, 40  # entries of a legend inside the axes, letters of one in two columns
_MOST_POINTS = 1000  # per line: about as many as there are pixels
_DECADES = 6  # largest range of a logarithmic scale

# Labels of metrics; NMI comes first and is drawn in bold.
_METRICS = {
    "nmi_arithmetic": "NMI (arithmetic mean of the entropies)",
    "nmi_geometric": "NMI (geometric mean of the entropies)",
    "acc": "ACC",
    "purity": "purity",
    "static_nmi_arithmetic": "NMI, static images",
    "static_nmi_geometric": "NMI, static images (geometric mean of the entropies)",
    "static_purity": "purity, static images",
    "usage": "usage",
}

# Metrics of a map's order, in the order of the legend.
_ORDER = {
    "topographic_error_4": "topographic error, 4 neighbors",
    "topographic_error_6": "topographic error, 6 neighbors",
    "topographic_error_8": "topographic error, 8 neighbors",
    "order": "order (distance of neighbors / of all nodes)",
    "moves_within_1": "moves within distance 1",
    "transition_mass_within_1": "learned moves within distance 1",
    "moves_within_2": "moves within distance 2",
    "transition_mass_within_2": "learned moves within distance 2",
}


# Quantities in the history of a map, in the order of the panels.
_MAP_TRAINING = {
    "quantization_error": "quantization error",
    "topographic_error_4": "topographic error\n(4 neighbors)",
    "topographic_error_6": "topographic error\n(6 neighbors)",
    "topographic_error_8": "topographic error\n(8 neighbors)",
    "sigma": "width of the\nneighborhood",
    "alpha": "learning rate",
}
_CONSTANT_IN_EPOCHS = {"sigma", "alpha"}


def plot_losses(history: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Plots the losses per epoch: training losses as solid lines, validation losses dashed in the same color.

    The scale is logarithmic, over six decades at most. If a loss is ever 0 or less, as the negative log-likelihood
    under a narrow Gaussian can be, the scale is logarithmic down to about a thousandth of the largest value and linear
    around zero.

    Args:
        history: the records that :func:`somvae_ext.training.fit` returns, at least one. Terms that are zero in all of
            them are left out.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: no records.
    """
    ax = _prepare_axes("plot_losses", history, ax)
    epochs = [record["epoch"] for record in history]
    has_validation = "validation" in history[0]
    for term in history[0]["train"]:
        losses = [record["train"][term] for record in history]
        if not any(losses):
            continue
        (line,) = ax.plot(epochs, losses, marker=".", label=term)
        if has_validation:
            ax.plot(epochs, [record["validation"][term] for record in history], "--", color=line.get_color())
    _scale_losses(ax, np.concatenate([line.get_ydata() for line in ax.lines]) if ax.lines else np.ones(1))
    set_title(ax, "Losses")
    ax.set_ylabel("loss (dashed: validation)" if has_validation else "loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_legend(ax)
    return ax


def plot_iterations(records: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Plots the losses of each training step over the epochs, on the scale of :func:`plot_losses`.

    In a run of more than a thousand steps each point is the mean of several successive steps, so that at most a
    thousand points remain, and a shaded band spans their smallest and largest values. The label of the axis gives the
    number of steps per point.

    Args:
        records: what ``ResultFolder.load_log("iterations")`` returns, at least one record with ``epoch`` and
            ``losses``, which holds for each term its values in the steps of the epoch. Terms that are zero in all steps
            are left out. Step i of n in epoch e, counted from 1, is drawn at e - 1 + i / n.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: no records, or a record without losses, with other terms than the first record, or with terms of
            different numbers of steps.
    """
    epochs, losses = _step_losses(records)
    ax = _colored_axes(ax)
    width = math.ceil(len(epochs) / _MOST_POINTS)
    starts = np.arange(0, len(epochs), width)
    steps = np.diff(starts, append=len(epochs))
    x = np.add.reduceat(epochs, starts) / steps
    drawn_losses = []
    for term, values in losses.items():
        if not values.any():
            continue
        (line,) = ax.plot(x, np.add.reduceat(values, starts) / steps, label=term, linewidth=1)
        if width > 1:
            lowest, highest = (extreme.reduceat(values, starts) for extreme in (np.minimum, np.maximum))
            ax.fill_between(x, lowest, highest, color=line.get_color(), alpha=0.25, linewidth=0)
        drawn_losses.append(values)
    _scale_losses(ax, np.concatenate(drawn_losses) if drawn_losses else np.ones(1))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss of a step" if width == 1 else f"loss (means and range of {width} steps)")
    set_title(ax, "Losses of the training steps")
    ax.set_xlim(records[0]["epoch"] - 1, records[-1]["epoch"])
    _add_legend(ax)
    return ax


def plot_quality(history: Sequence[dict[str, Any]], ax: Axes | None = None, *, num_clusters: int | None = None) -> Axes:
    """Plots per epoch how well a model clusters and how evenly it uses its clusters.

    Metrics are labeled as measured on validation data if the run has any, otherwise on training data. Scores of the
    still images that series are made of are dashed, in the color of the scores of the frames. Metrics of the order of
    a map are left to :func:`plot_order`.

    Args:
        history: the records that :func:`somvae_ext.training.fit` returns, at least one. The values that ``metrics``
            returned and ``usage``, the share of clusters in use during training, are drawn if present; an epoch without
            a metric leaves a gap.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        num_clusters: number of clusters as a share of which the metric ``perplexity`` is drawn. By default it is left
            out because, unlike the others, it is not a number from 0 to 1.

    Raises:
        ValueError: no records, or none with anything to draw.
    """
    ax = _prepare_axes("plot_quality", history, ax)
    epochs = [record["epoch"] for record in history]
    prefix = _data_name(history) + " "
    colors: dict[str, Any] = {}
    for name in sorted(_metric_names(history) - _ORDER.keys(), key=_sort_key):
        values = _metric_values(history, name)
        label = _METRICS.get(name, name)
        if name == "perplexity":
            if num_clusters is None:
                continue
            values, label = values / num_clusters, f"perplexity / {num_clusters} clusters"
        of_frames = name.removeprefix("static_")
        is_nmi = of_frames.startswith("nmi")
        (line,) = ax.plot(
            epochs,
            values,
            "-" if of_frames == name else "--",
            color=colors.get(of_frames),
            marker="o" if is_nmi else ".",
            markersize=5,
            linewidth=2.5 if is_nmi else 1,
            zorder=3 if is_nmi else 2,
            label=prefix + label,
        )
        colors[name] = line.get_color()
    if "usage" in history[0]:
        usage = [record.get("usage", math.nan) for record in history]
        ax.plot(epochs, usage, ":", marker=".", linewidth=1, color=MUTED, label="usage in training")
    if not ax.lines:
        raise ValueError("plot_quality: history must hold metrics or usage, got records without")
    set_title(ax, "Quality of the clusters")
    return _finish_axes(ax)


def plot_order(history: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Plots per epoch how ordered the map is, by the values that ``metrics`` returned.

    Lower is better for topographic errors and for the distance of neighbors relative to that of all nodes (see
    :func:`~somvae_ext.evaluation.prototype_order`). Higher is better for the shares of the moves of series that lead to
    near nodes (:func:`~somvae_ext.evaluation.share_of_moves_within`); the shares that the learned transitions expect
    are dashed, in the same color. The label of the axis says whether the values are of validation or of training data.

    Args:
        history: the records that :func:`somvae_ext.training.fit` returns, at least one, with ``metrics`` as
            :func:`somvae_ext.training.clustering_metrics` gives them. An epoch without a value leaves a gap.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: no records, or none with anything to draw.
    """
    ax = _prepare_axes("plot_order", history, ax)
    if not has_order_metrics(history):
        raise ValueError("plot_order: history must hold metrics of the order of a map, got records without")
    epochs = [record["epoch"] for record in history]
    metric_names = _metric_names(history)
    colors: dict[str, Any] = {}
    for name, label in _ORDER.items():
        if name in metric_names:
            observed = name.replace("transition_mass", "moves")
            (line,) = ax.plot(
                epochs,
                _metric_values(history, name),
                "-" if observed == name else "--",
                color=colors.get(observed),
                marker=".",
                linewidth=1,
                label=label,
            )
            colors[name] = line.get_color()
    set_title(ax, "Order of the map")
    ax.set_ylabel(f"order of the map, {_data_name(history)} data")
    return _finish_axes(ax)


def plot_map_training(
    history: Sequence[dict[str, Any]], evaluation: Mapping[str, float] | None = None
) -> NDArray[np.object_]:
    """Plots the training of a map over the epochs done, in one new figure with a panel for each quantity.

    The quantities are the quantization error, the topographic error if it was tracked, the width of the neighborhood
    and, for mini-batches, the learning rate. Errors of an epoch are those of the codes at its start.

    Args:
        history: the records of an estimator's ``history_``, at least one.
        evaluation: errors of the trained map under the same names, such as ``SavedMap.evaluation``; drawn as rings at
            the end.

    Returns:
        The Axes of the panels, from top to bottom. The figure is ``axes[0].figure``.

    Raises:
        ValueError: no records, or none with anything to draw.

    Example:
        >>> history = [{"epoch": 1, "sigma": 4.0, "quantization_error": 2.0}, {"epoch": 2, "sigma": 1.0,
        ...     "quantization_error": 1.0}]
        >>> plot_map_training(history, {"quantization_error": 0.5})[0].figure.savefig("curves.png")
    """
    if len(history) == 0:
        raise ValueError("plot_map_training: history must hold at least one record, got none")
    trained = {} if evaluation is None else evaluation
    recorded = {name for record in history for name in record}
    shown = [
        name for name in _MAP_TRAINING if name in recorded or (name in trained and name.startswith("topographic_error"))
    ]
    if not shown:
        raise ValueError("plot_map_training: history must hold records of a map's training, got others")
    figure = Figure(figsize=(_SIZE[0], 0.6 + _PANEL * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False).ravel()
    set_title(axes[0], "Training of the map")
    starts = [record["epoch"] - 1 for record in history]
    for ax, name, color in zip(axes, shown, CATEGORIES, strict=False):
        if name in recorded:
            values = [record.get(name, math.nan) for record in history]
            if name in _CONSTANT_IN_EPOCHS:
                ax.step([*starts, starts[-1] + 1], [*values, values[-1]], where="post", color=color)
            else:
                ax.plot(starts, values, color=color, marker=".")
        if name in trained:
            _mark_end(ax, starts[-1] + 1, trained[name], color)
        ax.set_ylabel(_MAP_TRAINING[name], fontsize="small")
        low, high = ax.dataLim.intervaly
        ax.set_ylim(min(0.0, low), 1.25 * high if high > 0 else 1.0)
        ax.tick_params(labelsize="small")
    axes[-1].set_xlabel("epochs done" if not trained else "epochs done (ring: the trained map)")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def _mark_end(ax: Axes, epoch: int, value: float, color: str) -> None:
    ax.plot([epoch], [value], "o", markersize=7, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.5)
    ax.annotate(
        f"{value:.3g}", (epoch, value), (0, 7), textcoords="offset points", ha="center", fontsize="x-small", color=INK
    )


def has_order_metrics(history: Sequence[dict[str, Any]]) -> bool:
    """Returns whether there is anything for :func:`plot_order` to draw."""
    return not _ORDER.keys().isdisjoint(_metric_names(history))


def _metric_names(history: Sequence[dict[str, Any]]) -> set[str]:
    return {name for record in history for name in record.get("metrics", {})}


def _metric_values(history: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """A metric in each epoch, NaN where it was not measured."""
    return np.array([record.get("metrics", {}).get(name, math.nan) for record in history], float)


def _data_name(history: Sequence[dict[str, Any]]) -> str:
    """Name of the data that metrics were measured on."""
    return "validation" if "validation" in history[0] else "training"


def _finish_axes(ax: Axes) -> Axes:
    """Sets limits, ticks and legend of axes whose values usually are from 0 to 1."""
    low, high = ax.dataLim.intervaly
    ax.set_ylim(min(0.0, low), max(1.02, high))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _add_legend(ax)
    return ax


def _sort_key(name: str) -> tuple[int, str]:
    order = list(_METRICS)
    return (order.index(name) if name in order else len(order)), name


def _prepare_axes(name: str, history: Sequence[dict[str, Any]], ax: Axes | None) -> Axes:
    if len(history) == 0:
        raise ValueError(f"{name}: history must hold at least one record, got none")
    ax = _colored_axes(ax)
    ax.set_xlabel("epoch")
    return ax


def _colored_axes(ax: Axes | None) -> Axes:
    """Returns axes whose lines take colors that viewers can tell apart whatever their color vision."""
    ax = axes_or_new(ax, _SIZE)
    ax.set_prop_cycle(color=CATEGORIES)
    return ax


def _step_losses(records: Sequence[dict[str, Any]]) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Returns the time of each step, in epochs, and the losses of all steps."""
    if len(records) == 0:
        raise ValueError("plot_iterations: records must hold at least one record, got none")
    terms: list[str] | None = None
    epochs, losses = [], []
    for record in records:
        epoch_losses = record.get("losses")
        if not isinstance(epoch_losses, dict) or not epoch_losses:
            raise ValueError(f"plot_iterations: records must hold losses, but that of epoch {record['epoch']} has none")
        terms = list(epoch_losses) if terms is None else terms
        lengths = {len(values) for values in epoch_losses.values()}
        if set(epoch_losses) != set(terms) or len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"plot_iterations: losses must be {', '.join(terms)} of the same steps, but those of epoch "
                f"{record['epoch']} are {', '.join(f'{term} of {len(epoch_losses[term])}' for term in epoch_losses)}"
            )
        (count,) = lengths
        epochs.append(record["epoch"] - 1 + np.arange(1, count + 1) / count)
        losses.append(np.array([epoch_losses[term] for term in terms], np.float64))
    assert terms is not None
    return np.concatenate(epochs), dict(zip(terms, np.concatenate(losses, axis=1), strict=True))


def _scale_losses(ax: Axes, values: NDArray[np.float64]) -> None:
    """Sets a scale on which terms of very different sizes are visible, whatever their signs."""
    largest = np.abs(values).max()
    if values.min() > 0:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        # Ticks between powers of ten get labels, too, if there are few powers.
        ax.yaxis.set_minor_formatter(_PlainFormatter(minor_thresholds=(2, 0.5)))
        ax.tick_params(which="minor", labelsize="x-small")
        if values.min() < largest * 10.0**-_DECADES:
            ax.set_ylim(bottom=largest * 10.0**-_DECADES)
    else:
        linear = 10.0 ** (math.floor(math.log10(largest)) - 3) if largest > 0 else 1.0  # a power of ten, as the ticks
        ax.set_yscale("symlog", linthresh=linear)
        ax.yaxis.set_major_formatter("{x:g}")


class _PlainFormatter(LogFormatter):
    """Labels the same ticks as matplotlib would, but with plain numbers."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _add_legend(ax: Axes) -> None:
    """Adds a legend inside the axes or, if it would hide the lines, below."""
    labels = ax.get_legend_handles_labels()[1]
    if len(labels) > _MOST_AMONG_LINES:
        ax.legend(
            fontsize="x-small",
            frameon=False,
            ncols=2 if max(map(len, labels)) <= _LONGEST_IN_COLUMNS else 1,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            bbox_transform=ax.transAxes + ScaledTranslation(0.0, -_ROOM_FOR_EPOCHS, ax.figure.dpi_scale_trans),
        )
    elif labels:
        ax.legend(fontsize="x-small")
