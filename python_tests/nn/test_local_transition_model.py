"""TransitionModel for maps too large for a K x K table, compared on small maps with the equivalent dense model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import TransitionModel

GRIDS = [
    Grid(4, 5),
    Grid(4, 5, periodic=True),
    Grid(4, 5, topology="hexagonal"),
    Grid(4, 5, topology="hexagonal", periodic=True),
]
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)
EPS = torch.finfo(torch.float64).eps


def local(grid: Grid, radius: int = 1, seed: int = 0) -> TransitionModel:
    model = TransitionModel(grid, kind="local", radius=radius).double()
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.logits)
    return model


def inside(grid: Grid, radius: int = 1) -> Tensor:
    """Returns which nodes are in each node's window, bool ``[K, K]``."""
    near = grid.window_nodes(radius, torch.arange(grid.num_nodes))
    return torch.stack([torch.isin(torch.arange(grid.num_nodes), window) for window in near])


def dense(model: TransitionModel, grid: Grid, radius: int = 1) -> TransitionModel:
    """Returns the equivalent dense model, with logits l_ij in the window and r_i - log(K - m_i) outside."""
    near = inside(grid, radius)
    outside = (~near).sum(dim=1, keepdim=True)
    dense_model = TransitionModel(grid.num_nodes).double()
    with torch.no_grad():
        dense_model.logits.copy_((model.logits[:, -1:] - outside.double().log()).expand(-1, grid.num_nodes))
        for i, window in enumerate(grid.window_nodes(radius, torch.arange(grid.num_nodes))):
            dense_model.logits[i, window[window >= 0]] = model.logits[i, :-1][window >= 0]
    return dense_model


# The values below are of size one and result from a few hundred operations in float64.
def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1000 * EPS, atol=1000 * EPS)


@every_grid
def test_a_local_model_equals_its_dense_model(grid: Grid) -> None:
    model = local(grid)
    expected_model = dense(model, grid)
    prev, cur = torch.randint(grid.num_nodes, (2, 3, 7))
    z, codebook = torch.randn(3, 7, 4).double(), torch.randn(grid.num_nodes, 4).double()
    assert_equal(model.log_prob(prev, cur), expected_model.log_prob(prev, cur))
    assert_equal(model.expected_distance(prev, z, codebook), expected_model.expected_distance(prev, z, codebook))
    losses = model.losses(prev, cur, z, codebook), expected_model.losses(prev, cur, z, codebook)
    for actual, expected in zip(*losses, strict=True):
        assert actual.shape == prev.shape
        assert_equal(actual, expected)
    assert_equal(model.matrix(), expected_model.matrix())
    assert_equal(model.rows(prev), expected_model.rows(prev))
    assert_equal(model.stationary_distribution(), expected_model.stationary_distribution())
    series = torch.randint(grid.num_nodes, (4, 9))
    assert_equal(model.negative_log_likelihood(series), expected_model.negative_log_likelihood(series))


@every_grid
def test_probabilities_of_all_nodes_add_up_to_one(grid: Grid) -> None:
    nodes = torch.arange(grid.num_nodes)
    log_prob = local(grid).log_prob(nodes.repeat_interleave(len(nodes)), nodes.repeat(len(nodes)))
    assert_equal(log_prob.exp().view(len(nodes), -1).sum(dim=1), torch.ones(len(nodes)).double())


@every_grid
@pytest.mark.parametrize("radius", [0, 1, 9])
def test_all_nodes_are_equally_likely_at_the_start(grid: Grid, radius: int) -> None:
    model = TransitionModel(grid, kind="local", radius=radius)
    # The logarithm of the number of nodes outside, at most 3, is rounded, and so is a softmax of 20 values.
    eps = torch.finfo(torch.float32).eps
    torch.testing.assert_close(model.matrix(), torch.full((20, 20), 1 / 20), rtol=30 * eps, atol=0)


@pytest.mark.parametrize("sparse_grad", [False, True])
def test_the_gradients_of_both_losses_add_up(sparse_grad: bool) -> None:
    grid = Grid(6, 6)
    model = TransitionModel(grid, kind="local", radius=1, sparse_grad=sparse_grad)
    prev, cur = torch.randint(36, (2, 8))
    z, codebook = torch.randn(8, 3), torch.randn(36, 3)
    sum(loss.sum() for loss in model.losses(prev, cur, z, codebook)).backward()
    together = model.logits.grad.to_dense()
    model.logits.grad = None
    (model.log_prob(prev, cur).sum() + model.expected_distance(prev, z, codebook).sum()).backward()
    assert model.logits.grad.is_sparse == sparse_grad
    torch.testing.assert_close(model.logits.grad.to_dense(), together)


# ---- counts ----------------------------------------------------------------------------------------------------------


def test_counts_outside_of_a_window_go_to_the_remainder() -> None:
    grid = Grid(1, 6)
    model = TransitionModel(grid, kind="local", radius=1).double()
    model.fit_counts(torch.tensor([[2, 3], [2, 3], [2, 5], [2, 0], [2, 1]]), pseudocount=0)
    expected = torch.tensor([2 / 15, 0.2, 0, 0.4, 2 / 15, 2 / 15], dtype=torch.float64)
    assert_equal(model.matrix()[2], expected)
    assert_equal(model.matrix()[0], torch.full((6,), 1 / 6, dtype=torch.float64))  # a node that no step leaves


