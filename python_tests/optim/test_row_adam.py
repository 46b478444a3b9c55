"""RowAdam: Adam's step on only the rows of a sparse gradient."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import children
import numpy as np
import pytest
import torch
from cases import DTYPES, as_array, integers, normal
from rounding import assert_within
from torch import Tensor, nn

from somvae_ext import Grid, build_info, ops
from somvae_ext.optim import RowAdam
from somvae_ext.optim.row_adam import adam_rows_reference

ROOT = Path(__file__).parents[2]
ROWS = 7
WIDTHS = [(), (1,), (5,), (3, 4), (33,), (2100,)]  # of a row; the last exceeds two pieces of 1024
ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}


def rows_of_gradient(index: Tensor, values: Tensor, rows: int = ROWS) -> Tensor:
    size = (rows, *values.shape[1:])
    return torch.sparse_coo_tensor(index[None], values, size, check_invariants=True)


def random_gradient(seed: int, count: int = 9, width: tuple[int, ...] = (33,), rows: int = ROWS) -> Tensor:
    """Draws a sparse gradient with ``count`` random rows: some repeat, some are absent."""
    return rows_of_gradient(integers(count, seed=seed, below=rows), normal(count, *width, seed=seed + 1), rows)


def every_row(seed: int, width: tuple[int, ...] = (33,)) -> Tensor:
    index = torch.cat([torch.arange(ROWS), integers(4, seed=seed, below=ROWS)])
    return rows_of_gradient(index, normal(len(index), *width, seed=seed + 1))


def descend(
    kind: Callable[..., torch.optim.Optimizer],
    start: Tensor,
    gradients: list[Tensor],
    **options: object,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the parameter and the state after one step per gradient."""
    parameter = nn.Parameter(start.clone())
    optimizer = kind([parameter], **options)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach(), optimizer.state[parameter]


# ---- one step, from the definition -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lr_is_tensor", [False, True], ids=["lr number", "lr tensor"])
def test_a_step_agrees_with_the_definition(
    dtype: torch.dtype, width: tuple[int, ...], lr_is_tensor: bool, device: torch.device
) -> None:
    """Gradients and moments are positive, so sums do not cancel and errors stay relative."""
    members, steps, rate = 9, 3, 0.125
    index = integers(members, seed=0, below=ROWS, device=device)
    values = normal(members, *width, seed=1, dtype=dtype, device=device).abs() + 0.125
    parameter = nn.Parameter(normal(ROWS, *width, seed=2, dtype=dtype, device=device))
    optimizer = RowAdam([parameter], lr=torch.tensor(rate, device=device) if lr_is_tensor else rate)
    parameter.grad = rows_of_gradient(index, values)
    optimizer.step()
    state = optimizer.state[parameter]
    with torch.no_grad():
        state["step"].fill_(steps - 1)
        state["exp_avg"].copy_(normal(ROWS, *width, seed=3).abs())
        state["exp_avg_sq"].copy_(normal(ROWS, *width, seed=4).abs())
    p, m, v = (as_array(tensor).copy() for tensor in (parameter, state["exp_avg"], state["exp_avg_sq"]))
    g = np.zeros_like(p)
    np.add.at(g, index.cpu().numpy(), as_array(values))

    optimizer.step()

    touched = np.isin(np.arange(ROWS), index.cpu().numpy())
    mean, square = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    change = rate * mean / (1 - 0.9**steps) / (np.sqrt(square / (1 - 0.999**steps)) + 1e-8)
    for array, before in ((mean, m), (square, v), (change, np.zeros_like(p))):
        array[~touched] = before[~touched]
    assert int(state["step"]) == steps
    # At most `members` - 1 additions, then four operations on the mean. The square has twice as many errors, its root
    # half of those, and changing the parameter takes another eight operations.
    assert_within(state["exp_avg"], mean, m + g, members + 4, dtype)
    assert_within(state["exp_avg_sq"], square, square, 2 * members + 4, dtype)
    assert_within(parameter, p - change, np.abs(p) + change, 2 * members + 16, dtype)


