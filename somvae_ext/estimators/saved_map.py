"""A trained map in a result folder, with everything needed to apply it to new data."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import estimator_html_repr  # type: ignore[import-untyped]
from torch import Tensor

from somvae_ext.data.sample_arrays import is_image_shape
from somvae_ext.data.scaling import Scaling
from somvae_ext.estimators.map_record import MapRecord
from somvae_ext.estimators.notebook import describe_hits, describe_names, map_pictures
from somvae_ext.estimators.som import SOM, MapState
from somvae_ext.grid import Grid
from somvae_ext.notebook_html import View, render
from somvae_ext.som import Metric, RowFormat, WinnerSearch
from somvae_ext.store import METRICS, NodeClasses, NodeHits, ResultFolder

Array = NDArray[Any]

# Largest share of the training time for checkpoints: on a small map, writing one takes longer than an epoch.
MAX_CHECKPOINT_SHARE = 0.1
_CODEBOOK = "codebook"
_SPLIT = "train"


class Winners(NamedTuple):
    """Best matching units of n rows.

    ``node`` int64 ``[n]``: the best matching unit of each row. ``distance`` ``[n]``: the distance to it, in the map's
    metric. ``second`` int64 ``[n]``: the second best unit, if requested.
    """

    node: NDArray[np.int64]
    distance: Array
    second: NDArray[np.int64] | None = None


@dataclasses.dataclass
class SavedMap:
    """A trained map, together with the scaling and the record of its training data.

    In its :class:`~somvae_ext.store.ResultFolder`, ``weights-E.safetensors`` holds the ``codebook`` ``[K, D]`` after
    epoch E, with nodes in row-major order, in the units of the *scaled* data. ``nodes.safetensors`` holds ``hits`` and
    ``labels``, and ``metrics.jsonl`` the records of the estimator's ``history_``.

    Args:
        som: a fitted estimator.
        record: its parameters and training data.
        nodes: the training rows of each node; their labels index :attr:`classes`.
        evaluation: errors on the training data.

    Example:
        >>> import somvae_ext
        >>> saved = somvae_ext.load("runs/som-digits")  # written by 'somvae fit digits --model som'
        >>> x = np.random.default_rng(0).uniform(0, 16, (5, 64))
        >>> saved.som.predict(saved.scaling.apply(x)).shape
        (5,)
    """

    som: SOM
    record: MapRecord
    nodes: NodeHits
    evaluation: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def scaling(self) -> Scaling:
        return self.record.scaling

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        return self.record.feature_names

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels 0, 1, ..."""
        return self.record.classes

    @property
    def hits(self) -> NDArray[np.int64]:
        """Number of training rows that each node won, int64 ``[K]``."""
        return self.nodes.hits

    @property
    def node_classes(self) -> NodeClasses | None:
        """The classes of the training rows of each node; None without labels."""
        return self.nodes.classes(self.classes)

    @property
    def grid(self) -> Grid:
        return self.som.grid_

    @property
    def codebook(self) -> NDArray[np.float64]:
        """Codes ``[K, D]`` in the units of the data."""
        return self.scaling.undo(_as_numpy(self.som.codebook_))

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape ``(C, H, W)`` of the images that the map was trained on; None for other data, or if unknown.

        C is 1 or 3.
        """
        data = self.record.data
        shape = None if data is None else data.image_shape
        return shape if shape is not None and is_image_shape(shape) else None

    @property
    def metric(self) -> Metric:
        """The map's metric, for scaled data."""
        return self.som._metric()

    def assign(self, blocks: Iterable[Array], *, with_second: bool = False) -> Iterator[Winners]:
        """Yields the winners of unscaled rows, one block at a time, in bounded memory.

        Args:
            blocks: blocks of rows ``[n, D]``.
            with_second: also search for the second best unit; the map must have at least two nodes.

        Raises:
            ValueError: rows with values that the map does not accept.
        """
        codebook = torch.as_tensor(self.som.codebook_)
        search = WinnerSearch(codebook, self.grid, self.metric)
        row_format = RowFormat(codebook.dtype, codebook.device, self.som.missing, self.feature_names)
        first = 0
        for block in blocks:
            x = row_format.to_tensor(self.scaling.apply(block))
            k = 2 if with_second else 1
            distance, index = search.search(x, k, has_gaps=row_format.check_values(x, first)[0])
            first += len(x)
            distance, index = (part.view(len(x), k).cpu() for part in (distance, index))
            second = index[:, 1].numpy() if with_second else None
            yield Winners(index[:, 0].numpy(), distance[:, 0].numpy(), second)

    def _repr_html_(self) -> str:
        return render(self._notebook_view, below=estimator_html_repr(self.som))

    def _notebook_view(self) -> View:
        data, error = self.record.data, self.evaluation.get("quantization_error")
        shape, scaled = self.image_shape, "" if self.scaling.kind == "none" else " of the scaled data"
        rows, used = describe_hits(self.hits, "row")
        facts = [
            self.grid.describe(),
            rows if data is None else f"{rows} of {data.name}",
            describe_names("features", self.som.n_features_in_, self.feature_names),
        ]
        if self.classes is not None:
            facts.append(describe_names("classes", len(self.classes), self.classes))
        if error is not None:
            facts.append(f"quantization error{scaled} {error:.4g}")
        images = None if shape is None else self.codebook.reshape(-1, *shape)
        pictures = map_pictures(self.som.codebook_, self.grid, self.hits, self.metric, images)
        return View("SavedMap", [*facts, used], pictures)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the map into a folder that :func:`somvae_ext.load` reads.

        Args:
            path: the folder, which is created if it does not exist.
            overwrite: replace an earlier result in it. Other files stay.

        Raises:
            FileExistsError: a folder that :meth:`ResultFolder.create <somvae_ext.store.ResultFolder.create>` rejects.
        """
        folder = ResultFolder.create(path, "map", overwrite=overwrite)
        with folder.lock():
            folder.save_config(self.record.to_config())
            codebook = torch.as_tensor(self.som.codebook_)
            history = getattr(self.som, "history_", [])  # partial_fit records none
            folder.save_checkpoint(len(history), {_CODEBOOK: codebook}, {}, {METRICS: history})
            self.save_results(folder)

    def save_results(self, folder: ResultFolder) -> None:
        """Writes the results of the training into its folder; the map is then complete."""
        self.nodes.save(folder)
        folder.save_evaluation(_SPLIT, self.evaluation)

    @classmethod
    def from_folder(cls, folder: ResultFolder, *, device: torch.device | str = "cpu") -> Self:
        """Reads the map in a folder.

        Args:
            folder: folder of a completed training.
            device: device to put the codes on, as a tensor; on the CPU they are a numpy array instead.

        Raises:
            FileNotFoundError: no epoch of the training was completed.
            ValueError: the training was interrupted, or a file is damaged or does not belong to this map.
        """
        record = MapRecord.from_folder(folder)
        state = load_map_state(folder, record)
        if not is_complete(folder):
            raise ValueError(
                f"{folder.path} must hold a complete map, but its training was interrupted after epoch "
                f"{len(state.history)}; resume it first"
            )
        som = record.build_estimator()
        som.grid_ = grid = record.grid
        on_cpu = torch.device(device).type == "cpu"
        som.codebook_ = state.codebook.numpy() if on_cpu else state.codebook.to(device)
        som.n_features_in_ = state.codebook.shape[1]
        som.history_ = state.history
        som.n_epochs_ = len(som.history_)
        som._steps = som.n_epochs
        evaluation = folder.evaluations.get(_SPLIT, {})
        if "quantization_error" in evaluation:
            som.quantization_error_ = evaluation["quantization_error"]
        nodes = NodeHits.load(folder, grid.num_nodes)
        som.hits_ = nodes.hits if on_cpu else torch.from_numpy(nodes.hits).to(device)
        if record.classes is not None:
            _check_classes(nodes, len(record.classes), folder)
        return cls(som, record, nodes, evaluation)


def is_complete(folder: ResultFolder) -> bool:
    """Whether the training of the map in a folder was completed."""
    return NodeHits.is_in(folder)


def fit_in_folder(som: SOM, X: Any, folder: ResultFolder, *, resume_from: MapState | None = None) -> SOM:
    """Trains as :meth:`SOM.fit <somvae_ext.estimators.SOM.fit>` does, with checkpoints to resume from in a folder.

    A checkpoint is written after each epoch or, where that would take more than a tenth of the time, after the first
    epoch and some later ones; in any case at the end and when the training is interrupted. A training that is resumed
    from any checkpoint gives the same bits.

    Args:
        som: an unfitted estimator.
        X: scaled rows; with several processes, the share of this one.
        folder: folder of the result, to which the config has been saved; with several processes, only the first writes
            to it.
        resume_from: state to resume from, see :func:`load_map_state`.

    Raises:
        OSError: a checkpoint cannot be written.
        ValueError: anything that ``SOM.fit`` rejects.
    """
    checkpoints = _Checkpoints(folder)
    try:
        som._fit(X, resume_from=resume_from, save_state=checkpoints.add)
    except BaseException as error:
        if not isinstance(error, OSError):  # the disk may be full
            checkpoints.write()
        raise
    checkpoints.write()
    return som


class _Checkpoints:
    """Writes the states of a training to a folder, no more often than :data:`MAX_CHECKPOINT_SHARE` allows."""

    def __init__(self, folder: ResultFolder) -> None:
        self._folder = folder
        self._state: MapState | None = None
        self._last = self._cost = 0.0

    def add(self, state: MapState) -> None:
        """Takes the state after an epoch and writes it if the last checkpoint is old enough."""
        self._state = state._replace(history=list(state.history))
        if time.monotonic() - self._last >= self._cost * (1 / MAX_CHECKPOINT_SHARE - 1):
            self.write()

    def write(self) -> None:
        """Writes the last state, unless it has been written already."""
        state, last_epoch = self._state, max(self._folder.epochs, default=0)
        if state is None or len(state.history) == last_epoch:
            return
        start = time.monotonic()
        state_fields = {"generator": state.generator, "starts_on_a_line": state.starts_on_a_line}
        records = {METRICS: state.history[last_epoch:]}
        self._folder.save_checkpoint(len(state.history), {_CODEBOOK: state.codebook}, state_fields, records)
        self._last = time.monotonic()
        self._cost = self._last - start


def load_map_state(folder: ResultFolder, record: MapRecord, epoch: int | None = None) -> MapState:
    """Reads the state of a training after an epoch, by default the last one.

    Raises:
        FileNotFoundError: no epoch was completed.
        ValueError: a file is damaged or does not belong to this map.
    """
    codebook = folder.load_weights(epoch).get(_CODEBOOK)
    expected = (record.grid.num_nodes, record.dim)
    if codebook is None or codebook.dtype not in (torch.float32, torch.float64) or codebook.shape != expected:
        got = "none" if codebook is None else f"{codebook.dtype} of shape {list(codebook.shape)}"
        raise ValueError(f"{folder.path}: the codebook must be of floats and shape {list(expected)}, got {got}")
    if not codebook.isfinite().all():
        raise ValueError(f"{folder.path}: the codebook must be finite, got NaN or infinity")
    history = folder.load_log(METRICS, epoch)
    state = folder.load_state(epoch)
    generator, on_a_line = (state.get(name) for name in ("generator", "starts_on_a_line"))
    if not isinstance(generator, Tensor):
        generator = torch.Generator().get_state()  # the map was saved after its training, without a generator
    return MapState(codebook, history, generator, on_a_line is True)


def _check_classes(nodes: NodeHits, num_classes: int, folder: ResultFolder) -> None:
    labels = nodes.labels
    if labels is None or (labels[:, 1] < 0).any() or (labels[:, 1] >= num_classes).any():
        raise ValueError(f"{folder.path / 'nodes.safetensors'} must hold nodes and classes of the map, got others")


def _as_numpy(codebook: Any) -> Array:
    return codebook.cpu().numpy() if isinstance(codebook, Tensor) else np.asarray(codebook)
