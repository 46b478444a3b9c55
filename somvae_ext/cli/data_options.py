"""The options of ``somvae fit`` that say what the data are and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from somvae_ext.cli.model_choice import DEFAULT, MAP
from somvae_ext.cli.table_options import add_use_options, add_written_options
from somvae_ext.recipes import PRESETS, RECIPES

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def add_data_options(parser: ArgumentParser, model: str) -> None:
    """Adds the groups of data options to the parser of a model.

    Options have no default in the parser, so that one can tell which were given.
    """
    from somvae_ext.data import Missing, Recipe
    from somvae_ext.data.folds import SplitName
    from somvae_ext.data.scaling import ScalingKind

    add = option_group(parser, "data")
    add("--data-root", "folder that holds MNIST/raw or FashionMNIST/raw (default: data)", type=str)
    add("--download", "download MNIST or Fashion-MNIST if it is missing", action="store_true")
    by_default = "standard, for images minmax; a .npy file is scaled to a temporary file" if model == MAP else "minmax"
    add(
        "--scaling",
        "standard: scale to mean 0 and variance 1; minmax: scale to [0, 1]; none: do not scale; features of a table "
        f"one by one, images as a whole (default: {by_default})",
        choices=list(get_args(ScalingKind)),
    )
    choices = [choice for choice in get_args(Missing) if choice != "ignore" or model == MAP]
    ignored = "; ignore: leave them out of distances and means" if model == MAP else ""
    add(
        "--missing",
        f"error: refuse missing values; drop: drop their rows; mean: fill in the mean of the column{ignored} "
        "(default: error)",
        choices=choices,
    )
    if model in (DEFAULT, MAP):  # the only ones that are trained on series
        add(
            "--kind",
            "read your own arrays as single samples (static) or as frames of series (default: series for an array with "
            "five axes or with a mask or lengths, else static; a folder always holds series)",
            choices=["static", "series"],
        )
    add_use_options(option_group(parser, "columns of a table"))
    add_written_options(option_group(parser, "format of a text file"))
    if model == MAP:
        return
    add = option_group(parser, "splits")
    if model == DEFAULT:
        ordered = PRESETS[DEFAULT]["ordered"].training_on["mnist-series"]["num_series"]
        unordered = RECIPES["mnist-series"]["num_series"]
        add("--recipe", "how series are made from images (default: published)", choices=list(get_args(Recipe)))
        add(
            "--num-series",
            f"number of training series (default: {ordered} for MNIST and Fashion-MNIST, {unordered} without preset "
            "ordered; 200 for lorenz; else one per image)",
            type=int,
        )
    add(
        "--split",
        "holdout: hold out validation data; all: train on all but the test data; folds: train on nine of ten folds "
        "(default: holdout)",
        choices=list(get_args(SplitName)),
    )
    add("--fold", "fold to validate on, 0 to 9 (default: 0)", type=int)
    add("--image-size", "resize images to this many pixels on each side", type=int)
    what = "splits and for the series made from images" if model == DEFAULT else "splits"
    add("--split-seed", f"seed for the {what} (default: 0)", type=int)


def option_group(parser: ArgumentParser, title: str) -> Callable[..., None]:
    """Adds a group of options with a title; returns its ``add(option, help, **options)``."""
    group = parser.add_argument_group(title)

    def add(name: str, help: str, **options: Any) -> None:
        group.add_argument(name, help=help, **options)

    return add
