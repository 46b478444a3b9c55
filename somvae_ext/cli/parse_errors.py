"""Turns what jsonargparse says about a command line into one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from somvae_ext.cli.model_options import option_name

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_MODEL_SPECIFIC = ("--preset", "--network", "--init", "--missing")  # options whose choices depend on the model
_KINDS = {"int": "an integer", "float": "a number", "str": "text"}


def parse_error_sentence(
    message: str,
    command: ArgumentParser | None,
    commands: Sequence[str],
    explain_foreign_option: Callable[[str], str | None] = lambda _: None,
    model: str | None = None,
) -> str:
    """Turns a message of jsonargparse into a sentence for the user.

    Args:
        message: the message of jsonargparse.
        command: the parser of the command; None if the command is unknown.
        commands: names of all commands.
        explain_foreign_option: returns a sentence about an option that the parser does not know, such as ``--rows``, or
            None.
        model: the model whose options ``fit`` takes; None for other commands.
    """
    message = " ".join(message.split())
    actions = [] if command is None else command._actions
    unknown = re.match(r"unrecognized arguments: (\S+)", message)
    if unknown:
        option = unknown[1].partition("=")[0]
        if not option.startswith("-"):
            return f"unexpected argument {option!r}"
        known = [option for action in actions for option in action.option_strings]
        return explain_foreign_option(option) or f"unknown option {option}" + _nearest(option, known)
    key = re.search(r"does not accept option '([^']*)'", message)
    if key:
        if key[1] == "accelerator":  # its name in earlier versions
            return "accelerator in the --config file is now device"
        known = [action.dest for action in actions]
        unknown_key = f"unknown option {key[1]} in the --config file" + _nearest(key[1], known)
        return explain_foreign_option(option_name(key[1])) or unknown_key
    wrong_value = re.match(
        r"Parser key \"(\w+)\"(?: element \d+)?: Expected an? <class '(\w+)'>\. Got value: (.*)", message
    )
    if wrong_value:
        name, kind, value = wrong_value.groups()
        return f"{option_name(name)} must be {_KINDS.get(kind, 'a number')}, got {value!r}"
    choice = re.search(r"(?:argument (\S+): )?invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if choice:
        option, value, choices = choice.groups()
        return _wrong_choice(option, value, choices, commands, model)
    wrong_in_file = re.match(r"Parser key \"(\w+)\"(?: element \d+)?: (.*) not among choices \[(.*)\]", message)
    if wrong_in_file:
        name, value, choices = wrong_in_file.groups()
        return _wrong_choice(option_name(name), value.strip("'"), choices, commands, model)
    broken_file = re.match(r"(?:Parser key \"config\": |Problems parsing config: |Unexpected config: )(.*)", message)
    if broken_file:
        return f"--config must be a YAML or JSON file with options of this command: {broken_file[1]}"
    empty = re.match(r"argument (\S+): expected (?:at least )?one argument", message)
    if empty:
        return f"{empty[1]} needs a value, got none"
    if re.match(r'expected "command"', message):
        return f"the command is missing; known are {', '.join(commands)}"
    missing = re.search(r"arguments are required: (?:\w+\.)+(\w+)", message)
    if missing:
        return f"{missing[1].upper()} is missing; the same command with --help says what goes where"
    return message


def _wrong_choice(option: str | None, value: str, choices: str, commands: Sequence[str], model: str | None) -> str:
    known = re.findall(r"[\w-]+", choices)
    if set(known) == set(commands):
        return f"unknown command {value!r}" + (_nearest(value, commands) or f"; known are {', '.join(commands)}")
    of_model = f" for --model {model}" if option in _MODEL_SPECIFIC and model is not None else ""
    return f"{option or 'value'} must be {' or '.join(known)}{of_model}, got {value!r}" + _nearest(value, known)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
