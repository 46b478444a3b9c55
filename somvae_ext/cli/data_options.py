"""The options of ``somvae fit`` that say what the data are and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from somvae_ext.cli.model_choice import DEFAULT, MAP
from somvae_ext.cli.table_options import add_use_options, add_written_options

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def add_data_options(parser: ArgumentParser, model: str) -> None:
    """Adds the groups to the parser of a model. No option has a default there, so that one can tell what was given."""
    from somvae_ext.data import Missing, Recipe
    from somvae_ext.data.folds import SplitName
    from somvae_ext.data.scaling import ScalingKind

    add = option_group(parser, "data")
    add("--data-root", "folder that holds MNIST/raw or FashionMNIST/raw (default: data)", type=str)
    add("--download", "fetch MNIST or Fashion-MNIST if it is not there", action="store_true")
    by_default = "standard, of images minmax; a .npy file is scaled into a temporary one" if model == MAP else "minmax"
    add(
        "--scaling",
        "to mean 0 and variance 1, to the range from 0 to 1, or none; of tables each feature, of images all values "
        f"(default: {by_default})",
        choices=list(get_args(ScalingKind)),
    )
    choices = [choice for choice in get_args(Missing) if choice != "ignore" or model == MAP]
    ignored = ", or leave it out of distances and means" if model == MAP else ""
    add(
        "--missing",
        f"refuse a value that is missing, drop its row, take the mean of its column{ignored} (default: error)",
        choices=choices,
    )
    if model in (DEFAULT, MAP):  # the only ones that are trained on series
        add(
            "--kind",
            "how to read one's own arrays (default: by their axes, see the README)",
            choices=["static", "series"],
        )
    add_use_options(option_group(parser, "columns of a table"))
    add_written_options(option_group(parser, "how a text file is written"))
    if model == MAP:
        return
    add = option_group(parser, "splits")
    if model == DEFAULT:
        add("--recipe", "how images become series (default: published)", choices=list(get_args(Recipe)))
        add(
            "--num-series",
            "training series made of images (default: of MNIST 2000, unordered 5000; else one per image)",
            type=int,
        )
    add(
        "--split",
        "hold out validation data, train on all but the test data, or on nine of ten folds (default: holdout)",
        choices=list(get_args(SplitName)),
    )
    add("--fold", "fold for validation, 0 to 9 (default: 0)", type=int)
    add("--image-size", "bring images to this many pixels on each side", type=int)
    what = "splits, and the series made of images" if model == DEFAULT else "splits"
    add("--split-seed", f"draws the {what} (default: 0)", type=int)


def option_group(parser: ArgumentParser, title: str) -> Callable[..., None]:
    """Adds a group of options with a title; returns its ``add(option, help, **options)``."""
    group = parser.add_argument_group(title)

    def add(name: str, help: str, **options: Any) -> None:
        group.add_argument(name, help=help, **options)

    return add
