"""The self-organizing map as a scikit-learn estimator: a thin interface to :mod:`somvae_ext.som`."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin  # type: ignore[import-untyped]
from sklearn.utils import Tags, check_random_state  # type: ignore[import-untyped]
from sklearn.utils.validation import check_is_fitted, validate_data  # type: ignore[import-untyped]
from torch import Tensor

from somvae_ext import evaluation, som
from somvae_ext.arrays import as_array, as_floats, as_real_numbers, match_input_type, table_to_array
from somvae_ext.estimators.collapse import describe_collapse
from somvae_ext.estimators.features import check_numeric_columns, features_restored_on_failure
from somvae_ext.estimators.grid_places import nodes_at
from somvae_ext.estimators.notebook import ShownInNotebooks, describe_hits, describe_names, map_pictures
from somvae_ext.grid import Connectivity, Grid, Topology
from somvae_ext.notebook_html import View
from somvae_ext.parameter_hints import hint_parameters
from somvae_ext.processes import Processes, local_device
from somvae_ext.progress import Progress
from somvae_ext.som import (
    ArrayRows,
    Distance,
    EpochRecord,
    Init,
    Metric,
    MetricName,
    Missing,
    Neighborhood,
    RowFormat,
    Rows,
    Schedule,
    SlicedArray,
    StreamRows,
)
from somvae_ext.som.neighborhoods import SIGNED_NEIGHBORHOODS, check_neighborhood
from somvae_ext.som.schedules import check_schedule

Array = NDArray[Any] | Tensor
Data = ArrayLike | Tensor | Iterable[Any]

_ORDERED_STARTS = ("pca", "kmeans")

# Names of the parameters in the layer and in other libraries (MiniSom, sklearn-som, quicksom, somoclu, susi).
_OTHER_NAMES = {
    **dict.fromkeys(("rows", "num_rows", "x", "m"), "n_rows"),
    **dict.fromkeys(("cols", "num_cols", "n_columns", "y", "n"), "n_cols"),
    # No entry for "iterations": in other libraries these are updates by single rows.
    **dict.fromkeys(("epochs", "num_epochs", "n_epoch"), "n_epochs"),
    **dict.fromkeys(("alpha", "lr", "learning_rate"), "alpha_initial (with algorithm='minibatch')"),
    **dict.fromkeys(("distance", "activation_distance"), "metric"),
    **dict.fromkeys(("seed", "random_seed"), "random_state"),
    "neighborhood_function": "neighborhood",
    "sigma": "sigma_initial",
}


class MapState(NamedTuple):
    """The state from which a map's training resumes.

    Args:
        codebook: the codes ``[K, D]`` after the last epoch.
        history: the records so far.
        generator: state of the generator that draws mini-batches.
        starts_on_a_line: whether the initial codes lay on a line; the neighborhood's default width depends on it.
    """

    codebook: Tensor
    history: list[EpochRecord]
    generator: Tensor
    starts_on_a_line: bool


class SOM(ShownInNotebooks, TransformerMixin, BaseEstimator):
    """A self-organizing map (Kohonen 1990): a grid of codes that training spreads over the data like a sheet.

    Data may be numpy arrays, pandas, polars or pyarrow tables, torch tensors on any device, or arrays on disk that are
    read in slices (numpy memmaps, h5py, zarr). :meth:`fit` also takes any iterable of batches, such as a ``DataLoader``
    or a list of arrays, and reads it once per epoch in bounded memory. For tensors, results are tensors on the same
    device; for all other data they are numpy arrays. float64 and 32- or 64-bit integers are trained in float64, all
    else in float32, which is faster.

    Parameters
    ----------
    n_rows, n_cols : int
        Size of the map, R and C; K = R * C nodes in row-major order.
    topology : {"rectangular", "hexagonal"}
        On hexagons all six neighbors are at distance 1.
    periodic : bool
        Whether the map wraps around. Periodic hexagons need an even number of rows.
    neighborhood : str or callable
        Weight of the rows that another node won, as a function of the distance d between the nodes on the grid:
        ``"gaussian"`` exp(-d^2 / (2 sigma^2)), ``"fastsom_gaussian"`` (without the 2), ``"square"`` (1 where the
        distances along both axes are at most sigma), ``"bubble"`` (1 where d is at most sigma), ``"triangle"``
        max(0, 1 - d / sigma), ``"mexican_hat"`` (for mini-batches only), or a function from distances on the grid
        ``[M, U]``, float64, and sigma to weights ``[M, U]``. The first three separate along the axes and cost
        O(K (R + C) D) per epoch; the others up to O(K^2 D).
    metric : str or callable
        ``"euclidean"``, ``"cosine"``, ``"manhattan"``, ``"chebyshev"``, ``"minkowski"``, or a function from expanded
        tensors ``[N, 1, D]`` and ``[1, K, D]`` to distances ``[N, K]``. The first two use the fused search.
    p : float
        Exponent of ``"minkowski"``.
    init : {"pca", "random", "samples", "kmeans"} or array of shape (K, D) or (R, C, D)
        Initial codes, see :func:`somvae_ext.som.initial_codebook`; of large data only a sample of the rows is used.
    algorithm : {"batch", "minibatch"}
        ``"batch"``: once per epoch, each code becomes a weighted mean of all rows. ``"minibatch"``: each mini-batch
        takes a step W_v += alpha * mean_b h(c(b), v) (x_b - W_v), with the neighborhood h and the winner c(b) of row b.
    batch_size : int
        Rows per mini-batch. Iterables determine their own batches.
    n_epochs : int
        Passes over the data.
    sigma_initial : float or None
        Initial width of the neighborhood, in units of the grid. By default the map's longer side divided by 4; divided
        by 2 if the initial codes are unordered (``"random"``, ``"samples"``), and by 8 if they are ordered but lie on a
        line, as for data with one column.
    sigma_final : float
        Width in the last epoch.
    sigma_schedule : str or callable
        How the width goes from ``sigma_initial`` to ``sigma_final`` over the epochs: ``"linear"``, ``"exponential"``,
        ``"inverse"``, ``"asymptotic"``, ``"two_phase"``, ``"three_phase"``, or a function of step, number of steps,
        initial and final value.
    alpha_initial, alpha_final, alpha_schedule
        The same for the learning rate of mini-batches and of :meth:`partial_fit`.
    feature_weights : array of shape (D,) or None
        Weight of each feature in distances, at least 0. A feature of weight 0 does not affect distances, but its codes
        are still learned.
    missing : {"error", "ignore"}
        ``"error"``: NaN raises an error that names row and column. ``"ignore"``: NaN is a missing value, which is left
        out of distances and means.
    tol : float or None
        Training stops when the quantization error has not fallen by this fraction in ``patience`` epochs. By default
        all epochs are run, because the error keeps falling as the neighborhood narrows.
    patience : int
        Number of epochs that ``tol`` refers to.
    track_topographic_error : bool
        Whether to also record the share of rows whose best and second best matching units are not neighbors (8
        neighbors on rectangles, 6 on hexagons). The training searches for second best units only if this is set.
    compute_labels : bool
        Whether :meth:`fit` ends with a search for the node of every row. Iterables get no labels.
    distributed : bool
        Whether to train with all processes that ``torchrun`` started: each passes its share of the rows, and all end
        with the same bits (batch algorithm only). They communicate over gloo, or over NCCL if the rows are on GPUs.
    random_state : int, RandomState or None
        Seed of the initial codes and the mini-batches. The same seed gives the same bits, provided that a loader gives
        the same batches.
    device : str, torch.device or None
        Device to train on; by default that of the data. With ``distributed``, ``"cuda"`` is the GPU whose number is the
        process's ``LOCAL_RANK``.
    verbose : bool
        Whether to report the quantization error of each epoch on stderr: by a progress bar on a terminal (needs tqdm),
        by lines elsewhere.

    Attributes
    ----------
    codebook_ : array or tensor of shape (K, D)
        The codes, nodes in row-major order.
    grid_ : Grid
        The map's geometry.
    labels_ : array or tensor of shape (N,)
        Node of each training row, int64, if ``compute_labels``.
    hits_ : array or tensor of shape (K,)
        Number of training rows that each node won, int64, summed over all processes; if ``compute_labels``.
    quantization_error_ : float
        Mean distance of the training rows to their codes, if ``compute_labels``.
    history_ : list of dict
        A record per epoch: ``epoch``, ``sigma``, ``quantization_error``, with mini-batches ``alpha``, and, if tracked,
        ``topographic_error_8`` (``topographic_error_6`` on hexagons). Errors are those of the codes at the start of the
        epoch or, with mini-batches, before each step.
    n_epochs_ : int
        Number of epochs trained.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from somvae_ext.estimators import SOM
    >>> colors = np.random.default_rng(0).random((500, 3), dtype=np.float32)
    >>> som = SOM(8, 8, topology="hexagonal", random_state=0).fit(colors)
    >>> som.predict(colors[:2]).shape, som.transform(colors[:2]).shape
    ((2,), (2, 2))
    >>> int(som.hits_.sum()), som.inverse_transform([[0, 0], [7, 7]]).shape
    (500, (2, 3))
    >>> cluster = som.cluster_nodes(5)  # the cluster of each node
    >>> cluster[som.labels_].shape  # the cluster of each row
    (500,)
    """

    codebook_: Array
    labels_: Array
    hits_: Array
    grid_: Grid

    @hint_parameters(**_OTHER_NAMES)
    def __init__(
        self,
        n_rows: int = 10,
        n_cols: int = 10,
        *,
        topology: Topology = "rectangular",
        periodic: bool = False,
        neighborhood: str | Neighborhood = "gaussian",
        metric: MetricName | Distance = "euclidean",
        p: float = 2.0,
        init: Init | ArrayLike | Tensor = "pca",
        algorithm: Literal["batch", "minibatch"] = "batch",
        batch_size: int = 256,
        n_epochs: int = 20,
        sigma_initial: float | None = None,
        sigma_final: float = 0.5,
        sigma_schedule: str | Schedule = "exponential",
        alpha_initial: float = 0.5,
        alpha_final: float = 0.01,
        alpha_schedule: str | Schedule = "linear",
        feature_weights: ArrayLike | Tensor | None = None,
        missing: Missing = "error",
        tol: float | None = None,
        patience: int = 3,
        track_topographic_error: bool = False,
        compute_labels: bool = True,
        distributed: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str | torch.device | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_rows = n_rows
        self.n_cols = n_cols
        self.topology = topology
        self.periodic = periodic
        self.neighborhood = neighborhood
        self.metric = metric
        self.p = p
        self.init = init
        self.algorithm = algorithm
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.sigma_initial = sigma_initial
        self.sigma_final = sigma_final
        self.sigma_schedule = sigma_schedule
        self.alpha_initial = alpha_initial
        self.alpha_final = alpha_final
        self.alpha_schedule = alpha_schedule
        self.feature_weights = feature_weights
        self.missing = missing
        self.tol = tol
        self.patience = patience
        self.track_topographic_error = track_topographic_error
        self.compute_labels = compute_labels
        self.distributed = distributed
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    # ---- training ----------------------------------------------------------------------------------------------------

    def fit(self, X: Data, y: Any = None, sample_weight: ArrayLike | Tensor | None = None) -> Self:
        """Trains the map.

        Parameters
        ----------
        X : array of shape (N, D), or iterable of batches (n, D)
            At least one row. A batch may be a tuple, as from a ``DataLoader``; only its first item is used.
        y : ignored
        sample_weight : array of shape (N,), optional
            Weight of each row, at least 0; a row of weight 2 counts as two rows. Only the ratios of the weights matter;
            weights below 1e-18 of the largest count as 0. Not for iterables.

        Raises
        ------
        ValueError
            A parameter out of range, or data that cannot be trained on; the message names row and column. With
            ``distributed``, also codes that differ in any bit between processes.

        Warns
        -----
        UserWarning
            The map has collapsed, see :func:`somvae_ext.evaluation.has_collapsed`. This is checked only if there are
            labels, and not with ``distributed``.
        """
        rows = self._fit(X, sample_weight)
        if hasattr(self, "labels_") and isinstance(rows, ArrayRows) and not self.distributed:
            hits = as_array("SOM", "hits_", self.hits_)
            x = rows.sample(som.init_sample_size("pca", 1, rows.dim), Processes.single(rows.row_format.device)).x
            if (collapse := describe_collapse(hits, x)) is not None:
                warnings.warn(
                    f"SOM: {collapse}; try a smaller sigma_final, a larger n_epochs or another init, and look at the "
                    "scaling of X and for outliers",
                    stacklevel=2,
                )
        return self

    def _fit(
        self,
        X: Data,
        sample_weight: ArrayLike | Tensor | None = None,
        *,
        resume_from: MapState | None = None,
        save_state: Callable[[MapState], None] | None = None,
    ) -> Rows:
        """Trains as :meth:`fit` does, and can resume an interrupted training of the same rows.

        ``save_state`` is called after each epoch with the state to resume from; with several processes, only the first
        calls it. Returns the rows that were trained on.
        """
        self.check_parameters()
        device = self._device(X)
        processes = Processes.join_group(device, owner="SOM") if self.distributed else Processes.single(device)
        with features_restored_on_failure(self):
            with processes.fail_together():
                rows = self._rows(X, sample_weight, num_calls=3)
                if isinstance(rows, ArrayRows):
                    _check_squares(rows)
                # Reject a wrong number of feature weights before the training.
                self._metric().with_weights_like(torch.empty(0, rows.dim))
            return self._train(rows, X, processes, resume_from, save_state)

    def _train(
        self,
        rows: Rows,
        X: Data,
        processes: Processes,
        resume_from: MapState | None,
        save_state: Callable[[MapState], None] | None,
    ) -> Rows:
        self._check_agreement(rows, processes)
        if isinstance(rows, ArrayRows):
            rows.normalize_weights(processes)
            som.check_no_empty_columns(rows, processes)
        seed = processes.broadcast_object(self._seed())
        generator = torch.Generator().manual_seed(seed)
        if resume_from is None:
            codebook, grid = self._initial_codebook(rows, processes, seed)
            processes.broadcast_in_place(codebook)
            self._starts_on_a_line = self._is_ordered_line(codebook)
        else:
            codebook, grid = self._resume(resume_from, rows, generator)
        history = [] if resume_from is None else list(resume_from.history)

        def after_epoch(record: EpochRecord, codebook: Tensor) -> None:
            history.append(record)
            if save_state is not None:
                state = MapState(codebook, history, generator.get_state(), self._starts_on_a_line)
                processes.call_on_first(lambda: save_state(state))

        codebook = self._run_epochs(rows, codebook, grid, generator, tuple(history), processes, after_epoch)
        processes.check_same_bits("the codebook", [codebook])
        self.grid_ = grid
        self.history_ = history
        self.n_epochs_ = len(history)
        self._steps = self.n_epochs
        self.codebook_ = match_input_type(codebook, X)
        for stale in ("labels_", "hits_", "quantization_error_"):
            self.__dict__.pop(stale, None)
        if self.compute_labels and isinstance(rows, ArrayRows):
            assignment = som.assign(rows, codebook, grid, self._metric(), processes=processes)
            self.labels_ = match_input_type(assignment.index, X)
            (hits,) = processes.sum(torch.bincount(assignment.index, minlength=grid.num_nodes))
            self.hits_ = match_input_type(hits, X)
            self.quantization_error_ = assignment.quantization_error
        return rows

    def _check_agreement(self, rows: Rows, processes: Processes) -> None:
        """Checks that all processes train the same map on rows of the same kind."""
        processes.check_same("the number of features", rows.dim)
        processes.check_same("the dtype of the rows", str(rows.row_format.dtype))
        init = self.init if isinstance(self.init, str) else "an array"
        processes.check_same("size, init and epochs of the map", (self.n_rows, self.n_cols, init, self.n_epochs))
        processes.check_same("tol and patience", (self.tol, self.patience))

    def _run_epochs(
        self,
        rows: Rows,
        codebook: Tensor,
        grid: Grid,
        generator: torch.Generator,
        previous_records: Sequence[EpochRecord],
        processes: Processes,
        after_epoch: som.EpochCallback,
    ) -> Tensor:
        """Trains the epochs that follow ``previous_records``; the generator draws mini-batches."""

        def on_epoch_end(record: EpochRecord, codebook: Tensor) -> None:
            is_first_epoch = record["epoch"] == len(previous_records) + 1
            if isinstance(rows, StreamRows) and is_first_epoch:  # only now has every row been read
                som.check_no_empty_columns(rows, processes)
            after_epoch(record, codebook)
            # The error first: a narrow terminal cuts off the end of the line.
            values = {"quantization_error": record["quantization_error"]} | record
            progress.after_epoch({name: value for name, value in values.items() if name != "epoch"})

        def batches() -> Iterable[som.Chunk]:
            return rows.batches() if isinstance(rows, StreamRows) else rows.batches(int(self.batch_size), generator)

        options: dict[str, Any] = {
            "metric": self._metric(),
            "neighborhood": self.neighborhood,
            "num_epochs": self.n_epochs,
            "sigma": self._sigma,
            "should_stop": None if self.tol is None else som.early_stopping(self.tol, self.patience),
            "previous_records": previous_records,
            "on_epoch_end": on_epoch_end,
        }
        show = bool(self.verbose) and processes.is_first
        with Progress(self.n_epochs, show=show, completed_epochs=len(previous_records)) as progress:
            if self.algorithm == "batch":
                track = self.track_topographic_error
                return som.train_batch(
                    rows, codebook, grid, track_topographic_error=track, processes=processes, **options
                )[0]
            return som.train_minibatch(batches, codebook, grid, alpha=self._alpha, has_gaps=rows.has_gaps, **options)[0]

    def partial_fit(self, X: Data, y: Any = None, sample_weight: ArrayLike | Tensor | None = None) -> Self:
        """Takes one mini-batch step with these rows, which are not kept.

        The first call initializes the map from them. Learning rate and width follow their schedules for ``n_epochs``
        calls and then keep their final values; after :meth:`fit`, every call uses the final values. ``labels_``,
        ``hits_`` and ``history_`` are not updated.

        Parameters
        ----------
        X : array of shape (N, D)
        y : ignored
        sample_weight : array of shape (N,), optional
        """
        self.check_parameters()
        if self.distributed:
            raise ValueError("SOM: distributed must be False for partial_fit; fit trains with several processes")
        is_first_call = not hasattr(self, "codebook_")
        if not _is_array(X):
            raise ValueError("SOM: X must be an array of rows for partial_fit; give it one batch at a time")
        with features_restored_on_failure(self):
            rows = self._rows(X, sample_weight, reset=is_first_call)
            assert isinstance(rows, ArrayRows)
            processes = Processes.single(rows.row_format.device)
            rows.normalize_weights(processes)
            return self._partial_fit(rows, X, processes)

    def _partial_fit(self, rows: ArrayRows, X: Data, processes: Processes) -> Self:
        if not hasattr(self, "codebook_"):
            rows.row_format.check_no_empty_columns(rows.observed_features)
            codebook, grid = self._initial_codebook(rows, processes, self._seed())
            self._starts_on_a_line = self._is_ordered_line(codebook)
            steps = 0
        else:
            codebook, grid, steps = rows.row_format.to_tensor(self.codebook_), self.grid_, self._steps
        for x, weight in rows.chunks():
            codebook = som.minibatch_step(
                codebook,
                x,
                grid,
                metric=self._metric(),
                neighborhood=self.neighborhood,
                alpha=self._alpha(steps),
                sigma=self._sigma(steps),
                weight=weight,
                has_gaps=rows.has_gaps,
            ).codebook
        self.grid_ = grid
        self._steps = steps + 1
        self.codebook_ = match_input_type(codebook, X)
        return self

    def fit_predict(self, X: Data, y: Any = None, sample_weight: ArrayLike | Tensor | None = None) -> Array:
        """Trains the map and returns the node of each row, int64 ``(N,)``."""
        if not _is_array(X):
            raise ValueError("SOM: X must be an array of rows for fit_predict; fit takes batches, and predict arrays")
        self.fit(X, sample_weight=sample_weight)
        return self.labels_ if hasattr(self, "labels_") else self.predict(X)

    # ---- use ---------------------------------------------------------------------------------------------------------

    def predict(self, X: Data) -> Array:
        """Returns the best matching unit of each row, int64 ``(N,)``: nodes from 0 to K - 1 in row-major order."""
        return match_input_type(self._assign(X).index, X)

    def transform(self, X: ArrayLike | Tensor) -> Array:
        """Returns the position of each row's best matching unit, its row and column on the map, int64 ``(N, 2)``."""
        return match_input_type(torch.stack(self.grid_.row_col(self._assign(X).index), dim=1), X)

    def inverse_transform(self, X: ArrayLike | Tensor) -> Array:
        """Returns the codes ``(N, D)`` of the nodes at rows and columns of the map, as :meth:`transform` gives them.

        Parameters
        ----------
        X : array of shape (N, 2)
            Integers: rows and columns within the grid.

        Raises
        ------
        ValueError
            A wrong shape, values that are not integers, or a place outside the grid.
        """
        check_is_fitted(self)
        codebook = torch.as_tensor(self.codebook_)
        node = nodes_at("SOM", "X", X, self.grid_)
        return match_input_type(codebook[node.to(codebook.device)], X)

    def cluster_nodes(self, n_clusters: Any = "auto", *, criterion: evaluation.Criterion = "silhouette") -> Array:
        """Groups the nodes by their codes and returns the cluster of each node, int64 ``(K,)``.

        Distances between codes are those of the map's metric. The cluster of a row is that of its node,
        ``som.cluster_nodes()[som.predict(X)]``.

        Parameters
        ----------
        n_clusters : int, "auto", or a clusterer of scikit-learn
            By default the best number from 2 to 20. See :func:`somvae_ext.evaluation.cluster_nodes`, which also returns
            the scores of each number.
        criterion : {"silhouette", "davies-bouldin"}
            The score by which the best number is chosen.

        Raises
        ------
        ValueError
            Anything that :func:`somvae_ext.evaluation.cluster_nodes` rejects.
        """
        check_is_fitted(self)
        clusters = evaluation.cluster_nodes(self.codebook_, n_clusters, metric=self._metric(), criterion=criterion)
        return match_input_type(clusters.cluster, self.codebook_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Returns the names of the columns of :meth:`transform`: ``som_row``, ``som_column``."""
        check_is_fitted(self)
        return np.array(["som_row", "som_column"], dtype=object)

    def distances(self, X: ArrayLike | Tensor) -> Array:
        """Returns the distance of each row to each code in the map's metric, ``(N, K)``: large for a large map."""
        rows = self._rows_to_assign(X)
        codebook = rows.row_format.to_tensor(self.codebook_)
        parts = [self._metric().pairwise(chunk.x, codebook) for chunk in rows.chunks()]
        return match_input_type(torch.cat(parts), X)

    def quantization_error(self, X: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None = None) -> float:
        """Returns the mean distance of the rows to their best matching units, in the map's metric."""
        return self._assign(X, sample_weight).quantization_error

    def topographic_error(self, X: Data, *, connectivity: Connectivity | None = None) -> float:
        """Returns the share of rows whose two best matching units are not neighbors on the grid (Kiviluoto 1996).

        ``connectivity`` is the number of neighbors per node: 4 or 8 (the default) on rectangles, 6 on hexagons.
        """
        check_is_fitted(self)
        if self.grid_.num_nodes < 2:
            raise ValueError("SOM: the map must have at least 2 nodes for a topographic error, got 1")
        connectivity = self.grid_.connectivities[-1] if connectivity is None else connectivity
        self.grid_.degree(connectivity=connectivity)  # raises if the grid does not have it
        return self._assign(X, connectivity=connectivity).topographic_error

    def combined_error(self, X: ArrayLike | Tensor, *, connectivity: Connectivity | None = None) -> float:
        """Returns the mean distance of the rows to their best matching units plus the path to the second best ones.

        The path runs along the map. Distances are in the map's metric, see
        :func:`somvae_ext.evaluation.combined_error` (Kaski and Lagus 1996). ``connectivity`` is as for
        :meth:`topographic_error`.
        """
        check_is_fitted(self)
        if self.grid_.num_nodes < 2:
            raise ValueError("SOM: the map must have at least 2 nodes for a combined error, got 1")
        return self._combined_error(X, connectivity=connectivity)

    def score(self, X: ArrayLike | Tensor, y: Any = None, sample_weight: ArrayLike | Tensor | None = None) -> float:
        """Returns the negative :meth:`combined_error`: higher is better, as parameter searches require.

        Maps used to be scored by the quantization error. It falls with every added node, even on held-out rows, so
        that a search picked the largest map. The combined error rises where a map folds to get closer to the data. To
        search by the quantization error, pass ``scoring=lambda som, X, y=None: -som.quantization_error(X)``. A map of
        one node has no second best unit and is scored by the quantization error alone: leave it out of a search.
        """
        return -self._combined_error(X, sample_weight)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "codebook_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "ignore"
        tags.transformer_tags.preserves_dtype = []  # coordinates are integers
        return tags

    def _notebook_view(self) -> View:
        hits = getattr(self, "hits_", None)
        rows, used = describe_hits(hits, "row") if hits is not None else ("", "")
        error = getattr(self, "quantization_error_", None)
        facts = (
            self.grid_.describe(),
            rows,
            describe_names("features", self.n_features_in_, getattr(self, "feature_names_in_", None)),
            "" if error is None else f"quantization error {error:.4g}",
            used,
        )
        return View("SOM", tuple(filter(None, facts)), map_pictures(self.codebook_, self.grid_, hits, self._metric()))

    # ---- internals ---------------------------------------------------------------------------------------------------

    def _assign(
        self,
        X: Data,
        sample_weight: ArrayLike | Tensor | None = None,
        connectivity: Connectivity | None = None,
    ) -> som.Assignment:
        rows = self._rows_to_assign(X, sample_weight)
        rows.normalize_weights(Processes.single(rows.row_format.device))
        codebook = rows.row_format.to_tensor(self.codebook_)
        return som.assign(rows, codebook, self.grid_, self._metric(), connectivity=connectivity)

    def _combined_error(
        self,
        X: Data,
        sample_weight: ArrayLike | Tensor | None = None,
        connectivity: Connectivity | None = None,
    ) -> float:
        rows = self._rows_to_assign(X, sample_weight)
        rows.normalize_weights(Processes.single(rows.row_format.device))
        codebook = rows.row_format.to_tensor(self.codebook_)
        return som.combined_error(rows, codebook, self.grid_, self._metric(), connectivity=connectivity)

    def _rows_to_assign(self, X: Data, sample_weight: ArrayLike | Tensor | None = None) -> ArrayRows:
        check_is_fitted(self)
        if not _is_array(X):
            raise ValueError("SOM: X must be an array of rows; give batches one at a time")
        rows = self._rows(X, sample_weight, reset=False)
        assert isinstance(rows, ArrayRows)
        return rows

    def _rows(
        self, X: Data, sample_weight: ArrayLike | Tensor | None, reset: bool = True, *, num_calls: int = 2
    ) -> Rows:
        """Returns the rows of X, checked; ``reset`` sets what scikit-learn keeps about their features.

        ``num_calls`` is the number of calls from the user's line to this one, so that a warning points at that line.
        """
        if sample_weight is not None and not isinstance(sample_weight, Tensor):
            # A copy: columns of tables may be read-only.
            sample_weight = np.array(as_array("SOM", "sample_weight", sample_weight), dtype=np.float64)
        rows: Rows
        if _is_array(X):
            x = self._as_numeric_array(X, reset)
            rows = ArrayRows(x, self._row_format(x), sample_weight)
        else:
            if sample_weight is not None:
                raise ValueError("SOM: sample_weight must be None where X is an iterable of batches")
            x = som.read_first_batch(X)  # type: ignore[arg-type]
            self._check_width(x.shape[1], reset)
            rows = StreamRows(X, x.shape[1], self._row_format(x))  # type: ignore[arg-type]
        if reset:
            rows.row_format.warn_if_coarse(x, 2 + num_calls)
        return rows

    def _as_numeric_array(self, X: Any, reset: bool) -> Array | SlicedArray:
        """Converts an array of any kind to one of numbers ``[N, D]`` that can be sliced."""
        if isinstance(X, Tensor):
            as_real_numbers("SOM", "X", X)
            if X.dim() != 2 or 0 in X.shape:
                raise ValueError(f"SOM: X must have shape [N, D] with at least one row and column, got {list(X.shape)}")
            self._check_width(X.shape[1], reset)
            return X
        if _is_sliced(X):
            sliced = SlicedArray(X)
            if sliced.dtype.kind not in "fiub" or 0 in sliced.shape:
                raise ValueError(
                    f"SOM: X must hold numbers, at least one row and one column, got {sliced.dtype} of "
                    f"{list(sliced.shape)}"
                )
            self._check_width(sliced.shape[1], reset)
            return sliced
        table = table_to_array("SOM", "X", X)
        if table is not None:
            validate_data(self, X, reset=reset, skip_check_array=True)  # for the column names
            return table
        if isinstance(X, (list, tuple, np.ma.MaskedArray)):
            X = as_array("SOM", "X", X)
        if getattr(X, "ndim", 2) > 2:
            raise ValueError(
                f"SOM: X must have shape [N, D], got {list(X.shape)}; give batches as a list of arrays [n, D], and "
                "images or series as rows"
            )
        check_numeric_columns("SOM", X)
        array = validate_data(self, X, reset=reset, ensure_all_finite=False)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"SOM: X must hold numbers, got dtype {array.dtype}")
        return X if isinstance(X, np.memmap) else array  # a memmap knows its file

    def _row_format(self, x: Array | SlicedArray) -> RowFormat:
        is_integer = not (x.dtype.is_floating_point if isinstance(x, Tensor) else x.dtype.kind == "f")
        return RowFormat(
            torch.float64 if x.dtype.itemsize > (2 if is_integer else 4) else torch.float32,
            self._device(x),
            self.missing,
            getattr(self, "feature_names_in_", None),
        )

    def _device(self, X: Any) -> torch.device:
        requested = self.device if self.device is not None else X.device if isinstance(X, Tensor) else "cpu"
        device = torch.device(requested)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"SOM: device must be one that torch can use, got {str(device)!r} where it finds no GPU")
        return local_device(device, owner="SOM") if self.distributed else device

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _check_width(self, dim: int, reset: bool) -> None:
        if reset:
            self.n_features_in_ = dim
            self.__dict__.pop("feature_names_in_", None)
        elif dim != self.n_features_in_:
            raise ValueError(f"X has {dim} features, but SOM is expecting {self.n_features_in_} features as input")

    def _initial_codebook(self, rows: Rows, processes: Processes, seed: int) -> tuple[Tensor, Grid]:
        grid = self._grid()
        if isinstance(self.init, str):
            num_rows = som.init_sample_size(self.init, grid.num_nodes, rows.dim)  # type: ignore[arg-type]
            x, weight = rows.sample(num_rows, processes)
            codebook = som.initial_codebook(x, grid, self.init, weight=weight, seed=seed)  # type: ignore[arg-type]
            return codebook, grid
        init = self.init if isinstance(self.init, Tensor) else as_array("SOM", "init", self.init)
        shapes = [grid.num_nodes, rows.dim], [self.n_rows, self.n_cols, rows.dim]
        if list(init.shape) not in shapes:
            raise ValueError(
                f"SOM: init must be an array of shape [K, D] = {shapes[0]} or [R, C, D] = {shapes[1]}, got "
                f"{list(init.shape)}"
            )
        codebook = rows.row_format.to_tensor(init.reshape(grid.num_nodes, rows.dim)).clone()
        if not codebook.isfinite().all():
            raise ValueError("SOM: init must hold finite values, got NaN or infinity")
        return codebook, grid

    def _resume(self, state: MapState, rows: Rows, generator: torch.Generator) -> tuple[Tensor, Grid]:
        """Returns the codes of an interrupted training and the grid, and restores the generator's state."""
        grid = self._grid()
        if list(state.codebook.shape) != [grid.num_nodes, rows.dim] or state.codebook.dtype != rows.row_format.dtype:
            raise ValueError(
                f"SOM: the codes to go on from must be {rows.row_format.dtype} of shape [K, D] = "
                f"{[grid.num_nodes, rows.dim]}, got {state.codebook.dtype} of {list(state.codebook.shape)}"
            )
        try:
            generator.set_state(state.generator)
        except (RuntimeError, TypeError) as error:
            raise ValueError("SOM: the generator's state to go on from must be one of torch, got another") from error
        self._starts_on_a_line = bool(state.starts_on_a_line)
        return rows.row_format.to_tensor(state.codebook), grid

    def _grid(self) -> Grid:
        periodic = bool(self.periodic) if isinstance(self.periodic, np.bool_) else self.periodic
        return Grid(self.n_rows, self.n_cols, self.topology, periodic)

    def _metric(self) -> Metric:
        weights = self.feature_weights
        if weights is not None:
            weights = as_floats("SOM", "feature_weights", weights)
        return Metric(self.metric, self.p, weights)

    def _is_ordered_line(self, start: Tensor) -> bool:
        """Whether the initial codes are ordered but lie on a line although the map has two dimensions."""
        ordered = not isinstance(self.init, str) or self.init in _ORDERED_STARTS
        return ordered and min(self.n_rows, self.n_cols) > 1 and som.are_collinear(start)

    def _sigma(self, step: int) -> float:
        initial = self.sigma_initial
        if initial is None:
            ordered = not isinstance(self.init, str) or self.init in _ORDERED_STARTS
            # Codes sorted on a line need less ordering, and fold under a wide neighborhood.
            share = 8 if getattr(self, "_starts_on_a_line", False) else 4 if ordered else 2
            initial = max(max(self.n_rows, self.n_cols) / share, self.sigma_final)
        return som.schedule_value(self.sigma_schedule, step, self.n_epochs, initial, self.sigma_final)

    def _alpha(self, step: int) -> float:
        return som.schedule_value(self.alpha_schedule, step, self.n_epochs, self.alpha_initial, self.alpha_final)

    def check_parameters(self) -> None:
        """Checks the parameters, as :meth:`fit` does before it looks at data.

        Raises
        ------
        ValueError
            A parameter out of range, or one that conflicts with another.
        """
        self._grid()
        check_neighborhood("SOM", self.neighborhood)
        self._metric()
        check_schedule("SOM", "sigma_schedule", self.sigma_schedule)
        check_schedule("SOM", "alpha_schedule", self.alpha_schedule)
        for name, choices in (
            ("init", ("pca", "random", "samples", "kmeans")),
            ("algorithm", ("batch", "minibatch")),
            ("missing", ("error", "ignore")),
        ):
            value = getattr(self, name)
            if (isinstance(value, str) and value not in choices) or value is None:
                names = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"SOM: {name} must be one of {names}, got {value!r}")
        for name in ("n_epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
                raise ValueError(f"SOM: {name} must be an integer of at least 1, got {value!r}")
        for name, optional in (
            ("sigma_initial", True),
            ("sigma_final", False),
            ("alpha_initial", False),
            ("alpha_final", False),
        ):
            value = getattr(self, name)
            if not (optional and value is None) and not (_is_number(value) and value > 0):
                raise ValueError(f"SOM: {name} must be a finite number above 0, got {value!r}")
        if self.tol is not None and not (_is_number(self.tol) and 0 <= self.tol < 1):
            raise ValueError(f"SOM: tol must be None or a share from 0 to below 1, got {self.tol!r}")
        if self.algorithm == "batch" and self.neighborhood in SIGNED_NEIGHBORHOODS:
            raise ValueError(
                f"SOM: neighborhood must not be {self.neighborhood!r} with algorithm='batch', because a mean has no "
                "negative weights; take algorithm='minibatch'"
            )
        if self.track_topographic_error and self.n_rows * self.n_cols < 2:
            raise ValueError("SOM: track_topographic_error must be False for a map of one node, got True")
        if self.track_topographic_error and self.algorithm == "minibatch":
            raise ValueError("SOM: track_topographic_error must be False with algorithm='minibatch', got True")
        if self.distributed and self.algorithm == "minibatch":
            raise ValueError("SOM: distributed must be False with algorithm='minibatch', got True; take 'batch'")


def _is_array(X: Any) -> bool:
    """Whether X holds rows rather than batches of rows: arrays, tables, and lists, which scikit-learn takes as arrays.

    A list of arrays ``[n, D]``, or of tuples that begin with one, holds batches.
    """
    if isinstance(X, (list, tuple)):
        first = X[0] if len(X) else None
        first = first[0] if isinstance(first, (list, tuple)) and len(first) else first
        return len(getattr(first, "shape", ())) != 2
    return hasattr(X, "shape") or not hasattr(X, "__iter__")


def _is_sliced(X: Any) -> bool:
    """Whether X is an array that is read in slices: it has shape, dtype and slicing, and is not in memory."""
    if isinstance(X, np.ndarray) or len(getattr(X, "shape", ())) != 2 or not hasattr(X, "__getitem__"):
        return False
    try:
        np.dtype(X.dtype)
    except (AttributeError, TypeError):  # a table, which has a dtype for each column
        return False
    return not hasattr(X, "tocsr")  # a scipy sparse matrix, which scikit-learn rejects


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _check_squares(rows: ArrayRows) -> None:
    """Checks that squared differences of the values do not underflow.

    Raises:
        ValueError: the largest absolute value is too small.
    """
    smallest = 1e4 * torch.finfo(rows.row_format.dtype).tiny ** 0.5
    if 0 < rows.max_abs < smallest:
        raise ValueError(
            f"SOM: X must hold values above {smallest:.1e} in size, so that their squares do not vanish in "
            f"{str(rows.row_format.dtype).removeprefix('torch.')}, got at most {rows.max_abs:.3e}; rescale the data"
        )
