"""What the models' methods check alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from somvae_ext.config_checks import Bounds, check_integer

_passing_nan = ContextVar("_passing_nan", default=False)


@contextlib.contextmanager
def allow_nan_samples() -> Iterator[None]:
    """Lets NaN through the checks of a loss's samples, and infinities where no range is asked for.

    For a training loop, which looks at the value of every loss: it knows the step, and the term that is not finite.
    """
    token = _passing_nan.set(True)
    try:
        yield
    finally:
        _passing_nan.reset(token)


def check_sample_shape(model: str, x: Tensor, input_shape: Sequence[int]) -> None:
    """
    Raises:
        ValueError: x is not ``[N, *input_shape]``.
    """
    if x.dim() == 0 or x.shape[1:] != tuple(input_shape):
        sizes = ", ".join(str(size) for size in input_shape)
        raise ValueError(f"{model}: x must have shape [N, {sizes}], got {list(x.shape)}")


def check_unit_range(name: str, x: Tensor) -> None:
    """Refuses samples that are not scaled to [0, 1], and NaN, of which one would spoil all weights.

    Raises:
        ValueError: a value outside [0, 1], or, except within :func:`allow_nan_samples`, NaN.
    """
    check_range(name, x, 0.0, 1.0, must="hold values in [0, 1]", advice="scale them")


def check_range(
    name: str, x: Tensor, low: float, high: float, *, must: str, advice: str, allow_nan: bool = False
) -> None:
    """Refuses values outside a range.

    A compiled or exported model, whose course must not depend on values, does without this check, and so does a CUDA
    graph that is being captured.

    Args:
        name: what the message calls x.
        x: values of any shape.
        low, high: the ends of the range, which belong to it.
        must, advice: parts of the message, "<name> must <must>, got <what came>; <advice>".
        allow_nan: NaN is in range.

    Raises:
        ValueError: a value outside [low, high], or, except within :func:`allow_nan_samples`, NaN.
    """
    if not _may_be_read(x) or ((x >= low) & (x <= high)).all():
        return
    numbers = x[~x.isnan()]
    if ((numbers < low) | (numbers > high)).any():
        smallest, largest = (float(end) for end in numbers.aminmax())
        raise ValueError(f"{name} must {must}, got values from {smallest:.6g} to {largest:.6g}; {advice}")
    if not (allow_nan or _passing_nan.get()):
        count = x.numel() - numbers.numel()
        raise ValueError(f"{name} must {must}, got NaN in {count} of {x.numel()} values; leave these samples out")


def check_finite(name: str, x: Tensor) -> None:
    """Refuses NaN and infinities, of which one would spoil all weights, except within :func:`allow_nan_samples`.

    Only on the CPU, since a step on CUDA would have to wait for the device, and not in a compiled or exported model.

    Raises:
        ValueError: a value that is not finite; the message calls x by the name.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or _passing_nan.get() or x.numel() == 0:
        return
    # Both ends are finite where all values are: NaN is passed on, and one pass finds both.
    if not torch.stack(x.detach().aminmax()).isfinite().all():
        count = x.numel() - int(x.isfinite().sum())
        raise ValueError(
            f"{name} must hold finite values, got NaN or infinity in {count} of {x.numel()} values; leave these "
            "samples out"
        )


def _may_be_read(x: Tensor) -> bool:
    """Whether Python may depend on the values of x: neither while a model is compiled nor in a CUDA graph's capture."""
    captured = x.is_cuda and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return not (torch.compiler.is_compiling() or captured)


def check_targets(model: str, x: Tensor, input_shape: Sequence[int], num_samples: int) -> None:
    """
    Raises:
        ValueError: x does not have the shape ``[num_samples, *input_shape]`` of the output that it is compared with,
            leaves [0, 1] or holds NaN.
    """
    check_sample_shape(model, x, input_shape)
    if x.shape[0] != num_samples:  # not len, by which torch.export would take the number for a constant
        raise ValueError(f"{model}: x must hold the {num_samples} samples that output is of, got {x.shape[0]}")
    check_unit_range(f"{model}: x", x)


def check_labels(model: str, label: Tensor, num_samples: int, num_classes: int) -> None:
    """Like :func:`check_unit_range`, a compiled or exported model looks at shape and dtype alone.

    Raises:
        ValueError: ``label`` is not int64 ``[num_samples]`` with values from 0 to ``num_classes - 1``.
    """
    if label.dtype != torch.int64 or label.shape != (num_samples,):
        raise ValueError(
            f"{model}: label must be of dtype int64 and shape [N] = [{num_samples}], got {label.dtype} and "
            f"{list(label.shape)}"
        )
    if num_samples == 0 or not _may_be_read(label):
        return
    low, high = (int(end) for end in label.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{model}: label must hold classes from 0 to {num_classes - 1}, got {low if low < 0 else high}"
        )


def draw_prior(model: str, num_samples: int, latent_dim: int, generator: torch.Generator | None) -> Tensor:
    """Points ``[num_samples, D]`` of N(0, 1), drawn on the CPU, so that a seed means the same on all devices.

    Raises:
        ValueError: ``num_samples`` below 1.
    """
    return torch.randn(check_integer(model, "num_samples", num_samples), latent_dim, generator=generator)


def draw_codes(model: str, shape: Sequence[int], num_codes: int, generator: torch.Generator | None) -> Tensor:
    """Codes drawn uniformly, int64 ``[num_samples, ...]`` of the shape, on the CPU.

    Raises:
        ValueError: ``num_samples`` below 1.
    """
    num_samples, *grid = shape
    return torch.randint(num_codes, (check_integer(model, "num_samples", num_samples), *grid), generator=generator)


def draw_categories(
    model: str, num_samples: int, category: int | None, num_categories: int, generator: torch.Generator | None
) -> Tensor:
    """The category ``num_samples`` times, or as many drawn uniformly, int64 ``[num_samples]`` on the CPU.

    Raises:
        ValueError: a category that there is not.
    """
    if category is None:
        return torch.randint(num_categories, (num_samples,), generator=generator)
    category = check_integer(model, "category", category, Bounds(at_least=0, at_most=num_categories - 1))
    return torch.full((num_samples,), category)
