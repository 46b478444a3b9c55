"""The pybind11 module ``_C``: the differentiable Functions and all raw forward and backward functions."""

import copy
import importlib

import pytest
import torch
from calls import DIFFERENTIABLE_CALLS, native_arguments

from somvae_ext import Grid

native = importlib.import_module("somvae_ext._C")
registered = torch.ops.somvae_ext

GRID = Grid(3, 4)
NODES, ROWS, DIM = GRID.num_nodes, 7, 5


def inputs():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(ROWS, DIM, generator=generator)
    codebook = torch.randn(NODES, DIM, generator=generator)
    logits = torch.randn(NODES, NODES, generator=generator)
    prev, cur = torch.randint(NODES, (2, ROWS), generator=generator)
    return z, codebook, logits, prev, cur


NATIVE_ARGUMENTS = native_arguments(ROWS)
DIFFERENTIABLE = [op for op in NATIVE_ARGUMENTS if op in {name.split(",")[0] for name in DIFFERENTIABLE_CALLS}]
OTHERS = [op for op in NATIVE_ARGUMENTS if op not in DIFFERENTIABLE]


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_the_function_and_the_raw_forward_equal_the_registered_op(op):
    for args in NATIVE_ARGUMENTS[op]:
        expected = as_tuple(getattr(registered, op)(*args))
        for name in (op, f"{op}_forward"):
            outputs = as_tuple(getattr(native, name)(*args))
            assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_the_function_is_differentiable_and_the_raw_forward_is_not(op):
    for args in NATIVE_ARGUMENTS[op]:
        floating = [isinstance(a, torch.Tensor) and a.is_floating_point() for a in args]
        args = [a.clone().requires_grad_() if yes else a for a, yes in zip(args, floating, strict=True)]
        assert as_tuple(getattr(native, op)(*args))[0].requires_grad
        with torch.no_grad():
            assert not as_tuple(getattr(native, f"{op}_forward")(*args))[0].requires_grad


@pytest.mark.parametrize("op", OTHERS)
def test_an_op_without_derivatives_is_bound_by_its_own_name(op):
    """Outputs and in-place changes are those of the registered op."""
    for args in NATIVE_ARGUMENTS[op]:
        ours, theirs = copy.deepcopy(args), copy.deepcopy(args)
        outputs, expected = getattr(native, op)(*ours), getattr(registered, op)(*theirs)
        pairs = zip([outputs, *ours], [expected, *theirs], strict=True)
        assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_each_differentiable_op_has_a_raw_forward():
    """A differentiable op also has a raw function, whose name ends in ``_forward``."""
    raw = {name.removesuffix("_forward") for name in dir(native) if name.endswith("_forward")}
    assert raw - {"bmu_pruned"} == {*DIFFERENTIABLE}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, torch.zeros(2, 3)), {}, r"bmu\(\) Expected a value of type 'Tensor' for argument 'z'"),
        ((torch.zeros(2, 3),), {}, r"bmu\(\) is missing value for argument 'codebook'"),
        ((torch.zeros(2, 3),) * 2, {"K": 1}, r"Unknown keyword argument 'K' for operator 'somvae_ext::bmu'"),
    ],
    ids=["type", "missing", "unknown"],
)
def test_arguments_that_do_not_match_the_schema_are_refused_like_by_the_registered_op(args, kwargs, message):
    for function in (native.bmu, native.bmu_forward, registered.bmu):
        with pytest.raises(RuntimeError, match=message):
            function(*args, **kwargs)


def test_a_function_is_documented_by_the_schema_of_its_op():
    assert "bmu_backward(Tensor grad, Tensor z, Tensor codebook, Tensor index" in native.bmu_backward.__doc__


