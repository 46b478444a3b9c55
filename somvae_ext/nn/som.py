"""A self-organizing map as a module, trained by its own rule and not by gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from somvae_ext import som
from somvae_ext.arrays import check_dense
from somvae_ext.config_checks import check_integer
from somvae_ext.grid import Grid, Topology
from somvae_ext.parameter_hints import hint_parameters
from somvae_ext.som import Distance, Metric, MetricName, Neighborhood
from somvae_ext.som.neighborhoods import check_neighborhood, check_sigma

# Names of the parameters in estimators.SOM, in the trainers and in other libraries.
_OTHER_NAMES = {
    **dict.fromkeys(("n_rows", "num_rows", "x", "m"), "rows"),
    **dict.fromkeys(("n_cols", "num_cols", "n_columns", "y", "n"), "cols"),
    **dict.fromkeys(("n_features", "num_features", "input_len"), "dim"),
    "distance": "metric",
}


class SOM(nn.Module):
    """A self-organizing map (Kohonen 1990) with interchangeable distance and neighborhood.

    ``forward`` finds the winners, :meth:`update` takes one step of the on-line rule with a batch. Custom functions
    receive expanded tensors, so that they never deal with the batch::

        def manhattan(x, codebook):          # [N, 1, D] and [1, K, D] -> [N, K]
            return (x - codebook).abs().sum(dim=-1)

        def bubble(grid_distance, sigma):    # [M, U] from M nodes to U winners -> [M, U]
            return (grid_distance <= sigma).to(grid_distance)

    To train a map on an array or a ``DataLoader``, by the batch rule or the on-line rule, use
    :class:`somvae_ext.estimators.SOM`, which is built from the same functions and takes the same distances and
    neighborhoods.

    Args:
        rows: number of rows R of the map.
        cols: number of columns C of the map; K = R * C.
        dim: size D of a code.
        topology: ``"rectangular"`` or ``"hexagonal"``.
        periodic: whether the map wraps around.
        metric: a :class:`~somvae_ext.som.Metric`, one of its names, or a function as above; any increasing function of
            a distance finds the same winners.
        neighborhood: a name that :func:`~somvae_ext.som.neighborhood_update` knows, such as ``"gaussian"``
            (exp(-d^2 / (2 sigma^2))) and ``"fastsom_gaussian"`` (without the 2), or an elementwise function of grid
            distances and sigma, as above.

    Attributes:
        codebook: buffer ``[K, D]``, nodes in row-major order; initially uniform in [0, 1).
        grid: the map's :class:`~somvae_ext.Grid`.

    Raises:
        ValueError: an unknown name, a ``dim`` that is not an integer of at least 1, or an argument that
            :class:`~somvae_ext.Grid` refuses.

    Example:
        >>> import torch
        >>> som = SOM(5, 7, dim=3)
        >>> colors = torch.rand(100, 3)
        >>> for step in range(20):
        ...     winners = som.update(colors, alpha=0.5, sigma=3.0 - 0.1 * step)
        >>> som(colors).shape  # row and column of each color
        torch.Size([100, 2])
    """

    codebook: Tensor

    @hint_parameters(**_OTHER_NAMES)
    def __init__(
        self,
        rows: int,
        cols: int,
        dim: int,
        *,
        topology: Topology = "rectangular",
        periodic: bool = False,
        metric: MetricName | Distance | Metric = "euclidean",
        neighborhood: str | Neighborhood = "gaussian",
    ) -> None:
        super().__init__()
        check_neighborhood("SOM", neighborhood)
        self.grid = Grid(rows, cols, topology, periodic)
        self.dim = check_integer("SOM", "dim", dim)
        self.metric = metric if isinstance(metric, Metric) else Metric(metric)
        self.neighborhood = neighborhood
        self.register_buffer("codebook", torch.empty(self.grid.num_nodes, self.dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a new codebook."""
        nn.init.uniform_(self.codebook)

    def forward(self, x: Tensor) -> Tensor:
        """Finds the row and column of each sample's best matching unit.

        Args:
            x: ``[N, D]``, of the codebook's dtype and on its device.

        Returns:
            int64 ``[N, 2]``. Among equal distances the first node in row-major order wins; a sample with a NaN is
            assigned to node 0.

        Raises:
            ValueError: ``x`` is not a dense tensor, has a shape, dtype or device that does not fit, or the metric does
                not return ``[N, K]``.
        """
        self._check_shape(x)
        winners = som.WinnerSearch(self.codebook, self.grid, self.metric).search(x.detach()).index
        return torch.stack(self.grid.row_col(winners), dim=1)

    @torch.no_grad()
    def update(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """Takes one step of the on-line rule, W_v += alpha * mean_b theta(u_b, v) * (x_b - W_v), in place.

        theta(u_b, v) is the neighborhood function between the winner u_b of sample b and node v. Samples with the same
        winner are summed first, see :func:`somvae_ext.som.minibatch_step`.

        Args:
            x: a batch ``[N, D]``; N = 0 changes nothing.
            alpha: learning rate, at least 0; up to 1, a step never overshoots if the neighborhood is at most 1.
            sigma: width of the neighborhood in units of the grid, above 0.

        Returns:
            The winners before the step, as :meth:`forward` returns them.

        Raises:
            ValueError: as :meth:`forward`; a sample that is not finite; ``alpha`` or ``sigma`` out of range; a
                neighborhood function that does not return ``[M, U]``.
        """
        self._check_batch("SOM.update", x)
        check_sigma("SOM.update", sigma)
        result = som.minibatch_step(
            self.codebook,
            x.detach(),
            self.grid,
            metric=self.metric,
            neighborhood=self.neighborhood,
            alpha=alpha,
            sigma=sigma,
        )
        self.codebook.copy_(result.codebook)
        return torch.stack(self.grid.row_col(result.index), dim=1)

    def extra_repr(self) -> str:
        functions = {"metric": self.metric.distance, "neighborhood": self.neighborhood}
        options = ", ".join(f"{k}={v!r}" if isinstance(v, str) else f"{k}={_name(v)}" for k, v in functions.items())
        return f"{self.grid}, dim={self.dim}, {options}"

    def _check_shape(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise ValueError(f"SOM: x must be a tensor, got {type(x).__name__}; convert it with torch.as_tensor")
        check_dense("SOM", "x", x)
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"SOM: x must have shape [N, D] with D = {self.dim}, got {list(x.shape)}")
        codebook = self.codebook
        if x.dtype != codebook.dtype or x.device != codebook.device:
            raise ValueError(
                f"SOM: x must be {codebook.dtype} on {codebook.device} as the codebook is, got {x.dtype} on {x.device}"
            )

    def _check_batch(self, owner: str, x: Tensor) -> None:
        self._check_shape(x)
        bad_rows = (~x.isfinite().all(dim=1)).nonzero()
        if len(bad_rows):
            raise ValueError(f"{owner}: x must hold finite values only, got NaN or infinity in row {int(bad_rows[0])}")


def _name(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)
