"""The command ``somvae``: parse, call, print. Needs the extras ``train`` and ``plot``."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib.metadata
import platform
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from somvae_ext._native import build_info
from somvae_ext._version import __version__

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from matplotlib.figure import Figure
    from torch import Tensor

    from somvae_ext.data import Samples, Splits
    from somvae_ext.models import SOMVAE

_USER_ERROR = 2
_INTERRUPTED = 130  # what a shell gives for a process that Ctrl-C ended

# The extra that brings a module; distributions are named like the modules but for scikit-learn.
_EXTRA_OF_MODULE = {
    "jsonargparse": "train",
    "lightning": "train",
    "sklearn": "train",
    "torchvision": "train",
    "tqdm": "train",
    "matplotlib": "plot",
}

# What suits each data set, chosen on its validation split. Series use the published weights of the transitions. One
# thread: steps on such small images take less time than handing parts of them to other threads.
_RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 60, "batch_size": 32, "learning_rate": 2e-3, "gamma": 0.0, "tau": 0.0, "threads": 1},
    "digits-series": {"epochs": 5, "batch_size": 4, "learning_rate": 1e-3, "gamma": 1.8, "tau": 1.4, "threads": 1},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 2 after one sentence on stderr about what a user can mend."""
    try:
        options = _parse(sys.argv[1:] if argv is None else argv)
        if options.command == "info":
            _info()
        else:
            _fit(options.fit)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF_MODULE:
            raise
        return _complain(f"{module} is not installed; run: pip install 'somvae_ext[{_EXTRA_OF_MODULE[module]}]'")
    except (ValueError, OSError, FloatingPointError) as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        _complain("interrupted; the run folder keeps the last complete epoch")
        return _INTERRUPTED
    return 0


def _complain(sentence: str) -> int:
    print(f"somvae: {sentence}", file=sys.stderr)
    return _USER_ERROR


