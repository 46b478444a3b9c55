"""The native ops in torch's dispatcher: registration, fake tensors, torch.compile, derivatives. Native only."""

from __future__ import annotations

import warnings

import pytest
import torch
from calls import CALLS, DIFFERENTIABLE_CALLS, Call, assert_same_bits, make_inputs, native_arguments, run
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
every_differentiable_call = pytest.mark.parametrize("call", DIFFERENTIABLE_CALLS.values(), ids=DIFFERENTIABLE_CALLS)


@pytest.mark.parametrize("requires_grad", [False, True], ids=["without gradient", "with gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [0, 7])
@pytest.mark.parametrize("name", native_arguments())
def test_opcheck(name: str, rows: int, dtype: torch.dtype, requires_grad: bool, device: torch.device) -> None:
    for arguments in native_arguments(rows, dtype=dtype, device=device)[name]:
        inputs = tuple(
            value.clone().requires_grad_(requires_grad)
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for value in arguments
        )
        torch.library.opcheck(getattr(torch.ops.somvae_ext, name).default, inputs)


# ---- fake and meta tensors -------------------------------------------------------------------------------------------


def check_same_shapes(fake: list[Tensor], real: list[Tensor], device: torch.device) -> None:
    for a, b in zip(fake, real, strict=True):
        assert (a.shape, a.dtype, a.device, a.layout) == (b.shape, b.dtype, device, b.layout)


@every_call
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_shapes_of_fake_cuda_tensors(call: Call, dtype: torch.dtype) -> None:
    """This must work without a GPU."""
    inputs = make_inputs(dtype=dtype)
    cuda = torch.device("cuda:0")
    with FakeTensorMode():
        outputs = call.function(
            {name: torch.empty(tensor.shape, dtype=tensor.dtype, device=cuda) for name, tensor in inputs.items()}
        )
    check_same_shapes(list(outputs), list(call.function(inputs)), cuda)


@every_differentiable_call
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fake_device", ["cpu", "meta", pytest.param("cuda:0", marks=pytest.mark.cuda)])
def test_shapes_of_gradients_of_fake_tensors(call: Call, dtype: torch.dtype, fake_device: str) -> None:
    """Without a GPU, fake CUDA tensors are left out: torch's autograd engine needs the device of a gradient."""
    inputs = make_inputs(dtype=dtype)
    with FakeTensorMode():
        fakes = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, device=fake_device).requires_grad_(
                name in call.differentiable
            )
            for name, tensor in inputs.items()
        }
        outputs = [output for output in call.function(fakes) if output.requires_grad]
        grads = torch.autograd.grad(
            outputs, [fakes[name] for name in call.differentiable], [torch.empty_like(output) for output in outputs]
        )
    check_same_shapes(list(grads), run(call.function, inputs, call.differentiable)[1], torch.device(fake_device))


# ---- torch.compile ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def check_compiled(
    compiled: tuple[list[Tensor], list[Tensor]], eager: tuple[list[Tensor], list[Tensor]], rows: int
) -> None:
    """Checks that compiled and eager results are bitwise equal.

    A graph cannot know how many rows of a table a batch touches, so its sparse gradients have as many rows as the
    batch. Surplus rows are zeros.
    """
    assert_same_bits(compiled[0], eager[0])
    for a, b in zip(compiled[1], eager[1], strict=True):
        assert a.layout == b.layout
        if a.layout == torch.sparse_coo:
            assert a._nnz() == rows
            assert not a._values()[b._nnz() :].any()
            assert torch.equal(a._indices()[:, : b._nnz()], b._indices())
        assert_same_bits([a.to_dense()], [b.to_dense()])


@every_call
def test_compiled_equals_eager(call: Call, device: torch.device) -> None:
    compiled = torch.compile(call.function, fullgraph=True, backend="aot_eager")
    inputs = make_inputs(device=device)
    eager = run(call.function, inputs, call.differentiable)
    check_compiled(run(compiled, inputs, call.differentiable), eager, rows=len(inputs["z"]))


