"""The physiology score: the points of the vital signs as printed, and the worst score of the following steps."""

from __future__ import annotations

import numpy as np
import pytest
from physiology_oracle import PRINTED, points

from somvae_ext.data.physiology_score import vital_sign_score, worst_following


@pytest.mark.parametrize("sign", PRINTED)
def test_points_are_those_of_the_printed_table(sign: str) -> None:
    values = np.arange(250, 451) / 10 if sign == "temperature" else np.arange(0, PRINTED[sign][-1][0] * 2 + 1) / 2
    assert vital_sign_score(values[:, None], [sign]).tolist() == [points(sign, value) for value in values]


def test_points_of_the_signs_that_were_measured_are_added() -> None:
    values = np.array([[39.0, 100.0, 125.0, 30.0, np.nan], [np.nan, np.nan, 39.0, np.nan, 200.0]])
    names = ["temperature", "sao2", "heartrate", "respiration", "systemicmean"]
    assert vital_sign_score(values, names).tolist() == [0 + 7 + 6, 8 + 10]


def test_a_score_is_unknown_where_none_of_its_signs_was_measured() -> None:
    assert vital_sign_score(np.array([[np.nan, 98.0]]), ["heartrate", "sao2"]).tolist() == [-1]


def test_the_worst_score_is_the_largest_of_the_following_steps() -> None:
    scores = np.random.default_rng(0).integers(-1, 30, (4, 40))
    worst = worst_following(scores, [1, 6, 50])
    for row, values in enumerate(scores):
        for step in range(40):
            expected = [max(values[step + 1 : step + 1 + ahead], default=-1) for ahead in (1, 6, 50)]
            assert worst[row, step].tolist() == expected
