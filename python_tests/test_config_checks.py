"""Checks of every field of every config: wrong types are refused, NumPy scalars become Python's."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from fractions import Fraction
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.cli.seeds import check_seed
from somvae_ext.config_checks import Bounds, check_fields, check_integer, check_number
from somvae_ext.estimators import SOM as SOMEstimator
from somvae_ext.evaluation import NodeUsage, clustering_accuracy, trustworthiness
from somvae_ext.grid import Grid
from somvae_ext.models import MODELS, VAE, SOMVAEConfig, VAEConfig
from somvae_ext.nn import SOM, SOMQuantizer, TransitionModel, VectorQuantizer
from somvae_ext.training import TrainingConfig

CONFIGS: list[type] = [*(model.config_type for model in MODELS.values()), TrainingConfig]
FIELDS = [(config, field.name) for config in CONFIGS for field in dataclasses.fields(config)]
SIZES = tuple[int, ...]

# Values that no field of a kind accepts. Integers are numbers; apart from that, no kind accepts another's values.
WRONG: dict[object, list[object]] = {
    int: [True, np.bool_(True), 2.5, 2.0, np.float64(2.0), "x", "2", None, math.nan, -(2**70), [2], 2j],
    float: [
        True,
        np.bool_(False),
        "x",
        "1",
        None,
        math.nan,
        math.inf,
        -math.inf,
        np.float32("nan"),
        -1,
        10**400,
        1j,
        [],
    ],
    bool: [0, 1, 1.0, "x", "True", None, math.nan, np.int64(1), []],
    SIZES: [
        True,
        2,
        2.5,
        "x",
        b"\x01\x02",
        None,
        math.nan,
        (1.5, 8, 8),
        (True,),
        ("8",),
        (None,),
        (math.nan,),
        (0,),
        (8, -1),
        {8},
    ],
    Literal: [True, 2, 2.5, "x", "", None, math.nan, ["dense"], b"dense"],
}


# Arrays that are not valid sizes: of floats, of bools, with a 0, two-dimensional, zero-dimensional.
WRONG_ARRAYS = [np.ones(2), np.ones(2, dtype=bool), np.arange(2), np.ones((2, 2), dtype=int), np.array(2)]


# Fields that are used in one mode only and default to None, with a valid value for that mode.
OF_A_MODE = {"decay": 0.5, "sigma_initial": 2.5, "sigma_final": 0.5, "sigma_steps": 7}
# All fields that default to None, whose meaning depends on the mode.
WITHOUT_VALUE = OF_A_MODE | {"beta": 0.5}


def kind(config: type, name: str) -> object:
    hint = get_type_hints(config)[name]
    if get_origin(hint) is Literal:
        return Literal
    (known,) = [other for other in get_args(hint) if other is not NoneType] if may_be_none(config, name) else [hint]
    return known


def may_be_none(config: type, name: str) -> bool:
    return NoneType in get_args(get_type_hints(config)[name])


def mode(config: type, name: str) -> dict[str, str]:
    """Returns the other fields that must be set for this one to be valid."""
    return {"codebook_update": "ema"} if config is SOMVAEConfig and name in OF_A_MODE else {}


def plain_value(config: type, name: str) -> Any:
    default = getattr(config(), name)
    return WITHOUT_VALUE[name] if default is None else default


def identifier(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=identifier)
def test_a_value_of_another_type_is_refused_with_an_error_that_names_the_field(config: type, name: str) -> None:
    for wrong in WRONG[kind(config, name)]:
        if wrong is None and may_be_none(config, name):
            continue
        with pytest.raises(ValueError, match=rf"^{config.__name__}: {name} must (be|hold) .*, got ") as caught:
            config(**mode(config, name), **{name: wrong})
        shown = repr(list(wrong) if isinstance(wrong, tuple) else wrong)
        assert str(caught.value).endswith(f", got {shown}")


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=identifier)
def test_numpys_scalars_and_jsons_lists_become_plain_values(config: type, name: str) -> None:
    plain = plain_value(config, name)
    if isinstance(plain, bool):
        given_values: list[object] = [np.bool_(plain)]
    elif isinstance(plain, int):
        given_values = [np.int64(plain), np.int32(plain), np.uint64(plain)]
    elif isinstance(plain, float):
        given_values = [np.float64(plain)]
    elif isinstance(plain, tuple):
        given_values = [list(plain), tuple(np.int16(size) for size in plain)]
    else:
        given_values = [np.str_(plain)]
    for value in given_values:
        config_of_it = config(**mode(config, name), **{name: value})
        taken = getattr(config_of_it, name)
        assert (type(taken), taken) == (type(plain), plain)
        assert config(**json.loads(json.dumps(dataclasses.asdict(config_of_it)))) == config_of_it


@pytest.mark.parametrize(("config", "name"), [field for field in FIELDS if kind(*field) == SIZES], ids=identifier)
def test_sizes_may_be_a_range_or_an_array_of_integers(config: type, name: str) -> None:
    for sizes in (range(16, 33, 16), np.array([16, 32]), np.array([16, 32], dtype=np.uint8), torch.Size([16, 32])):
        taken = getattr(config(**{name: sizes}), name)
        assert (taken, [type(size) for size in taken]) == ((16, 32), [int, int])
    for wrong in WRONG_ARRAYS:
        with pytest.raises(
            ValueError, match=rf"^{config.__name__}: {name} must hold sizes of at least 1, got "
        ) as caught:
            config(**{name: wrong})
        assert str(caught.value).endswith(f", got {wrong.tolist()!r}")


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.fractions()),
    *(st.complex_numbers(), st.lists(st.integers(-2, 2)), st.dictionaries(st.text(), st.integers())),
)


@given(VALUES)
def test_any_value_is_accepted_or_refused_with_a_value_error(value: Any) -> None:
    for config, name in FIELDS:
        default = plain_value(config, name)
        try:
            taken = getattr(config(**mode(config, name), **{name: value}), name)
        except ValueError as error:
            refused = str(error).startswith(f"{config.__name__}: ")
        else:
            if value is None and may_be_none(config, name):
                continue
            refused = False
            assert type(taken) is type(default)
            assert taken == type(default)(value)  # a list becomes a tuple, a fraction a float
        assert refused or type(taken) is type(default)


def test_integers_and_fractions_become_floats() -> None:
    assert repr(SOMVAEConfig(alpha=2).alpha) == "2.0"
    assert repr(SOMVAEConfig(alpha=Fraction(1, 2)).alpha) == "0.5"  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Everything:
    count: int = 1
    share: float = 0.5
    name: str = "a"
    limit: int | None = None
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, may_be_empty=("sizes",), share=Bounds(above=0, at_most=1), limit=Bounds(at_least=3))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"count": 0}, "Everything: count must be an integer of at least 1, got 0"),
        ({"share": 0}, "Everything: share must be a finite number above 0 and at most 1, got 0"),
        ({"share": 1.5}, "Everything: share must be a finite number above 0 and at most 1, got 1.5"),
        ({"name": 3}, "Everything: name must be text, got 3"),
        ({"limit": 2}, "Everything: limit must be an integer of at least 3, or None, got 2"),
        ({"sizes": (0,)}, "Everything: sizes must hold sizes of at least 1, got [0]"),
    ],
)
def test_the_sentence_names_the_bounds(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Everything(**wrong)


def test_bounds_hold_at_their_ends() -> None:
    assert Everything(share=1, limit=3) == Everything(share=1.0, limit=3)
    assert Everything(limit=None).limit is None


def test_a_config_with_a_field_of_an_unknown_kind_raises_a_type_error() -> None:
    @dataclasses.dataclass
    class Odd:
        values: dict[str, int]

    with pytest.raises(TypeError, match="of a kind that can be checked, got dict"):
        check_fields(Odd({}))


def test_all_choices_are_taken() -> None:
    for config, name in FIELDS:
        if kind(config, name) is Literal and name not in ("network", "output", "reconstruction", "codebook_update"):
            for choice in get_args(get_type_hints(config)[name]):
                assert getattr(config(**{name: choice}), name) == choice


# For each argument, its kind and a call that passes a value for it.
ARGUMENTS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "NodeUsage: num_nodes": ("integer", NodeUsage),
    "clustering_accuracy: num_clusters": (
        "integer",
        lambda value: clustering_accuracy([0, 1], [0, 1], num_clusters=value),
    ),
    "trustworthiness: num_neighbors": (
        "integer",
        lambda value: trustworthiness(np.eye(9), np.arange(9), Grid(3, 3), num_neighbors=value),
    ),
    "VectorQuantizer: num_codes": ("integer", lambda value: VectorQuantizer(value, 2)),
    "VectorQuantizer: dim": ("integer", lambda value: VectorQuantizer(4, value)),
    "VectorQuantizer: decay": ("number", lambda value: VectorQuantizer(4, 2, update="ema", decay=value)),
    "VectorQuantizer: epsilon": ("number", lambda value: VectorQuantizer(4, 2, update="ema", epsilon=value)),
    "SOMQuantizer: dim": ("integer", lambda value: SOMQuantizer(Grid(2, 2), value)),
    "SOM: dim": ("integer", lambda value: SOM(3, 3, value)),
    "SOM: n_epochs": ("integer", lambda value: SOMEstimator(3, 3, n_epochs=value).fit(np.eye(4))),
    "TransitionModel: nodes": ("integer", TransitionModel),
    "TransitionModel: radius": ("integer", lambda value: TransitionModel(Grid(3, 3), kind="local", radius=value)),
    "VAE: num_samples": ("integer", lambda value: VAE(VAEConfig((4,), hidden_sizes=(3,))).sample(value)),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("wrong", [True, np.bool_(True), "x", "2", math.nan, math.inf, -1, 2j, [2]], ids=repr)
def test_an_argument_of_another_type_is_refused_with_an_error_that_names_it(argument: str, wrong: object) -> None:
    what, make = ARGUMENTS[argument]
    with pytest.raises(
        ValueError, match=rf"^{argument} must be an? (finite )?{what} .*, got {re.escape(repr(wrong))}$"
    ):
        make(wrong)


@pytest.mark.parametrize("argument", [name for name, (what, _) in ARGUMENTS.items() if what == "integer"])
@pytest.mark.parametrize("wrong", [2.5, 2.0, np.float64(2.0), None], ids=repr)
def test_an_argument_that_is_an_integer_takes_no_float(argument: str, wrong: object) -> None:
    if wrong is None and argument == "clustering_accuracy: num_clusters":
        return  # the default
    with pytest.raises(ValueError, match=rf"^{argument} must .*, got {re.escape(repr(wrong))}$"):
        ARGUMENTS[argument][1](wrong)


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_an_argument_may_be_a_scalar_of_numpy(argument: str) -> None:
    what, make = ARGUMENTS[argument]
    make(np.int64(2) if what == "integer" else np.float32(0.5))


def test_an_argument_becomes_a_plain_number() -> None:
    quantizer = VectorQuantizer(np.int64(4), np.int8(2), decay=0, epsilon=Fraction(1, 2))  # type: ignore[arg-type]
    kept = quantizer.num_codes, quantizer.dim, quantizer.decay, quantizer.epsilon
    assert [repr(value) for value in kept] == ["4", "2", "0.0", "0.5"]


def test_errors_about_command_line_options_name_the_option_alone() -> None:
    with pytest.raises(ValueError, match=r"^--seed must be an integer from 0 to 4294967295, got -1$"):
        check_seed("--seed", -1)
    with pytest.raises(ValueError, match=r"^-n must be an integer of at least 1, got 0$"):
        check_integer(None, "-n", 0)
    with pytest.raises(ValueError, match=r"^f: share must be a finite number above 0, got 0$"):
        check_number("f", "share", 0, Bounds(above=0))
