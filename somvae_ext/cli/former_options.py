"""Refuses commands and options of earlier versions with a sentence that says what replaced them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from somvae_ext.cli.model_choice import last_value

_MAP_COMMANDS = {
    "fit": "somvae fit DATA --model som",
    "predict": "somvae predict RUN DATA",
    "plot": "somvae plot RUN",
}


def refuse_former_options(argv: Sequence[str]) -> None:
    """Refuses a command line of an earlier version.

    Raises:
        ValueError: a command or option of an earlier version; the sentence names the one that has replaced it.
    """
    command, *arguments = argv or [""]
    if command == "som":
        name = arguments[0] if arguments else ""
        if name in _MAP_COMMANDS:
            raise ValueError(f"'somvae som {name}' is now '{_MAP_COMMANDS[name]}'")
        raise ValueError(f"'somvae som' has become {', '.join(repr(command) for command in _MAP_COMMANDS.values())}")
    if command == "plot":
        number = last_value(arguments, "--clusters")
        if number is not None or "--clusters" in arguments:
            raise ValueError(
                f"--clusters is now: somvae cluster RUN -n {'N' if number is None else shlex.quote(number)}"
            )
    if command != "fit":
        return
    data = last_value(arguments, "--data")
    if data is not None or "--data" in arguments:
        name = "DATA" if data is None else shlex.quote(data)
        raise ValueError(f"--data is no option any more, because the data come first: somvae fit {name} ...")
    device = last_value(arguments, "--accelerator")
    if device is not None or "--accelerator" in arguments:
        raise ValueError(f"--accelerator is now --device{'' if device is None else f': --device {device}'}")
