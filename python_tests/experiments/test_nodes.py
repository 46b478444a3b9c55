"""Figures of series on nodes, compared with synthetic chains, and k-means of windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from somvae_ext.data import Samples, Splits
from somvae_ext.experiments.nodes import Nodes, measure_animals, measure_lobes, measure_scores
from somvae_ext.experiments.protocol import DataChoice, Task
from somvae_ext.experiments.windows import WindowKMeans, _cut_windows
from somvae_ext.grid import Grid
from somvae_ext.nn import TransitionModel


def two_lobes(batch: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns series on six nodes that seldom switch between even and odd nodes, and the parity of each frame."""
    generator = torch.Generator().manual_seed(seed)
    side = (torch.rand(batch, length, generator=generator) < 0.05).long().cumsum(dim=1) % 2
    return 2 * torch.randint(3, (batch, length), generator=generator) + side, side


def task_of(held_out: Samples, **labels: Tensor) -> Task:
    splits = Splits(held_out, held_out, held_out, kind="series")
    return Task(DataChoice("lorenz"), splits, 1.0, 0, "test", "cpu", labels)


def nodes_of(train: Tensor, held_out: Tensor, mask: Tensor | None = None) -> Nodes:
    full = torch.ones_like(held_out, dtype=torch.bool)
    return Nodes(Grid(2, 3), train, torch.ones_like(train, dtype=torch.bool), held_out, full if mask is None else mask)


def test_macro_states_of_the_counted_chain_find_the_lobes_and_noise_does_not() -> None:
    train, _ = two_lobes(20, 200, seed=0)
    index, side = two_lobes(5, 200, seed=1)
    outcome = measure_lobes(nodes_of(train, index), task_of(Samples(torch.zeros(5, 200, 1), side)))
    assert outcome.figures["macro_accuracy"] == outcome.figures["purity"] == 1
    assert outcome.figures["noise_purity"] < 0.7
    assert outcome.shown["states"].tolist() in ([0, 1] * 3, [1, 0] * 3)
    assert outcome.shown["purity"].tolist() == [1.0] * 6
    assert (outcome.shown["noise"] < 0.75).all()


def test_frames_in_nodes_without_training_frames_count_as_wrong() -> None:
    train, _ = two_lobes(20, 200, seed=0)
    index, side = two_lobes(5, 200, seed=1)
    lost = train == 4
    train = torch.where(lost, 0, train)
    outcome = measure_lobes(nodes_of(train, index), task_of(Samples(torch.zeros(5, 200, 1), side)))
    assert outcome.figures["macro_accuracy"] == pytest.approx(1 - (index == 4).double().mean().item())


def test_a_map_that_has_collapsed_has_one_macro_state() -> None:
    train, (index, side) = torch.full((2, 9), 3), two_lobes(5, 200, seed=1)
    outcome = measure_lobes(nodes_of(train, torch.full_like(index, 3)), task_of(Samples(torch.zeros(5, 200, 1), side)))
    share = side.double().mean().item()
    assert outcome.figures["macro_accuracy"] == outcome.figures["purity"] == pytest.approx(max(share, 1 - share))


def test_forecasts_use_the_counted_chain_and_persistence() -> None:
    train, held_out = torch.tensor([[0, 0, 0, 1, 2, 2]]), torch.tensor([[0, 0, 1], [2, 2, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    nodes = nodes_of(train, held_out, mask)
    counts = torch.full((6, 6), 1 / 6, dtype=torch.float64)
    for a, b in ((0, 0), (0, 0), (0, 1), (1, 2), (2, 2)):
        counts[a, b] += 1
    chain = counts / counts.sum(dim=1, keepdim=True)
    steps = ((0, 0), (0, 1), (2, 2))
    figures = nodes.forecast_figures()
    assert figures["counted_nll"] == pytest.approx(-sum(math.log(chain[a, b]) for a, b in steps) / 3, rel=1e-5)
    stay = 4 / 7  # 3 of 5 steps stay, plus one pseudocount for staying and one for moving
    assert figures["persistence_nll"] == pytest.approx(-(2 * math.log(stay) + math.log((1 - stay) / 5)) / 3)
    with_learned = Nodes(nodes.grid, nodes.train, nodes.train_mask, held_out, mask, TransitionModel(6))
    assert with_learned.matrix.allclose(torch.full((6, 6), 1 / 6, dtype=torch.float64))


def test_the_animal_is_the_class_of_all_frames_of_its_series() -> None:
    held_out, mask = torch.tensor([[0, 1, 1], [2, 2, 5]]), torch.tensor([[True, True, True], [True, True, False]])
    outcome = measure_animals(
        nodes_of(held_out, held_out, mask), task_of(Samples(torch.zeros(2, 3, 1), torch.tensor([7, 9])))
    )
    assert outcome.figures["purity"] == 1
    assert outcome.figures["usage"] == 0.5


def test_scores_are_compared_where_they_are_known() -> None:
    held_out = torch.tensor([[0, 1, 2], [3, 3, 5]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    score = torch.tensor([[4, 9, -1], [4, 4, 9]])  # nodes 0 and 3 have 4, node 1 has 9
    labels = {"score_6h": score, "stay_score": torch.tensor([3, -1]), "score_12h": torch.full((2, 3), -1)}
    outcome = measure_scores(nodes_of(held_out, held_out, mask), task_of(Samples(torch.zeros(2, 3, 1)), **labels))
    entropies = [-sum(p * math.log(p) for p in shares) for shares in ((0.75, 0.25), (0.25, 0.25, 0.5))]
    assert outcome.figures["nmi_score_6h"] == pytest.approx(2 * entropies[0] / sum(entropies))
    assert outcome.figures["nmi_stay_score"] == 0  # there is only one class
    assert "nmi_score_12h" not in outcome.figures


def test_windows_repeat_the_first_frame_that_they_hold() -> None:
    x = torch.arange(1.0, 6)[None, :, None]
    windows, mask = _cut_windows(Samples(x, mask=torch.tensor([[True, True, False, True, True]])), 3)
    assert windows[mask].tolist() == [[1, 1, 1], [1, 1, 2], [4, 4, 4], [4, 4, 5]]
    windows, mask = _cut_windows(Samples(x), 3)
    assert windows[mask].tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]


@pytest.mark.parametrize("window", [1, 2, 7])
def test_windows_of_frames_are_clustered_by_their_content(window: int) -> None:
    rng = np.random.default_rng(0)
    side = np.repeat(rng.integers(0, 2, (12, 1)), 5, axis=1)
    x = torch.as_tensor(side[..., None] + 0.01 * rng.normal(size=(12, 5, 2)), dtype=torch.float32)
    method = WindowKMeans(1, 2, measure_animals, windows=(window,))
    task = task_of(Samples(x, torch.as_tensor(side[:, 0])))
    assert method.train(method.settings[0], task).figures["purity"] == 1
