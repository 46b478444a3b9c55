"""Plot of how long series stay in a node."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from somvae_ext.arrays import as_array
from somvae_ext.evaluation import StateDurations
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import set_title
from somvae_ext.plotting.palettes import MUTED, PLAIN

_SIZE = (6, 3.5)  # inches


def plot_durations(durations: StateDurations, ax: Axes | None = None) -> Axes:
    """Plots the share of the complete stays in nodes that last at least a given number of frames.

    The scale is logarithmic: a chain that forgets how long it has been in a node falls along a straight line. The
    dashed line is such a memoryless chain with the same mean duration for all nodes. A curve that ends above it has
    more long stays, and one that begins below it more short ones, as when nodes differ or series flicker between them.

    Args:
        durations: the stays, as :func:`~somvae_ext.evaluation.state_durations` gives them. Incomplete stays are left
            out; the legend gives their number.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: no complete stay.

    Example:
        >>> from somvae_ext.evaluation import state_durations
        >>> ax = plot_durations(state_durations([[0, 0, 1, 1, 1, 2, 0, 0, 3]], 4))
        >>> ax.figure.savefig("durations.png")
    """
    length = as_array("plot_durations", "durations", durations.length)
    complete = as_array("plot_durations", "durations", durations.complete)
    length, num_cut = length[complete], int((~complete).sum())
    if len(length) == 0:
        raise ValueError(f"plot_durations: durations must hold a complete stay, got none in {num_cut} stays")
    ax = axes_or_new(ax, _SIZE)
    frames, share = _survival(length)
    ax.step(
        frames,
        share,
        where="pre",
        color=PLAIN,
        label=f"{len(length):,} stays, median {np.median(length):g} frames ({num_cut:,} cut off, left out)",
    )
    mean = length.mean()
    if mean > 1:
        expected = (1 - 1 / mean) ** (frames - 1.0)
        ax.plot(frames, expected, "--", color=MUTED, linewidth=1, label=f"memoryless, of the same mean {mean:.3g}")
    ax.set_yscale("log")
    ax.set_ylim(0.7 / len(length), 1.3)
    ax.set_xlim(left=1 - 0.02 * frames[-1])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("frames")
    ax.set_ylabel("share of stays that last so long")
    ax.legend(fontsize="x-small")
    set_title(ax, "How long series stay in a node")
    return ax


def _survival(length: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the numbers of frames from 1 to the longest stay, and the share of stays that last at least as long."""
    frames = np.arange(1, length.max() + 1)
    shorter = np.searchsorted(np.sort(length), frames, side="left")
    return frames, 1 - shorter / len(length)
