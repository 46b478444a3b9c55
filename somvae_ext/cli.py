"""The command ``somvae``: parse, call, print. Needs the extras ``train`` and ``plot``."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import difflib
import importlib.metadata
import math
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast, get_args

from somvae_ext._native import build_info
from somvae_ext._version import __version__

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from somvae_ext.data import InterpolatedSeries, Samples, Splits
    from somvae_ext.models import SOMVAE, SOMVAEConfig
    from somvae_ext.training import RunFolder, TrainingConfig

    AnySplits = Splits[Samples] | Splits[InterpolatedSeries]

_USER_ERROR = 2
_LARGEST_SEED = 2**32 - 1  # as in numpy: leaves room for what is derived from it
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

# What suits each data set, chosen on its validation split. One thread where steps are so small that handing parts of
# them to other threads takes longer than doing them.
_STATIC: dict[str, Any] = {"epochs": 50, "batch_size": 32, "learning_rate": 1e-3, "threads": 1}
_SERIES: dict[str, Any] = {"epochs": 20, "batch_size": 4, "learning_rate": 1e-3, "threads": 1}
_MNIST = {"epochs": 20, "batch_size": 128, "learning_rate": 1e-3, "threads": 2}
_MNIST_SERIES: dict[str, Any] = {"epochs": 10, "batch_size": 4, "learning_rate": 1e-3, "threads": 2, "num_series": 5000}
_RECIPES: dict[str, dict[str, Any]] = {
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
)
_TRAINING_OPTIONS = ("epochs", "batch_size", "learning_rate")
# What a resumed training may be told anew; everything else is that of the run.
_RESUME_OPTIONS = {"resume", "model", "epochs", "threads", "accelerator", "data_root", "download", "config"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 2 after one sentence on stderr about what a user can mend."""
    try:
        options = _parse(sys.argv[1:] if argv is None else argv)
        command = {"fit": _fit, "evaluate": _evaluate, "predict": _predict, "info": _info}[options.command]
        command(options[options.command])
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF_MODULE:
            raise
        return _complain(f"{module} is not installed; run: pip install 'somvae_ext[{_EXTRA_OF_MODULE[module]}]'")
    except BrokenPipeError:  # whoever read our output, such as head, has had enough of it
        sys.stderr.close()
        return 0
    except (ValueError, OSError, FloatingPointError) as error:
        return _complain(str(error))
    except KeyboardInterrupt as interrupt:
        _complain(str(interrupt) or "interrupted")
        return _INTERRUPTED
    return 0


def _complain(sentence: str) -> int:
    print(f"somvae: {sentence}", file=sys.stderr)
    return _USER_ERROR


# ---- parsing


def _parse(argv: Sequence[str]) -> Namespace:
    from jsonargparse import ArgumentParser

    def make(description: str) -> ArgumentParser:
        return ArgumentParser(description=description, allow_abbrev=False, exit_on_error=False)

    parser = ArgumentParser(
        prog="somvae",
        description="Self-organizing maps and SOM-VAEs.",
        version=__version__,
        allow_abbrev=False,
        exit_on_error=False,
    )
    commands = {
        "fit": make("Trains a SOM-VAE, evaluates it on the test split, and draws the map."),
        "evaluate": make("Measures how well the map of a run clusters, and orders, data that it has not seen."),
        "predict": make("Writes the node of each sample of one's own data as CSV."),
        "info": make("Says what this installation can do."),
    }
    _add_fit_options(commands["fit"])
    _add_evaluate_options(commands["evaluate"])
    _add_predict_options(commands["predict"])
    subcommands = parser.add_subcommands(dest="command")
    for name, summary in (
        ("fit", "train a SOM-VAE and evaluate it"),
        ("evaluate", "evaluate a trained one"),
        ("predict", "assign one's own data to the nodes"),
        ("info", "what this installation can do"),
    ):
        subcommands.add_subcommand(name, commands[name], help=summary)
    try:
        return parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        known = commands.get(argv[0] if argv else "")
        raise ValueError(_parse_error_sentence(str(error), known, sorted(commands))) from None


