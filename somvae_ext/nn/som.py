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

# What a parameter is called by estimators.SOM, by the trainers and by other libraries.
_OTHER_NAMES = {
    **dict.fromkeys(("n_rows", "num_rows", "x", "m"), "rows"),
    **dict.fromkeys(("n_cols", "num_cols", "n_columns", "y", "n"), "cols"),
    **dict.fromkeys(("n_features", "num_features", "input_len"), "dim"),
    "distance": "metric",
}


class SOM(nn.Module):
    """A self-organizing map (Kohonen 1990) with interchangeable distance and neighbourhood.

    ``forward`` finds the winners, :meth:`update` takes one step of the on-line rule with a batch. Functions of one's
    own are written on tensors that are expanded already, so that they never deal with the batch::

        def manhattan(x, codebook):          # [N, 1, D] and [1, K, D] -> [N, K]
            return (x - codebook).abs().sum(dim=-1)

        def bubble(grid_distance, sigma):    # [M, U] from M nodes to U winners -> [M, U]
            return (grid_distance <= sigma).to(grid_distance)

    Whole trainings, over a ``DataLoader`` or an array, by the batch rule or the on-line rule, are those of
    :class:`somvae_ext.estimators.SOM`, which is made of the same functions and takes the same distances and
    neighbourhoods.

    Args:
        rows: rows of the map R.
        cols: columns of the map C; K = R * C.
        dim: size of a code D.
        topology: ``"rectangular"`` or ``"hexagonal"``.
        periodic: whether the map wraps around.
        metric: a :class:`~somvae_ext.som.Metric`, a name that it knows, or a function as above; any monotonic function
            of a distance finds the same winners.
        neighborhood: a name that :func:`~somvae_ext.som.neighborhood_update` knows, such as ``"gaussian"``
            (exp(-d^2 / (2 sigma^2))) and ``"fastsom_gaussian"`` (without the 2), or a function as above, of distances
            on the grid and of sigma, one element at a time.

    Attributes:
        codebook: buffer ``[K, D]``, nodes in row-major order; at first uniform in [0, 1).
        grid: the map's :class:`~somvae_ext.Grid`.

    Raises:
        ValueError: an unknown name, a ``dim`` that is not an integer of at least 1, or what
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
        """Row and column of each sample's best matching unit.

        Args:
            x: ``[N, D]``, of the codebook's dtype and on its device.

        Returns:
            int64 ``[N, 2]``. Equal distances go to the first node in row-major order; a row with a NaN goes to node 0.

        Raises:
            ValueError: no dense tensor, a shape, dtype or device that does not fit, or a metric that does not give
                ``[N, K]``.
        """
        self._check_shape(x)
        winners = som.WinnerSearch(self.codebook, self.grid, self.metric).search(x.detach()).index
        return torch.stack(self.grid.row_col(winners), dim=1)

    @torch.no_grad()
    def update(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """One step of the on-line rule, W_v += alpha * mean_b theta(u_b, v) * (x_b - W_v), in place.

        theta(u_b, v) is the neighbourhood of the winner u_b of sample b, at node v. The samples of one winner are
        summed first, see :func:`somvae_ext.som.minibatch_step`.

        Args:
            x: a batch ``[N, D]``; N = 0 changes nothing.
            alpha: learning rate, at least 0; up to 1 a neighbourhood of at most 1 never overshoots.
            sigma: width of the neighbourhood in units of the grid, above 0.

        Returns:
            The winners before the step, as :meth:`forward` gives them.

        Raises:
            ValueError: as :meth:`forward`; a sample that is not finite; ``alpha`` or ``sigma`` out of range; a
                neighbourhood function that does not give ``[M, U]``.
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
