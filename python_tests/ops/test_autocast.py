"""Under autocast every op runs in float32, on low-precision activations and float32 parameters."""

from __future__ import annotations

import pytest
import torch
from calls import CALLS, Call, make_inputs, run

MIXED = {name: call for name, call in CALLS.items() if {"z", "codebook"} <= set(call.differentiable)}


@pytest.mark.parametrize("call", MIXED.values(), ids=MIXED)
def test_activations_of_lower_precision_are_cast_to_float32(call: Call, device: torch.device) -> None:
    inputs = make_inputs(device=device)
    inputs["z"] = inputs["z"].bfloat16()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        outputs, grads = run(call.function, inputs, call.differentiable)
    expected, expected_grads = run(call.function, {**inputs, "z": inputs["z"].float()}, call.differentiable)
    for actual, value in zip(outputs, expected, strict=True):
        torch.testing.assert_close(actual, value, rtol=0, atol=0)
    for name, actual, value in zip(call.differentiable, grads, expected_grads, strict=True):
        assert actual.dtype == inputs[name].dtype
        torch.testing.assert_close(actual.to_dense(), value.to_dense().to(actual.dtype), rtol=0, atol=0)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_full_precision_is_not_cast(call: Call, device: torch.device, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        outputs = call.function(inputs)
    for actual, value in zip(outputs, call.function(inputs), strict=True):
        torch.testing.assert_close(actual, value, rtol=0, atol=0)


def test_without_autocast_mixed_dtypes_are_refused(device: torch.device) -> None:
    inputs = make_inputs(device=device)
    inputs["z"] = inputs["z"].bfloat16()
    with pytest.raises(ValueError, match="dtype"):
        CALLS["bmu"].function(inputs)
