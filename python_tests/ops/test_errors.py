"""Every wrong argument raises an error that reads "<op>: <argument> must <expectation>, got <value>".

It is a ValueError, or a TypeError for an argument that is no tensor or no grid.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from calls import VALID, WRONG_SHAPES
from torch import Tensor

import somvae_ext


def build(value: object, device: torch.device) -> object:
    """Converts a shape to zeros and a list to an index, and returns anything else as it is."""
    if isinstance(value, tuple):
        return torch.zeros(value, device=device)
    return torch.tensor(value, device=device) if isinstance(value, list) else value


def arguments(op: str, device: torch.device, **wrong: object) -> dict[str, object]:
    return {name: build(value, device) for name, value in {**VALID[op], **wrong}.items()}


def named_op(ops: SimpleNamespace, op: str) -> str:
    """Returns the op that the error names: the compiled expected_distance is a part of transition_losses."""
    return "transition_losses" if ops.native and op == "expected_distance" else op


def refuses(
    ops: SimpleNamespace, device: torch.device, op: str, name: str, wrong: object, expectation: str, came: str
) -> None:
    pattern = rf"^{named_op(ops, op)}: {name} must {expectation}.*, got {re.escape(came)}"
    with pytest.raises(ValueError, match=pattern):
        getattr(ops, op)(**arguments(op, device, **{name: wrong}))


@pytest.mark.parametrize("op", VALID)
def test_valid_arguments_are_accepted(ops: SimpleNamespace, device: torch.device, op: str) -> None:
    getattr(ops, op)(**arguments(op, device))


@pytest.mark.parametrize(("op", "name", "wrong", "shape"), WRONG_SHAPES, ids=str)
def test_shape(ops: SimpleNamespace, device: torch.device, op: str, name: str, wrong: object, shape: str) -> None:
    came = str(list(torch.tensor(wrong).shape if isinstance(wrong, list) else wrong))
    refuses(ops, device, op, name, wrong, f"have shape {re.escape(shape)}", came)


FLOATING_ARGUMENTS = [
    (op, name) for op, valid in VALID.items() for name, value in valid.items() if isinstance(value, tuple)
]
INDEX_ARGUMENTS = [
    (op, name) for op, valid in VALID.items() for name, value in valid.items() if isinstance(value, list)
]


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool], ids=str)
@pytest.mark.parametrize(("op", "name"), FLOATING_ARGUMENTS)
def test_dtype(ops: SimpleNamespace, device: torch.device, op: str, name: str, dtype: torch.dtype) -> None:
    wrong = build(VALID[op][name], device).to(dtype)
    refuses(ops, device, op, name, wrong, "be of dtype float32, float64, float16 or bfloat16", str(dtype)[6:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("op", "name"), [(op, name) for op, name in FLOATING_ARGUMENTS if len(VALID[op]) > 1])
def test_mixed_dtypes(ops: SimpleNamespace, device: torch.device, op: str, name: str, dtype: torch.dtype) -> None:
    first, *others = [argument for key, argument in FLOATING_ARGUMENTS if key == op]
    wrong = {name: build(VALID[op][name], device).to(dtype)}
    if not others:
        getattr(ops, op)(**arguments(op, device, **wrong))  # the op's only floating argument may have any dtype
        return
    came, expected = ("float32", str(dtype)[6:]) if name == first else (str(dtype)[6:], "float32")
    blamed = others[0] if name == first else name
    sentence = f"^{named_op(ops, op)}: {blamed} must have the dtype of {first}, {expected}, got {came}"
    with pytest.raises(ValueError, match=sentence):
        getattr(ops, op)(**arguments(op, device, **wrong))


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool], ids=str)
@pytest.mark.parametrize(("op", "name"), INDEX_ARGUMENTS)
def test_index_dtype(ops: SimpleNamespace, device: torch.device, op: str, name: str, dtype: torch.dtype) -> None:
    wrong = build(VALID[op][name], device).to(dtype)
    refuses(ops, device, op, name, wrong, "be of dtype int64", str(dtype)[6:])


@pytest.mark.parametrize("wrong", [-1, 6, 2**40])
@pytest.mark.parametrize(("op", "name"), INDEX_ARGUMENTS)
def test_index_range(ops: SimpleNamespace, op: str, name: str, wrong: int) -> None:
    index = [0, 1, wrong, 2, 3]
    refuses(ops, torch.device("cpu"), op, name, index, "hold values from 0 to 5", str(wrong))


@pytest.mark.parametrize(("op", "name"), [*FLOATING_ARGUMENTS, *INDEX_ARGUMENTS])
def test_device(ops: SimpleNamespace, device: torch.device, op: str, name: str) -> None:
    """All tensors must be on the device of the first one, so if that one is elsewhere, the error names the next."""
    arguments_of_op = arguments(op, device)
    tensors = [key for key, value in arguments_of_op.items() if isinstance(value, Tensor)]
    if len(tensors) > 1:
        arguments_of_op[name] = arguments_of_op[name].to("meta")
        sentence = rf"^{named_op(ops, op)}: \w+ must be on the device of \w+, .*, got (meta|{device})"
        with pytest.raises(ValueError, match=sentence):
            getattr(ops, op)(**arguments_of_op)


@pytest.mark.parametrize(
    ("op", "name"), [(op, name) for op, name in [*FLOATING_ARGUMENTS, *INDEX_ARGUMENTS] if name != "weights"]
)
def test_arrays_and_lists_are_refused_without_their_values(op: str, name: str) -> None:
    given = arguments(op, torch.device("cpu"))
    for array in (given[name].numpy(), given[name].tolist()):  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match=rf"^{op}: {name} must be a torch tensor, got (ndarray|list); torch\.as_t"):
            getattr(somvae_ext.ops, op)(**{**given, name: array})


@pytest.mark.parametrize("op", [op for op, valid in VALID.items() if "grid" in valid])
def test_a_grid_must_be_a_grid(op: str) -> None:
    sentence = rf"^{op}: grid must be a somvae_ext\.Grid, got str; Grid\(rows, cols\) makes one$"
    with pytest.raises(TypeError, match=sentence):
        getattr(somvae_ext.ops, op)(**{**arguments(op, torch.device("cpu")), "grid": "2x3"})


def test_an_index_of_a_map_refuses_arrays() -> None:
    codebook, grid = torch.zeros(6, 2), somvae_ext.Grid(2, 3)
    with pytest.raises(TypeError, match=r"^BMUIndex: codebook must be a torch tensor, got ndarray"):
        somvae_ext.ops.BMUIndex(codebook.numpy(), grid)  # type: ignore[arg-type]
    index = somvae_ext.ops.BMUIndex(codebook, grid)
    with pytest.raises(TypeError, match=r"^BMUIndex\.search: hint must be a torch tensor, got list"):
        index.search(torch.zeros(1, 2), hint=[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, 3, -1])
def test_bmu_k(ops: SimpleNamespace, device: torch.device, wrong: int) -> None:
    refuses(ops, device, "bmu", "k", wrong, "be 1 or 2", str(wrong))


@pytest.mark.parametrize(("codes", "k"), [(0, 1), (0, 2), (1, 2)])
def test_bmu_needs_k_codes(ops: SimpleNamespace, device: torch.device, codes: int, k: int) -> None:
    with pytest.raises(ValueError, match=rf"^bmu: codebook must have at least k = {k} rows, got {codes}$"):
        ops.bmu(torch.zeros(5, 4, device=device), torch.zeros(codes, 4, device=device), k)


@pytest.mark.parametrize("wrong", ["x", "Zero", None])
@pytest.mark.parametrize("op", ["som_losses", "som_head"])
def test_border(ops: SimpleNamespace, device: torch.device, op: str, wrong: object) -> None:
    refuses(ops, device, op, "border", wrong, "be 'zero' or 'mask'", repr(wrong))


@pytest.mark.parametrize("wrong", [-1, 1.0, True])
def test_radius(ops: SimpleNamespace, device: torch.device, wrong: object) -> None:
    with pytest.raises(ValueError, match=rf"^Grid\.window: radius must be an integer of at least 0, got {wrong!r}$"):
        ops.local_transition_losses(**arguments("local_transition_losses", device, radius=wrong))


@pytest.mark.parametrize("wrong", [0, -3])
def test_number_of_segments(ops: SimpleNamespace, device: torch.device, wrong: int) -> None:
    refuses(ops, device, "segment_sum", "num_segments", wrong, "be at least 1", str(wrong))


# ---- on a GPU, an index is checked only on request, because the check waits for the device ---------------------------


@pytest.fixture
def cuda() -> torch.device:
    return torch.device("cuda")


@pytest.mark.cuda
@pytest.mark.parametrize(("op", "name"), INDEX_ARGUMENTS)
@pytest.mark.parametrize("wrong", [-1, 6, 2**40])
def test_index_out_of_range_gives_nan_and_does_not_affect_other_rows(
    cuda: torch.device, op: str, name: str, wrong: int
) -> None:
    function = getattr(somvae_ext.ops, op)
    right = function(**arguments(op, cuda))
    actual = function(**arguments(op, cuda, **{name: [*VALID[op][name][:4], wrong]}))
    if op == "segment_sum":  # it leaves the row out
        assert actual.count.tolist() == [1, 2, 0, 0, 0, 1]
        return
    if op == "local_transition_losses" and name == "cur":  # the expected distance does not depend on it
        actual, right = actual.log_prob, right.log_prob
    for a, b in zip(*((x,) if isinstance(x, Tensor) else x for x in (actual, right)), strict=True):
        assert a[4].isnan().all()
        assert torch.equal(a[:4], b[:4])


@pytest.mark.cuda
@pytest.mark.parametrize(("op", "name"), INDEX_ARGUMENTS)
@pytest.mark.parametrize("wrong", [-1, 6, 2**40])
def test_validate_checks_the_index(cuda: torch.device, op: str, name: str, wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"^{op}: {name} must hold values from 0 to 5, got {wrong}$"):
        getattr(somvae_ext.ops, op)(**arguments(op, cuda, **{name: [0, 1, wrong, 2, 3]}), validate=True)
