"""Every field of every config is checked in one place: wrong types are refused, numpy's scalars become Python's."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from fractions import Fraction
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.config_checks import Bounds, check_fields
from somvae_ext.models import MODELS, SOMVAEConfig
from somvae_ext.training import TrainingConfig

CONFIGS: list[type] = [*(model.config_type for model in MODELS.values()), TrainingConfig]
FIELDS = [(config, field.name) for config in CONFIGS for field in dataclasses.fields(config)]
SIZES = tuple[int, ...]

# What no field of a kind may hold. Integers are numbers, and every other pair of kinds is apart.
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
    SIZES: [True, 2, 2.5, "x", None, math.nan, (1.5, 8, 8), (True,), ("8",), (None,), (math.nan,), (0,), (8, -1), {8}],
    Literal: [True, 2, 2.5, "x", "", None, math.nan, ["dense"], b"dense"],
}


def kind(config: type, name: str) -> object:
    hint = get_type_hints(config)[name]
    return Literal if get_origin(hint) is Literal else hint


def identifier(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=identifier)
def test_a_value_of_another_type_is_refused_by_the_name_of_the_field(config: type, name: str) -> None:
    for wrong in WRONG[kind(config, name)]:
        with pytest.raises(ValueError, match=rf"^{config.__name__}: {name} must (be|hold) .*, got ") as caught:
            config(**{name: wrong})
        shown = repr(list(wrong) if isinstance(wrong, tuple) else wrong)
        assert str(caught.value).endswith(f", got {shown}")


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=identifier)
def test_numpys_scalars_and_jsons_lists_become_plain_values(config: type, name: str) -> None:
    plain = getattr(config(), name)
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
        config_of_it = config(**{name: value})
        taken = getattr(config_of_it, name)
        assert (type(taken), taken) == (type(plain), plain)
        assert config(**json.loads(json.dumps(dataclasses.asdict(config_of_it)))) == config_of_it


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.fractions()),
    *(st.complex_numbers(), st.lists(st.integers(-2, 2)), st.dictionaries(st.text(), st.integers())),
)


@given(VALUES)
def test_whatever_comes_is_taken_or_refused_by_a_value_error_of_its_field(value: Any) -> None:
    for config, name in FIELDS:
        default = getattr(config(), name)
        try:
            taken = getattr(config(**{name: value}), name)
        except ValueError as error:
            refused = str(error).startswith(f"{config.__name__}: ")
        else:
            refused = False
            assert type(taken) is type(default)
            assert taken == type(default)(value)  # a list becomes a tuple, a fraction a number
        assert refused or type(taken) is type(default)


def test_an_integer_is_a_number_and_is_kept_as_one() -> None:
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


def test_a_kind_that_cannot_be_checked_is_an_error_of_the_config_itself() -> None:
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
