"""Rewords sentences of the library for the command line.

The library names parameters, ``SOM: n_epochs must be at least 1``, and gives its advice as ``missing='ignore'``. A user
of a shell has options: ``--epochs must be at least 1``, ``--missing ignore``.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping
from typing import Any

from somvae_ext.cli.map_options import PARAMETERS
from somvae_ext.cli.model_choice import DEFAULT, MAP
from somvae_ext.cli.model_options import option_name

# The prefix that names the owner of a parameter is removed. Other text before a colon, a file or data set, stays.
_OWNER = re.compile(
    r"\b(?:Grid(?:\.\w+)?|SOM(?:\.\w+)?|fit|load|load_array|evaluate|encode|clustering_metrics|cluster_nodes|kmeans_centers"
    r"|som_codes|tune_size|suggest_map_size"
    r"|\w+Config|TableFormat|(?:SOMVAE|VQVAE|VAE|ConditionalVAE|GumbelVAE|MoEVAE|SOMQuantizer|VectorQuantizer)(?:\.\w+)?"
    r"|\w*(?:Encoder|Decoder)|AffineAugmentation): "
)
# Options for parameters of another name.
_OPTION_OF_PARAMETER = {parameter: name for name, parameter in PARAMETERS.items()} | {
    "root": "data_root",
    "accelerator": "device",
    "n_clusters": "number",
}
_OPTION_OF_PARAMETER_IN = {"load": {"seed": "split_seed"}}
# Parameters that are ordinary nouns as well, such as the rows and columns of a file.
_ALSO_NOUNS = {"rows", "cols", "columns", "features", "init", "p"}
# Words that may precede a quoted name, as in "leave out 'weights'", and options without a set of choices.
_ALSO_VERBS = {"out", "drop", "missing", "resume", "comment"}
_VALUE = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[[^\]]*\]|True\b|False\b|None\b|-?\d+(?:\.\d+)?(?:e-?\d+)?"
# Entries of a parsed command line that are not options.
_NO_OPTIONS = {"data", "run", "run2", "config", "resumed"}
_PHRASES = {
    "; resume it first": "; resume it first: somvae fit --resume RUN",
    "it must be None": "it must not be given",
    "SOM: X should hold": "SOM: the data should hold",
    # Networks ask for a certain input_shape only if samples are images.
    "height and width of input_shape": "height and width of the images",
    "input_shape must be that of an image (C, H, W)": "samples must be images (C, H, W)",
}

# Advice of which a part is only for maps, and what remains of it for other models.
_ADVICE_FOR_MAPS = {
    "missing='drop', missing='mean' or, for a map, missing='ignore'": "missing='drop' or missing='mean'",
    " or, for a map, missing='ignore'": "",
}


def is_about_parameters(sentence: str) -> bool:
    """Whether a sentence begins with an owner of parameters, as in ``SOM: X should hold ...``."""
    return _OWNER.match(sentence) is not None


def rephrase_for_command(sentence: str, options: Mapping[str, Any]) -> str:
    """Rewords a sentence of the library with the command's options in place of parameters.

    - ``SOM: n_epochs must ...`` becomes ``--epochs must ...``, without the owner.
    - Advice written as ``name=value`` becomes ``--name value``, quoted for a shell, ``--name`` for a flag, and
      ``--header yes`` or ``no``.
    - ``name must be False`` of a flag becomes ``--name must not be given``.

    Args:
        sentence: the message of an error or a warning.
        options: the parsed options of the running command, by their names in Python; flags are bools. Other names stay
            as they are.
    """
    if "its config must describe" in sentence:  # it names fields in a folder, not options
        return _OWNER.sub("", sentence)
    for phrase, words in _PHRASES.items():
        sentence = sentence.replace(phrase, words)
    if "model" in options and not options.get("resumed") and (options["model"] or DEFAULT) != MAP:
        for advice, words in _ADVICE_FOR_MAPS.items():
            sentence = sentence.replace(advice, words)
    owner = _OWNER.match(sentence)
    if owner is not None:
        sentence = sentence[owner.end() :]
    return _Words(owner[0][:-2].partition(".")[0] if owner else None, options).translate(sentence)


class _Words:
    """Translates one sentence.

    Args:
        owner: the class or function whose parameters it names; None if it is about a file or a folder.
        options: the options of the command.
    """

    def __init__(self, owner: str | None, options: Mapping[str, Any]) -> None:
        self._owner = owner
        self._options = options

    def translate(self, sentence: str) -> str:
        sentence = re.sub(r"(?<![\w'\"./-])(\w+)\s?=\s?(" + _VALUE + r")", self._advice, sentence)
        sentence = re.sub(r"(?<![\w'\"./-])set (\w+)(?![\w=])(?! to\b)", self._flag_to_set, sentence)
        sentence = re.sub(r"(?<![\w'\"./-])(\w+) must be (?:False|True)\b(.*)", self._flag_that_must, sentence)
        sentence = re.sub(r"(?<![\w'\"./-])(\w+)(?= must| is for )", self._subject, sentence)
        sentence = re.sub(
            r"(?<![\w'\"./-])(columns)(?= must (?:name|be one of its columns|not be set)\b)", self._name, sentence
        )
        sentence = re.sub(r"(?<![\w'\"./-])(\w+) '([\w-]+)'", self._choice, sentence)
        if self._owner is not None:
            sentence = re.sub(r"(?<= must differ from )(\w+)", self._name, sentence)
            uses = re.match(r"(a column must have one use, got .* in )(\w+ and \w+)$", sentence)
            if uses is not None:
                sentence = uses[1] + re.sub(r"(\w+)", self._name, uses[2])
            sentence = re.sub(r"(?<![\w'\"./-])(\w+)(?= to mean| \* | -?\d)", self._name, sentence)
        sentence = re.sub(r"(?<![\w'\"./-])([a-z]+(?:_[a-z]+)+)(?![\w/'\"]|\.\w)", self._identifier, sentence)
        return self._without_none(sentence)

    def _option(self, name: str) -> str | None:
        """Returns the name of the option for a parameter; None if the command has no such option."""
        names = _OPTION_OF_PARAMETER | _OPTION_OF_PARAMETER_IN.get(self._owner or "", {})
        name = names.get(name, name)
        return name if name in self._options and name not in _NO_OPTIONS else None

    def _name(self, match: re.Match[str]) -> str:
        name = self._option(match[1])
        return match[0] if name is None else option_name(name)

    def _identifier(self, match: re.Match[str]) -> str:
        """Replaces a name with an underscore, which is no word, unless it may be that of a file's column."""
        return self._name(match) if self._owner is not None else match[0]

    def _subject(self, match: re.Match[str]) -> str:
        if self._owner is None and match[1] in _ALSO_NOUNS:
            return match[0]
        return self._name(match)

    def _choice(self, match: re.Match[str]) -> str:
        """Replaces a choice, such as ``network 'identity'``."""
        name = self._option(match[1])
        is_word = match[1] in _ALSO_NOUNS | _ALSO_VERBS
        return match[0] if name is None or is_word else f"{option_name(name)} {match[2]}"

    def _flag_to_set(self, match: re.Match[str]) -> str:
        name = self._option(match[1])
        return match[0] if name is None else f"set {option_name(name)}"

    def _flag_that_must(self, match: re.Match[str]) -> str:
        name = self._option(match[1])
        if name is None or not isinstance(self._options[name], bool):
            return match[0]
        must = "must not be given" if "must be False" in match[0] else "must be given"
        rest = re.sub(r", got (?:True|False)\b(?: and)?.*", "", match[2])
        return f"{option_name(name)} {must}{rest}"

    def _advice(self, match: re.Match[str]) -> str:
        name = self._option(match[1])
        if name is None:
            return match[0]
        value = ast.literal_eval(match[2])
        if name == "header":
            return f"{option_name(name)} {'yes' if value else 'no'}"
        if value is True:
            return option_name(name)
        if value in (False, None):
            return f"no {option_name(name)}"
        values = value if isinstance(value, list) else [value]
        return " ".join([option_name(name), *(shlex.quote(str(each)) for each in values)])

    def _without_none(self, sentence: str) -> str:
        """Removes None from the allowed values: it stands for an option that is not given, and no shell can give it."""
        option_must = re.match(r"(.*--[\w-]+ must )(.*)", sentence)
        if option_must is None:
            return sentence
        start, rest = option_must.groups()
        if rest.startswith("be None"):
            return f"{start}not be given{rest.removeprefix('be None')}".replace("must not be given or", "must be")
        return start + rest.replace(", or None, got", ", got").replace("None or ", "")