@every_call
def test_one_graph_serves_any_number_of_rows(call: Call, device: torch.device) -> None:
    graphs = []

    def count(module: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(module)
        return torch._dynamo.lookup_backend("aot_eager")(module, inputs)

    compiled = torch.compile(call.function, fullgraph=True, backend=count, dynamic=True)
    for rows in (10, 23, 31):
        inputs = make_inputs(rows, dim=6, device=device)
        eager = run(call.function, inputs, call.differentiable)
        check_compiled(run(compiled, inputs, call.differentiable), eager, rows)
    assert len(graphs) == 1


def test_all_ops_in_one_graph_of_the_default_compiler(device: torch.device) -> None:
    """Each op has its own inputs, because the default compiler cannot add the sparse gradients of two ops."""
    inputs = {(op, name): tensor.clone() for op in CALLS for name, tensor in make_inputs(device=device).items()}
    differentiable = [(op, name) for op, call in CALLS.items() for name in call.differentiable]

    def everything(tensors: dict[tuple[str, str], Tensor]) -> tuple[Tensor, ...]:
        return tuple(
            output
            for op, call in CALLS.items()
            for output in call.function({name: tensors[op, name] for name in call.inputs})
        )

    eager = run(everything, inputs, differentiable)
    compiled = run(torch.compile(everything, fullgraph=True), inputs, differentiable)
    check_compiled(compiled, eager, rows=len(make_inputs()["z"]))


# ---- derivatives -----------------------------------------------------------------------------------------------------


@every_differentiable_call
def test_second_derivative_is_refused_with_a_sentence(call: Call, device: torch.device) -> None:
    inputs = make_inputs(device=device)
    leaves = [inputs[name].requires_grad_() for name in call.differentiable]
    outputs = [output for output in call.function(inputs) if output.requires_grad]
    weights = [torch.ones_like(output, requires_grad=True) for output in outputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grads = torch.autograd.grad(outputs, leaves, weights, create_graph=True)
        with pytest.raises(RuntimeError, match=r"derivative for somvae_ext::\w+_backward is not implemented"):
            torch.autograd.grad([grad.to_dense().sum() for grad in grads], leaves + weights, allow_unused=True)


@every_call
def test_nothing_is_saved_without_gradients(call: Call, device: torch.device) -> None:
    inputs = make_inputs(device=device)
    assert not any(output.requires_grad for output in call.function(inputs))
    for name in call.differentiable:
        inputs[name].requires_grad_()
    with torch.no_grad():
        assert not any(output.requires_grad for output in call.function(inputs))


@pytest.mark.parametrize("call", [call for call in CALLS.values() if not call.differentiable])
def test_an_op_without_derivatives_requires_no_gradient(call: Call, device: torch.device) -> None:
    inputs = make_inputs(device=device)
    expected = call.function(inputs)
    for tensor in inputs.values():
        if tensor.is_floating_point():
            tensor.requires_grad_()
    outputs = call.function(inputs)
    assert not any(output.requires_grad for output in outputs)
    assert_same_bits(outputs, expected)


@every_call
def test_inference_mode_gives_the_same_bits(call: Call, device: torch.device) -> None:
    inputs = make_inputs(device=device)
    with torch.inference_mode():
        inferred = call.function(inputs)
    assert_same_bits(inferred, call.function(inputs))


@every_differentiable_call
def test_changing_an_input_in_place_before_the_backward_pass_is_noticed(call: Call, device: torch.device) -> None:
    inputs = make_inputs(device=device)
    leaves = {name: inputs[name].requires_grad_() for name in call.differentiable}
    moved = {name: leaf * 1 for name, leaf in leaves.items()}
    outputs = [output for output in call.function({**inputs, **moved}) if output.requires_grad]
    changed = "prev" if "prev" in call.inputs else "index" if "index" in call.inputs else "z"
    (moved if changed == "z" else inputs)[changed].detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(outputs, list(leaves.values()), [torch.ones_like(output) for output in outputs])


@pytest.mark.cuda
@every_differentiable_call
def test_forward_and_backward_can_be_captured_in_a_cuda_graph(call: Call) -> None:
    inputs = make_inputs(device="cuda")
    leaves = {name: inputs[name].requires_grad_() for name in call.differentiable}

    def step() -> tuple[list[Tensor], list[Tensor]]:
        outputs = call.function(inputs)
        floating = [output for output in outputs if output.requires_grad]
        grads = torch.autograd.grad(floating, list(leaves.values()), [torch.ones_like(x) for x in floating])
        return [output.detach() for output in outputs], list(grads)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for leaf in leaves.values():
            leaf.mul_(-0.5)
    graph.replay()
    for expected, actual in zip(step(), captured, strict=True):
        assert_same_bits(actual, expected)


@pytest.mark.cuda
@pytest.mark.parametrize("call", [call for call in CALLS.values() if not call.differentiable])
def test_an_op_without_derivatives_can_be_captured_in_a_cuda_graph(call: Call) -> None:
    inputs = make_inputs(device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call.function(inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call.function(inputs)
    inputs["codebook"].mul_(-0.5)
    inputs["total"].add_(1)
    graph.replay()
    assert_same_bits(captured, call.function(inputs))