def test_rows_that_a_step_does_not_touch_stay_unchanged(device: torch.device) -> None:
    parameter = nn.Parameter(normal(ROWS, 33, seed=0, device=device))
    optimizer = RowAdam([parameter], lr=0.1)
    for seed in range(3):
        parameter.grad = every_row(seed).to(device)
        optimizer.step()
    before = [tensor.clone() for tensor in (parameter, *optimizer.state[parameter].values())]
    parameter.grad = rows_of_gradient(torch.tensor([1, 4, 1], device=device), normal(3, 33, seed=9, device=device))
    optimizer.step()
    rest, moved = [0, 2, 3, 5, 6], [1, 4]
    for after, tensor in zip((parameter, *optimizer.state[parameter].values()), before, strict=True):
        if tensor.dim() > 0:
            assert after[rest].equal(tensor[rest])
            assert (after[moved] != tensor[moved]).all()


# ---- many steps, compared with torch's optimizers --------------------------------------------------------------------


def rounding_of_steps(steps: int, rate: float, members: int) -> float:
    """Bounds the difference between two float32 runs.

    A mean has an error of (members + 4) roundings of the largest gradient so far. That gradient is at most sqrt(steps /
    (1 - beta2)) * sqrt(1 - beta2^steps) ~ steps times the root of the corrected square. The error of a step is this
    times the rate over 1 - beta1; the errors of the square, half as many, enter in the same way. Both runs have errors.
    """
    operations = 2 * (2 * members + 16)
    return steps * rate / (1 - 0.9) * steps * operations * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_without_eps_a_step_equals_sparse_adam(width: tuple[int, ...]) -> None:
    gradients = [random_gradient(seed, width=width) for seed in range(12)]
    start = normal(ROWS, *width, seed=99)
    ours, state = descend(RowAdam, start, gradients, lr=0.01, eps=0.0)
    theirs, their_state = descend(torch.optim.SparseAdam, start, gradients, lr=0.01, eps=1e-30)  # SparseAdam refuses 0
    bound = rounding_of_steps(12, 0.01, members=9)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[name], their_state[name], rtol=12 * 20 * 2**-23, atol=12 * 20 * 2**-23)


@pytest.mark.parametrize("scale", [1.0, 1e-7], ids=["large gradients", "gradients as small as eps"])
def test_a_step_that_touches_every_row_equals_dense_adam(scale: float) -> None:
    gradients = [every_row(seed) * scale for seed in range(12)]
    start = normal(ROWS, 33, seed=99)
    ours, _ = descend(RowAdam, start, gradients, lr=0.01)
    dense, _ = descend(torch.optim.Adam, start, [gradient.to_dense() for gradient in gradients], lr=0.01)
    torch.testing.assert_close(ours, dense, rtol=0, atol=rounding_of_steps(12, 0.01, members=11))
    sparse, _ = descend(torch.optim.SparseAdam, start, gradients, lr=0.01)
    damped = (sparse - start).abs().sum() < 0.8 * (ours - start).abs().sum()
    assert damped.item() is (scale < 1)  # what the docstring says about SparseAdam's eps


def test_a_row_that_comes_late_starts_with_large_steps_as_the_docstring_says() -> None:
    parameter = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = RowAdam([parameter], lr=1.0)
    parameter.grad = rows_of_gradient(torch.tensor([0]), torch.ones(1, dtype=torch.float64), rows=2)
    optimizer.step()
    optimizer.state[parameter]["step"].fill_(20_000)  # the bias corrections are 1
    sizes = []
    for _ in range(50):
        before = parameter[1].item()
        parameter.grad = rows_of_gradient(torch.tensor([1]), torch.ones(1, dtype=torch.float64), rows=2)
        optimizer.step()
        sizes.append(before - parameter[1].item())
    assert sizes[0] == pytest.approx(3.2, abs=0.05)
    assert max(sizes) == pytest.approx(6.6, abs=0.05)


