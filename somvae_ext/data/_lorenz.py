"""Trajectories of the Lorenz system, seen through a noisy instrument."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.data.samples import Samples
from somvae_ext.data.splits import Splits

_SIGMA, _RHO, _BETA = 10.0, 28.0, 8 / 3  # of Lorenz (1963)
_STEP = 0.01  # of the integration, in the system's unit of time
_STEPS_PER_FRAME = 5
_STEPS_BEFORE = 1000  # enough for a trajectory to reach the attractor
NUM_FRAMES = 250
NOISE_STD = 2.0  # the three coordinates have standard deviations of about 8, 9 and 9
NUM_SERIES = 200
_HELD_OUT = 40  # series each for validation and test


def lorenz(seed: int = 0, *, num_series: int = NUM_SERIES) -> Splits[Samples]:
    """Simulates noisy trajectories of the Lorenz system, whose frames are labeled with one of its two lobes.

    A trajectory circles one of the fixed points (c, c, 27) and (-c, -c, 27), c = sqrt(72), a few times and then goes
    over to the other, at times that look random. The SOM-VAE paper uses it as a system of two macro-states, the lobes,
    hidden by fluctuations. The paper leaves the details open; here each series is a separate trajectory of 250 frames
    at intervals of 0.05, about fifteen per revolution, with normal noise of standard deviation 2 added to each
    coordinate.

    The equations are integrated by the classical Runge-Kutta method in steps of 0.01, whose additions and
    multiplications give the same bits on any machine. An adaptive method would not, and in a chaotic system the last
    bit decides on which side a trajectory is 50 time units later.

    Args:
        seed: draws starting points and noise, independently for each split.
        num_series: number of series for training; validation and test have 40 each.

    Returns:
        ``train``, ``validation`` and ``test``; ``x`` float32 ``[B, 250, 3]``, unscaled, ``label`` int64 ``[B, 250]``: 1
        where the state without the noise is nearer to (c, c, 27), 0 where it is nearer to (-c, -c, 27).

    Raises:
        ValueError: a negative seed, or ``num_series`` below 1.
    """
    seed = check_integer("lorenz", "seed", seed, Bounds(at_least=0))
    num_series = check_integer("lorenz", "num_series", num_series)
    generators = np.random.default_rng(seed).spawn(3)
    sizes = (num_series, _HELD_OUT, _HELD_OUT)
    return Splits(
        *(_observe(size, generator) for size, generator in zip(sizes, generators, strict=True)), kind="series"
    )


def simulate(start: NDArray[np.float64], num_frames: int, steps_before: int = 0) -> NDArray[np.float64]:
    """Returns states ``[B, T, 3]`` at intervals of 0.05, starting ``steps_before`` steps after ``start`` ``[B, 3]``."""
    state, frames = start, []
    for step in range(steps_before + (num_frames - 1) * _STEPS_PER_FRAME + 1):
        if step >= steps_before and (step - steps_before) % _STEPS_PER_FRAME == 0:
            frames.append(state)
        k1 = _velocity(state)
        k2 = _velocity(state + _STEP / 2 * k1)
        k3 = _velocity(state + _STEP / 2 * k2)
        k4 = _velocity(state + _STEP * k3)
        state = state + _STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.stack(frames, axis=1)


def _velocity(state: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = state[:, 0], state[:, 1], state[:, 2]
    return np.stack([_SIGMA * (y - x), x * (_RHO - z) - y, x * y - _BETA * z], axis=1)


def _observe(num_series: int, generator: np.random.Generator) -> Samples:
    c = math.sqrt(_BETA * (_RHO - 1))
    start = generator.uniform([-c, -c, _RHO - 10], [c, c, _RHO + 10], (num_series, 3))
    states = simulate(start, NUM_FRAMES, _STEPS_BEFORE)
    x = states + NOISE_STD * generator.standard_normal(states.shape)
    # (x - c)^2 + (y - c)^2 < (x + c)^2 + (y + c)^2
    label = states[..., 0] + states[..., 1] > 0
    return Samples(
        torch.from_numpy(x.astype(np.float32)),
        torch.from_numpy(label.astype(np.int64)),
        feature_names=("x", "y", "z"),
    )
