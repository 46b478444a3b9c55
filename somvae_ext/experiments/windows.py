"""k-means on windows of series: each frame concatenated with the frames before it."""

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
_MOST_WINDOWS = 200_000  # from which centers are computed
_SERIES_AT_ONCE = 500


@dataclasses.dataclass(frozen=True)
class WindowKMeans:
    """k-means++ by scikit-learn, the best of ten starts, on windows of frames.

    A frame of a window that lies before the series or is masked is replaced by the frame after it. Centers are computed
    from at most 200,000 random windows.

    Args:
        rows, cols: their product is the number of clusters.
        measure: computes the figures of the clusters.
        windows: the lengths of windows that are tried, in frames.
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
        kmeans = KMeans(grid.num_nodes, init="k-means++", n_init=_STARTS, random_state=task.seed)
        train: Any = task.splits.train
        kmeans.fit(_draw_windows(train, window, task.seed).numpy())

        def assign(series: Samples) -> tuple[Tensor, Tensor]:
            parts = []
            for rows in torch.arange(len(series)).split(_SERIES_AT_ONCE):
                x, mask = _cut_windows(series.rows(rows), window)
                index = torch.zeros(mask.shape, dtype=torch.int64)
                index[mask] = torch.as_tensor(kmeans.predict(x[mask].numpy())).long()
                parts.append((index, mask))
            indices, masks = zip(*parts, strict=True)
            return torch.cat(indices), torch.cat(masks)

        nodes = Nodes(grid, *assign(train), *assign(task.held_out_data), is_map=False)
        return self.measure(nodes, task)

    def check_installed(self) -> None:
        import sklearn  # type: ignore[import-untyped]  # noqa: F401


def _draw_windows(series: Samples, window: int, seed: int) -> Tensor:
    """Up to ``_MOST_WINDOWS`` windows ``[N, window * D]``, from series in a random order."""
    order = torch.randperm(len(series), generator=torch.Generator().manual_seed(seed))
    windows: list[Tensor] = []
    for rows in order.split(_SERIES_AT_ONCE):
        x, mask = _cut_windows(series.rows(rows), window)
        windows.append(x[mask])
        if sum(map(len, windows)) >= _MOST_WINDOWS:
            break
    return torch.cat(windows)[:_MOST_WINDOWS]


def _cut_windows(series: Any, window: int) -> tuple[Tensor, Tensor]:
    """The window that ends with each frame, ``[B, T, window * D]``, and which frames are real, bool ``[B, T]``."""
    assert isinstance(series, Samples)
    x = series.x.flatten(2)
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if series.mask is None else series.mask
    lags, in_series = [x], mask
    for lag in range(1, window):
        earlier = torch.cat([x[:, :1].expand(-1, min(lag, x.shape[1]), -1), x[:, :-lag]], dim=1)
        is_real = torch.cat([mask.new_zeros(len(mask), min(lag, x.shape[1])), mask[:, :-lag]], dim=1)
        in_series = in_series & is_real  # once a frame is missing, so are those before it
        lags.append(torch.where(in_series[..., None], earlier, lags[-1]))
    return torch.cat(lags[::-1], dim=2), mask
