"""Plot of the transition matrix."""

from __future__ import annotations

from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import set_title
from somvae_ext.plotting.palettes import VALUES

_SIZE = (5, 4)  # inches


def plot_transitions(matrix: ArrayLike | Tensor, ax: Axes | None = None) -> Axes:
    """Shows a transition matrix, from node (row) to node (column), with a color bar for the probabilities.

    Args:
        matrix: probabilities ``[K, K]``, numpy or torch on any device, such as
            :meth:`somvae_ext.nn.TransitionModel.matrix` gives.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: a matrix that is not square.
    """
    probabilities = as_array("plot_transitions", "matrix", matrix)
    if probabilities.ndim != 2 or probabilities.shape[0] != probabilities.shape[1]:
        raise ValueError(f"plot_transitions: matrix must have shape [K, K], got {list(probabilities.shape)}")
    ax = axes_or_new(ax, _SIZE)
    image = ax.imshow(probabilities, cmap=VALUES, vmin=0, vmax=1, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label="probability of the move")
    set_title(ax, "Transitions")
    ax.set_xlabel("to node")
    ax.set_ylabel("from node")
    return ax