def test_raw_backwards_give_the_gradients_of_the_functions():
    z, codebook, logits, prev, cur = inputs()
    grad = torch.linspace(-1, 1, ROWS)

    def gradients(function, *tensors):
        leaves = [t.clone().requires_grad_() for t in tensors]
        return torch.autograd.grad(as_tuple(function(*leaves))[0], leaves, grad)

    index = native.bmu_forward(z, codebook)[1]
    neighbors = GRID.neighbors()
    _, normalizer, *touched = native.transition_log_prob_forward(logits, prev, cur)
    _, expectation, _, *_ = native.transition_losses_forward(logits, prev, cur, z, codebook)
    pairs = [
        (gradients(native.bmu, z, codebook), native.bmu_backward(grad, z, codebook, index)),
        (
            gradients(lambda z, e: native.som_losses(z, e, cur, neighbors), z, codebook),
            native.som_head_backward(None, grad, None, z, codebook, cur, neighbors),
        ),
        (
            gradients(lambda t: native.transition_log_prob(t, prev, cur), logits),
            (native.transition_log_prob_backward(grad, logits, prev, cur, normalizer, *touched),),
        ),
        (
            gradients(lambda t, z, e: native.transition_losses(t, prev, cur, z, e)[1:], logits, z, codebook),
            native.transition_losses_backward(
                torch.zeros(ROWS), grad, logits, prev, cur, z, codebook, expectation, normalizer, *touched
            ),
        ),
    ]
    for expected, raw in pairs:
        assert all(torch.equal(a, b) for a, b in zip(raw, expected, strict=True))

    wide = torch.randn(ROWS, DIM)
    leaves = z.clone().requires_grad_(), codebook.clone().requires_grad_()
    head = native.som_head(*leaves, neighbors)
    expected = torch.autograd.grad(head[:3], leaves, (wide, grad, -grad))
    raw = native.som_head_backward(wide, grad, -grad, z, codebook, index, neighbors)
    assert all(torch.equal(a, b) for a, b in zip(raw, expected, strict=True))
    absent = native.som_head_backward(None, None, None, z, codebook, index, neighbors)
    assert all(torch.equal(a, torch.zeros_like(b)) for a, b in zip(absent, raw, strict=True))

    wide = torch.randn(ROWS, 1 + GRID.num_slots, DIM)
    leaf = codebook.clone().requires_grad_()
    (expected_gather,) = torch.autograd.grad(native.som_gather(leaf, cur, neighbors), leaf, wide)
    assert torch.equal(native.som_gather_backward(wide, cur, neighbors), expected_gather)
    sums = torch.randn(NODES, DIM)
    assert torch.equal(native.segment_sum_backward(sums, cur, torch.float32), sums[cur])


def test_raw_ops_check_their_arguments_too():
    z, codebook, _, _, cur = inputs()
    grad = torch.ones(ROWS)
    with pytest.raises(ValueError, match=r"bmu_backward: index must hold values from 0 to 11, got 12"):
        native.bmu_backward(grad, z, codebook, torch.full((ROWS,), NODES))
    with pytest.raises(ValueError, match=r"som_gather_backward: index must hold values from 0 to 11, got -1"):
        native.som_gather_backward(torch.zeros(ROWS, 5, DIM), cur - cur - 1, GRID.neighbors())
    with pytest.raises(ValueError, match=r"som_gather: neighbors must have shape \[K, S\], got \[12\]"):
        native.som_gather_forward(codebook, cur, torch.full((NODES,), -1))
    with pytest.raises(ValueError, match=r"bmu_backward: grad must be of dtype float32, got float64"):
        native.bmu_backward(grad.double(), z, codebook, cur)
    with pytest.raises(ValueError, match=r"som_head_backward: grad_som must be of dtype float32, got float64"):
        native.som_head_backward(None, grad, grad.double(), z, codebook, cur, GRID.neighbors())
    with pytest.raises(ValueError, match=r"som_head_backward: grad_quantized must have shape \[N, D\] with N = 7"):
        native.som_head_backward(z[:3], grad, grad, z, codebook, cur, GRID.neighbors())
    with pytest.raises(ValueError, match=r"som_head: codebook must have at least one row, got none"):
        native.som_head(z, codebook[:0], GRID.neighbors()[:0])


def test_a_neighbor_out_of_range_counts_as_absent():
    _, codebook, _, _, cur = inputs()
    nobody, strangers = torch.full((NODES, 4), -1), torch.full((NODES, 4), NODES)
    expected = native.som_gather_forward(codebook, cur, nobody)
    assert torch.equal(native.som_gather_forward(codebook, cur, strangers), expected)


def test_launch_limits():
    assert native.launch_limits()["codes"] == 2**31 - 1


def test_more_codes_than_the_kernels_can_index_are_refused():
    z, codebook = (torch.empty(rows, 1, device="meta") for rows in (1, 2**31))
    native.bmu_forward(z, codebook[:-1], 1)
    with pytest.raises(ValueError, match=r"^bmu: codebook must have at most 2147483647 rows, got 2147483648$"):
        native.bmu_forward(z, codebook, 1)


def test_a_backward_pass_refuses_touched_rows_of_another_forward_pass() -> None:
    _, _, logits, prev, cur = inputs()
    _, normalizer, node, order, offsets = native.transition_log_prob_forward(logits, prev, cur)
    grad = torch.ones(len(prev))
    for wrong in ((node + NODES, order, offsets), (node, order + len(prev), offsets), (node, order, offsets.flip(0))):
        with pytest.raises(ValueError, match="must be what the forward pass gave"):
            native.transition_log_prob_backward(grad, logits, prev, cur, normalizer, *wrong)
    with pytest.raises(ValueError, match="sparse_rows must be from"):
        native.transition_log_prob_backward(grad, logits, prev, cur, normalizer, node, order, offsets, len(prev) + 1)


def test_the_work_of_a_search_on_the_cpu_is_not_counted():
    z, codebook, *_ = inputs()
    assert native.bmu_work(z, codebook) == {"kernel": "cpu", "rescored": 0, "dense": 0, "workspace_bytes": 0}
