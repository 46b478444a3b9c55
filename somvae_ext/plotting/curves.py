"""How a training went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from somvae_ext.plotting._axes import axes_or_new

_SIZE = (6, 3.5)  # inches


def plot_losses(history: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Losses per epoch on a logarithmic scale: of training as lines, of validation as dashed lines of the same colour.

    Args:
        history: the records that :func:`somvae_ext.training.fit` returns, at least one. Terms that are zero in all of
            them are left out.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: no records.
    """
    ax = _prepared("plot_losses", history, ax)
    epochs = [record["epoch"] for record in history]
    for term in history[0]["train"]:
        losses = [record["train"][term] for record in history]
        if not any(losses):
            continue
        (line,) = ax.plot(epochs, losses, marker=".", label=term)
        if "validation" in history[0]:
            ax.plot(epochs, [record["validation"][term] for record in history], "--", color=line.get_color())
    ax.set_yscale("log")
    ax.set_ylabel("loss (dashed: validation)" if "validation" in history[0] else "loss")
    ax.legend(fontsize="x-small")
    return ax


def plot_quality(history: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Metrics on the validation split and the share of nodes in use, per epoch.

    Args:
        history: the records that :func:`somvae_ext.training.fit` returns, at least one. What ``metrics`` returned and
            ``usage`` are drawn, where they are there.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: no records.
    """
    ax = _prepared("plot_quality", history, ax)
    epochs = [record["epoch"] for record in history]
    for name in history[0].get("metrics", {}):
        ax.plot(epochs, [record["metrics"][name] for record in history], marker=".", label=f"validation {name}")
    if "usage" in history[0]:
        ax.plot(epochs, [record["usage"] for record in history], marker=".", label="usage in training")
    ax.set_ylim(0, 1.02)
    ax.legend(fontsize="x-small")
    return ax


def _prepared(name: str, history: Sequence[dict[str, Any]], ax: Axes | None) -> Axes:
    if len(history) == 0:
        raise ValueError(f"{name}: history must hold at least one record, got none")
    ax = axes_or_new(ax, _SIZE)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