def test_an_empty_gradient_is_a_step_that_changes_nothing(device: torch.device) -> None:
    parameter = nn.Parameter(normal(ROWS, 33, seed=0, device=device))
    optimizer = RowAdam([parameter], lr=0.1)
    parameter.grad = random_gradient(1).to(device)
    optimizer.step()
    before = [tensor.clone() for tensor in (parameter, *optimizer.state[parameter].values())]
    parameter.grad = random_gradient(1, count=0).to(device)
    optimizer.step()
    after = (parameter, *optimizer.state[parameter].values())
    assert [torch.equal(a, b) for a, b in zip(after, before, strict=True)] == [True, False, True, True]
    assert optimizer.state[parameter]["step"].item() == 2


@pytest.mark.parametrize("count", [1, 9, 200])
def test_a_table_without_values_is_accepted(count: int, device: torch.device) -> None:
    for shape in ((ROWS, 0), (ROWS, 3, 0)):
        parameter = nn.Parameter(torch.zeros(shape, device=device))
        parameter.grad = random_gradient(0, count, shape[1:]).to(device)
        RowAdam([parameter]).step()


# ---- the same bits ---------------------------------------------------------------------------------------------------


def added_up_in_order(gradient: Tensor) -> Tensor:
    """Coalesces a gradient by adding rows in their order; ``coalesce`` uses another order."""
    rows, values = gradient._indices()[0], gradient._values()
    sums: dict[int, Tensor] = {}
    for row, value in zip(rows.tolist(), values, strict=True):
        sums[row] = sums[row] + value if row in sums else value
    index = torch.tensor(sorted(sums))
    total = torch.stack([sums[row] for row in index.tolist()])
    return torch.sparse_coo_tensor(index[None], total, gradient.shape, check_invariants=True, is_coalesced=True)


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_coalesced_or_not_gives_the_same_bits(width: tuple[int, ...], dtype: torch.dtype) -> None:
    start = normal(ROWS, *width, seed=99, dtype=dtype)
    index = [integers(20, seed=seed, below=ROWS) for seed in range(5)]
    gradients = [rows_of_gradient(rows, normal(20, *width, seed=7, dtype=dtype)) for rows in index]
    ours, state = descend(RowAdam, start, gradients, lr=0.1)
    again, state_again = descend(RowAdam, start, [added_up_in_order(gradient) for gradient in gradients], lr=0.1)
    assert ours.equal(again)
    assert all(state[name].equal(state_again[name]) for name in state)


@pytest.fixture
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("rows", "count", "width"), [(500, 300, 2500), (3, 2, 200_000), (3, 16, 50_000)])
@pytest.mark.usefixtures("_threads_restored")
def test_any_number_of_threads_gives_the_same_bits(rows: int, count: int, width: int) -> None:
    """Many rows, and few long ones that threads share, with and without repetitions."""
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        gradients = [random_gradient(seed, count, (width,), rows) for seed in range(2)]
        results.append(descend(RowAdam, torch.zeros(rows, width), gradients, lr=0.1))
    one, state = results[0]
    for other, other_state in results[1:]:
        assert one.equal(other)
        assert all(state[name].equal(other_state[name]) for name in state)


