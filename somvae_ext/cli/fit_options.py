"""The options of ``somvae fit`` for one model, and which models have a given option."""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.data_options import add_data_options, option_group
from somvae_ext.cli.map_options import (
    add_map_options,
    add_map_record_options,
    add_map_size_options,
    add_map_training_options,
)
from somvae_ext.cli.model_choice import DEFAULT, MAP, TRAINABLE
from somvae_ext.cli.model_options import add_model_options, join_names, option_name
from somvae_ext.former_names import current_preset
from somvae_ext.models import MODELS
from somvae_ext.recipes import AUGMENTED_BY_DEFAULT, PRESETS, RECIPES, SERIES_RECIPE, STATIC_RECIPE

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_NUMBER = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?$")
_COMMAND_LINE_ONLY = {"config", "print_config", "resumed"}  # not options of the training


def add_fit_options(parser: ArgumentParser, model: str) -> None:
    """Adds the options of a model to a parser, in groups.

    The parser has no defaults, so that presets, recipes and resumed trainings know which options were given.
    """
    from somvae_ext.data import NAMES

    data = f"your own file or folder, or one of {', '.join(NAMES)}; for a file named digits, write ./digits"
    parser.add_argument("data", nargs="?", type=str, action=_StoreIfGiven, help=data, metavar="DATA")
    parser.add_argument("--model", choices=list(TRAINABLE), help=f"model to train (default: {DEFAULT})")
    parser.add_argument(
        "--config", action="config", help="YAML or JSON file with any of these options; the command line overrides it"
    )
    parser.add_argument("--print_config", action="store_true", help="print the given options as such a file, and exit")
    add_data_options(parser, model)
    if model == MAP:
        add_map_size_options(add := option_group(parser, "map"))
        add_map_options(add)
        add_map_training_options(add := option_group(parser, "training"))
        add_map_record_options(add)
    else:
        add_model_options(option_group(parser, "model"), model)
        _add_training_options(add := option_group(parser, "training"), model)
    add_machine_options(add, model)
    _add_folder_options(option_group(parser, "folder"), model)


def explicit_options(options: Namespace) -> dict[str, Any]:
    """Returns the options that the command line or a config file has set."""
    return {
        name: value
        for name, value in vars(options).items()
        if value is not None and value is not False and name not in _COMMAND_LINE_ONLY
    }


def format_config(options: Namespace) -> str:
    """Formats the given options as a ``--config`` file, one per line."""
    import yaml  # type: ignore[import-untyped]

    class Dumper(yaml.SafeDumper):
        """Also quotes text that only YAML 1.2 reads as a number, such as 1e3."""

    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))
    return "".join(
        yaml.dump(
            {name: value},
            Dumper=Dumper,
            default_flow_style=None if isinstance(value, list) else False,  # lists in brackets, on one line
            allow_unicode=True,
        )
        for name, value in explicit_options(options).items()
    )


def quote_config_text(text: str, parser: ArgumentParser) -> str:
    """Quotes text in a ``--config`` file, and turns single values of options that take several into lists.

    ``header: yes``, ``columns: [1, 2]`` and ``na: -9999`` then mean the same as these words in a shell.

    Raises:
        argparse.ArgumentError: an option holds neither a value nor a list of values.
    """
    import yaml

    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return text  # the parser reports the error
    if not isinstance(root, yaml.MappingNode) or not all(isinstance(key, yaml.ScalarNode) for key, _ in root.value):
        return text  # likewise
    actions = {action.dest: action for action in parser._actions}
    root.value = [
        (key, _value_as_written(actions[key.value], value) if key.value in actions else value)
        for key, value in root.value
    ]
    written: str = yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True)
    return written


def _value_as_written(action: argparse.Action, value: Any) -> Any:
    """Converts a YAML node to one that an option reads like words of a shell."""
    import yaml

    takes_several = action.nargs == "+"
    if takes_several and isinstance(value, yaml.ScalarNode) and value.tag != _NULL:
        value = yaml.SequenceNode("tag:yaml.org,2002:seq", [value], flow_style=True)
    is_list = isinstance(value, yaml.SequenceNode)
    is_text = getattr(action, "_typehint", action.type) is str
    parts = value.value if is_list else [value]
    if (is_list and is_text and not takes_several) or not all(isinstance(part, yaml.ScalarNode) for part in parts):
        what = "a value or a list of values" if takes_several else "one value"
        raise argparse.ArgumentError(None, f"the --config file must hold {what} for {action.dest}")
    if action.dest == "header" and value.tag == _BOOL:
        return _text_node("yes" if value.value.lower() in ("yes", "true", "on") else "no")
    return _as_text(value) if is_text else value


