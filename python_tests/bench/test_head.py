"""The suite of the SOM head: contestants whose steps would take minutes are extrapolated."""

from __future__ import annotations

import pytest
import torch

from somvae_ext.bench import head
from somvae_ext.bench.head_steps import LOOPS, Problem, make_data

CPU = torch.device("cpu")
PROBLEM = Problem("head", 8, 32)


def test_long_loops_are_extrapolated_even_if_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "LONGEST_STEP", 0.0)
    monkeypatch.setattr(head, "available", lambda device: 0)
    ready = head.prepare(PROBLEM, [LOOPS], make_data(PROBLEM, CPU), CPU)
    assert ready.notes == {LOOPS: "extrapolated from steps of 2 and 16 frames"}
    assert ready.extrapolated[LOOPS] > 0
    assert LOOPS not in ready.steps


def test_the_time_of_loops_is_linear_in_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.5, 0.5, 0.5, 1.9, 1.9, 1.9])  # 0.3 s, and 0.1 s for each frame
    monkeypatch.setattr(head, "seconds", lambda step, calls, device: next(times))
    assert head.extrapolated_loops(PROBLEM, make_data(PROBLEM, CPU), CPU) == pytest.approx(0.3 + 32 * 0.1)