# ---- with the losses of transitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("start", [0.0, 1e4, -1e4])
def test_a_thousand_large_steps_stay_finite(start: float, dtype: torch.dtype) -> None:
    grid = Grid(4, 5)
    nodes = grid.num_nodes
    signs = torch.where(normal(nodes, nodes, seed=1) > 0, 1.0, -1.0) if start else torch.zeros(nodes, nodes)
    logits = nn.Parameter((abs(start) * signs).to(dtype))
    z, codebook = normal(8, 3, seed=2, dtype=dtype), normal(nodes, 3, seed=3, dtype=dtype)
    optimizer = RowAdam([logits], lr=1.0)
    for step in range(1000):
        prev, cur = integers(8, seed=2 * step, below=nodes), integers(8, seed=2 * step + 1, below=nodes)
        optimizer.zero_grad()
        log_prob = ops.transition_log_prob(logits, prev, cur, sparse_grad=True)
        expected = ops.expected_distance(logits, prev, z, codebook, sparse_grad=True)
        (expected - log_prob).mean().backward()
        assert logits.grad is not None
        assert logits.grad.layout == torch.sparse_coo
        optimizer.step()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(value).all() for value in optimizer.state[logits].values())


def test_row_and_dense_training_agree_if_every_node_is_visited() -> None:
    nodes = 6
    prev = torch.arange(nodes).repeat(3)
    tables = []
    for sparse, kind in ((True, RowAdam), (False, torch.optim.Adam)):
        logits = nn.Parameter(torch.zeros(nodes, nodes, dtype=torch.float64))
        optimizer = kind([logits], lr=0.1)
        for step in range(50):
            optimizer.zero_grad()
            cur = integers(len(prev), seed=step, below=nodes)
            (-ops.transition_log_prob(logits, prev, cur, sparse_grad=sparse)).mean().backward()
            optimizer.step()
        tables.append(logits.detach())
    torch.testing.assert_close(tables[0], tables[1], rtol=0, atol=1e-9)  # 50 float64 steps round by less than 1e-10