def _as_text(node: Any) -> Any:
    """Turns a YAML scalar, or each scalar of a list, into its text as written; null stays null."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [_text_node(each.value) for each in node.value], flow_style=True)
    return node if node.tag == _NULL else _text_node(node.value)


def _text_node(text: str) -> Any:
    import yaml

    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style='"')


def explain_foreign_option(option: str, model: str) -> str | None:
    """Names the models that have an option which this one lacks, in a sentence; None if no model has it."""
    from jsonargparse import ArgumentParser

    owners = []
    for other in TRAINABLE:
        parser = ArgumentParser(exit_on_error=False, print_config=None)
        with contextlib.suppress(ModuleNotFoundError):  # maps need scikit-learn
            add_fit_options(parser, other)
        if any(option in action.option_strings for action in parser._actions):
            owners.append(other)
    return f"{option} is for {join_names(owners)}, and --model {model} has no use for it" if owners else None


class _StoreIfGiven(argparse.Action):
    """Keeps the value of a ``--config`` file if the command line has none."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if values is not None:
            setattr(namespace, self.dest, values)


def _add_training_options(add: Callable[..., None], model: str) -> None:
    presets = PRESETS[model]
    by_default = " (default: ordered for series, augmented for mnist and fashion-mnist)" if model == DEFAULT else ""
    purposes = [f"; {name}: {preset.purpose}" for name, preset in presets.items() if preset.purpose]
    add(
        "--preset",
        f"start from a known setting with its own epochs, batch size, rate and split{by_default}{''.join(purposes)}",
        choices=list(presets),
        type=functools.partial(current_preset, model),
    )
    recipes = _recipes(model)
    for name, meaning in (
        ("epochs", "passes over the training data; fewer by default for large data of your own"),
        ("batch_size", f"samples{', or series,' if model == DEFAULT else ''} per step"),
        ("learning_rate", "initial learning rate of Adam"),
        ("threads", "CPU threads"),
    ):
        values: dict[Any, list[str]] = {}
        for data, recipe in recipes.items():
            values.setdefault(recipe[name], []).append(data)
        shown = "; ".join(f"{value} for {', '.join(data)}" for value, data in values.items())
        add(option_name(name), f"{meaning} (default: from the preset, or {shown})", type=type(STATIC_RECIPE[name]))
    add("--max-grad-norm", "clip gradients to this norm (default: no clipping)", type=float)
    add(
        "--max-shift",
        "shift training images at random by up to this many pixels along each axis (default: from the preset, or 0)",
        type=float,
    )
    add(
        "--max-rotation",
        "rotate training images at random by up to this many degrees (default: from the preset, or 0)",
        type=float,
    )
    add(
        "--max-scale",
        "stretch or shrink each axis of training images at random by up to this share, such as 0.1 (default: from the "
        "preset, or 0)",
        type=float,
    )
    add(
        "--max-shear",
        "shear training images at random by up to this factor (default: from the preset, or 0)",
        type=float,
    )
    add("--augmented-target", "reconstruct the transformed images, not the original ones", action="store_true")
    if hasattr(MODELS[model], "revive"):
        add(
            "--revive",
            "before each epoch, move nodes or codes that won nothing in the previous one to random encodings",
            action="store_true",
        )
    add("--seed", "seed for weights and order of the data; splits do not depend on it (default: 0)", type=int)
    choice = "reconstruction loss of the codes" if model == DEFAULT else "loss"
    add(
        "--best-of",
        f"train with this many seeds, from --seed on, and keep the training with the smallest {choice} on validation "
        "data (default: train once)",
        type=int,
    )


def _recipes(model: str) -> dict[str, dict[str, Any]]:
    """Returns the recipe for each data set if no preset is given."""
    from somvae_ext.data.catalog import SERIES

    recipes = {"own data": STATIC_RECIPE} | {data: recipe for data, recipe in RECIPES.items() if data not in SERIES}
    if model != DEFAULT:
        return recipes
    recipes |= {"own series": SERIES_RECIPE} | RECIPES
    by_default = dict.fromkeys(AUGMENTED_BY_DEFAULT, "augmented")
    by_default |= dict.fromkeys(SERIES, "ordered")
    return recipes | {
        data: recipes[data] | PRESETS[model][name].training_on.get(data, {}) for data, name in by_default.items()
    }


def add_machine_options(add: Callable[..., None], model: str) -> None:
    """Adds the options for where and how a training runs, by ``add(option, help, **options)``."""
    if model == MAP:
        add("--device", "where to train: auto, cpu, cuda or cuda:N (default: cpu)", type=str)
        add("--threads", "CPU threads (default: torch's default)", type=int)
    else:
        add("--device", "where to train: auto, cpu or cuda (default: auto, a GPU if there is one)", type=str)
    add("--quiet", "show no progress", action="store_true")


def _add_folder_options(add: Callable[..., None], model: str) -> None:
    name = "" if model == DEFAULT else f"{model}-"
    what = "map" if model == MAP else "run"
    add("--out", f"folder for the {what} (default: runs/{name}NAME, with the name of the data)", type=str)
    add("--overwrite", f"replace an earlier {what} in that folder", action="store_true")
    add("--resume", f"resume the interrupted training of the {what} in this folder, without DATA", type=str)
    add("--from-epoch", "with --resume: continue after this epoch if the last checkpoint is damaged", type=int)
