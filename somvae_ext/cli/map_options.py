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

# Options that are not called like the estimator's parameters.
PARAMETERS = {
    "rows": "n_rows",
    "cols": "n_cols",
    "epochs": "n_epochs",
    "topographic_error": "track_topographic_error",
    "seed": "random_state",
}


def estimator_parameters(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options that were given, those for :class:`~somvae_ext.estimators.SOM`, by its names."""
    from somvae_ext.estimators import SOM

    known = inspect.signature(SOM).parameters
    by_parameter = {PARAMETERS.get(option, option): value for option, value in options.items()}
    return {name: value for name, value in by_parameter.items() if name in known}


def build_estimator(options: dict[str, Any], **others: Any) -> SOM:
    """The estimator for the options that were given, checked; other parameters by name.

    Raises:
        ValueError: a parameter out of range, or one that does not go with another.
    """
    from somvae_ext.estimators import SOM

    parameters = estimator_parameters({"seed": 0} | options)
    # What else may be done about missing values is done before the estimator sees them.
    parameters["missing"] = "ignore" if options.get("missing") == "ignore" else "error"
    som = SOM(**parameters | others)
    som.check_parameters()
    return som


def check_map_options(options: Namespace) -> None:
    """
    Raises:
        ValueError: threads, a seed or a device that cannot be.
    """
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    if options.seed is not None:
        check_seed("--seed", options.seed)
    check_device(options.device, MAP)


def add_map_size_options(add: Callable[..., None]) -> None:
    """Adds the size of the map to a parser, by its ``add(option, help, **options)``."""
    add = _with_defaults(add)
    add("rows", "rows of the map", type=int)
    add("cols", "columns of the map", type=int)
    add(
        "size",
        "both at once, such as 8x12, or auto: at most 5 nodes per square root of the number of rows, with sides as the "
        "two longest axes of the data (default: --rows and --cols)",
        type=str,
    )


def add_map_options(add: Callable[..., None]) -> None:
    """Adds what else the map is, likewise."""
    from somvae_ext.grid import Topology
    from somvae_ext.som import SCHEDULES, Init, MetricName
    from somvae_ext.som.neighborhoods import NEIGHBORHOOD_NAMES

    add = _with_defaults(add)
    add("topology", "shape of the grid", choices=list(get_args(Topology)))
    add("periodic", "let the map wrap around", action="store_true")
    add("neighborhood", "how much a node takes of the rows that another won", choices=list(NEIGHBORHOOD_NAMES))
    add("metric", "what is near", choices=list(get_args(MetricName)))
    add("p", "exponent of minkowski", type=float)
    add("init", "where the codes start", choices=list(get_args(Init)))
    add(
        "sigma_initial",
        "width of the neighbourhood at first, in nodes (default: a quarter of the longer side, or half of it from a "
        "random start)",
        type=float,
    )
    add("sigma_final", "its width in the last epoch", type=float)
    add("sigma_schedule", "from the one to the other", choices=list(SCHEDULES))


def add_map_training_options(add: Callable[..., None]) -> None:
    """Adds how the map is trained, likewise."""
    from somvae_ext.som import SCHEDULES

    add = _with_defaults(add)
    add("epochs", "passes over the data", type=int)
    add("algorithm", "means of all rows per epoch, or a step per mini-batch", choices=["batch", "minibatch"])
    add("batch_size", "rows of a mini-batch", type=int)
    add("alpha_initial", "learning rate of mini-batches at first", type=float)
    add("alpha_final", "in the last epoch", type=float)
    add("alpha_schedule", "from the one to the other", choices=list(SCHEDULES))
    add(
        "tol",
        "stop when the quantization error has not fallen by this share in some epochs (default: never stop early)",
        type=float,
    )
    add("patience", "how many epochs that are", type=int)
    add("seed", "draws the start and the mini-batches (default: 0)", type=int)


def add_map_record_options(add: Callable[..., None]) -> None:
    """Adds what is recorded of a single training, likewise."""
    _with_defaults(add)("topographic_error", "record it in every epoch, too, which takes longer", action="store_true")


def _with_defaults(add: Callable[..., None]) -> Callable[..., None]:
    """``add`` by names of parameters, whose defaults are told in the help; the parser has none of its own."""
    from somvae_ext.estimators import SOM

    parameters = inspect.signature(SOM).parameters

    def add_parameter(name: str, help: str, **options: Any) -> None:
        if "(default" not in help and options.get("action") != "store_true":
            help += f" (default: {parameters[PARAMETERS.get(name, name)].default})"
        add(f"--{name.replace('_', '-')}", help, **options)

    return add_parameter
