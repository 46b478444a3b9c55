"""Argument checks and draws that the models share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from somvae_ext.config_checks import Bounds, check_integer

_nan_allowed = ContextVar("_nan_allowed", default=False)


@contextlib.contextmanager
def allow_nan_samples() -> Iterator[None]:
    """Lets the checks of a loss's samples pass NaN, and infinities where no range is required.

    This is for a training loop, which checks the value of every loss: it can name the step and the term that is not
    finite.
    """
    token = _nan_allowed.set(True)
    try:
        yield
    finally:
        _nan_allowed.reset(token)


def check_sample_shape(model: str, x: Tensor, input_shape: Sequence[int]) -> None:
    """Checks the shape of samples.

    Raises:
        ValueError: x is not ``[N, *input_shape]``.
    """
    if x.dim() == 0 or x.shape[1:] != tuple(input_shape):
        sizes = ", ".join(str(size) for size in input_shape)
        raise ValueError(f"{model}: x must have shape [N, {sizes}], got {list(x.shape)}")


def check_unit_range(name: str, x: Tensor) -> None:
    """Refuses samples that are not scaled to [0, 1], and NaN, because a single one would turn all weights to NaN.

    Raises:
        ValueError: a value outside [0, 1], or, except within :func:`allow_nan_samples`, NaN.
    """
    check_range(name, x, 0.0, 1.0, must="hold values in [0, 1]", advice="scale them")


def check_range(
    name: str, x: Tensor, low: float, high: float, *, must: str, advice: str, allow_nan: bool = False
) -> None:
    """Refuses values outside a range.

    The check is skipped in a compiled or exported model, whose control flow must not depend on values, and while a CUDA
    graph is captured.

    Args:
        name: name of x in the message.
        x: values of any shape.
        low, high: ends of the range, which includes them.
        must, advice: parts of the message, "<name> must <must>, got <actual values>; <advice>".
        allow_nan: whether NaN passes.

    Raises:
        ValueError: a value outside [low, high], or, except within :func:`allow_nan_samples`, NaN.
    """
    if not _is_readable(x) or ((x >= low) & (x <= high)).all():
        return
    numbers = x[~x.isnan()]
    if ((numbers < low) | (numbers > high)).any():
        smallest, largest = (float(end) for end in numbers.aminmax())
        raise ValueError(f"{name} must {must}, got values from {smallest:.6g} to {largest:.6g}; {advice}")
    if not (allow_nan or _nan_allowed.get()):
        count = x.numel() - numbers.numel()
        raise ValueError(f"{name} must {must}, got NaN in {count} of {x.numel()} values; leave these samples out")


def check_finite(name: str, x: Tensor) -> None:
    """Refuses NaN and infinities, which would turn all weights to NaN, except within :func:`allow_nan_samples`.

    The check runs only on the CPU, since a step on CUDA would have to wait for the device, and not in a compiled or
    exported model.

    Raises:
        ValueError: a value that is not finite; the message refers to x by ``name``.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or _nan_allowed.get() or x.numel() == 0:
        return
    # Both ends are finite only if all values are, since aminmax propagates NaN; it finds both in one pass.
    if not torch.stack(x.detach().aminmax()).isfinite().all():
        count = x.numel() - int(x.isfinite().sum())
        raise ValueError(
            f"{name} must hold finite values, got NaN or infinity in {count} of {x.numel()} values; leave these "
            "samples out"
        )


def _is_readable(x: Tensor) -> bool:
    """Whether Python may depend on the values of x: not while a model is compiled or a CUDA graph is captured."""
    captured = x.is_cuda and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return not (torch.compiler.is_compiling() or captured)


def check_targets(model: str, x: Tensor, input_shape: Sequence[int], num_samples: int) -> None:
    """Checks the samples that an output is compared with.

    Raises:
        ValueError: x does not have the shape ``[num_samples, *input_shape]`` of the output that it is compared with,
            or holds NaN or values outside [0, 1].
    """
    check_sample_shape(model, x, input_shape)
    if x.shape[0] != num_samples:  # not len(x), which torch.export would take for a constant
        raise ValueError(f"{model}: x must hold the {num_samples} samples that output is of, got {x.shape[0]}")
    check_unit_range(f"{model}: x", x)


def check_labels(model: str, label: Tensor, num_samples: int, num_classes: int) -> None:
    """Checks labels; like :func:`check_range`, it skips their values where Python must not depend on them.

    Raises:
        ValueError: ``label`` is not int64 ``[num_samples]`` with values from 0 to ``num_classes - 1``.
    """
    if label.dtype != torch.int64 or label.shape != (num_samples,):
        raise ValueError(
            f"{model}: label must be of dtype int64 and shape [N] = [{num_samples}], got {label.dtype} and "
            f"{list(label.shape)}"
        )
    if num_samples == 0 or not _is_readable(label):
        return
    low, high = (int(end) for end in label.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{model}: label must hold classes from 0 to {num_classes - 1}, got {low if low < 0 else high}"
        )


def draw_prior(model: str, num_samples: int, latent_dim: int, generator: torch.Generator | None) -> Tensor:
    """Draws points ``[num_samples, D]`` from N(0, 1) on the CPU, so that a seed gives the same points on all devices.

    Raises:
        ValueError: ``num_samples`` below 1.
    """
    return torch.randn(check_integer(model, "num_samples", num_samples), latent_dim, generator=generator)


def draw_codes(model: str, shape: Sequence[int], num_codes: int, generator: torch.Generator | None) -> Tensor:
    """Draws codes uniformly on the CPU, int64 of ``shape``, which is ``[num_samples, ...]``.

    Raises:
        ValueError: ``num_samples`` below 1.
    """
    num_samples, *grid = shape
    return torch.randint(num_codes, (check_integer(model, "num_samples", num_samples), *grid), generator=generator)


def draw_categories(
    model: str, num_samples: int, category: int | None, num_categories: int, generator: torch.Generator | None
) -> Tensor:
    """Repeats the category, or draws categories uniformly if it is None: int64 ``[num_samples]`` on the CPU.

    Raises:
        ValueError: a category out of range.
    """
    if category is None:
        return torch.randint(num_categories, (num_samples,), generator=generator)
    category = check_integer(model, "category", category, Bounds(at_least=0, at_most=num_categories - 1))
    return torch.full((num_samples,), category)
