"""A trained map in a folder, with all that it takes to use it on new data."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext._version import __version__
from somvae_ext.atomic_file import atomic_file
from somvae_ext.data.feature_scaling import FeatureScaling
from somvae_ext.estimators.som import SOM
from somvae_ext.grid import Grid
from somvae_ext.som import Metric, Values, WinnerSearch

Array = NDArray[Any]

_FORMAT = 1
_CONFIG, _CODEBOOK, _HITS, _LABELS, _METRICS = "config.json", "codebook.npy", "hits.npy", "labels.npy", "metrics.jsonl"
_PICTURES = ("hits", "u_matrix", "component_planes", "labels", "rgb", "clusters", "codebook_images")

# How an estimator runs, and not what came of it.
_NOT_KEPT = ("compute_labels", "device", "distributed", "verbose")


class Winners(NamedTuple):
    """Best matching unit of each row, int64 ``[n]``, and its distance ``[n]`` in the map's metric."""

    node: NDArray[np.int64]
    distance: Array


@dataclasses.dataclass
class SavedMap:
    """A trained map, and how its data were treated.

    ================= ===============================================================================================
    ``config.json``   the estimator's parameters, the scaling, names of features and classes, errors, and the version
    ``codebook.npy``  codes ``[K, D]``, nodes in row-major order, in the units of the *scaled* data
    ``hits.npy``      training rows that each node won, int64 ``[K]``
    ``labels.npy``    where there were labels: rows (node, class, count), int64 ``[M, 3]``, of those that occur
    ``metrics.jsonl`` a record per epoch and line, as in the estimator's ``history_``
    ``*.png``         pictures
    ================= ===============================================================================================

    ``config.json`` is written last, so that a folder which has one is complete.

    Args:
        som: a fitted estimator. Of it only what JSON can hold is kept: no functions and no arrays among its parameters.
        scaling: what was done to its data.
        hits: training rows that each node won, int64 ``[K]``.
        feature_names: where the data had any.
        label_column: name of the column that held labels.
        classes: names of the labels 0, 1, ...
        labels: rows (node, class, count), int64 ``[M, 3]``.
        evaluation: errors on the training data.

    Example:
        >>> from somvae_ext.estimators import load_som
        >>> saved = load_som("runs/som-flowers")  # doctest: +SKIP
        >>> saved.som.predict(saved.scaling.apply(x))  # doctest: +SKIP
    """

    som: SOM
    scaling: FeatureScaling
    hits: NDArray[np.int64]
    feature_names: list[str] | None = None
    label_column: str | None = None
    classes: list[str] | None = None
    labels: NDArray[np.int64] | None = None
    evaluation: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        return self.som.grid_

    @property
    def codebook(self) -> NDArray[np.float64]:
        """Codes ``[K, D]`` in the units of the data."""
        return self.scaling.undo(_numpy(self.som.codebook_))

    @property
    def metric(self) -> Metric:
        """The map's own, of the scaled data."""
        return self.som._metric()

    def assign(self, blocks: Iterable[Array]) -> Iterator[Winners]:
        """The winners of unscaled rows, ``[n, D]`` at a time, so that memory is bounded.

        Raises:
            ValueError: rows with values that the map does not take.
        """
        codebook = torch.from_numpy(_numpy(self.som.codebook_))
        search = WinnerSearch(codebook, self.grid, self.metric)
        values = Values(codebook.dtype, codebook.device, self.som.missing, self.feature_names)
        first = 0
        for block in blocks:
            x = values.tensor(self.scaling.apply(block))
            distance, index = search.find(x, gaps=values.check(x, first)[0])
            first += len(x)
            yield Winners(index.numpy(), distance.numpy())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the folder.

        Args:
            path: made if it is not there.
            overwrite: replace an earlier map in it. Other files stay.

        Raises:
            FileExistsError: what :func:`check_folder` refuses.
            ValueError: a parameter that JSON cannot hold, such as a function.
        """
        folder = Path(path)
        check_folder(folder, overwrite=overwrite)
        parameters = {name: value for name, value in self.som.get_params().items() if name not in _NOT_KEPT}
        for name, value in parameters.items():
            if not isinstance(value, (str, int, float, bool, type(None))):
                raise ValueError(f"SavedMap: {name} must be text, a number or None to be saved, got {value!r}")
        config = {
            "map_format": _FORMAT,
            "somvae_ext": __version__,
            "estimator": parameters,
            "scaling": self.scaling.to_dict(),
            "feature_names": self.feature_names,
            "label_column": self.label_column,
            "classes": self.classes,
            "evaluation": self.evaluation,
        }
        history = "".join(json.dumps(record) + "\n" for record in self.som.history_)
        folder.mkdir(parents=True, exist_ok=True)
        # The config first and last: without one the folder is no map, and with one it is whole.
        for name in (_CONFIG, _LABELS, *(f"{picture}.png" for picture in _PICTURES)):
            (folder / name).unlink(missing_ok=True)
        arrays = {_CODEBOOK: _numpy(self.som.codebook_), _HITS: self.hits, _LABELS: self.labels}
        for name, array in arrays.items():
            if array is not None:
                with atomic_file(folder / name) as file:
                    np.save(file, array, allow_pickle=False)
        for name, text in ((_METRICS, history), (_CONFIG, json.dumps(config, indent=2) + "\n")):
            with atomic_file(folder / name) as file:
                file.write(text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads the folder.

        Raises:
            FileNotFoundError: there is no map.
            ValueError: a file of it is broken, missing, or of a version that this one cannot read.
        """
        folder = Path(path)
        config = _config(folder)
        try:
            som = SOM(**config["estimator"])
            som.check_parameters()
            scaling = FeatureScaling.from_dict(config["scaling"])
            names, label_column, classes = (config[name] for name in ("feature_names", "label_column", "classes"))
            evaluation = dict(config["evaluation"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"SavedMap: {folder / _CONFIG} must describe a map as somvae som fit wrote it, but it does not: {error}"
            ) from error
        som.grid_ = Grid(som.n_rows, som.n_cols, som.topology, som.periodic)
        som.codebook_ = codebook = _load_array(folder / _CODEBOOK, "f", (som.grid_.num_nodes, None))
        som.n_features_in_ = dim = codebook.shape[1]
        if not np.isfinite(codebook).all():
            raise ValueError(f"SavedMap: {folder / _CODEBOOK} must hold finite codes, got NaN or infinity")
        sizes = (len(scaling.shift) or dim, dim if names is None else len(names))
        if sizes != (dim, dim):
            raise ValueError(
                f"SavedMap: {folder / _CONFIG} must describe the {dim} features of {_CODEBOOK}, got a scaling of "
                f"{sizes[0]} and names of {sizes[1]}"
            )
        som.history_ = _history(folder / _METRICS)
        som.n_epochs_ = len(som.history_)
        som._steps = som.n_epochs
        if "quantization_error" in evaluation:
            som.quantization_error_ = evaluation["quantization_error"]
        hits = _load_array(folder / _HITS, "i", (som.grid_.num_nodes,))
        labels = None
        if classes is not None:
            labels = _load_array(folder / _LABELS, "i", (None, 3))
            if labels.min(initial=0) < 0 or (labels[:, :2] >= (som.grid_.num_nodes, len(classes))).any():
                raise ValueError(f"SavedMap: {folder / _LABELS} must hold nodes and classes of the map, got others")
        return cls(som, scaling, hits, names, label_column, classes, labels, evaluation)


def load_som(path: str | os.PathLike[str]) -> SavedMap:
    """The map that ``somvae som fit`` or :meth:`SavedMap.save` wrote, see :class:`SavedMap`."""
    return SavedMap.load(path)


def check_folder(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Whether a map may be written there; nothing is touched.

    Raises:
        FileExistsError: the folder is not empty and ``overwrite`` is not set, ``path`` is a file, or what would be
            overwritten is no map: files of its names without its ``config.json``.
        PermissionError: the folder, or the one to make it in, must not be written to.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"SavedMap: {folder} must be a folder, but a file is there")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise FileExistsError(f"SavedMap: {folder} is not empty; choose another folder, or set overwrite")
        files = (_CONFIG, _CODEBOOK, _HITS, _LABELS, _METRICS, *(f"{picture}.png" for picture in _PICTURES))
        held = [name for name in files if (folder / name).exists()]
        if held and not _is_map(folder):
            raise FileExistsError(
                f"SavedMap: {folder} holds {held[0]} but no {_CONFIG} of a map, so it is not overwritten; choose "
                "another folder"
            )
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not place.is_dir():
        raise FileExistsError(f"SavedMap: {folder} must be in a folder, but {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"SavedMap: {folder} must be a folder to write to, but {place} does not allow it")


def _is_map(folder: Path) -> bool:
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
    except (OSError, ValueError):
        # An overwriting that was interrupted leaves no config, but a codebook with hits.
        return not (folder / _CONFIG).exists() and (folder / _CODEBOOK).exists() and (folder / _HITS).exists()
    return isinstance(config, dict) and "map_format" in config


def _config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"SavedMap: {folder} must be the folder of a map, but it has no {_CONFIG}")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"SavedMap: {path} must be JSON, but it is not: {error}") from error
    if not isinstance(config, dict) or "map_format" not in config:
        what = "a run of somvae fit; use it without som" if isinstance(config, dict) and "model" in config else "none"
        raise ValueError(f"SavedMap: {folder} must be the folder of a map that somvae som fit wrote, but it is {what}")
    if config["map_format"] != _FORMAT:
        raise ValueError(
            f"SavedMap: {path} must have map_format {_FORMAT}, got {config['map_format']}, written by somvae_ext "
            f"{config.get('somvae_ext', 'of unknown version')}; this is {__version__}"
        )
    return config


def _load_array(path: Path, kind: str, shape: tuple[int | None, ...]) -> Array:
    expected = ", ".join("any" if size is None else str(size) for size in shape)
    expected = f"{'an array of integers' if kind == 'i' else 'an array of floats'} of shape [{expected}]"
    if not path.is_file():
        raise FileNotFoundError(f"SavedMap: {path} must be there for a map, but it is not")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"SavedMap: {path} must be {expected}, but it is broken") from error
    fits = isinstance(array, np.ndarray) and array.dtype.kind == kind and array.ndim == len(shape) and array.size > 0
    if not fits or any(size not in (None, there) for size, there in zip(shape, array.shape, strict=True)):
        got = f"{array.dtype} of shape {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise ValueError(f"SavedMap: {path} must be {expected}, got {got}")
    return array


def _history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"SavedMap: {path} must be there for a map, but it is not")
    records = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ValueError(
                f"SavedMap: {path} must hold the record of an epoch in each line, but line {number} is none"
            )
        records.append(record)
    return records


def _numpy(codebook: Any) -> Array:
    return codebook.cpu().numpy() if isinstance(codebook, torch.Tensor) else np.asarray(codebook)
