"""From the options of ``fit``, and what suits each data set, to configurations."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.run_data import data_of_run, load_arguments

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.cli.run_data import AnySplits
    from somvae_ext.models import SOMVAEConfig
    from somvae_ext.training import RunFolder, TrainingConfig

_LARGEST_SEED = 2**32 - 1  # as in numpy: leaves room for what is derived from it

# What suits each data set, chosen on its validation split. One thread where steps are so small that handing parts of
# them to other threads takes longer than doing them.
STATIC: dict[str, Any] = {"epochs": 50, "batch_size": 32, "learning_rate": 1e-3, "threads": 1}
SERIES: dict[str, Any] = {"epochs": 20, "batch_size": 4, "learning_rate": 1e-3, "threads": 1}
_MNIST = {"epochs": 20, "batch_size": 128, "learning_rate": 1e-3, "threads": 2}
_MNIST_SERIES: dict[str, Any] = {"epochs": 10, "batch_size": 4, "learning_rate": 1e-3, "threads": 2, "num_series": 5000}
RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 60, "batch_size": 32, "learning_rate": 2e-3, "threads": 1},
    "digits-series": {"epochs": 5, "batch_size": 4, "learning_rate": 1e-3, "threads": 1},
    "mnist": _MNIST,
    "mnist-series": _MNIST_SERIES,
    "fashion-mnist": _MNIST,
    "fashion-mnist-series": _MNIST_SERIES,
}
# The published weights of the transitions; static data have none.
_TRANSITION_WEIGHTS = {"static": {"gamma": 0.0, "tau": 0.0}, "series": {"gamma": 1.8, "tau": 1.4}}

_MODEL_OPTIONS = (
    "rows",
    "cols",
    "topology",
    "periodic",
    "border",
    "latent_dim",
    "network",
    "latent_relu",
    "init",
    "reconstruction",
    "gradient",
    "alpha",
    "beta",
    "gamma",
    "tau",
    "transitions",
    "transition_radius",
    "transition_updates",
)
_TRAINING_OPTIONS = ("epochs", "batch_size", "learning_rate")
# What a resumed training may be told anew; everything else is that of the run.
_RESUME_OPTIONS = {"resume", "model", "epochs", "threads", "accelerator", "data_root", "download", "config"}


def configure(
    options: Namespace,
) -> tuple[dict[str, Any], AnySplits, SOMVAEConfig, TrainingConfig, int]:
    """What to train on, what, and how, by the options, the preset and the recipe for the data, in this order."""
    from somvae_ext.data import NAMES, load
    from somvae_ext.models import SOMVAEConfig
    from somvae_ext.training import TrainingConfig

    name = options.data or "digits"
    is_named = name in NAMES
    recipe = RECIPES.get(name, {})
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    for option in ("seed", "split_seed"):
        if options[option] is not None and not 0 <= options[option] <= _LARGEST_SEED:
            raise ValueError(
                f"--{option.replace('_', '-')} must be an integer from 0 to {_LARGEST_SEED}, got {options[option]}"
            )
    for option in ("recipe", "num_series"):
        if options[option] is not None and not (is_named and name.endswith("-series")):
            raise ValueError(f"--{option.replace('_', '-')} is for series made of images, such as mnist-series")
    for option in ("kind", "label_column"):
        if options[option] is not None and is_named:
            raise ValueError(f"--{option.replace('_', '-')} is for one's own files, not for {name}")
    if options.num_series is not None and options.num_series < 1:
        raise ValueError(f"--num-series must be at least 1, got {options.num_series}")
    data = {
        # Absolute, so that the run can be evaluated from anywhere.
        "name": name if is_named or not Path(name).exists() else str(Path(name).resolve()),
        "root": str(Path(options.data_root or "data").resolve()),
        "seed": options.split_seed or 0,
        "recipe": options.recipe or "published",
        "num_series": options.num_series or recipe.get("num_series"),
        "kind": options.kind,
        "label_column": options.label_column,
    }
    splits = load(**load_arguments(data), download=options.download)
    if not recipe:
        recipe = SERIES if splits.kind == "series" else STATIC

    presets = {None: SOMVAEConfig, "published": SOMVAEConfig.published, "notebook": SOMVAEConfig.notebook}
    asked = {name: value for name, value in given(options).items() if name in _MODEL_OPTIONS}
    if splits.kind == "static":
        hint = (
            f"; try --data {name}-series"
            if is_named
            else "; series are a folder of files, or an array with --kind series"
        )
        if asked.get("gamma") or asked.get("tau"):
            raise ValueError(f"--gamma and --tau must be 0 for {name}, whose samples have no order in time{hint}")
        if asked.get("transitions") == "local":
            raise ValueError(f"--transitions local is for series, and {name} has no order in time{hint}")
    changes = _TRANSITION_WEIGHTS[splits.kind] | {"input_shape": splits.sample_shape} | asked
    if asked.get("network") == "identity":
        changes.setdefault("latent_dim", math.prod(splits.sample_shape))
    model = dataclasses.replace(presets[options.preset](), **changes)
    count = _num_samples(splits)
    if not is_named and options.preset is None and "init" not in asked and count >= model.grid.num_nodes:
        # A small file gives so few steps that codes which start beside all encodings stay there.
        model = dataclasses.replace(model, init="kmeans")
    if model.init == "kmeans" and count < model.grid.num_nodes:
        raise ValueError(
            f"--init kmeans needs a training {'frame' if splits.kind == 'series' else 'row'} for each of the "
            f"{model.rows} x {model.cols} nodes, got {count}; choose smaller --rows and --cols, or --init normal"
        )
    _check_range(model, splits)
    training = TrainingConfig(
        **{name: recipe[name] if options[name] is None else options[name] for name in _TRAINING_OPTIONS},
        max_grad_norm=options.max_grad_norm or 0.0,
        revive=options.revive,
        seed=options.seed or 0,
    )
    return data, splits, model, training, options.threads or recipe["threads"]


def configure_resumed(
    options: Namespace, folder: RunFolder
) -> tuple[dict[str, Any], AnySplits, SOMVAEConfig, TrainingConfig, int]:
    """The same of an earlier run."""
    from somvae_ext.training.run_config import model_config, num_threads, training_config

    if others := given(options).keys() - _RESUME_OPTIONS:
        option = min(others).replace("_", "-")
        raise ValueError(f"--resume goes on with the options of the run, so --{option} must not be given")
    model, training = model_config(folder), training_config(folder)
    done = folder.load_checkpoint()["epoch"]
    if options.epochs is not None:
        training = dataclasses.replace(training, epochs=options.epochs)
    if training.epochs <= done:
        raise ValueError(f"{folder.path} has completed its {done} epochs; for more of them, give a larger --epochs")
    data, splits = data_of_run(folder, options)
    return data, splits, model, training, options.threads or num_threads(folder)


def _check_range(model: SOMVAEConfig, splits: AnySplits) -> None:
    from somvae_ext.data import Samples
    from somvae_ext.models.somvae import check_cross_entropy_range

    if model.reconstruction != "bce":
        return
    for name, part in (("training", splits.train), ("validation", splits.validation)):
        if isinstance(part, Samples):  # series made of images are in range by their making
            check_cross_entropy_range(part.x, f"--reconstruction bce: {name} data, scaled by the training data,")


def _num_samples(splits: AnySplits) -> int:
    """Training samples, or real frames of training series."""
    train = splits.train
    if splits.kind == "static":
        return len(train)
    if train.mask is not None:
        return int(train.mask.sum())
    return len(train) * len(train[0]["x"])


def given(options: Namespace) -> dict[str, Any]:
    """The options that the command line or a file has set."""
    return {name: value for name, value in vars(options).items() if value is not None and value is not False}
