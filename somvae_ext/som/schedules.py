"""How a value, such as the neighbourhood's width, goes from its initial to its final value in a number of steps.

Each is a pure function of the step, so that a training that goes on needs no state. All begin with the initial value,
which is also that of a training of one step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, int, float, float], float]


def linear(step: int, n_steps: int, initial: float, final: float) -> float:
    """A straight line to the final value at the last step."""
    return initial + (final - initial) * _done(step, n_steps)


def exponential(step: int, n_steps: int, initial: float, final: float) -> float:
    """The same factor from each step to the next: initial (final / initial)^t, t from 0 to 1."""
    return initial * (final / initial) ** _done(step, n_steps)


def inverse(step: int, n_steps: int, initial: float, final: float) -> float:
    """initial / (1 + c t) with the c that ends at the final value: fast first, slow later."""
    return initial / (1 + (initial / final - 1) * _done(step, n_steps))


def asymptotic(step: int, n_steps: int, initial: float, final: float) -> float:
    """initial / (1 + 2 step / n_steps), as minisom's ``asymptotic_decay``, towards a third; never past ``final``."""
    value = initial / (1 + 2 * step / n_steps)
    return max(value, final) if initial >= final else initial


def two_phase(step: int, n_steps: int, initial: float, final: float) -> float:
    """Rough ordering, then fine tuning: to a sixth in the first half of the steps, from a twelfth to ``final`` in the
    second.

    As in SOMPY and in fastsom's ``TwoPhaseSomTrainer``; neither phase passes the final value.
    """
    rough = max(1, n_steps // 2)
    ends = _bounded(initial / 6, initial, final), _bounded(initial / 12, initial, final)
    if step < rough:
        return linear(step, rough, initial, ends[0])
    return linear(step - rough, n_steps - rough, ends[1], final) if n_steps - rough > 1 else final


def three_phase(step: int, n_steps: int, initial: float, final: float) -> float:
    """Holds the initial value for 15 % of the steps, goes straight to the final one in 50 %, and holds that.

    As the radius in fastsom's ``ExperimentalSomTrainer``.
    """
    held = max(1, round(0.15 * n_steps))
    falling = max(1, round(0.5 * n_steps))
    return initial + (final - initial) * min(1.0, max(0, step - held + 1) / falling)


SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "exponential": exponential,
    "inverse": inverse,
    "asymptotic": asymptotic,
    "two_phase": two_phase,
    "three_phase": three_phase,
}


def check_schedule(owner: str, name: str, schedule: str | Schedule) -> None:
    """
    Raises:
        ValueError: neither one of ``SCHEDULES`` nor a function.
    """
    known = schedule in SCHEDULES if isinstance(schedule, str) else callable(schedule)
    if not known:
        names = ", ".join(repr(known) for known in SCHEDULES)
        raise ValueError(f"{owner}: {name} must be one of {names} or a function, got {schedule!r}")


def value_at(schedule: str | Schedule, step: int, n_steps: int, initial: float, final: float) -> float:
    """What a schedule gives at a step, from 0; beyond the last step what it gives there.

    Raises:
        ValueError: a function that gives something else than a finite number.
    """
    function = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    value = float(function(min(step, n_steps - 1), n_steps, initial, final))
    if not math.isfinite(value):
        raise ValueError(f"SOM: a schedule must give finite numbers, got {value} at step {step} of {n_steps}")
    return value


def _done(step: int, n_steps: int) -> float:
    """From 0 at the first step to 1 at the last one; 0 where there is but one."""
    return step / (n_steps - 1) if n_steps > 1 else 0.0


def _bounded(value: float, initial: float, final: float) -> float:
    """Not beyond the final value, whichever of both is larger."""
    return max(value, final) if initial >= final else initial
