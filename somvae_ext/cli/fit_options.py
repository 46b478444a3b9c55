"""The options of ``somvae fit``: those of one model, and which models have an option."""

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
_ABOUT = {"config", "print_config", "resumed"}  # the command line, and not the training


def add_fit_options(parser: ArgumentParser, model: str) -> None:
    """Adds what a model takes, in groups.

    The parser has no defaults, so that presets, recipes and resumed trainings know what was asked for.
    """
    from somvae_ext.data import NAMES

    data = f"file or folder of one's own, or {', '.join(NAMES)}; ./digits is a file of that name"
    parser.add_argument("data", nargs="?", type=str, action=_StoreIfGiven, help=data, metavar="DATA")
    parser.add_argument("--model", choices=list(TRAINABLE), help=f"what to train (default: {DEFAULT})")
    parser.add_argument(
        "--config", action="config", help="YAML or JSON file with any of these options; the command line goes first"
    )
    parser.add_argument("--print_config", action="store_true", help="print such a file of the options given, and exit")
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
    """The options that the command line or a config file has set."""
    return {
        name: value
        for name, value in vars(options).items()
        if value is not None and value is not False and name not in _ABOUT
    }


def format_config(options: Namespace) -> str:
    """The options that were given, as a ``--config`` file: a line for each."""
    import yaml  # type: ignore[import-untyped]

    class Dumper(yaml.SafeDumper):
        """Quotes also what YAML 1.2 alone takes for a number, such as 1e3."""

    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))
    return "".join(
        yaml.dump(
            {name: value},
            Dumper=Dumper,
            default_flow_style=None if isinstance(value, list) else False,  # in brackets, on the line of their name
            allow_unicode=True,
        )
        for name, value in explicit_options(options).items()
    )


def quote_config_text(text: str, parser: ArgumentParser) -> str:
    """A ``--config`` file in which text is quoted, and one value of an option that takes several is a list.

    Whoever writes ``header: yes``, ``columns: [1, 2]`` or ``na: -9999`` means what the same words mean in a shell.

    Raises:
        argparse.ArgumentError: an option holds something else than a value or a list of values.
    """
    import yaml

    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return text  # the parser says what is wrong
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
    """A node of YAML that an option can take as a shell's words."""
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
    """A node of YAML, or a list of such, as the text that was written; nothing stays nothing."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [_text_node(each.value) for each in node.value], flow_style=True)
    return node if node.tag == _NULL else _text_node(node.value)


def _text_node(text: str) -> Any:
    import yaml

    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style='"')


def explain_foreign_option(option: str, model: str) -> str | None:
    """A sentence about an option that other models have and this one has not; None if no model has it."""
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
    """Leaves what a ``--config`` file has said where the command line says nothing."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if values is not None:
            setattr(namespace, self.dest, values)


def _add_training_options(add: Callable[..., None], model: str) -> None:
    presets = PRESETS[model]
    by_default = " (default: ordered for series, augmented for mnist and fashion-mnist)" if model == DEFAULT else ""
    purposes = [f"; {name}: {preset.purpose}" for name, preset in presets.items() if preset.purpose]
    add(
        "--preset",
        f"start from a known setting, with epochs, batches, rate and split of its own{by_default}{''.join(purposes)}",
        choices=list(presets),
        type=functools.partial(current_preset, model),
    )
    recipes = _recipes(model)
    for name, meaning in (
        ("epochs", "passes over the training data; of large data of one's own fewer by default"),
        ("batch_size", f"samples{', or series,' if model == DEFAULT else ''} per step"),
        ("learning_rate", "Adam's rate at the start"),
        ("threads", "CPU threads"),
    ):
        values: dict[Any, list[str]] = {}
        for data, recipe in recipes.items():
            values.setdefault(recipe[name], []).append(data)
        shown = "; ".join(f"{value} for {', '.join(data)}" for value, data in values.items())
        add(option_name(name), f"{meaning} (default: of a preset, or {shown})", type=type(STATIC_RECIPE[name]))
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
    add("--max-shear", "they are sheared by up to this factor (default: likewise)", type=float)
    add("--augmented-target", "reconstruct the moved images, not the clean ones", action="store_true")
    if hasattr(MODELS[model], "revive"):
        add("--revive", "before each epoch, move nodes or codes that won nothing in the last one", action="store_true")
    add("--seed", "weights and order of the data; the splits stay the same (default: 0)", type=int)
    choice = "the reconstruction loss of the codes" if model == DEFAULT else "the loss"
    add(
        "--best-of",
        f"train with so many seeds, from --seed on, and keep the one for which {choice} is least on validation data "
        "(default: one)",
        type=int,
    )


def _recipes(model: str) -> dict[str, dict[str, Any]]:
    """Recipes by the data that they are for, as they are where no preset is given."""
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
    """Adds where a model is trained to a parser, by its ``add(option, help, **options)``."""
    if model == MAP:
        add("--device", "where to train: auto, cpu, cuda or cuda:N (default: cpu)", type=str)
        add("--threads", "CPU threads (default: as torch does)", type=int)
    else:
        add("--device", "where to train: auto, cpu or cuda (default: auto, a GPU where there is one)", type=str)
    add("--quiet", "show no progress", action="store_true")


def _add_folder_options(add: Callable[..., None], model: str) -> None:
    name = "" if model == DEFAULT else f"{model}-"
    what = "map" if model == MAP else "run"
    add("--out", f"folder for the {what} (default: runs/{name} and the name of the data)", type=str)
    add("--overwrite", f"replace an earlier {what} in that folder", action="store_true")
    add("--resume", f"folder of an interrupted training of a {what} that is to go on, without DATA", type=str)
    add("--from-epoch", "with --resume: from this epoch, where the checkpoint of the last one is damaged", type=int)
