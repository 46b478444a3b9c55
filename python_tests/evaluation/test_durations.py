"""Durations of stays, compared with a loop over frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.evaluation import state_durations


def durations_by_loops(indices: Any, mask: Any) -> list[tuple[int, int, bool]]:
    stays = []
    for row, real in zip(np.asarray(indices).tolist(), np.asarray(mask).tolist(), strict=True):
        t = 0
        while t < len(row):
            if not real[t]:
                t += 1
                continue
            end = t
            while end + 1 < len(row) and real[end + 1] and row[end + 1] == row[t]:
                end += 1
            complete = t > 0 and real[t - 1] and end + 1 < len(row) and real[end + 1]
            stays.append((row[t], end - t + 1, complete))
            t = end + 1
    return stays


@given(st.integers(0, 5), st.integers(0, 12), st.sampled_from([0.5, 0.8, 1.0]), st.integers(0, 99))
def test_stays_agree_with_a_loop(num_series: int, num_frames: int, real: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    indices, mask = rng.integers(3, size=(num_series, num_frames)), rng.random((num_series, num_frames)) < real
    anything = np.where(mask, indices, rng.integers(-9, 9, size=mask.shape))
    node, length, complete = state_durations(anything, 3, mask)
    assert [*zip(node.tolist(), length.tolist(), complete.tolist(), strict=True)] == durations_by_loops(indices, mask)
    assert (node.dtype, length.dtype, complete.dtype) == (torch.int64, torch.int64, torch.bool)
    assert length.sum() == mask.sum()  # each real frame belongs to one stay
    whole = state_durations(indices, 3)
    assert [*zip(*(field.tolist() for field in whole), strict=True)] == durations_by_loops(indices, np.ones_like(mask))


def test_a_series_reversed_in_time_has_the_same_stays_in_reverse() -> None:
    indices = torch.randint(3, (1, 40), generator=torch.Generator().manual_seed(0))
    for forth, back in zip(state_durations(indices, 3), state_durations(indices.flip(1), 3), strict=True):
        assert forth.equal(back.flip(0))


def test_series_are_never_joined() -> None:
    node, length, complete = state_durations([[5, 5], [5, 5]], 6)
    assert (node.tolist(), length.tolist(), complete.tolist()) == ([5, 5], [2, 2], [False, False])


def test_invalid_series_of_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"state_durations: indices must have shape \[B, T\], got \[2\]"):
        state_durations([0, 1], 2)
    with pytest.raises(ValueError, match="state_durations: indices must hold values from 0 to 1, got 2"):
        state_durations([[0, 2]], 2)
    with pytest.raises(ValueError, match=r"state_durations: mask must have the shape of indices, \[1, 2\], got \[2\]"):
        state_durations([[0, 1]], 2, [True, True])
    with pytest.raises(ValueError, match="state_durations: num_nodes must be an integer of at least 1, got 0"):
        state_durations([[0, 1]], 0)
