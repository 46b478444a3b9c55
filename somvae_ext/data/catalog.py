"""Loads any data set by name or by path."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path
from typing import cast

import torch

from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.data._digits import digits
from somvae_ext.data._lorenz import NUM_SERIES, lorenz
from somvae_ext.data._mnist import MNISTName, mnist
from somvae_ext.data._pig_cvp import pig_cvp
from somvae_ext.data._read_table import is_table_file
from somvae_ext.data.descriptions import describe_gaps, describe_scaling, describe_shape
from somvae_ext.data.folds import SplitName, check_split, split_pool
from somvae_ext.data.own_data import read_own_data
from somvae_ext.data.resizing import resize
from somvae_ext.data.samples import Samples
from somvae_ext.data.scaling import Scaling, ScalingKind
from somvae_ext.data.series import InterpolatedSeries, Recipe
from somvae_ext.data.splits import Kind, Splits
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing

_SERIES = "-series"
_IMAGES = ("digits", "mnist", "fashion-mnist")
INTERPOLATED = tuple(f"{name}{_SERIES}" for name in _IMAGES)
"""Data sets whose series are made of images."""
SERIES = (*INTERPOLATED, "lorenz", "pig-cvp")
"""Data sets of series."""
NAMES = (*_IMAGES, *SERIES)
"""The data sets that :func:`load` knows by name."""

_HELD_OUT = 0.15  # share of own data for validation, and as much for the test


def load(
    name_or_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    seed: int = 0,
    recipe: Recipe = "published",
    num_series: int | None = None,
    kind: Kind | None = None,
    split: SplitName = "holdout",
    fold: int = 0,
    image_size: int | None = None,
    table: TableFormat = TableFormat(),  # noqa: B008  # which is frozen
    missing: Missing = "error",
    scaling: ScalingKind | None = None,
) -> Splits[Samples] | Splits[InterpolatedSeries]:
    """Loads a data set, splits it into training, validation and test data, and scales it, by default to [0, 1].

    - ``"digits"``, ``"mnist"``, ``"fashion-mnist"``: see :func:`digits` and :func:`mnist`.
    - ``"digits-series"`` and so on: :class:`InterpolatedSeries`, each split from its own images only.
    - ``"lorenz"``, ``"pig-cvp"``: see :func:`lorenz` and :func:`pig_cvp`. The coordinates of the former are scaled
      one by one, the pressures of the latter as a whole.
    - a path: own data, as :func:`load_array` reads them. Rows, or whole series, are shuffled with ``seed`` and split
      70 : 15 : 15, so a single series is refused. Features are scaled one by one, images as a whole and by default only
      if some value lies outside [0, 1]. The training split determines the scaling, so other splits may lie a little
      outside. Images of dtype uint8 are divided by 255, as torchvision does.

    For single samples, ``split`` says how those that are not for the test are divided; the test data stay the same:

    - ``"holdout"``: into training and validation data, as described above.
    - ``"all"``: all of them are training data, and ``validation`` is None.
    - ``"folds"``: into ten folds with the classes in equal proportion (scikit-learn's ``StratifiedKFold``, shuffled);
      ``fold`` is the validation data and the other nine are the training data. Needs labels.

    Args:
        name_or_path: see above. A string that is a name means the data set and not a file of that name; for the file,
            give ``"./digits"`` or a ``Path``.
        root: where MNIST and Fashion-MNIST are, see :func:`mnist`.
        download: fetch MNIST or Fashion-MNIST if absent.
        seed: draws the splits of the digits, of the pigs and of own data, the folds, the interpolated series, and the
            trajectories of the Lorenz system.
        recipe: the recipe of the interpolated series.
        num_series: number of interpolated series for training; validation and test get as many in proportion to their
            images, and by default each image starts one. For the Lorenz system, number of trajectories for training.
        kind: see :func:`load_array`.
        split: see above.
        fold: the fold for validation, 0 to 9.
        image_size: still images are resized to this many pixels on each side, see :func:`resize`; by default they keep
            their size.
        table: how own tables are written, and what their columns are.
        missing: what is done about missing values of tables: ``"error"`` refuses them, ``"drop"`` leaves out their
            rows, and ``"mean"`` fills in the mean of the column in the training data.
        scaling: ``"minmax"``, to [0, 1], by default; ``"standard"``, to mean 0 and variance 1; or ``"none"``.

    Raises:
        FileNotFoundError: nothing is at the path, or the files of a named data set are missing.
        OSError: a download failed.
        ValueError: an unknown name, or data that cannot be used; the message says what is wrong and where.
        ModuleNotFoundError: a library that the data set needs is missing; the message names its extra.
    """
    check_split(split, fold)
    seed = check_integer("load", "seed", seed, Bounds(at_least=0, at_most=2**32 - 1))  # limits of scikit-learn
    if num_series is not None:
        num_series = check_integer("load", "num_series", num_series)
    if image_size is not None:
        image_size = check_integer("load", "image_size", image_size)
    if missing == "ignore":
        raise ValueError("load: missing must be 'error', 'drop' or 'mean', got 'ignore', which only maps can do")
    name = os.fspath(name_or_path)
    splits: Splits[Samples] | Splits[InterpolatedSeries]
    if name not in NAMES or not isinstance(name_or_path, str):
        splits = _load_own_data(Path(name), seed, kind, split, fold, table, missing, scaling)
    else:
        _check_built_in_options(name, table, missing)
        if name in SERIES:
            _check_split_of_series(name, split)
        if name in INTERPOLATED:
            images = _rescale(_load_images(name.removesuffix(_SERIES), root, download, seed), scaling)
            splits = _interpolate(images, recipe, num_series, seed)
        elif name == "lorenz":
            splits = _scale(lorenz(seed, num_series=num_series or NUM_SERIES), scaling, tabular=True)
        elif name == "pig-cvp":
            splits = _scale(pig_cvp(seed), scaling, tabular=False)
        else:
            splits = _rescale(_load_images(name, root, download, seed, split, fold), scaling)
    splits = splits if image_size is None else _resize_splits(name, splits, image_size)
    return dataclasses.replace(splits, description=_describe_splits(name, splits))


def _check_built_in_options(name: str, table: TableFormat, missing: Missing) -> None:
    if table != TableFormat():
        changed = next(field.name for field in dataclasses.fields(table) if getattr(table, field.name) != field.default)
        raise ValueError(f"load: {changed} must not be set for {name}, which is no table")
    if missing != "error":
        raise ValueError(f"load: missing must be 'error' for {name}, in which nothing is missing, got {missing!r}")


def _rescale(splits: Splits[Samples], kind: ScalingKind | None) -> Splits[Samples]:
    """Scales named images, which are in [0, 1] already, if another scale is asked for."""
    return splits if kind is None or kind == "none" else _scale(splits, kind, tabular=False)


def _scale(splits: Splits[Samples], kind: ScalingKind | None, *, tabular: bool) -> Splits[Samples]:
    """Scales all parts by the training data, feature by feature or as a whole."""
    scaling = Scaling.from_samples(splits.train, tabular=tabular, kind=kind)
    return dataclasses.replace(splits, scaling=scaling).map(scaling.apply_to_samples)


def _describe_splits(name: str, splits: Splits[Samples] | Splits[InterpolatedSeries]) -> dict[str, str]:
    description = dict(splits.description)
    sizes = [f"{len(splits.train)} for training"]
    if splits.validation is not None:
        sizes.append(f"{len(splits.validation)} for validation")
    sizes.append(f"{len(splits.test)} for the test")
    if not description:
        series = splits.kind == "series"
        what = describe_shape(splits.sample_shape, "frames" if series else "samples")
        description["data"] = f"{name}: {f'series of {what}' if series else what}"
    description["split"] = ", ".join(sizes)
    description["scaling"] = describe_scaling(splits.scaling)
    return description


def _load_images(
    name: str,
    root: str | os.PathLike[str],
    download: bool,
    seed: int,
    split: SplitName = "holdout",
    fold: int = 0,
) -> Splits[Samples]:
    if name == "digits":
        return digits(seed, split=split, fold=fold)
    mnist_name: MNISTName = "mnist" if name == "mnist" else "fashion-mnist"
    return mnist(root, name=mnist_name, download=download, split=split, fold=fold, seed=seed)


def _check_split_of_series(name: str, split: SplitName) -> None:
    if split != "holdout":
        raise ValueError(f"{name}: split must be 'holdout' for series, got {split!r}")


def _resize_splits(name: str, splits: Splits[Samples] | Splits[InterpolatedSeries], size: int) -> Splits[Samples]:
    def resize_part(part: Samples) -> Samples:
        return dataclasses.replace(part, x=resize(part.x, size))

    if splits.kind == "series" or len(splits.sample_shape) != 3:
        what = "series" if splits.kind == "series" else "tables"
        raise ValueError(f"{name}: image_size is for still images, so it must be None for {what}, got {size}")
    return cast(Splits[Samples], splits).map(resize_part)


def _interpolate(
    images: Splits[Samples], recipe: Recipe, num_series: int | None, seed: int
) -> Splits[InterpolatedSeries]:
    # Each split has its own seed; with a common one, series of the same number would have the same noise.
    seeds = torch.randint(2**62, (3,), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = []
    for part, part_seed in zip(images, seeds, strict=True):
        count = num_series
        if num_series is not None and part is not images.train:
            count = max(1, round(num_series * len(part) / len(images.train)))
        parts.append(InterpolatedSeries(part, recipe=recipe, num_series=count, seed=part_seed))
    return Splits(*parts, kind="series", scaling=images.scaling)


def _one_series(path: Path) -> ValueError:
    return ValueError(
        f"{path}: must hold at least 3 series, one for each of training, validation and test, got a single one, which "
        "is not split; cut it into several and name a folder that holds a .csv or .npy file for each"
    )


def check_path_exists(path: Path) -> None:
    """Refuses a path that does not exist and looks like the name of a data set.

    Raises:
        ValueError: nothing is at the path, and it looks like a name.
    """
    if not path.exists() and not path.suffix and path.name == str(path):  # looks like a name, not like a path
        near = difflib.get_close_matches(str(path).lower(), NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(NAMES)}"
        raise ValueError(f"{path}: neither a file or folder nor the name of a data set; {hint}")


def _load_own_data(
    path: Path,
    seed: int,
    kind: Kind | None,
    split: SplitName,
    fold: int,
    table: TableFormat,
    missing: Missing,
    scaling_kind: ScalingKind | None,
) -> Splits[Samples]:
    check_path_exists(path)
    # Refused before the table is read: fixing its values would not help.
    if kind == "series" and path.is_file() and is_table_file(path):
        raise _one_series(path)
    data = read_own_data(path, kind, table, missing=missing)
    samples, kind = data.samples, data.kind
    if kind == "series":
        _check_split_of_series(str(path), split)
    if kind == "series" and len(samples) == 1:
        raise _one_series(path)
    if len(samples) < 3:
        what = "series" if kind == "series" else "rows"
        raise ValueError(
            f"{path}: must hold at least 3 {what}, one for each of training, validation and test, got {len(samples)}"
        )
    held_out = max(1, round(_HELD_OUT * len(samples)))
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    pool, test = (samples.rows(rows) for rows in order.split([len(samples) - held_out, held_out]))
    rows = torch.arange(len(pool))
    train, validation = split_pool(str(path), pool, split, fold, seed, holdout=(rows[:-held_out], rows[-held_out:]))
    description = data.description
    if missing != "error" and "gaps" not in description:  # gaps of dropped rows are described already
        real = samples.x if samples.mask is None else samples.x[samples.mask]
        values = real.reshape(-1, samples.x.shape[-1])
        gaps = describe_gaps(values.isnan().sum(dim=0).numpy(), len(values), missing)
        description = description | {"gaps": gaps}
    splits = Splits(train, validation, test, kind=kind, description=description, table=data.format)
    if missing == "mean":
        splits = _fill_splits(path, splits)
    tabular = samples.x.dim() == (3 if kind == "series" else 2)
    return _scale(splits, scaling_kind, tabular=tabular)


def _fill_splits(path: Path, splits: Splits[Samples]) -> Splits[Samples]:
    """Fills missing values with the means of the training data."""
    x = splits.train.x if splits.train.mask is None else splits.train.x[splits.train.mask]
    means = x.double().reshape(-1, x.shape[-1]).nanmean(dim=0)
    if means.isnan().any():
        column = int(means.isnan().nonzero()[0])
        names = splits.train.feature_names
        shown = column if names is None else repr(names[column])
        raise ValueError(
            f"{path}: every column must hold a value among the training data for missing='mean', got none in column "
            f"{shown}"
        )
    fill = tuple(means.tolist())
    return dataclasses.replace(splits, fill=fill).map(lambda part: fill_gaps(part, fill))


def fill_gaps(samples: Samples, fill: tuple[float, ...]) -> Samples:
    """Replaces NaN in samples ``[..., F]`` with one value per feature, ``[F]``."""
    values = torch.tensor(fill, dtype=samples.x.dtype)
    return dataclasses.replace(samples, x=torch.where(samples.x.isnan(), values, samples.x))
