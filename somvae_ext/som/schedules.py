"""Schedules by which a value, such as the neighborhood's width, goes from its initial to its final value.

Each schedule is a pure function of the step, so that a resumed training needs no state. All begin with the initial
value, which a training of one step keeps, and end with the final value, bit for bit; they never leave the range between
the two. A value that is an integer up to rounding becomes that integer, because hard neighborhoods gain or lose a whole
ring of nodes there.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable

Schedule = Callable[[int, int, float, float], float]

# Relative error of the formulas below: that of a power grows with the logarithm of final / initial, here up to e^50.
_ROUNDINGS = 64 * sys.float_info.epsilon


def _with_exact_ends(formula: Schedule) -> Schedule:
    """Makes a formula keep the promises of this module, which rounding would break."""

    @functools.wraps(formula)
    def schedule(step: int, num_steps: int, initial: float, final: float) -> float:
        if step <= 0 or num_steps <= 1:
            return initial
        if step >= num_steps - 1:
            return final
        value = formula(step, num_steps, initial, final)
        if math.isfinite(value) and abs(value - round(value)) <= _ROUNDINGS * abs(value):
            value = float(round(value))
        return min(max(value, min(initial, final)), max(initial, final))

    return schedule


@_with_exact_ends
def linear(step: int, num_steps: int, initial: float, final: float) -> float:
    """Follows a straight line to the final value at the last step."""
    progress = step / (num_steps - 1)
    return initial * (1 - progress) + final * progress


@_with_exact_ends
def exponential(step: int, num_steps: int, initial: float, final: float) -> float:
    """Multiplies by the same factor in each step: initial (final / initial)^t, t from 0 to 1."""
    return initial * (final / initial) ** (step / (num_steps - 1))


@_with_exact_ends
def inverse(step: int, num_steps: int, initial: float, final: float) -> float:
    """Follows initial / (1 + c t), with the c that ends at the final value: fast first, slow later."""
    return initial / (1 + (initial / final - 1) * step / (num_steps - 1))


@_with_exact_ends
def asymptotic(step: int, num_steps: int, initial: float, final: float) -> float:
    """Decays toward a third as initial / (1 + 2 step / num_steps), like minisom's ``asymptotic_decay``.

    Unlike minisom's, it stays at ``final`` where it would pass it, and ends there in the last step.
    """
    value = initial / (1 + 2 * step / num_steps)
    return max(value, final) if initial >= final else initial


@_with_exact_ends
def two_phase(step: int, num_steps: int, initial: float, final: float) -> float:
    """Orders roughly, then tunes finely, as in SOMPY and in fastsom's ``TwoPhaseSomTrainer``.

    Goes to a sixth of the initial value in the first half of the steps, and from a twelfth of it to ``final`` in the
    second half. Neither phase passes the final value.
    """
    num_rough = max(1, num_steps // 2)
    ends = _clamp_to_final(initial / 6, initial, final), _clamp_to_final(initial / 12, initial, final)
    if step < num_rough:
        return linear(step, num_rough, initial, ends[0])
    return linear(step - num_rough, num_steps - num_rough, ends[1], final)


@_with_exact_ends
def three_phase(step: int, num_steps: int, initial: float, final: float) -> float:
    """Holds the initial value for 15 % of the steps, goes linearly to the final one in 50 %, and holds that.

    The radius in fastsom's ``ExperimentalSomTrainer`` follows this schedule.
    """
    num_held = max(1, round(0.15 * num_steps))
    num_falling = max(1, round(0.5 * num_steps))
    return linear(min(max(0, step - num_held + 1), num_falling), num_falling + 1, initial, final)


SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "exponential": exponential,
    "inverse": inverse,
    "asymptotic": asymptotic,
    "two_phase": two_phase,
    "three_phase": three_phase,
}


def check_schedule(owner: str, name: str, schedule: str | Schedule) -> None:
    """Checks a schedule.

    Raises:
        ValueError: neither one of ``SCHEDULES`` nor a function.
    """
    is_known = schedule in SCHEDULES if isinstance(schedule, str) else callable(schedule)
    if not is_known:
        names = ", ".join(repr(known) for known in SCHEDULES)
        raise ValueError(f"{owner}: {name} must be one of {names} or a function, got {schedule!r}")


def schedule_value(schedule: str | Schedule, step: int, num_steps: int, initial: float, final: float) -> float:
    """Returns the value of a schedule at a step, counted from 0; steps beyond the last have the last one's value.

    Raises:
        ValueError: a function that does not return a finite number.
    """
    function = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    value = float(function(min(step, num_steps - 1), num_steps, initial, final))
    if not math.isfinite(value):
        raise ValueError(f"SOM: a schedule must give finite numbers, got {value} at step {step} of {num_steps}")
    return value


def _clamp_to_final(value: float, initial: float, final: float) -> float:
    """Clamps a value of at most ``initial`` to the range between ``initial`` and ``final``."""
    return max(value, final) if initial >= final else initial