# ---- the interface of torch's optimizers -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_saved_and_loaded_state_gives_the_same_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    gradients = [random_gradient(seed).to(dtype) for seed in range(6)]
    start = normal(ROWS, 33, seed=99, dtype=dtype)
    whole, _ = descend(RowAdam, start, gradients, lr=0.1)

    parameter = nn.Parameter(start.clone())
    first = RowAdam([parameter], lr=0.1)
    for gradient in gradients[:3]:
        parameter.grad = gradient
        first.step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = RowAdam([parameter], lr=7.0)
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    for gradient in gradients[3:]:
        parameter.grad = gradient
        second.step()
    assert second.state[parameter]["exp_avg"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert parameter.detach().equal(whole)


def test_row_adam_continues_from_the_state_of_sparse_adam() -> None:
    gradients = [random_gradient(seed) for seed in range(6)]
    parameter = nn.Parameter(torch.zeros(ROWS, 33))
    theirs = torch.optim.SparseAdam([parameter], lr=0.01)
    for gradient in gradients:
        parameter.grad = gradient
        theirs.step()
    ours = RowAdam([parameter], lr=0.01)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    state, their_state = ours.state[parameter], theirs.state[parameter]
    assert state["step"].item() == 6
    assert all(state[name].equal(their_state[name]) for name in ("exp_avg", "exp_avg_sq"))
    parameter.grad = gradients[0]
    ours.step()
    assert state["step"].item() == 7


def test_parameter_groups_have_their_own_rates_and_schedules_change_them() -> None:
    tables = [nn.Parameter(torch.zeros(ROWS, 5)) for _ in range(3)]
    optimizer = RowAdam([{"params": tables[:1]}, {"params": tables[1:2], "lr": 0.5}], lr=0.25)
    optimizer.add_param_group({"params": tables[2:], "lr": torch.tensor(1.0)})
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for size in (1.0, 0.5):
        before = [table.detach().clone() for table in tables]
        for table in tables:
            table.grad = rows_of_gradient(torch.arange(ROWS), torch.full((ROWS, 5), 3.0))
        optimizer.step()
        schedule.step()
        for table, start, rate in zip(tables, before, (0.25, 0.5, 1.0), strict=True):
            torch.testing.assert_close(start - table.detach(), torch.full((ROWS, 5), rate * size))
    optimizer.zero_grad()
    assert all(table.grad is None for table in tables)


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    logits = nn.Parameter(torch.zeros(4, 4))
    optimizer = RowAdam([logits], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        log_prob = ops.transition_log_prob(logits, torch.tensor([1]), torch.tensor([2]), sparse_grad=True)
        (-log_prob).sum().backward()
        return -log_prob.sum()

    assert optimizer.step(closure).item() == pytest.approx(math.log(4))
    assert optimizer.step(closure).item() < math.log(4)


def test_parameters_without_a_gradient_stay_unchanged() -> None:
    table = nn.Parameter(torch.ones(ROWS, 5))
    optimizer = RowAdam([table])
    optimizer.step()
    assert table.detach().equal(torch.ones(ROWS, 5))
    assert not optimizer.state[table]


def test_a_table_that_is_not_contiguous_is_changed_in_place() -> None:
    gradients = [random_gradient(seed) for seed in range(3)]
    start = normal(ROWS, 33, seed=99)
    expected, _ = descend(RowAdam, start, gradients, lr=0.1)
    wide = torch.zeros(33, ROWS)
    parameter = nn.Parameter(wide.T)
    with torch.no_grad():
        parameter.copy_(start)
    optimizer = RowAdam([parameter], lr=0.1)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    torch.testing.assert_close(wide.T, expected, rtol=0, atol=rounding_of_steps(3, 0.1, members=9))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_compiled_step_is_that_of_the_reference(dtype: torch.dtype) -> None:
    parameter = nn.Parameter(normal(ROWS, 33, seed=0, dtype=dtype))
    optimizer = RowAdam([parameter], lr=0.1)
    gradients = [random_gradient(seed).to(dtype) for seed in range(3)]
    reference = parameter.detach().clone()
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    moments, step = [torch.zeros(ROWS, 33, dtype=compute) for _ in range(2)], torch.tensor(0)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
        step += 1
        adam_rows_reference(reference, *moments, step, gradient, 0.1, 0.9, 0.999, 1e-8)
    eps = torch.finfo(dtype).eps if compute == torch.float32 != dtype else 0  # each step rounds the parameter
    bound = rounding_of_steps(3, 0.1, members=9) + 3 * eps * reference.abs().max().item()
    torch.testing.assert_close(parameter.detach(), reference, rtol=0, atol=bound)


MEMORY = """
import torch
from somvae_ext.optim import RowAdam

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

table = torch.nn.Parameter(torch.empty(8192, 8192))  # 256 MiB, and its moments twice that
rows = torch.arange(64)[None] * 128  # spread, so that no two are in the same 2 MiB of a moment
table.grad = torch.sparse_coo_tensor(rows, torch.ones(64, 8192), table.shape)
optimizer = RowAdam([table])
before = resident()
optimizer.step()
print(resident() - before)
"""


def test_rows_that_are_never_touched_need_no_memory_for_moments() -> None:
    done = children.run("-W", "ignore", "-c", MEMORY, imported=children.TORCH)
    assert done.returncode == 0, done.stderr
    # 64 rows of 32 KiB in the parameter and both moments take 6 MiB; code that runs for the first time as much again.
    assert int(done.stdout) < 24 << 20


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1.0"),
        ({"lr": math.nan}, "lr must be at least 0, got nan"),
        ({"lr": torch.ones(2)}, "lr must be a number or a 0-dimensional floating tensor"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers from 0 to below 1, got \(0.9, 1.0\)"),
        ({"betas": (-0.1, 0.9)}, "betas must be two numbers"),
        ({"eps": -1e-8}, "eps must be at least 0, got -1e-08"),
    ],
)
def test_invalid_numbers_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^RowAdam: {message}"):
        RowAdam([nn.Parameter(torch.zeros(3, 3))], **options)  # type: ignore[arg-type]


def test_parameters_without_rows_or_of_another_dtype_are_refused() -> None:
    with pytest.raises(ValueError, match="params must have rows, that is at least one dimension, got a scalar"):
        RowAdam([nn.Parameter(torch.zeros(()))])
    with pytest.raises(ValueError, match=r"params must be of dtype float32, .*, got torch\.complex64"):
        RowAdam([nn.Parameter(torch.zeros(3, dtype=torch.complex64))])
    optimizer = RowAdam([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="eps must be"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "eps": -1.0})
    assert len(optimizer.param_groups) == 1


def test_gradients_of_another_kind_are_refused_before_anything_is_changed() -> None:
    tables = [nn.Parameter(torch.zeros(ROWS, 5)) for _ in range(2)]
    optimizer = RowAdam(tables)
    tables[0].grad = random_gradient(0, width=(5,))
    tables[1].grad = torch.ones(ROWS, 5)
    with pytest.raises(ValueError, match=r"got a dense one for a parameter of shape \[7, 5\]; give this parameter to"):
        optimizer.step()
    tables[1].grad = torch.ones(ROWS, 5).to_sparse()
    with pytest.raises(ValueError, match="sparse in the first dimension alone, got 2 sparse dimensions"):
        optimizer.step()
    assert not tables[0].any()


# ---- the native op ---------------------------------------------------------------------------------------------------


def op_arguments(dtype: torch.dtype, device: torch.device, count: int = 9) -> dict[str, Tensor | float]:
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        "param": normal(ROWS, 5, seed=0, dtype=dtype, device=device),
        "exp_avg": normal(ROWS, 5, seed=1, dtype=compute, device=device),
        "exp_avg_sq": normal(ROWS, 5, seed=2, dtype=compute, device=device).abs(),
        "step": torch.tensor(3, device=device),
        "index": integers(count, seed=3, below=ROWS, device=device),
        "grad": normal(count, 5, seed=4, dtype=dtype, device=device),
        "lr": 0.1,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
    }


