"""The clusterer that ``--clusterer``, ``--set`` and ``--number`` describe."""

from __future__ import annotations

import ast
import contextlib
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from somvae_ext.cli.seeds import check_seed

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.som import Metric

_AUTO = "auto"
_SEED = 0
_MOST_NEAR_NAMES = 3


class ChosenClusterer(NamedTuple):
    """A scikit-learn clusterer, and the parameters that were chosen for it.

    Args:
        clusterer: the clusterer, with all its parameters set.
        parameters: the parameters that the user or this module has set, by name.
        count_parameter: name of the parameter for the number of clusters; None if the clusterer finds it itself.
    """

    clusterer: Any
    parameters: dict[str, Any]
    count_parameter: str | None

    @property
    def is_auto(self) -> bool:
        """Whether several numbers of clusters are to be compared."""
        number = None if self.count_parameter is None else self.parameters[self.count_parameter]
        return isinstance(number, str) and number == _AUTO


def make_clusterer(options: Namespace, metric: Metric) -> ChosenClusterer:
    """Builds the clusterer that the options of ``somvae cluster`` describe, for nodes compared by ``metric``.

    Raises:
        ValueError: a class, a parameter or a number that is unknown or cannot be used.
    """
    from somvae_ext.evaluation.node_clusters import count_parameter, default_clusterer

    explicit = _parse_parameters(options.set or ())
    parameters: dict[str, Any] = {}
    if options.clusterer is None:
        clusterer = default_clusterer(metric)
        parameters = {name: clusterer.get_params()[name] for name in ("linkage", "metric")}
    else:
        clusterer = _clusterer_class(options.clusterer)()
    name = type(clusterer).__name__
    known = clusterer.get_params(deep=False)
    for unknown in explicit.keys() - known.keys():
        raise ValueError(f"--set must name a parameter of {name}, got {unknown!r}{_near(unknown, known)}")
    if "random_state" in known:
        parameters["random_state"] = _SEED
        if isinstance(seed := explicit.get("random_state"), int):
            check_seed("--set random_state", seed)
    count = count_parameter(clusterer)
    if options.number is not None:
        if count is None:
            raise ValueError(f"--number must not be given for {name}, which finds the number of clusters itself")
        if count in explicit:
            raise ValueError(f"--number and --set {count} mean the same; give one of them")
    if count is not None:
        parameters[count] = _AUTO if options.number is None else _parse_number(options.number)
    parameters |= explicit
    return ChosenClusterer(clusterer.set_params(**parameters), parameters, count)


def describe_parameters(parameters: Mapping[str, Any]) -> str:
    """Formats names and values as ``--set`` takes them."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _clusterer_class(name: str) -> type:
    from sklearn import cluster, mixture  # type: ignore[import-untyped]

    public = {each: getattr(module, each) for module in (cluster, mixture) for each in module.__all__}
    # Ask an instance, not the class: FeatureAgglomeration inherits fit_predict but disables it.
    known = {each: kind for each, kind in public.items() if isinstance(kind, type) and hasattr(kind(), "fit_predict")}
    if name not in known:
        hint = _near(name, known) or f"; known are {', '.join(sorted(known))}"
        raise ValueError(
            "--clusterer must be a class of sklearn.cluster or sklearn.mixture that has fit_predict, got "
            f"{name!r}{hint}"
        )
    return known[name]


def _parse_number(text: str) -> int | str:
    number: int | None = None
    with contextlib.suppress(ValueError):
        number = int(text)
    if text != _AUTO and (number is None or number < 2):
        raise ValueError(f"--number must be auto or an integer of at least 2, got {text}")
    return _AUTO if number is None else number


def _parse_parameters(settings: Sequence[str]) -> dict[str, Any]:
    parameters = {}
    for setting in settings:
        name, is_assigned, text = setting.partition("=")
        if not (is_assigned and name.isidentifier()):
            raise ValueError(f"--set must be NAME=VALUE, such as linkage=average, got {setting!r}")
        parameters[name] = _parse_value(text)
        if not _can_be_kept(parameters[name]):
            raise ValueError(f"--set must give text, numbers, or lists of these, got {setting!r}")
    return parameters


def _parse_value(text: str) -> Any:
    """Parses a Python literal: a number, True, False, None, or a list, tuple or dict of these; else keeps the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _can_be_kept(value: Any) -> bool:
    """Whether a result folder can store the value."""
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) for key in value) and all(map(_can_be_kept, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_can_be_kept, value))
    return isinstance(value, (str, int, float, bool, type(None)))


def _near(name: str, known: Iterable[str]) -> str:
    """Suggests names that are spelled alike, ignoring case; empty if there are none."""
    by_lower_case = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=_MOST_NEAR_NAMES)
    return f"; did you mean {' or '.join(by_lower_case[each] for each in near)}?" if near else ""