def _add_fit_options(parser: ArgumentParser) -> None:
    from somvae_ext.data import NAMES, Recipe
    from somvae_ext.grid import Topology
    from somvae_ext.models import SOMVAEConfig
    from somvae_ext.models.somvae import Gradient, Init, Network, Reconstruction
    from somvae_ext.ops.neighborhood import Border

    default = SOMVAEConfig()

    # No defaults in the parser, so that presets, recipes and resumed runs know what was asked for.
    def add(name: str, help: str, **options: Any) -> None:
        parser.add_argument(name, help=help, **options)

    def add_model(name: str, help: str, **options: Any) -> None:
        add(f"--{name.replace('_', '-')}", f"{help} (default: {getattr(default, name)})", **options)

    add("--config", "YAML or JSON file with any of the options below", action="config")
    add("--model", "what to train", choices=["somvae"], default="somvae")
    add("--data", f"{', '.join(NAMES)}, or a .csv, .npy or .npz file or a folder of series (default: digits)", type=str)
    add("--data-root", "folder that holds MNIST/raw or FashionMNIST/raw (default: data)", type=str)
    add("--download", "fetch MNIST or Fashion-MNIST if it is not there", action="store_true")
    add("--kind", "how to read one's own arrays (default: see the README)", choices=["static", "series"])
    add("--label-column", "column of one's own CSV that holds classes", type=str)
    add("--recipe", "how images become series (default: published)", choices=list(get_args(Recipe)))
    add("--num-series", "training series made of images (default: 5000 of MNIST, else one per image)", type=int)
    add("--split-seed", "draws the splits, and the series made of images (default: 0)", type=int)
    add("--out", "run folder (default: runs/ and the name of the data)", type=str)
    add("--overwrite", "replace an earlier run in that folder", action="store_true")
    add("--resume", "run folder of an interrupted training that is to go on", type=str)
    add("--preset", "start from the published setting, or from the notebook's", choices=["published", "notebook"])
    add_model("rows", "rows of the map", type=int)
    add_model("cols", "columns of the map", type=int)
    add_model("topology", "shape of the grid", choices=list(get_args(Topology)))
    add("--periodic", "let the map wrap around", action="store_true")
    add_model("border", "missing neighbours: zeros, or left out", choices=list(get_args(Border)))
    add_model("latent_dim", "size of an encoding", type=int)
    add_model("network", "encoder and decoders", choices=list(get_args(Network)))
    add("--latent-relu", "end the dense encoder with a ReLU, as the published one does", action="store_true")
    add(
        "--init",
        "where the codes start (default: kmeans for one's own data if it has a row for each node, else normal)",
        choices=list(get_args(Init)),
    )
    add_model("reconstruction", "squared errors, or binary cross entropy", choices=list(get_args(Reconstruction)))
    add_model("gradient", "what the encoder learns from", choices=list(get_args(Gradient)))
    add_model("alpha", "weight of the commitment loss", type=float)
    add_model("beta", "weight of the SOM loss", type=float)
    add("--gamma", "weight of the transition loss (default: 1.8 for series, else 0)", type=float)
    add("--tau", "weight of the smoothness loss (default: 1.4 for series, else 0)", type=float)
    for name, meaning in (
        ("epochs", "passes over the training data"),
        ("batch_size", "samples, or series, per step"),
        ("learning_rate", "Adam's rate at the start"),
        ("threads", "CPU threads"),
    ):
        values: dict[Any, list[str]] = {}
        for data, recipe in (_RECIPES | {"own data": _STATIC, "own series": _SERIES}).items():
            values.setdefault(recipe[name], []).append(data)
        listed = "; ".join(f"{value} for {', '.join(data)}" for value, data in values.items())
        add(f"--{name.replace('_', '-')}", f"{meaning} (default: {listed})", type=type(_STATIC[name]))
    add("--revive", "before each epoch, move nodes that won nothing in the last one", action="store_true")
    add("--seed", "weights and order of the data; the splits stay the same (default: 0)", type=int)
    add("--accelerator", "where to train (default: auto)", choices=["auto", "cpu", "cuda"])


