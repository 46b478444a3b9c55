"""k-means of windows of series: the frame and those before it, in a row."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from somvae_ext.data import Samples
from somvae_ext.experiments.nodes import Measure, Nodes
from somvae_ext.experiments.protocol import Outcome, Setting, Task
from somvae_ext.grid import Grid

_STARTS = 10


@dataclasses.dataclass(frozen=True)
class WindowKMeans:
    """k-means++ by scikit-learn, the best of ten starts, on windows of frames.

    A window that begins before its series, or holds a masked frame, has the frame after it in its place.

    Args:
        rows, cols: their product is the number of clusters.
        measure: figures of the clusters.
        windows: numbers of frames that are tried.
    """

    rows: int
    cols: int
    measure: Measure
    windows: tuple[int, ...] = (1, 4, 8, 16)

    title = "k-means"
    is_map = False
    takes_all_images = False
    takes_gpu = False

    @property
    def settings(self) -> tuple[Setting, ...]:
        return tuple(Setting(f"windows of {size}", {"window": size}) for size in self.windows)

    def resolve(self, setting: Setting, task: Task) -> dict[str, Any]:
        return {"rows": self.rows, "cols": self.cols, "n_init": _STARTS, **setting.options}

    def train(self, setting: Setting, task: Task) -> Outcome:
        from sklearn.cluster import KMeans  # type: ignore[import-untyped]

        window = setting.options["window"]
        grid = Grid(self.rows, self.cols)
        x, mask = _cut_windows(task.splits.train, window)
        kmeans = KMeans(grid.num_nodes, init="k-means++", n_init=_STARTS, random_state=task.seed).fit(x[mask].numpy())

        def assign(x: Tensor, mask: Tensor) -> Tensor:
            index = torch.zeros(mask.shape, dtype=torch.int64)
            index[mask] = torch.as_tensor(kmeans.predict(x[mask].numpy())).long()
            return index

        held_out, held_out_mask = _cut_windows(task.held_out_data, window)
        nodes = Nodes(grid, assign(x, mask), mask, assign(held_out, held_out_mask), held_out_mask)
        return self.measure(nodes, task)

    def check_installed(self) -> None:
        import sklearn  # type: ignore[import-untyped]  # noqa: F401


def _cut_windows(series: Any, window: int) -> tuple[Tensor, Tensor]:
    """The window that ends with each frame, ``[B, T, window * D]``, and which frames are real, bool ``[B, T]``."""
    assert isinstance(series, Samples)
    x = series.x.flatten(2)
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if series.mask is None else series.mask
    lags, seen = [x], mask
    for lag in range(1, window):
        earlier = torch.cat([x[:, :1].expand(-1, min(lag, x.shape[1]), -1), x[:, :-lag]], dim=1)
        is_real = torch.cat([mask.new_zeros(len(mask), min(lag, x.shape[1])), mask[:, :-lag]], dim=1)
        seen = seen & is_real  # once a frame is missing, so are those before it
        lags.append(torch.where(seen[..., None], earlier, lags[-1]))
    return torch.cat(lags[::-1], dim=2), mask
