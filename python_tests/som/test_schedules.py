"""Tests of the schedules: functions of the step alone with exact first and last values."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from somvae_ext.som import SCHEDULES, schedule_value

SIZES = st.floats(0.01, 100)
ANY_SIZE = st.floats(1e-300, 1e300)


@pytest.mark.parametrize("name", SCHEDULES)
@given(num_steps=st.integers(1, 50), initial=ANY_SIZE, final=ANY_SIZE)
def test_all_values_are_between_initial_and_final_and_the_first_is_initial(
    name: str, num_steps: int, initial: float, final: float
) -> None:
    values = [schedule_value(name, step, num_steps, initial, final) for step in range(num_steps)]
    assert values[0] == initial
    assert min(initial, final) <= min(values)
    assert max(values) <= max(initial, final)


@pytest.mark.parametrize("name", SCHEDULES)
@given(num_steps=st.integers(1, 50), initial=SIZES, final=SIZES)
def test_values_are_monotonic(name: str, num_steps: int, initial: float, final: float) -> None:
    values = [schedule_value(name, step, num_steps, initial, final) for step in range(num_steps)]
    slack = 1e-12 * max(initial, final)
    falls = [after - before for before, after in itertools.pairwise(values)]
    assert all(fall <= slack for fall in falls) or all(fall >= -slack for fall in falls)


@pytest.mark.parametrize("name", SCHEDULES)
@given(num_steps=st.integers(2, 2000), initial=st.floats(1e-6, 1e6), final=st.floats(1e-6, 1e6))
def test_the_last_step_has_exactly_the_final_value(name: str, num_steps: int, initial: float, final: float) -> None:
    assert schedule_value(name, num_steps - 1, num_steps, initial, final) == final
    assert SCHEDULES[name](num_steps - 1, num_steps, initial, final) == final


@given(narrowest=st.integers(1, 5), rings=st.integers(1, 300))
def test_linear_widths_with_steps_of_one_are_exact_integers(narrowest: int, rings: int) -> None:
    widest = narrowest + rings
    values = [schedule_value("linear", step, rings + 1, float(widest), float(narrowest)) for step in range(rings + 1)]
    assert values == [float(width) for width in range(widest, narrowest - 1, -1)]


@given(power=st.integers(1, 20), base=st.sampled_from([2, 3, 5, 7, 10]))
def test_exponential_values_that_are_powers_are_exact_integers(power: int, base: int) -> None:
    assume(base**power < 2**53)  # above, every float64 is an integer, so rounding errors would not show
    values = [schedule_value("exponential", step, power + 1, float(base**power), 1.0) for step in range(power + 1)]
    assert values == [float(base ** (power - step)) for step in range(power + 1)]


def test_intermediate_values_match_values_by_hand() -> None:
    assert [schedule_value("linear", step, 5, 9.0, 1.0) for step in range(5)] == [9, 7, 5, 3, 1]
    assert [schedule_value("exponential", step, 4, 8.0, 1.0) for step in range(4)] == pytest.approx([8, 4, 2, 1])
    assert [schedule_value("inverse", step, 3, 6.0, 2.0) for step in range(3)] == pytest.approx([6, 3, 2])
    assert [schedule_value("asymptotic", step, 4, 6.0, 1.0) for step in range(4)] == pytest.approx([6, 4, 3, 1])
    two = [schedule_value("two_phase", step, 4, 12.0, 0.5) for step in range(4)]
    assert two == pytest.approx([12, 2, 1, 0.5])
    three = [schedule_value("three_phase", step, 20, 11.0, 1.0) for step in range(20)]
    assert three == pytest.approx([11.0] * 3 + list(range(10, 0, -1)) + [1.0] * 7)


def test_the_value_stays_constant_after_the_last_step() -> None:
    assert schedule_value("linear", 99, 5, 9.0, 1.0) == 1.0


def test_a_custom_schedule_gets_all_four_arguments() -> None:
    asked = []

    def schedule(*given: float) -> float:
        asked.append(given)
        return 3.0

    assert schedule_value(schedule, 2, 7, 5.0, 1.0) == 3.0
    assert asked == [(2, 7, 5.0, 1.0)]


def test_a_schedule_that_returns_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="a schedule must give finite numbers, got nan at step 1 of 3"):
        schedule_value(lambda *_: math.nan, 1, 3, 1.0, 0.5)