def _add_evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder that fit wrote")
    parser.add_argument("--split", choices=["train", "validation", "test"], default="test", help="on which data")
    _add_data_place(parser)


def _add_data_place(parser: ArgumentParser) -> None:
    parser.add_argument("--data-root", type=str, help="as in fit (default: that of the run)")
    parser.add_argument("--download", action="store_true", help="as in fit")


def _add_predict_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder that fit wrote")
    parser.add_argument("data", type=str, help=".csv, .npy or .npz file, or folder of series, as in fit")
    parser.add_argument("-o", "--output", type=str, help="CSV file to write (default: standard output)")


def _parse_error_sentence(message: str, command: ArgumentParser | None, commands: Sequence[str]) -> str:
    """One sentence out of jsonargparse's message, with the nearest name where one is unknown."""
    message = " ".join(message.split())
    unknown = re.match(r"unrecognized arguments: (\S+)", message)
    if unknown:
        option = unknown[1].partition("=")[0]
        if not option.startswith("-"):
            return f"unexpected argument {option!r}"
        actions = [] if command is None else command._actions
        known = [option for action in actions for option in action.option_strings]
        return f"unknown option {option}" + _nearest(option, known)
    wrong_value = re.match(r"Parser key \"(\w+)\": Expected an? <class '(\w+)'>\. Got value: (.*)", message)
    if wrong_value:
        key, kind, value = wrong_value.groups()
        return f"--{key.replace('_', '-')} must be {'an integer' if kind == 'int' else 'a number'}, got {value!r}"
    choice = re.search(r"(?:argument (\S+): )?invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if choice:
        option, value, listed = choice.groups()
        known = re.findall(r"[\w-]+", listed)
        if set(known) == set(commands):
            return f"unknown command {value!r}" + (_nearest(value, commands) or f"; known are {', '.join(commands)}")
        return f"{option or 'value'} must be {' or '.join(known)}, got {value!r}" + _nearest(value, known)
    key = re.search(r"does not accept option '([^']*)'", message)
    if key:
        known = [] if command is None else [action.dest for action in command._actions]
        return f"unknown option {key[1]} in the --config file" + _nearest(key[1], known)
    empty = re.match(r"argument (\S+): expected one argument", message)
    if empty:
        return f"{empty[1]} needs a value, got none"
    if message.startswith('expected "command"'):
        return f"the command is missing; known are {', '.join(commands)}"
    missing = re.search(r"arguments are required: \w+\.(\w+)", message)
    if missing:
        return f"{missing[1].upper()} is missing; the same command with --help says what goes where"
    return message


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


# ---- info


def _info(_: Namespace) -> None:
    rows = {"somvae_ext": __version__, "python": platform.python_version()}
    for distribution in (
        "torch",
        "torchvision",
        "numpy",
        "lightning",
        "jsonargparse",
        "scikit-learn",
        "tqdm",
        "matplotlib",
    ):
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


# ---- fit


def _fit(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.models import SOMVAE
    from somvae_ext.training import RunFolder, encode, evaluate, fit
    from somvae_ext.training.run_config import fingerprint

    # Whatever can be known to fail is refused before the folder is touched.
    if options.accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("--accelerator cuda needs a GPU that torch can use, got none")
    if options.resume is None:
        data, splits, model_config, training_config, threads = _configure(options)
        folder = RunFolder(options.out or Path("runs") / Path(data["name"]).stem, overwrite=options.overwrite)
    else:
        folder = RunFolder.open(options.resume)
        data, splits, model_config, training_config, threads = _configure_resumed(options, folder)
    torch.set_num_threads(threads)
    torch.manual_seed(training_config.seed)
    model = SOMVAE(model_config)
    folder.save_config(
        {
            "model": dataclasses.asdict(model_config),
            "training": dataclasses.asdict(training_config),
            "data": data
            | {
                "kind": splits.kind,
                "scaling": splits.scaling.to_dict(),
                "feature_names": splits.train.feature_names,
                "fingerprint": fingerprint(_loaded(data, splits)),
            },
            "threads": threads,
        }
    )

    def validate() -> dict[str, float]:
        from somvae_ext.evaluation import nmi, purity

        held_out = encode(model, splits.validation)
        assert held_out.label is not None
        label, node = held_out.real(held_out.label), held_out.real(held_out.indices)
        return {"purity": purity(label, node), "nmi": nmi(label, node, average="arithmetic")}

    start = time.perf_counter()
    try:
        history = fit(
            model,
            splits.train,
            training_config,
            validation=splits.validation,
            metrics=None if splits.validation.label is None else validate,
            run_folder=folder,
            resume=options.resume is not None,
            accelerator=options.accelerator or "auto",
        )
    except KeyboardInterrupt:
        if not folder.has_checkpoint:
            raise KeyboardInterrupt("interrupted before an epoch was complete") from None
        raise KeyboardInterrupt(
            f"interrupted; {folder.path} keeps the last complete epoch, and somvae fit --resume {folder.path} goes on "
            "from there"
        ) from None
    seconds = time.perf_counter() - start
    evaluation = evaluate(model, splits.test, train=splits.train)
    folder.save_evaluation("test", evaluation)
    pictures = _draw(model, splits, history, folder)
    _print_evaluation(model, evaluation, "test", splits.kind)
    _print_table({"training": f"{seconds:.1f} s", "pictures": ", ".join(str(picture) for picture in pictures)})


def _configure(
    options: Namespace,
) -> tuple[dict[str, Any], AnySplits, SOMVAEConfig, TrainingConfig, int]:
    """What to train on, what, and how, by the options, the preset and the recipe for the data, in this order."""
    from somvae_ext.data import NAMES, load
    from somvae_ext.models import SOMVAEConfig
    from somvae_ext.training import TrainingConfig

    name = options.data or "digits"
    is_named = name in NAMES
    recipe = _RECIPES.get(name, {})
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
    splits = load(**_load_arguments(data), download=options.download)
    if not recipe:
        recipe = _SERIES if splits.kind == "series" else _STATIC

    presets = {None: SOMVAEConfig, "published": SOMVAEConfig.published, "notebook": SOMVAEConfig.notebook}
    asked = {name: value for name, value in _given(options).items() if name in _MODEL_OPTIONS}
    if splits.kind == "static" and (asked.get("gamma") or asked.get("tau")):
        hint = f"; try --data {name}-series" if is_named else "; if they have, say --kind series"
        raise ValueError(f"--gamma and --tau must be 0 for {name}, whose samples have no order in time{hint}")
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
        revive=options.revive,
        seed=options.seed or 0,
    )
    return data, splits, model, training, options.threads or recipe["threads"]


def _configure_resumed(
    options: Namespace, folder: RunFolder
) -> tuple[dict[str, Any], AnySplits, SOMVAEConfig, TrainingConfig, int]:
    """The same of an earlier run."""
    from somvae_ext.training.run_config import model_config, num_threads, training_config

    if others := _given(options).keys() - _RESUME_OPTIONS:
        option = min(others).replace("_", "-")
        raise ValueError(f"--resume goes on with the options of the run, so --{option} must not be given")
    model, training = model_config(folder), training_config(folder)
    done = folder.load_checkpoint()["epoch"]
    if options.epochs is not None:
        training = dataclasses.replace(training, epochs=options.epochs)
    if training.epochs <= done:
        raise ValueError(f"{folder.path} has completed its {done} epochs; for more of them, give a larger --epochs")
    data, splits = _data_of_run(folder, options)
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


def _given(options: Namespace) -> dict[str, Any]:
    """The options that the command line or a file has set."""
    return {name: value for name, value in vars(options).items() if value is not None and value is not False}


def _data_of_run(folder: RunFolder, options: Namespace) -> tuple[dict[str, Any], AnySplits]:
    """The data that a run was trained on, split as they were then."""
    from somvae_ext.data import load
    from somvae_ext.training.run_config import data_config, fingerprint

    data = data_config(folder)
    if options.data_root is not None:
        data["root"] = str(Path(options.data_root).resolve())
    splits = load(**_load_arguments(data), download=options.download)
    if fingerprint(_loaded(data, splits)) != data["fingerprint"]:
        raise ValueError(f"{data['name']}: must be what {folder.path} was trained on, but its values have changed")
    return data, splits


def _loaded(data: dict[str, Any], splits: AnySplits) -> list[Samples]:
    """The parts of the splits, or, of series that are made of images, these images: series would take long to make."""
    from somvae_ext.data import Samples, load

    parts = [part for part in splits if isinstance(part, Samples)]
    if not parts:
        images = load(data["name"].removesuffix("-series"), root=data["root"], seed=data["seed"])
        parts = [part for part in images if isinstance(part, Samples)]
    return parts


def _load_arguments(data: dict[str, Any]) -> dict[str, Any]:
    names = ("root", "seed", "recipe", "num_series", "kind", "label_column")
    return {"name_or_path": data["name"]} | {name: data[name] for name in names}


def _draw(model: SOMVAE, splits: AnySplits, history: list[dict[str, Any]], folder: RunFolder) -> list[Path]:
    import torch
    from matplotlib.figure import Figure

    from somvae_ext import plotting
    from somvae_ext.training import encode

    pictures = []
    config = model.config
    if len(config.input_shape) == 3 and config.input_shape[0] in (1, 3):
        encodings = encode(model, splits.train)
        hits = torch.bincount(encodings.real(encodings.indices), minlength=config.grid.num_nodes)
        axes = plotting.plot_decoded_map(model.decoded_map(), hits.view(config.rows, config.cols))
        pictures.append(folder.save_figure(folder.MAP, _figure(axes)))
    curves = Figure(figsize=(10, 4), layout="constrained")
    left, right = curves.subplots(1, 2)
    plotting.plot_losses(history, ax=left)
    plotting.plot_quality(history, ax=right)
    pictures.append(folder.save_figure(folder.CURVES, curves))
    if model.transitions is not None:
        axes = plotting.plot_transitions(model.transitions.matrix())
        pictures.append(folder.save_figure(folder.TRANSITIONS, _figure(axes)))
    return pictures


def _figure(axes: Axes) -> Figure:
    return cast("Figure", axes.figure)


# ---- evaluate


def _evaluate(options: Namespace) -> None:
    from somvae_ext.training import RunFolder, evaluate, load_model

    folder = RunFolder.open(options.run)
    model = load_model(folder.path)
    _, splits = _data_of_run(folder, options)
    evaluation = evaluate(model, getattr(splits, options.split), train=splits.train)
    folder.save_evaluation(options.split, evaluation)
    _print_evaluation(model, evaluation, options.split, splits.kind)


def _print_evaluation(model: SOMVAE, evaluation: dict[str, float], split: str, kind: str) -> None:
    config = model.config
    what = "frames of series" if kind == "series" else "samples"
    print(f"{evaluation['samples']} {what} of the {split} split on {config.rows} x {config.cols} nodes")
    meanings = {
        "purity": ("purity", ""),
        "nmi_arithmetic": ("NMI", "arithmetic mean of the entropies"),
        "nmi_geometric": ("NMI", "geometric mean of the entropies"),
        "ari": ("ARI", ""),
        "acc": ("ACC", "nodes matched with classes"),
        "quantization_error": ("quantization error", "mean distance of encodings to their codes"),
        "topographic_error": ("topographic error", "second best node is no neighbour of the best"),
        "usage": ("usage", f"nodes with a sample of the {split} split"),
        "perplexity": ("perplexity", f"of {config.grid.num_nodes} nodes"),
        "transition_nll": ("transition NLL", "learned, nats per step"),
        "counted_nll": ("counted NLL", "counted on the training series"),
        "lowest_nll": ("lowest NLL", f"counted on the {split} series themselves, maximum likelihood"),
    }
    shown = [(*meanings[name], value) for name, value in evaluation.items() if name in meanings]
    width = max(len(title) for title, _, _ in shown)
    for title, meaning, value in shown:
        print(f"{title:<{width}}  {value:.3f}" + (f" ({meaning})" if meaning else ""))


# ---- predict


def _predict(options: Namespace) -> None:
    from somvae_ext.data import Samples, Scaling, load_array
    from somvae_ext.training import RunFolder, encode, load_model
    from somvae_ext.training.run_config import data_config

    folder = RunFolder.open(options.run)
    model = load_model(folder.path)
    data = data_config(folder)
    path = Path(options.data)
    label_column = data["label_column"]
    if data["kind"] == "static" and path.is_dir():
        raise ValueError(f"{path}: must be a file, because {folder.path} was trained on single samples, got a folder")
    samples = load_array(
        path, kind=data["kind"], label_column=label_column if _has_column(path, label_column) else None
    )
    shape = tuple(samples.x.shape[2 if data["kind"] == "series" else 1 :])
    if shape != model.config.input_shape:
        raise ValueError(
            f"{path}: {'frames' if data['kind'] == 'series' else 'samples'} must have shape "
            f"{list(model.config.input_shape)}, as those that {folder.path} was trained on, got {list(shape)}"
        )
    x = samples.x
    trained, given = data["feature_names"], samples.feature_names
    if trained is not None and given is not None and list(given) != trained:
        if sorted(given) != sorted(trained) or len(set(trained)) < len(trained):
            raise ValueError(
                f"{path}: columns must be {', '.join(trained)}, in any order, as those that {folder.path} was trained "
                f"on, got {', '.join(given)}"
            )
        x = x[..., [given.index(name) for name in trained]]
    scaled = Samples(Scaling.from_dict(data["scaling"]).apply(x), mask=samples.mask)
    encodings = encode(model, scaled)
    codes = model.quantizer.codebook.detach()[encodings.indices]
    # As the quantization error: Euclidean, not squared, so that the mean of this column is that error.
    distances = (encodings.z - codes).double().norm(dim=-1)
    real = scaled.mask if scaled.mask is not None else encodings.indices >= 0
    with _output(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(["index"] if real.dim() == 1 else ["series", "frame"]), "node", "row", "column", "distance"])
        for place in real.nonzero().tolist():
            at = tuple(place)
            node = int(encodings.indices[at])
            writer.writerow([*place, node, *divmod(node, model.config.cols), f"{distances[at].item():.6g}"])


def _has_column(path: Path, column: str | None) -> bool:
    """Whether the first line of a CSV file, or of the first one in a folder, names the column."""
    if column is None:
        return False
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    if not files or files[0].suffix.lower() != ".csv":
        return False
    with files[0].open(encoding="utf-8-sig", errors="replace") as file:
        return column in [name.strip().strip('"') for name in re.split("[,;\t]", file.readline())]


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"--output must be a file in a folder that exists, but {Path(path).parent} does not")
    if Path(path).is_dir():
        raise IsADirectoryError(f"--output must be a file, but {path} is a folder")
    with open(path, "w", newline="", encoding="utf-8") as file:
        yield file