@every_grid
@pytest.mark.parametrize("pseudocount", [0.0, 0.5])
def test_within_windows_counts_are_those_of_a_dense_model(grid: Grid, pseudocount: float) -> None:
    series = torch.randint(grid.num_nodes, (9, 30), generator=torch.Generator().manual_seed(1))
    matrix = TransitionModel(grid, kind="local", radius=1).double().fit_counts(series, pseudocount=pseudocount).matrix()
    full = TransitionModel(grid.num_nodes).double().fit_counts(series, pseudocount=pseudocount).matrix()
    near = inside(grid)
    assert_equal(matrix[near], full[near])
    spread = (full * ~near).sum(dim=1, keepdim=True) / (~near).sum(dim=1, keepdim=True)
    assert_equal(matrix[~near], spread.expand_as(full)[~near])


def test_without_pseudocounts_the_counted_model_has_the_highest_likelihood() -> None:
    grid = Grid(4, 5, topology="hexagonal")
    series = torch.randint(20, (8, 60), generator=torch.Generator().manual_seed(0))
    best = TransitionModel(grid, kind="local", radius=1).double().fit_counts(series, pseudocount=0)
    least = best.negative_log_likelihood(series).item()
    for _ in range(20):
        with torch.no_grad():
            other = TransitionModel(grid, kind="local", radius=1).double()
            other.logits.copy_(best.logits + 0.1 * torch.randn_like(best.logits))
        assert other.negative_log_likelihood(series).item() > least


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_sampled_steps_have_the_probabilities_of_the_rows() -> None:
    grid = Grid(3, 4)
    model = local(grid)
    draws = 20_000
    generator = torch.Generator().manual_seed(0)
    node = model.sample_paths(torch.full((draws,), 5), 1, generator=generator)[:, 1]
    row = model.rows(torch.tensor([5]))[0].detach()
    share = torch.bincount(node, minlength=12) / draws
    # Five standard deviations of a binomial proportion.
    assert ((share - row).abs() <= 5 * (row * (1 - row) / draws).sqrt()).all()


def test_a_large_map_needs_no_matrix() -> None:
    """The matrix of 65,536 nodes would take 16 GiB."""
    grid = Grid(256, 256, periodic=True)
    model = TransitionModel(grid, kind="local", radius=2, sparse_grad=True)
    path = model.sample_paths(torch.tensor([0, 70]), 3, generator=torch.Generator().manual_seed(0))
    assert path.shape == (2, 4)
    model.fit_counts(path, pseudocount=1e-6)
    losses = model.losses(path[:, :-1], path[:, 1:], torch.randn(2, 3, 4), torch.randn(grid.num_nodes, 4))
    sum(loss.sum() for loss in losses).backward()
    assert model.logits.grad._values().shape[0] <= 6
    assert losses.log_prob.isfinite().all()


def test_learning_from_steps_converges_to_the_counted_model() -> None:
    grid = Grid(1, 5)
    series = local(grid, seed=3).sample_paths(
        torch.zeros(20, dtype=torch.int64), 40, generator=torch.Generator().manual_seed(0)
    )
    learned = TransitionModel(grid, kind="local", radius=1)
    counted = TransitionModel(grid, kind="local", radius=1).fit_counts(series, pseudocount=0)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        learned.negative_log_likelihood(series).backward()
        optimizer.step()
    assert (learned.matrix() - counted.matrix()).abs().max() < 1e-2


def test_1000_steps_at_rate_1_stay_finite() -> None:
    grid = Grid(3, 3)
    model = TransitionModel(grid, kind="local", radius=1)
    torch.manual_seed(0)
    torch.nn.init.uniform_(model.logits, -1e4, 1e4)
    z, codebook = torch.randn(16, 2), torch.randn(9, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    for _ in range(1000):
        prev, cur = torch.randint(9, (2, 16))
        optimizer.zero_grad()
        log_prob, expected = model.losses(prev, cur, z, codebook)
        loss = expected.mean() - log_prob.mean()
        loss.backward()
        optimizer.step()
        assert math.isfinite(loss.item())
    assert model.logits.isfinite().all()


# ---- state, errors ---------------------------------------------------------------------------------------------------


def test_the_state_holds_only_the_logits() -> None:
    model = local(Grid(4, 5))
    assert list(model.state_dict()) == ["logits"]
    restored = TransitionModel(Grid(4, 5), kind="local", radius=1).double()
    restored.load_state_dict(model.state_dict())
    assert_equal(restored.matrix(), model.matrix())
    assert "radius=1" in repr(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 6, "kind": "local", "radius": 1}, "nodes must be a Grid for kind 'local', got 6"),
        ({"nodes": Grid(2, 3), "kind": "local"}, "radius must be given for kind 'local', got None"),
        ({"nodes": Grid(2, 3), "kind": "local", "radius": -1}, "radius must be an integer of at least 0, got -1"),
        ({"nodes": Grid(2, 3), "radius": 2}, "radius must be None for kind 'dense', got 2"),
        ({"nodes": 6, "kind": "sparse"}, "kind must be 'dense' or 'local', got 'sparse'"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^TransitionModel: {message}$"):
        TransitionModel(**arguments)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    model = local(Grid(2, 3))
    three, two = torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"TransitionModel.losses: cur must have the shape of prev, \[3\], got \[2\]"):
        model.losses(three, two, torch.zeros(3, 1).double(), torch.zeros(6, 1).double())
    with pytest.raises(ValueError, match=r"losses: prev must have the leading shape of z, \[2\], got \[3\]"):
        model.losses(three, three, torch.zeros(2, 1).double(), torch.zeros(6, 1).double())
    with pytest.raises(ValueError, match="rows: nodes must hold nodes from 0 to 5, got 6"):
        model.rows(torch.tensor([6]))