def _parse(argv: Sequence[str]) -> Namespace:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="somvae",
        description="Self-organizing maps and SOM-VAEs.",
        version=__version__,
        allow_abbrev=False,
        exit_on_error=False,
    )
    fit = ArgumentParser(
        description="Trains a SOM-VAE, compares its nodes with the classes of the test split, and draws the map.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    _add_fit_options(fit)
    info = ArgumentParser(description="Says what this installation can do.", exit_on_error=False)
    commands = parser.add_subcommands(dest="command")
    commands.add_subcommand("fit", fit, help="train a SOM-VAE and evaluate it")
    commands.add_subcommand("info", info, help="what this installation can do")
    try:
        return parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise ValueError(_parse_error_sentence(str(error), fit)) from None


def _add_fit_options(parser: ArgumentParser) -> None:
    from somvae_ext.models import SOMVAEConfig

    default = SOMVAEConfig()
    add = parser.add_argument
    add("--config", action="config", help="YAML or JSON file with any of the options below")
    add("--data", choices=list(_RECIPES), default="digits", help="scikit-learn's digits, or series between them")
    add("--out", type=str, help="run folder (default: runs/ and the name of the data)")
    add("--overwrite", action="store_true", help="replace an earlier run in that folder")
    add("--rows", type=int, default=default.rows, help="rows of the map")
    add("--cols", type=int, default=default.cols, help="columns of the map")
    add("--topology", choices=["rectangular", "hexagonal"], default=default.topology, help="shape of the grid")
    add("--periodic", action="store_true", help="let the map wrap around")
    add("--border", choices=["zero", "mask"], default=default.border, help="missing neighbours: zeros, or left out")
    add("--latent-dim", type=int, default=default.latent_dim, help="size of an encoding")
    add("--alpha", type=float, default=default.alpha, help="weight of the commitment loss")
    add("--beta", type=float, default=default.beta, help="weight of the SOM loss")
    for name, meaning in (
        ("gamma", "weight of the transition loss"),
        ("tau", "weight of the smoothness loss"),
        ("epochs", "passes over the training data"),
        ("batch_size", "images, or series, per step"),
        ("learning_rate", "Adam's rate at the start"),
        ("threads", "CPU threads"),
    ):
        values = {data: recipe[name] for data, recipe in _RECIPES.items()}
        kind = type(values["digits"])
        listed = ", ".join(f"{value} for {data}" for data, value in values.items())
        add(f"--{name.replace('_', '-')}", type=kind, help=f"{meaning} (default: {listed})")
    add("--seed", type=int, default=0, help="weights and order of the data; the splits stay the same")
    add("--accelerator", choices=["auto", "cpu", "cuda"], default="auto", help="where to train")


def _parse_error_sentence(message: str, fit: ArgumentParser) -> str:
    """One sentence out of jsonargparse's message, with the nearest option where one is unknown."""
    message = " ".join(message.split())
    unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
    if unknown:
        known = [option for action in fit._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown[1], known, n=1)
        return f"unknown option {unknown[1]}" + (f"; did you mean {near[0]}?" if near else "")
    wrong_value = re.match(r"Parser key \"(\w+)\": Expected an? <class '(\w+)'>\. Got value: (.*)", message)
    if wrong_value:
        key, kind, value = wrong_value.groups()
        return f"--{key.replace('_', '-')} must be {'an integer' if kind == 'int' else 'a number'}, got {value!r}"
    return message


def _info() -> None:
    rows = {"somvae_ext": __version__, "python": platform.python_version()}
    for distribution in ("torch", "numpy", "lightning", "jsonargparse", "scikit-learn", "tqdm", "matplotlib"):
        try:
            rows[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            rows[distribution] = "not installed"
    build = build_info()
    rows["compiled library"] = "in use" if build.pop("native") else "absent: the ops run on slow torch references"
    rows |= {name.replace("_", " "): _readable(value) for name, value in build.items()}
    _print_table(rows)


def _readable(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "-"
    return "-" if value is None else str(value)


def _print_table(rows: dict[str, str]) -> None:
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def _fit(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    from somvae_ext.data import InterpolatedSeries, digits
    from somvae_ext.models import SOMVAE, SOMVAEConfig
    from somvae_ext.plotting import plot_decoded_map
    from somvae_ext.training import RunFolder, TrainingConfig, fit

    chosen = {
        name: default if options[name] is None else options[name] for name, default in _RECIPES[options.data].items()
    }
    if chosen["threads"] < 1:
        raise ValueError(f"--threads must be at least 1, got {chosen['threads']}")
    torch.set_num_threads(chosen["threads"])
    images = digits()
    model_config = SOMVAEConfig(
        input_shape=tuple(images.train.x.shape[1:]),
        gamma=chosen["gamma"],
        tau=chosen["tau"],
        **{
            name: options[name]
            for name in ("rows", "cols", "topology", "periodic", "border", "latent_dim", "alpha", "beta")
        },
    )
    training_config = TrainingConfig(
        epochs=chosen["epochs"],
        batch_size=chosen["batch_size"],
        learning_rate=chosen["learning_rate"],
        seed=options.seed,
    )
    train: Samples | InterpolatedSeries = images.train
    validation: Samples | InterpolatedSeries = images.validation
    if options.data == "digits-series":
        train = InterpolatedSeries(images.train, seed=options.seed)
        validation = InterpolatedSeries(images.validation, seed=options.seed)
    elif model_config.gamma or model_config.tau:
        raise ValueError(
            "--gamma and --tau must be 0 for digits, which have no order in time; try --data digits-series"
        )

    folder = RunFolder(options.out or Path("runs") / options.data, overwrite=options.overwrite)
    folder.save_config(
        {
            "data": options.data,
            "model": dataclasses.asdict(model_config),
            "training": dataclasses.asdict(training_config),
            "somvae_ext": __version__,
        }
    )
    torch.manual_seed(options.seed)
    model = SOMVAE(model_config)
    start = time.perf_counter()
    fit(
        model,
        train,
        training_config,
        validation=validation,
        metrics=lambda: _clustering(model, images.validation, images.train),
        run_folder=folder,
        accelerator=options.accelerator,
    )
    seconds = time.perf_counter() - start

    picture = folder.path / "map.png"
    hits = torch.bincount(_assign(model, images.train), minlength=model_config.grid.num_nodes)
    axes = plot_decoded_map(model.decoded_map(), hits.view(model_config.rows, model_config.cols))
    cast("Figure", axes.figure).savefig(picture, dpi=150)
    _report(model, images, seconds, picture)


def _report(model: SOMVAE, images: Splits, seconds: float, picture: Path) -> None:
    clustering = _clustering(model, images.test, images.train)
    num_nodes = model.config.grid.num_nodes
    print(f"{len(images.test)} test images on {model.config.rows} x {model.config.cols} nodes")
    _print_table(
        {
            "purity": f"{clustering['purity']:.3f}",
            "NMI": f"{clustering['nmi']:.3f} (arithmetic mean of the entropies)",
            "usage": f"{clustering['usage']:.3f} (share of nodes with a training image)",
            "perplexity": f"{clustering['perplexity']:.1f} of {num_nodes} (training images)",
            "training": f"{seconds:.1f} s",
            "picture": str(picture),
        }
    )


def _clustering(model: SOMVAE, labelled: Samples, train: Samples) -> dict[str, float]:
    """Agreement with the classes of ``labelled``, and how the images of ``train`` spread over the nodes."""
    from somvae_ext import evaluation

    assert labelled.label is not None
    index, train_index = _assign(model, labelled), _assign(model, train)
    num_nodes = model.config.grid.num_nodes
    return {
        "purity": evaluation.purity(labelled.label, index),
        "nmi": evaluation.nmi(labelled.label, index, average="arithmetic"),
        "usage": evaluation.usage(train_index, num_nodes),
        "perplexity": evaluation.perplexity(train_index, num_nodes),
    }


def _assign(model: SOMVAE, samples: Samples) -> Tensor:
    return model.assign(samples.x.to(model.quantizer.codebook.device)).cpu()
