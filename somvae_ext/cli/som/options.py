"""The options of ``somvae som fit``, ``predict`` and ``plot``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

KINDS = ("hits", "u_matrix", "component_planes", "labels", "rgb", "clusters", "codebook_images")

# Options that are not called like the estimator's parameters.
_PARAMETERS = {
    "rows": "n_rows",
    "cols": "n_cols",
    "epochs": "n_epochs",
    "topographic_error": "track_topographic_error",
    "seed": "random_state",
}


def add_som_commands(parser: ArgumentParser, make: Callable[[str], ArgumentParser]) -> dict[str, ArgumentParser]:
    """Adds the commands below ``somvae som`` and returns their parsers, made by ``make`` from a description."""
    fit = make(
        "Trains a self-organizing map on a table of numbers, and writes it, its U-matrix and its hits to a folder."
    )
    predict = make("Writes the node of each row of a table as CSV: index,node,row,column,distance.")
    plot = make("Draws a map: hits, U-matrix, component planes, labels, colours, clusters, codes as images.")
    _add_fit_options(fit)
    _add_predict_options(predict)
    _add_plot_options(plot)
    subcommands = parser.add_subcommands(dest="command")
    subcommands.add_subcommand("fit", fit, help="train a map on a .csv, .npy or .parquet file")
    subcommands.add_subcommand("predict", predict, help="assign rows to the nodes of a map")
    subcommands.add_subcommand("plot", plot, help="draw a map")
    return {"fit": fit, "predict": predict, "plot": plot}


def estimator_parameters(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options that were given, those for :class:`~somvae_ext.estimators.SOM`, by its names."""
    from somvae_ext.estimators import SOM

    known = inspect.signature(SOM).parameters
    named = {_PARAMETERS.get(option, option): value for option, value in options.items()}
    return {name: value for name, value in named.items() if name in known}


def _add_fit_options(parser: ArgumentParser) -> None:
    from somvae_ext.data.scaling import ScalingKind
    from somvae_ext.estimators import SOM
    from somvae_ext.grid import Topology
    from somvae_ext.som import SCHEDULES, Init, MetricName, Missing
    from somvae_ext.som.neighborhoods import NAMES

    parameters = inspect.signature(SOM).parameters

    def add(name: str, help: str, **options: Any) -> None:
        parser.add_argument(name, help=help, **options)

    # No defaults in the parser: those are the estimator's own.
    def add_parameter(name: str, help: str, default: str | None = None, **options: Any) -> None:
        shown = parameters[_PARAMETERS.get(name, name)].default if default is None else default
        add(f"--{name.replace('_', '-')}", f"{help} (default: {shown})", **options)

    add("data", "rows of numbers: .csv, .npy [N, D] or .parquet (needs the extra 'table')", type=str, nargs="?")
    add("--out", "folder for the map (default: runs/som- and the name of the data)", type=str)
    add("--overwrite", "replace an earlier map in that folder", action="store_true")
    add("--resume", "folder of an interrupted training that is to go on, without DATA", type=str)
    add("--from-epoch", "with --resume: from this epoch, where the checkpoint of the last one is damaged", type=int)
    add("--label-column", "column with classes, which are kept out of the training and drawn on the map", type=str)
    add(
        "--scaling",
        "of each feature: to mean 0 and variance 1, to the range from 0 to 1, or none; a .npy file is scaled into a "
        "temporary file of float32, so that it need not fit into memory (default: standard)",
        choices=list(get_args(ScalingKind)),
    )
    add_parameter("missing", "refuse NaN, or leave it out of distances and means", choices=list(get_args(Missing)))
    add_parameter("rows", "rows of the map", type=int)
    add_parameter("cols", "columns of the map", type=int)
    add_parameter("topology", "shape of the grid", choices=list(get_args(Topology)))
    add("--periodic", "let the map wrap around", action="store_true")
    add_parameter("neighborhood", "how much a node takes of the rows that another won", choices=list(NAMES))
    add_parameter("metric", "what is near", choices=list(get_args(MetricName)))
    add_parameter("p", "exponent of minkowski", type=float)
    add_parameter("init", "where the codes start", choices=list(get_args(Init)))
    add_parameter("algorithm", "means of all rows per epoch, or a step per mini-batch", choices=["batch", "minibatch"])
    add_parameter("batch_size", "rows of a mini-batch", type=int)
    add_parameter("epochs", "passes over the data", type=int)
    add_parameter(
        "sigma_initial",
        "width of the neighbourhood at first, in nodes",
        default="a quarter of the longer side, or half of it from a random start",
        type=float,
    )
    add_parameter("sigma_final", "its width in the last epoch", type=float)
    add_parameter("sigma_schedule", "from the one to the other", choices=list(SCHEDULES))
    add_parameter("alpha_initial", "learning rate of mini-batches at first", type=float)
    add_parameter("alpha_final", "in the last epoch", type=float)
    add_parameter("alpha_schedule", "from the one to the other", choices=list(SCHEDULES))
    add_parameter(
        "tol",
        "stop when the quantization error has not fallen by this share in some epochs",
        default="never stop early",
        type=float,
    )
    add_parameter("patience", "how many epochs that are", type=int)
    add("--topographic-error", "record it in every epoch, too, which takes longer", action="store_true")
    add("--seed", "draws the start and the mini-batches (default: 0)", type=int)
    add("--device", "where to train, cpu or cuda (default: cpu)", type=str)
    add("--threads", "CPU threads (default: as torch does)", type=int)
    add("--quiet", "show no progress", action="store_true")


def _add_predict_options(parser: ArgumentParser) -> None:
    parser.add_argument("map", type=str, help="folder that fit wrote")
    parser.add_argument("data", type=str, help=".csv, .npy or .parquet file with the features of the training")
    parser.add_argument("-o", "--output", type=str, help="CSV file to write (default: standard output)")


def _add_plot_options(parser: ArgumentParser) -> None:
    def add(name: str, help: str, **options: Any) -> None:
        parser.add_argument(name, help=help, **options)

    add("map", "folder that fit wrote", type=str)
    add("--out", "folder for the pictures (default: that of the map)", type=str)
    add("--overwrite", "replace pictures in a folder given by --out", action="store_true")
    add(
        "--kind",
        f"which pictures, of {', '.join(KINDS)} (default: all that the map and the options allow)",
        nargs="+",
        choices=list(KINDS),
        metavar="KIND",
    )
    add(
        "--features",
        "which component planes, by name or number (default: all, if at most 64)",
        type=str,
        nargs="+",
        metavar="NAME",
    )
    add("--clusters", "into how many clusters to part the map", type=int, metavar="N")
    add(
        "--image-shape",
        "height and width of the images that the rows are, and 3 for colours, which come last",
        type=int,
        nargs="+",
        metavar="SIDE",
    )
