"""SOM-VAE as a scikit-learn estimator: arrays in, clusters and positions on the map out."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin  # type: ignore[import-untyped]
from sklearn.utils import Tags, check_random_state  # type: ignore[import-untyped]
from sklearn.utils.validation import check_is_fitted, validate_data  # type: ignore[import-untyped]
from torch import Tensor

from somvae_ext import evaluation, ops, training
from somvae_ext.arrays import as_array, match_input_type, table_to_array
from somvae_ext.data import Kind, Samples, Scaling
from somvae_ext.data.sample_arrays import as_finite_floats, is_image_shape, pad_series, with_sample_axes
from somvae_ext.estimators.features import check_numeric_columns, features_restored_on_failure
from somvae_ext.estimators.grid_places import nodes_at
from somvae_ext.estimators.notebook import ShownInNotebooks, describe_hits, describe_names, map_pictures
from somvae_ext.former_names import current_preset, current_values
from somvae_ext.grid import Grid, Topology
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.models.networks import FRAMES_AT_ONCE
from somvae_ext.notebook_html import View
from somvae_ext.parameter_hints import hint_parameters
from somvae_ext.recipes import DECAY_FACTOR, PRESETS, add_schedule, make_somvae_config, recipe_for_own_data
from somvae_ext.training import AffineAugmentation, Encodings, TrainingConfig

Array = NDArray[Any] | Tensor
Data = ArrayLike | Tensor | Sequence[Any]

_OWNER = "SOMVAEClusterer"
_SELECTION_TERM = "reconstruction_q"  # the loss term by which several trainings are compared
# Fields of the model's config that are parameters of the estimator or follow from the data.
_PARAMETERS = {
    "rows": "n_rows",
    "cols": "n_cols",
    "topology": "topology",
    "periodic": "periodic",
    "latent_dim": "latent_dim",
    "input_shape": "image_shape",
}


class SOMVAEClusterer(ShownInNotebooks, ClusterMixin, TransformerMixin, BaseEstimator):
    """Clusters samples, or frames of series, by a SOM-VAE (Fortuin et al. 2019): an autoencoder whose codes form a map.

    For tensors, results are tensors on the same device; for all other data they are numpy arrays. Values are scaled to
    [0, 1] by the training data: tables feature by feature, images as a whole and only if some values lie outside.

    Parameters
    ----------
    n_rows, n_cols : int or None
        Size of the map, R and C; K = R * C clusters in row-major order. By default that of the preset: 4 x 4 for
        ``"clusters"`` and ``"own-loss"``, 8 x 8 for the others.
    preset : str or None
        A preset of ``somvae fit``. ``"clusters"``: pure clusters, with the hardening of SOM-VAE's successors;
        ``"own-loss"``: the loss of SOM-VAE alone; ``"ordered"``: a map whose neighbors look alike; ``"augmented"``,
        ``"published"``, ``"unpadded-conv"``: the published loss. None: the defaults of
        :class:`~somvae_ext.models.SOMVAEConfig`.
    topology : {"rectangular", "hexagonal"}
        On hexagons all six neighbors are at distance 1.
    periodic : bool
        Whether the map wraps around.
    latent_dim : int or None
        Size of an encoding D; by default the preset's.
    model_options : mapping or None
        Further fields of :class:`~somvae_ext.models.SOMVAEConfig`, such as ``{"alpha": 0.5, "network": "dense"}``. They
        override those of the preset.
    kind : {"static", "series"} or None
        How axes are interpreted. Static samples are tables ``(N, F)``, gray images ``(N, H, W)`` or images
        ``(N, C, H, W)``; series are ``(B, T, F)``, ``(B, T, H, W)`` or ``(B, T, C, H, W)`` or, if their lengths differ,
        a list of arrays ``(T, F)`` and so on. By default arrays with five axes are series, all others static.
    image_shape : tuple of int or None
        Shape (H, W) or (C, H, W) of images that are passed as rows ``(N, F)`` or ``(B, T, F)``.
    n_epochs, batch_size : int or None
        Passes over the data, and samples or series per step. By default 50 and 32, for series 20 and 4; large data get
        fewer epochs, but at least 8, for about 20,000 steps in all. A single series gives one step per epoch: cut a
        long one into windows.
    learning_rate : float or None
        Adam's initial learning rate, by default 1e-3; it is reduced by a tenth every 500 steps.
    augmentation : AffineAugmentation or None
        Random shifts, rotations, scalings and shears of training images, which make clusters of handwriting and clothes
        much purer.
    augmented_target : bool
        Whether the model reconstructs the augmented images instead of the clean ones, as the preset ``"clusters"`` of
        ``somvae fit`` does on MNIST.
    n_init : int
        Number of trainings with different seeds. The one whose codes reconstruct held-out samples best is kept; labels
        are not used.
    validation_fraction : float
        Share of the samples, or series, held out to choose among the trainings. With ``n_init=1`` all are trained on.
    random_state : int, RandomState or None
        Seed of the initial weights, the batches and all draws of the model.
    device : {"auto", "cpu", "cuda"}
        Device to train on; ``"auto"`` takes a GPU if there is one.
    verbose : bool
        Whether to show a progress bar for each epoch.

    Attributes
    ----------
    model_ : SOMVAE
        The trained model, in evaluation mode, for samples scaled by ``scaling_``.
    scaling_ : Scaling
        The scaling that values go through before the model sees them.
    grid_ : Grid
        The map's geometry.
    codebook_ : array or tensor of shape (K, D)
        The codes, in the space of the encodings.
    prototypes_ : array or tensor of shape ``(K, *sample_shape)``
        What each node stands for: the decoded codes, in the units of the data. The shape of a sample is (F,) or
        (C, H, W).
    labels_ : array, tensor or list
        Node of each training sample or frame, as :meth:`predict` returns them.
    hits_ : array or tensor of shape (K,)
        Number of training samples or frames that each node won, int64.
    history_ : list of dict
        A record per epoch, see :func:`~somvae_ext.training.fit`.
    n_iter_ : int
        Number of epochs trained.
    seed_ : int
        Seed of the training that was kept.
    candidates_ : dict
        With ``n_init`` above 1, the loss of each seed on the held-out samples, infinite for a failed training.
    n_features_in_ : int
        Number of columns; for images and series, the number of values per sample or frame.
    feature_names_in_ : array of str
        Names of the columns of a table, if it has any.

    Examples
    --------
    >>> import numpy as np
    >>> from somvae_ext.estimators import SOMVAEClusterer
    >>> x = np.random.default_rng(0).random((200, 6), dtype=np.float32)
    >>> clusterer = SOMVAEClusterer(2, 2, n_epochs=5, random_state=0).fit(x)
    >>> clusterer.predict(x[:3]).shape, clusterer.transform(x[:3]).shape
    ((3,), (3, 2))
    >>> int(clusterer.hits_.sum()), clusterer.inverse_transform([[0, 0], [1, 1]]).shape
    (200, (2, 6))
    >>> clusterer.cluster_nodes(2).shape
    (4,)
    """

    model_: SOMVAE
    scaling_: Scaling
    grid_: Grid
    labels_: Array | list[Array]
    hits_: Array

    @hint_parameters(rows="n_rows", cols="n_cols", epochs="n_epochs", num_epochs="n_epochs", seed="random_state")
    def __init__(
        self,
        n_rows: int | None = None,
        n_cols: int | None = None,
        *,
        preset: str | None = "clusters",
        topology: Topology = "rectangular",
        periodic: bool = False,
        latent_dim: int | None = None,
        model_options: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
        image_shape: tuple[int, ...] | None = None,
        n_epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        augmentation: AffineAugmentation | None = None,
        augmented_target: bool = False,
        n_init: int = 1,
        validation_fraction: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        verbose: bool = False,
    ) -> None:
        self.n_rows = n_rows
        self.n_cols = n_cols
        self.preset = preset
        self.topology = topology
        self.periodic = periodic
        self.latent_dim = latent_dim
        self.model_options = model_options
        self.kind = kind
        self.image_shape = image_shape
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augmentation = augmentation
        self.augmented_target = augmented_target
        self.n_init = n_init
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    # ---- training ----------------------------------------------------------------------------------------------------

    def fit(self, X: Data, y: Any = None) -> Self:
        """Trains the model.

        The state of torch's global random number generators is preserved.

        Parameters
        ----------
        X : array, table, tensor, or list of series
            See ``kind``.
        y : ignored

        Raises
        ------
        ValueError
            A parameter out of range, or data that cannot be trained on.
        FloatingPointError
            A loss that is not finite.
        """
        self._check_parameters()
        with features_restored_on_failure(self):
            kind = self._data_kind(X)
            samples = self._samples(X, kind, reset=True)
            seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
            parts = [samples] if self.n_init == 1 else self._split_samples(samples, seed)
            shape = tuple(samples.x.shape[2 if kind == "series" else 1 :])
            scaling = Scaling.from_samples(parts[0], tabular=len(shape) == 1)
            parts = [scaling.apply_to_samples(part) for part in parts]
            config, recipe = self._configs(parts[0], kind, shape)
            best, losses = self._train_and_select(config, recipe, seed, *parts)
        self._kind, self._sample_shape = kind, shape
        self.model_, self.scaling_, self.grid_, self.history_ = best.model, scaling, config.grid, best.history
        self.n_iter_ = len(best.history)
        self.seed_, self.candidates_ = best.seed, losses if self.n_init > 1 else {}
        example: Any = X[0] if self._is_list_of_series(X) else X  # type: ignore[index]
        self.codebook_ = match_input_type(best.model.quantizer.codebook.detach(), example)
        self.prototypes_ = match_input_type(scaling.undo(best.model.decoded_map().detach().flatten(0, 1)), example)
        self.labels_ = self.predict(X)
        labels = self.labels_ if isinstance(self.labels_, list) else [self.labels_]
        node = torch.cat([torch.as_tensor(part).flatten() for part in labels])
        self.hits_ = match_input_type(torch.bincount(node, minlength=self.grid_.num_nodes), example)
        return self

    def _train_and_select(
        self, config: SOMVAEConfig, recipe: TrainingConfig, seed: int, train: Samples, held_out: Samples | None = None
    ) -> tuple[_TrainedCandidate, dict[int, float]]:
        """Trains ``n_init`` models and returns the one that reconstructs best, and the losses of all."""
        best: _TrainedCandidate | None = None
        losses: dict[int, float] = {}
        for number in range(seed, seed + self.n_init):
            try:
                result = self._train(config, dataclasses.replace(recipe, seed=number), train, held_out)
            except FloatingPointError as error:
                losses[number] = math.inf
                if best is None and len(losses) == self.n_init:
                    raise
                warnings.warn(f"{_OWNER}: the training with seed {number} failed: {error}", stacklevel=3)
                continue
            losses[number] = result.loss
            if best is None or result.loss < best.loss:
                best = result
        assert best is not None
        return best, losses

    def _train(
        self, config: SOMVAEConfig, recipe: TrainingConfig, train: Samples, held_out: Samples | None
    ) -> _TrainedCandidate:
        with torch.random.fork_rng(range(torch.cuda.device_count())), torch.enable_grad():
            torch.manual_seed(recipe.seed)
            model = SOMVAE(config)
            history = training.fit(
                model,
                train,
                recipe,
                validation=held_out,
                accelerator=self.device,
                show_progress=self.verbose,
            )
        loss = math.nan if held_out is None else history[-1]["validation"][_SELECTION_TERM]
        return _TrainedCandidate(recipe.seed, model, history, loss)

    # ---- use ---------------------------------------------------------------------------------------------------------

    def predict(self, X: Data) -> Any:
        """Returns the node of each sample, int64 ``(N,)``, from 0 to K - 1 in row-major order.

        For series, these are the nodes of their frames, ``(B, T)``, or a list of arrays ``(T,)`` for a list of series.
        """
        return self._to_caller(X, self._encode(X).indices)

    def transform(self, X: Data) -> Any:
        """Returns row and column of the node of each sample, int64 ``(N, 2)``; for series see :meth:`predict`."""
        indices = self._encode(X).indices
        assert indices is not None
        return self._to_caller(X, torch.stack(self.grid_.row_col(indices), dim=-1))

    def inverse_transform(self, X: Data) -> Any:
        """Returns the prototypes ``(N, *sample_shape)`` of the nodes at rows and columns that :meth:`transform` gave.

        Parameters
        ----------
        X : array of shape (N, 2); for series (B, T, 2) or a list of arrays (T, 2)
            Integers: rows and columns within the grid.

        Raises
        ------
        ValueError
            A wrong shape, values that are not integers, or a place outside the grid.
        """
        check_is_fitted(self)
        prototypes = torch.as_tensor(self.prototypes_)

        def prototypes_at(places: Any, name: str, shape: str) -> Array:
            node = nodes_at(_OWNER, name, places, self.grid_, shape)
            return match_input_type(prototypes[node.to(prototypes.device)], places)

        if self._kind == "static":
            return prototypes_at(X, "X", "[N, 2]")
        if self._is_list_of_series(X):
            return [prototypes_at(places, f"X[{row}]", "[T, 2]") for row, places in enumerate(X)]  # type: ignore[arg-type]
        return prototypes_at(X, "X", "[B, T, 2]")

    def cluster_nodes(self, n_clusters: Any = "auto", *, criterion: evaluation.Criterion = "silhouette") -> Array:
        """Groups the nodes by their codes, in the space of the encodings; returns the cluster of each, int64 ``(K,)``.

        Arguments and errors are those of :meth:`SOM.cluster_nodes <somvae_ext.estimators.SOM.cluster_nodes>`.
        """
        check_is_fitted(self)
        clusters = evaluation.cluster_nodes(self.codebook_, n_clusters, criterion=criterion)
        return match_input_type(clusters.cluster, self.codebook_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Returns the names of the columns of :meth:`transform`: ``som_row``, ``som_column``."""
        check_is_fitted(self)
        return np.array(["som_row", "som_column"], dtype=object)

    def encode(self, X: Data) -> Any:
        """Returns the encodings, float32 ``(N, D)``, for which :meth:`predict` finds the nearest codes."""
        return self._to_caller(X, self._encode(X).z)

    def confidence(self, X: Data) -> Any:
        """Returns how clearly each sample belongs to its node: from 0, as close to another code, to 1, on the code.

        The confidence is 1 - d / d', where d and d' are the distances of the encoding to the nearest and the second
        nearest code: the sample's simplified silhouette (Hruschka et al. 2006).

        Raises
        ------
        ValueError
            A map of one node, which has no second nearest code.
        """
        check_is_fitted(self)
        if self.grid_.num_nodes < 2:
            raise ValueError(f"{_OWNER}: the map must have at least 2 nodes for a confidence, got 1")
        z = self._encode(X).z
        codebook = self.model_.quantizer.codebook.detach().cpu()
        distance = ops.bmu(z.flatten(0, -2), codebook, k=2).distance.sqrt()
        best, second = distance.unbind(dim=1)
        # 0 where both codes lie on the encoding or infinitely far from it: their distances have no ratio.
        margin = torch.where(second > 0, 1 - best / second.where(second > 0, 1), 0).nan_to_num(nan=0.0)
        return self._to_caller(X, margin.view(z.shape[:-1]))

    def outlier_score(self, X: Data) -> Any:
        """Returns how unlike the training data each sample is: the mean squared reconstruction error of scaled values.

        Samples are reconstructed from their encodings, without the map: this detected images of another data set better
        than the distance to the nearest code did. A model without a second decoder reconstructs them from the codes.
        Larger scores are more unlike. The threshold is up to the caller, for example a quantile of the scores of the
        training data.
        """
        samples = self._scaled_samples(X)
        return self._to_caller(X, self._errors(samples, of_codes=self.model_.decoder_e is None))

    def score(self, X: Data, y: Any = None) -> float:
        """Returns the negative mean squared error of reconstructions from codes, of scaled values: higher is better.

        It uses no labels and is suitable for parameter searches.
        """
        samples = self._scaled_samples(X)
        errors = self._errors(samples, of_codes=True)
        return -float((errors if samples.mask is None else errors[samples.mask]).double().mean())

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "model_" in state:  # on the CPU, so that it can be loaded where there is no GPU
            state = state | {"model_": copy.deepcopy(state["model_"]).cpu()}
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []  # coordinates are integers
        tags.non_deterministic = self.random_state is None
        return tags

    def _notebook_view(self) -> View:
        sample, shape = "frame" if self._kind == "series" else "sample", self._sample_shape
        samples, used = describe_hits(self.hits_, sample)
        if is_image_shape(shape):
            values = f"images {' x '.join(map(str, shape))}"
        else:
            values = describe_names("features", self.n_features_in_, getattr(self, "feature_names_in_", None))
        facts = self.grid_.describe(), samples, values, used, f"{self.n_iter_} epochs"
        images = self.prototypes_ if is_image_shape(shape) else None
        return View("SOMVAEClusterer", facts, map_pictures(self.codebook_, self.grid_, self.hits_, images=images))

    # ---- internals ---------------------------------------------------------------------------------------------------

    def _encode(self, X: Data) -> Encodings:
        samples = self._scaled_samples(X)
        return training.encode(self.model_, samples)

    def _scaled_samples(self, X: Data) -> Samples:
        check_is_fitted(self)
        kind = self._data_kind(X)
        if kind != self._kind:
            raise ValueError(
                f"{_OWNER}: X must hold {'series' if self._kind == 'series' else 'samples'} as the data that were "
                f"fitted, got {'series' if kind == 'series' else 'samples'}; give kind={self._kind!r} before fit"
            )
        return self.scaling_.apply_to_samples(self._samples(X, kind, reset=False))

    @torch.no_grad()
    def _errors(self, samples: Samples, *, of_codes: bool) -> Tensor:
        """Mean squared error of the reconstruction of each sample, ``[N]``, or frame, ``[B, T]``, on the CPU."""
        device = self.model_.quantizer.codebook.device
        frames = samples.x.reshape(-1, *self._sample_shape)
        errors = []
        for part in frames.split(FRAMES_AT_ONCE):
            x = part.to(device)
            output = self.model_(x)
            decoded = output.reconstruction_q if of_codes else output.reconstruction_e
            assert decoded is not None
            if self.model_.config.reconstruction == "bce":
                decoded = decoded.sigmoid()
            errors.append((decoded - x).square().flatten(1).mean(dim=1).cpu())
        # Squares of far outliers overflow, and a difference of infinities is NaN: such errors are infinite.
        return (
            torch.cat(errors)
            .nan_to_num(nan=math.inf, posinf=math.inf)
            .view(samples.x.shape[: -len(self._sample_shape)])
        )

    def _to_caller(self, X: Data, values: Tensor | None) -> Any:
        """Converts values ``[N, ...]`` or ``[B, T, ...]`` to the type that the caller passed."""
        assert values is not None
        if not self._is_list_of_series(X):
            return match_input_type(values, X)
        return [match_input_type(values[row, : len(series)], series) for row, series in enumerate(X)]  # type: ignore[arg-type]

    def _data_kind(self, X: Any) -> Kind:
        return self.kind or ("series" if getattr(X, "ndim", 0) == 5 else "static")

    def _is_list_of_series(self, X: Any) -> bool:
        is_ragged = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
        return self.kind == "series" and (isinstance(X, (list, tuple)) or is_ragged)

    def _samples(self, X: Any, kind: Kind, reset: bool) -> Samples:
        """Returns X with the axes that the model expects, unscaled."""
        mask: Tensor | None = None
        if self._is_list_of_series(X):
            array, real = self._pad_series(X)
            mask = None if real.all() else torch.from_numpy(real)
        else:
            array = self._array(X, kind, reset)
        if self.image_shape is not None:
            array = self._with_image_axes(array, kind)
        values = as_finite_floats(_OWNER, with_sample_axes(_OWNER, array, kind))
        x = torch.from_numpy(np.require(values, requirements=("C", "W")))  # copies a read-only array
        if len(x) == 0:
            raise ValueError(f"{_OWNER}: X must hold at least one {'series' if kind == 'series' else 'row'}, got none")
        shape = tuple(x.shape[2 if kind == "series" else 1 :])
        if reset:
            if not hasattr(X, "columns"):
                self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = math.prod(shape)
        elif shape != self._sample_shape:
            raise ValueError(
                f"{_OWNER}: X must hold {'frames' if kind == 'series' else 'samples'} of shape "
                f"{list(self._sample_shape)}, as those that were fitted, got {list(shape)}"
            )
        return Samples(x, mask=mask)

    def _array(self, X: Any, kind: Kind, reset: bool) -> NDArray[Any]:
        table = None if isinstance(X, Tensor) else table_to_array(_OWNER, "X", X)
        if table is None and isinstance(X, (Tensor, list, tuple, np.ma.MaskedArray)):
            X = as_array(_OWNER, "X", X)
        axes = 2 if table is not None else getattr(X, "ndim", 2)
        if axes > 2:
            return as_array(_OWNER, "X", X)
        if kind == "series":
            shape = list(getattr(X, "shape", ()))
            raise ValueError(
                f"{_OWNER}: X must hold series [B, T, F] or images in the place of features, got shape {shape}; one "
                "series of features is X[None], and several of one value per frame are X[..., None]"
            )
        if table is not None:
            validate_data(self, X, reset=reset, skip_check_array=True)  # for the column names
            return table
        check_numeric_columns(_OWNER, X)
        array: NDArray[Any] = validate_data(self, X, reset=reset)
        return array

    def _with_image_axes(self, array: NDArray[Any], kind: Kind) -> NDArray[Any]:
        """Reshapes rows to images of ``image_shape``."""
        assert self.image_shape is not None
        shape = tuple(int(size) for size in self.image_shape)
        leading = 2 if kind == "series" else 1
        if array.ndim == leading + 1 and array.shape[-1] == math.prod(shape):
            return array.reshape(*array.shape[:-1], *shape)
        if array.shape[leading:] == shape:
            return array
        raise ValueError(
            f"{_OWNER}: X must have {math.prod(shape)} columns for image_shape {shape}, got "
            f"{list(array.shape[leading:])}"
        )

    def _pad_series(self, series: Sequence[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Pads series of different lengths to one array, and returns which of its frames are real."""
        arrays = [as_array(_OWNER, f"X[{row}]", frames) for row, frames in enumerate(series)]
        if not arrays:
            raise ValueError(f"{_OWNER}: X must hold at least one series, got none")
        for row, frames in enumerate(arrays):
            if frames.ndim < 2 or len(frames) == 0:
                raise ValueError(
                    f"{_OWNER}: X[{row}] must be a series [T, F] of at least one frame, got shape {list(frames.shape)}"
                )
            if frames.shape[1:] != arrays[0].shape[1:]:
                raise ValueError(
                    f"{_OWNER}: X[{row}] must have frames of shape {list(arrays[0].shape[1:])} as X[0], got "
                    f"{list(frames.shape[1:])}"
                )
        return pad_series(arrays)

    def _split_samples(self, samples: Samples, seed: int) -> list[Samples]:
        """Splits the samples into those to train on and those held out to choose among the trainings."""
        count = max(1, round(self.validation_fraction * len(samples)))
        if count >= len(samples):
            raise ValueError(
                f"{_OWNER}: X must leave something to train on beside the validation_fraction "
                f"{self.validation_fraction} that n_init = {self.n_init} holds out, got n_samples = {len(samples)}"
            )
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
        return [samples.rows(order[count:]), samples.rows(order[:count])]

    def _configs(self, train: Samples, kind: Kind, shape: tuple[int, ...]) -> tuple[SOMVAEConfig, TrainingConfig]:
        """Returns the configs of the model and of its training."""
        if self.augmentation is not None and len(shape) != 3:
            raise ValueError(
                f"{_OWNER}: augmentation must be None for samples of shape {list(shape)}, which are no images, got "
                f"{self.augmentation}; rows are images with an image_shape"
            )
        preset = None if self.preset is None else PRESETS[SOMVAE.name][current_preset(SOMVAE.name, self.preset)]
        sizes = {"rows": self.n_rows, "cols": self.n_cols, "latent_dim": self.latent_dim}
        explicit: dict[str, Any] = {name: int(size) for name, size in sizes.items() if size is not None}
        # Parameter searches pass numpy's booleans.
        periodic = bool(self.periodic) if isinstance(self.periodic, np.bool_) else self.periodic
        explicit |= {"topology": self.topology, "periodic": periodic} | current_values(self.model_options or {})
        frames = train.x.numel() // math.prod(shape) if train.mask is None else int(train.mask.sum())
        config = make_somvae_config(
            preset, data="", kind=kind, sample_shape=shape, num_samples=frames, explicit=explicit
        )
        if config.init == "kmeans" and frames < config.grid.num_nodes:
            held_out = "" if self.n_init == 1 else f" besides those that n_init = {self.n_init} holds out"
            raise ValueError(
                f"{_OWNER}: X must hold at least a {'frame' if kind == 'series' else 'row'} for each of the "
                f"{config.grid.num_nodes} nodes, got n_samples = {frames}{held_out}; choose a smaller map"
            )
        batch_size = None if self.batch_size is None else int(self.batch_size)
        recipe = recipe_for_own_data(kind, len(train), batch_size) | ({} if preset is None else preset.training)
        overrides = {"epochs": self.n_epochs, "batch_size": batch_size, "learning_rate": self.learning_rate}
        recipe |= {name: value for name, value in overrides.items() if value is not None}
        training_config = TrainingConfig(
            epochs=int(recipe["epochs"]),
            batch_size=int(recipe["batch_size"]),
            learning_rate=float(recipe["learning_rate"]),
            decay_factor=DECAY_FACTOR,
            augmented_target=bool(self.augmented_target),
            **({} if self.augmentation is None else dataclasses.asdict(self.augmentation)),
        )
        config = add_schedule(
            config,
            preset,
            kind=kind,
            epochs=training_config.epochs,
            steps_per_epoch=-(-len(train) // training_config.batch_size),
            explicit=explicit,
        )
        for name, epochs in (("warm_up_epochs", config.warm_up_epochs + 1), ("relabel_after", config.relabel_after)):
            if epochs > training_config.epochs:
                raise ValueError(
                    f"{_OWNER}: n_epochs must be at least {epochs} for {name} = {getattr(config, name)}, got "
                    f"{training_config.epochs}"
                )
        return config, training_config

    def _check_parameters(self) -> None:
        choices: dict[str, tuple[Any, ...]] = {
            "preset": (*PRESETS[SOMVAE.name], None),
            "kind": ("static", "series", None),
            "device": ("auto", "cpu", "cuda"),
        }
        for name, values in choices.items():
            value = getattr(self, name)
            if name == "preset" and isinstance(value, str):
                value = current_preset(SOMVAE.name, value)
            if not (value is None or isinstance(value, str)) or value not in values:
                raise ValueError(f"{_OWNER}: {name} must be one of {', '.join(map(repr, values))}, got {value!r}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"{_OWNER}: device must be 'auto' or 'cpu' where torch finds no GPU, got 'cuda'")
        for name in ("n_rows", "n_cols", "latent_dim", "n_epochs", "batch_size", "n_init"):
            value = getattr(self, name)
            if (value is not None or name == "n_init") and not _is_integer(value):
                raise ValueError(f"{_OWNER}: {name} must be an integer of at least 1, got {value!r}")
        rate, share, shape = self.learning_rate, self.validation_fraction, self.image_shape
        if rate is not None and not (isinstance(rate, numbers.Real) and 0 < rate < math.inf):
            raise ValueError(f"{_OWNER}: learning_rate must be a finite number above 0, got {rate!r}")
        if not (isinstance(share, numbers.Real) and 0 < share < 1):
            raise ValueError(f"{_OWNER}: validation_fraction must be above 0 and below 1, got {share!r}")
        is_shape = isinstance(shape, (tuple, list)) and len(shape) in (2, 3) and all(map(_is_integer, shape))
        if shape is not None and not is_shape:
            raise ValueError(f"{_OWNER}: image_shape must be (H, W) or (C, H, W), got {shape!r}")
        for name in ("verbose", "augmented_target"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{_OWNER}: {name} must be True or False, got {getattr(self, name)!r}")
        if self.augmentation is not None and not isinstance(self.augmentation, AffineAugmentation):
            raise ValueError(
                f"{_OWNER}: augmentation must be None or a training.AffineAugmentation, got {self.augmentation!r}"
            )
        if self.augmented_target and self.augmentation in (None, AffineAugmentation()):
            raise ValueError(f"{_OWNER}: augmented_target must be False without an augmentation, got True")
        self._check_model_options()

    def _check_model_options(self) -> None:
        if self.model_options is not None and not isinstance(self.model_options, Mapping):
            raise ValueError(f"{_OWNER}: model_options must be a mapping or None, got {self.model_options!r}")
        field_names = {field.name for field in dataclasses.fields(SOMVAEConfig)}
        for name in self.model_options or {}:
            if name in _PARAMETERS:
                raise ValueError(
                    f"{_OWNER}: model_options must not hold {name!r}; the parameter {_PARAMETERS[name]} is for it"
                )
            if name not in field_names:
                raise ValueError(f"{_OWNER}: model_options must be fields of SOMVAEConfig, got {name!r}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1


class _TrainedCandidate(NamedTuple):
    """A trained model and its loss on the held-out samples, or NaN without any."""

    seed: int
    model: SOMVAE
    history: list[dict[str, Any]]
    loss: float
