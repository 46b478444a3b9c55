"""The points of the vital signs in the acute physiology score of APACHE III."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
"""The score of a time at which no sign was measured."""


class Bands(NamedTuple):
    """Points of a vital sign: ``points[i]`` from ``edges[i - 1]`` to below ``edges[i]``.

    The paper prints the bands for whole numbers, "50 - 99" and "100 - 109". A value between two of them, such as the
    mean 99.5, belongs to the lower one.
    """

    edges: tuple[float, ...]
    points: tuple[int, ...]


# Knaus et al., The APACHE III prognostic system, Chest 100 (1991), 1619-1636: vital signs of the acute physiology
# score. Names are those of the columns of eICU's vitalPeriodic; temperatures are in degrees Celsius.
BANDS = {
    "heartrate": Bands((40, 50, 100, 110, 120, 140, 155), (8, 5, 0, 1, 5, 7, 13, 17)),
    "systemicmean": Bands((40, 60, 70, 80, 100, 120, 130, 140), (23, 15, 7, 6, 0, 4, 7, 9, 10)),
    "temperature": Bands((33.0, 33.5, 34.0, 35.0, 36.0, 40.0), (20, 16, 13, 8, 2, 0, 4)),
    "respiration": Bands((6, 12, 14, 25, 35, 40, 50), (17, 8, 7, 0, 6, 9, 11, 18)),
}


def vital_sign_score(values: NDArray[np.floating], feature_names: Sequence[str]) -> NDArray[np.int64]:
    """Sums the points of the vital signs that were measured.

    This is the part of the acute physiology score that monitors give: pulse, mean blood pressure, temperature and
    respiration, at most 78 points. The laboratory values, the urine, the neurological and the acid-base points of the
    score, at most 252 in all, are not in it. A sign that was not measured counts 0, as in the score itself, which takes
    it as normal. Monitors do not say who is ventilated, so the points for 6 to 11 breaths per minute, which the
    score spares ventilated patients, are always given.

    Args:
        values: ``[..., F]``, NaN where a sign was not measured.
        feature_names: F names; the four signs of :data:`BANDS` count, others do not.

    Returns:
        int64 ``[...]``, -1 where none of the four was measured.
    """
    score = np.zeros(values.shape[:-1], dtype=np.int64)
    is_known = np.zeros(values.shape[:-1], dtype=bool)
    for feature, name in enumerate(feature_names):
        if name in BANDS:
            edges, points = BANDS[name]
            measured = ~np.isnan(values[..., feature])
            band = np.searchsorted(edges, values[..., feature], side="right")  # NaN sorts after all edges
            score += np.where(measured, np.array(points)[band], 0)
            is_known |= measured
    return np.where(is_known, score, UNKNOWN)


def worst_following(score: NDArray[np.int64], num_steps: Sequence[int]) -> NDArray[np.int64]:
    """Returns the largest score of the steps that follow each step, without the step itself.

    Args:
        score: ``[B, S]``, -1 where it is unknown.
        num_steps: W numbers of following steps, in increasing order.

    Returns:
        int64 ``[B, S, W]``, -1 where the score of none of these steps is known.
    """
    worst = np.full(score.shape, UNKNOWN)
    windows = []
    reached = 0
    for end in num_steps:
        for lag in range(reached + 1, min(end, score.shape[1] - 1) + 1):
            np.maximum(worst[:, :-lag], score[:, lag:], out=worst[:, :-lag])
        reached = end
        windows.append(worst.copy())
    return np.stack(windows, axis=-1)