@pytest.mark.parametrize("count", [0, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype, count: int, device: torch.device) -> None:
    arguments = op_arguments(dtype, device, count)
    torch.library.opcheck(torch.ops.somvae_ext.adam_rows_.default, tuple(arguments.values()))
    arguments["lr"] = torch.tensor(0.1, device=device)
    torch.library.opcheck(torch.ops.somvae_ext.adam_rows_tensor_lr_.default, tuple(arguments.values()))


def test_the_binding_is_the_registered_op() -> None:
    from somvae_ext import _C

    ours, theirs = (op_arguments(torch.float32, torch.device("cpu")) for _ in range(2))
    _C.adam_rows_(**ours)
    torch.ops.somvae_ext.adam_rows_(**theirs)
    for name in ("param", "exp_avg", "exp_avg_sq"):
        assert torch.equal(ours[name], theirs[name])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("param", torch.zeros(()), "have rows, that is at least one dimension, got a scalar"),
        ("param", torch.zeros(5, ROWS).T, "be contiguous"),
        ("param", torch.zeros(ROWS, 5, dtype=torch.int64), "be of dtype float32"),
        ("exp_avg", torch.zeros(ROWS, 4), r"have the shape of param, \[7, 5\], got \[7, 4\]"),
        ("exp_avg", torch.zeros(5, ROWS).T, "be contiguous"),
        ("exp_avg_sq", torch.zeros(ROWS, 5).double(), "be of dtype float32, got float64"),
        ("step", torch.tensor(3.0), "be of dtype int64, got float32"),
        ("step", torch.tensor([3]), r"have shape \[\]"),
        ("index", torch.full((9,), ROWS), "hold values from 0 to 6, got 7"),
        ("index", torch.zeros(9, 1, dtype=torch.int64), r"have shape \[M\], got \[9, 1\]"),
        ("grad", torch.zeros(8, 5), r"hold a row of param, \[7, 5\], for each of the \[9\] in index, got \[8, 5\]"),
        ("grad", torch.zeros(9, 4), "hold a row of param"),
        ("grad", torch.zeros(9, 5).double(), "have the dtype of param"),
        ("lr", torch.tensor([0.1]), "be a floating scalar on the device of param"),
    ],
    ids=str,
)
def test_wrong_arguments_of_the_op_are_refused(name: str, wrong: Tensor, message: str) -> None:
    arguments = op_arguments(torch.float32, torch.device("cpu")) | {name: wrong}
    op = torch.ops.somvae_ext.adam_rows_tensor_lr_ if name == "lr" else torch.ops.somvae_ext.adam_rows_
    with pytest.raises(ValueError, match=f"^adam_rows_: {name} must {message}"):
        op(**arguments)


