"""The options of ``somvae fit --model som`` that are parameters of the estimator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from somvae_ext.cli.devices import check_device
from somvae_ext.cli.model_choice import MAP
from somvae_ext.cli.seeds import check_seed

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.estimators import SOM

# Options whose names differ from the estimator's parameters.
PARAMETERS = {
    "rows": "n_rows",
    "cols": "n_cols",
    "epochs": "n_epochs",
    "topographic_error": "track_topographic_error",
    "seed": "random_state",
}


def estimator_parameters(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the given options that are parameters of :class:`~somvae_ext.estimators.SOM`, under its names."""
    from somvae_ext.estimators import SOM

    known = inspect.signature(SOM).parameters
    by_parameter = {PARAMETERS.get(option, option): value for option, value in options.items()}
    return {name: value for name, value in by_parameter.items() if name in known}


def build_estimator(options: dict[str, Any], **others: Any) -> SOM:
    """Builds the estimator from the given options and from other parameters by name, and checks its parameters.

    Raises:
        ValueError: a parameter out of range, or one that does not go with another.
    """
    from somvae_ext.estimators import SOM

    parameters = estimator_parameters({"seed": 0} | options)
    # The other ways to treat missing values are applied before the estimator sees the data.
    parameters["missing"] = "ignore" if options.get("missing") == "ignore" else "error"
    som = SOM(**parameters | others)
    som.check_parameters()
    return som


def check_map_options(options: Namespace) -> None:
    """Checks threads, seed and device.

    Raises:
        ValueError: one of them is out of range or not available.
    """
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    if options.seed is not None:
        check_seed("--seed", options.seed)
    check_device(options.device, MAP)


def add_map_size_options(add: Callable[..., None]) -> None:
    """Adds the options for the size of a map to a parser, by its ``add(option, help, **options)``."""
    add = _with_defaults(add)
    add("rows", "rows of the map", type=int)
    add("cols", "columns of the map", type=int)
    add(
        "size",
        "rows and columns at once, such as 8x12, or auto: at most 5 sqrt(N) nodes for N rows of data, with sides in "
        "the ratio of the data's two longest axes (default: --rows and --cols)",
        type=str,
    )


def add_map_options(add: Callable[..., None]) -> None:
    """Adds the options for the grid, the distances and the neighborhood of a map, likewise."""
    from somvae_ext.grid import Topology
    from somvae_ext.som import SCHEDULES, Init, MetricName
    from somvae_ext.som.neighborhoods import NEIGHBORHOOD_NAMES

    add = _with_defaults(add)
    add("topology", "shape of the grid", choices=list(get_args(Topology)))
    add("periodic", "let the map wrap around at its edges", action="store_true")
    add("neighborhood", "how much a node learns from rows that another node won", choices=list(NEIGHBORHOOD_NAMES))
    add("metric", "metric of distances between rows and codes", choices=list(get_args(MetricName)))
    add("p", "exponent of the metric minkowski", type=float)
    add("init", "how the codes are initialized", choices=list(get_args(Init)))
    add(
        "sigma_initial",
        "initial width of the neighborhood, in nodes (default: a quarter of the map's longer side, half the side after "
        "a random start, or an eighth of the side for data on a line)",
        type=float,
    )
    add("sigma_final", "width of the neighborhood in the last epoch", type=float)
    add("sigma_schedule", "how the width falls from --sigma-initial to --sigma-final", choices=list(SCHEDULES))


def add_map_training_options(add: Callable[..., None]) -> None:
    """Adds the options for the training of a map, likewise."""
    from somvae_ext.som import SCHEDULES

    add = _with_defaults(add)
    add("epochs", "passes over the data", type=int)
    add(
        "algorithm",
        "batch: codes become means of all rows once per epoch; minibatch: a step per mini-batch",
        choices=["batch", "minibatch"],
    )
    add("batch_size", "rows per mini-batch", type=int)
    add("alpha_initial", "initial learning rate, for --algorithm minibatch", type=float)
    add("alpha_final", "learning rate in the last epoch", type=float)
    add("alpha_schedule", "how the learning rate falls from --alpha-initial to --alpha-final", choices=list(SCHEDULES))
    add(
        "tol",
        "stop if the quantization error has not fallen by this share within --patience epochs (default: never)",
        type=float,
    )
    add("patience", "epochs over which --tol compares the quantization error", type=int)
    add("seed", "seed for the initial codes and the mini-batches (default: 0)", type=int)


def add_map_record_options(add: Callable[..., None]) -> None:
    """Adds the options for what a single training records, likewise."""
    meaning = "also record the topographic error in every epoch, which takes longer"
    _with_defaults(add)("topographic_error", meaning, action="store_true")


def _with_defaults(add: Callable[..., None]) -> Callable[..., None]:
    """Wraps ``add`` to take names of parameters and to state their defaults in the help; the parser has none."""
    from somvae_ext.estimators import SOM

    parameters = inspect.signature(SOM).parameters

    def add_parameter(name: str, help: str, **options: Any) -> None:
        if "(default" not in help and options.get("action") != "store_true":
            help += f" (default: {parameters[PARAMETERS.get(name, name)].default})"
        add(f"--{name.replace('_', '-')}", help, **options)

    return add_parameter
