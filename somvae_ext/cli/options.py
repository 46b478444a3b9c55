"""What the command line may hold, and what is said where it holds something else."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from somvae_ext._version import __version__
from somvae_ext.cli.model_options import add_model_options
from somvae_ext.cli.som.options import add_som_commands
from somvae_ext.models import MODELS
from somvae_ext.recipes import AUGMENTED_BY_DEFAULT, PRESETS, RECIPES, SERIES, STATIC

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def parse(argv: Sequence[str]) -> Namespace:
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class HelpFormatter(DefaultHelpFormatter):
        """Without types and defaults, which our help tells in words."""

        def _get_help_string(self, action: argparse.Action) -> str:
            return action.help or ""

    def make(description: str) -> ArgumentParser:
        return ArgumentParser(
            description=description, formatter_class=HelpFormatter, allow_abbrev=False, exit_on_error=False
        )

    parser = ArgumentParser(
        prog="somvae",
        description="Self-organizing maps and SOM-VAEs.",
        formatter_class=HelpFormatter,
        version=__version__,
        allow_abbrev=False,
        exit_on_error=False,
    )
    commands = {
        "fit": make(
            "Trains a SOM-VAE or one of its relatives, evaluates it on the test split, and draws what it learned."
        ),
        "evaluate": make(
            "Measures what the model of a run is worth on data that it has not seen: losses, clusters, order."
        ),
        "predict": make("Writes the node, cluster, codes or latent means of each sample of one's own data as CSV."),
        "sample": make(
            "Draws samples from the prior of a run's model, or of two runs' side by side: where there are classes, "
            "categories or experts, a row of each, all of the same latent points."
        ),
        "plot": make("Draws all pictures of a run again."),
        "som": make("Self-organizing maps of tables: trains them, assigns rows to their nodes, and draws them."),
        "info": make("Says what this installation can do."),
    }
    _add_fit_options(commands["fit"])
    _add_evaluate_options(commands["evaluate"])
    _add_predict_options(commands["predict"])
    _add_sample_options(commands["sample"])
    _add_plot_options(commands["plot"])
    subcommands = parser.add_subcommands(dest="command")
    for name, summary in (
        ("fit", "train a SOM-VAE or another model and evaluate it"),
        ("evaluate", "evaluate a trained one"),
        ("predict", "assign one's own data to the nodes or clusters"),
        ("sample", "draw samples from a model's prior"),
        ("plot", "draw the pictures of a run again"),
        ("som", "self-organizing maps of tables, without a network"),
        ("info", "what this installation can do"),
    ):
        subcommands.add_subcommand(name, commands[name], help=summary)
    level, name = commands, argv[0] if argv else ""
    if name == "som":  # only then: its options come from the estimator, which needs scikit-learn
        level, name = add_som_commands(commands["som"], make), argv[1] if len(argv) > 1 else ""
    try:
        return parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise ValueError(_parse_error_sentence(str(error), level.get(name), sorted(level))) from None


def _add_fit_options(parser: ArgumentParser) -> None:
    from somvae_ext.data import NAMES, Recipe
    from somvae_ext.data.folds import SplitName

    # No defaults in the parser, so that presets, recipes and resumed runs know what was asked for.
    def add(name: str, help: str, **options: Any) -> None:
        parser.add_argument(name, help=help, **options)

    add("--config", "YAML or JSON file with any of the options below", action="config")
    add("--model", "what to train (default: somvae)", choices=list(MODELS))
    add("--data", f"{', '.join(NAMES)}, or a .csv, .npy or .npz file or a folder of series (default: digits)", type=str)
    add("--data-root", "folder that holds MNIST/raw or FashionMNIST/raw (default: data)", type=str)
    add("--download", "fetch MNIST or Fashion-MNIST if it is not there", action="store_true")
    add("--kind", "how to read one's own arrays (default: see the README)", choices=["static", "series"])
    add("--label-column", "column of one's own CSV that holds classes", type=str)
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
    add("--split-seed", "draws the splits, and the series made of images (default: 0)", type=int)
    add("--out", "run folder (default: runs/ with the names of the model, if not somvae, and of the data)", type=str)
    add("--overwrite", "replace an earlier run in that folder", action="store_true")
    add("--resume", "run folder of an interrupted training that is to go on", type=str)
    add("--from-epoch", "with --resume: from this epoch, where the checkpoint of the last one is damaged", type=int)
    listed = "; ".join(f"{', '.join(presets)} for {model}" for model, presets in PRESETS.items())
    presets = list(dict.fromkeys(name for presets in PRESETS.values() for name in presets))
    expected = [f"{name}: {preset.expected}" for name, preset in PRESETS["somvae"].items() if preset.expected]
    add(
        "--preset",
        "start from a known setting, with epochs, batches, rate and split of its own (default: ordered for series, "
        "augmented for mnist and fashion-mnist): "
        f"{listed}. {'; '.join(expected)}",
        choices=presets,
    )
    add_model_options(add)
    by_default = dict.fromkeys(AUGMENTED_BY_DEFAULT, "augmented")
    by_default |= {data: "ordered" for data in RECIPES if data.endswith("-series")}
    recipes = {"own data": STATIC, "own series": SERIES}
    for data, recipe in RECIPES.items():
        preset = PRESETS["somvae"].get(by_default.get(data, ""))
        recipes[data] = recipe if preset is None else recipe | preset.training_on[data]
    for name, meaning in (
        ("epochs", "passes over the training data; of large data of one's own fewer by default"),
        ("batch_size", "samples, or series, per step"),
        ("learning_rate", "Adam's rate at the start"),
        ("threads", "CPU threads"),
    ):
        values: dict[Any, list[str]] = {}
        for data, recipe in recipes.items():
            values.setdefault(recipe[name], []).append(data)
        listed = "; ".join(f"{value} for {', '.join(data)}" for value, data in values.items())
        add(f"--{name.replace('_', '-')}", f"{meaning} (default: of a preset, or {listed})", type=type(STATIC[name]))
    add("--max-grad-norm", "longer gradients are scaled to this norm (default: none is)", type=float)
    add(
        "--max-shift",
        "training images move at random by up to this many pixels along each axis (default: that of the preset, or 0)",
        type=float,
    )
    add("--max-rotation", "they turn by up to this many degrees (default: likewise)", type=float)
    add(
        "--max-scale",
        "each of their axes grows or shrinks by up to this share, such as 0.1 (default: likewise)",
        type=float,
    )
    add(
        "--max-shear",
        "they are sheared by up to this factor (default: likewise)",
        type=float,
    )
    add("--augmented-target", "reconstruct the moved images, not the clean ones", action="store_true")
    add("--revive", "before each epoch, move nodes or codes that won nothing in the last one", action="store_true")
    add("--seed", "weights and order of the data; the splits stay the same (default: 0)", type=int)
    add(
        "--best-of",
        "train with so many seeds, from --seed on, and keep the one of the least loss on validation data, of SOM-VAEs "
        "the reconstruction loss of the codes (default: one)",
        type=int,
    )
    add("--accelerator", "where to train (default: auto)", choices=["auto", "cpu", "cuda"])


def _add_evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder that fit wrote")
    parser.add_argument(
        "--split", choices=["train", "validation", "test"], default="test", help="on which data (default: test)"
    )
    _add_data_place(parser)


def _add_data_place(parser: ArgumentParser) -> None:
    parser.add_argument("--data-root", type=str, help="as in fit (default: that of the run)")
    parser.add_argument("--download", action="store_true", help="as in fit")


def _add_predict_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder that fit wrote")
    parser.add_argument("data", type=str, help=".csv, .npy or .npz file, or folder of series, as in fit")
    parser.add_argument("-o", "--output", type=str, help="CSV file to write (default: standard output)")


def _add_sample_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder that fit wrote, of a model of images")
    parser.add_argument("run2", nargs="?", type=str, help="another, for a picture of both side by side")
    parser.add_argument(
        "-n",
        "--number",
        type=int,
        help="samples of each category (default: 8), or of a model without any (default: 24)",
    )
    parser.add_argument("--category", type=int, help="draw only this class, category or expert, of latent points anew")
    parser.add_argument("--seed", type=int, default=0, help="draws the latent points (default: 0)")
    parser.add_argument(
        "-o",
        "--output",
        type=str,
        help="PNG file to write (default: in RUN, samples.png, categories.png, category.png or side-by-side.png)",
    )


def _add_plot_options(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder that fit wrote")
    parser.add_argument("-o", "--out", type=str, help="folder to write the pictures into (default: RUN)")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures in that folder")
    _add_data_place(parser)


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
    wrong_value = re.match(
        r"Parser key \"(\w+)\"(?: element \d+)?: Expected an? <class '(\w+)'>\. Got value: (.*)", message
    )
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
    empty = re.match(r"argument (\S+): expected (?:at least )?one argument", message)
    if empty:
        return f"{empty[1]} needs a value, got none"
    if re.match(r'expected "(som\.)?command"', message):
        return f"the command is missing; known are {', '.join(commands)}"
    missing = re.search(r"arguments are required: (?:\w+\.)+(\w+)", message)
    if missing:
        return f"{missing[1].upper()} is missing; the same command with --help says what goes where"
    return message


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