def test_autograd_notices_that_the_table_has_changed() -> None:
    arguments = op_arguments(torch.float32, torch.device("cpu"))
    weight = torch.ones(ROWS, 5, requires_grad=True)
    product = (weight * arguments["param"]).sum()
    torch.ops.somvae_ext.adam_rows_(**arguments)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


# All levels except the one at which this session already runs these tests.
OTHER_LEVELS = [level for level in build_info()["simd_available"] if level != build_info()["simd"]]


@pytest.mark.parametrize("level", OTHER_LEVELS)
def test_the_other_instruction_levels_step_by_the_definition(level: str) -> None:
    names = "(definition or threads or coalesced) and not level"
    options = ["-q", "-p", "no:cacheprovider", "-m", "not cuda", "-k", names]
    environment = os.environ | {"SOMVAE_EXT_SIMD": level}
    done = children.run("-m", "pytest", __file__, *options, imported=children.TORCH, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_row_adam_works_without_the_compiled_library() -> None:
    hide = "import sys; sys.modules['somvae_ext._C'] = None\n"
    program = hide + (
        "import torch\n"
        "from somvae_ext.optim import RowAdam\n"
        "table = torch.nn.Parameter(torch.zeros(4, 3))\n"
        "table.grad = torch.sparse_coo_tensor([[2, 2]], torch.ones(2, 3), (4, 3))\n"
        "RowAdam([table], lr=0.5).step()\n"
        "assert torch.allclose(table.detach(), torch.tensor([0, 0, -0.5, 0])[:, None].expand(4, 3))\n"
    )
    done = children.run("-W", "ignore", "-c", program, imported=children.TORCH)
    assert done.returncode == 0, done.stderr


# ---- on a GPU --------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
def test_a_step_does_not_wait_for_the_device() -> None:
    table = nn.Parameter(torch.zeros(ROWS, 33, device="cuda"))
    optimizer = RowAdam([table], lr=torch.tensor(0.1, device="cuda"))
    table.grad = random_gradient(0).to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_a_step_can_be_captured_in_a_cuda_graph_and_reads_its_rate_at_each_replay() -> None:
    rate = torch.tensor(0.1, device="cuda")
    gradients = [random_gradient(seed).to("cuda") for seed in range(4)]
    parameter = nn.Parameter(torch.zeros(ROWS, 33, device="cuda"))
    optimizer = RowAdam([parameter], lr=rate)
    index, values = gradients[0]._indices().clone(), gradients[0]._values().clone()
    parameter.grad = torch.sparse_coo_tensor(index, values, parameter.shape, check_invariants=False)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        optimizer.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    rates = [0.1, 0.2, 0.05]
    for gradient, value in zip(gradients[1:], rates, strict=True):
        parameter.grad._indices().copy_(gradient._indices())
        parameter.grad._values().copy_(gradient._values())
        rate.fill_(value)
        graph.replay()

    eager = nn.Parameter(torch.zeros(ROWS, 33, device="cuda"))
    optimizer = RowAdam([eager], lr=0.1)
    for gradient, value in zip(gradients, [0.1, *rates], strict=True):
        optimizer.param_groups[0]["lr"] = torch.tensor(value, device="cuda")
        eager.grad = gradient
        optimizer.step()
    assert parameter.detach().equal(eager.detach())
