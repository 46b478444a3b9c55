"""Adam for the rows of a table that a step touches, in one pass over them."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from somvae_ext import _native
from somvae_ext.ops import _arguments

_MOMENTS = ("exp_avg", "exp_avg_sq")


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) for large tables whose gradients are sparse rows, as with ``sparse_grad=True``.

    The cost of a step depends on the gradient's rows, not on the table: parameter and both moments of these rows are
    read and written once, and no temporary of the gradient's size is allocated. The gradient need not be coalesced:
    repeated rows are added up in the order in which they occur, in float32 if the table has 16 bits. The result is the
    same bits with any number of threads.

    It differs from dense Adam (:class:`torch.optim.Adam`) in the rows that a step does not touch: it leaves them and
    their moments unchanged, whereas dense Adam moves them by their fading momentum and lets the moments decay. Both
    correct the bias of the moments by the number of the optimizer's steps, not of a row's visits: with default betas, a
    row that is first visited late starts with steps of 3.2 times the rate, and some of its steps reach 6.6 times. If
    every step touches every row, the two are the same.

    :class:`torch.optim.SparseAdam` also leaves such rows unchanged, but its ``eps`` is not corrected for bias, which
    makes it 1 / sqrt(1 - beta2^step) times larger than Adam's, 3e-7 in the first step: it damps gradients of that size,
    of which large tables have many. ``RowAdam`` uses Adam's ``eps``.

    Args:
        params: parameters of any rank from 1, or parameter groups; a row is what one index of the first dimension
            selects.
        lr: learning rate; a 0-dimensional tensor on the parameters' device is read anew in every step, in a captured
            CUDA graph too.
        betas: shares that the averages of gradients and of squared gradients keep in a step.
        eps: term added to the square root of the averaged squared gradient.

    The state of a parameter is ``step``, int64 on its device, and ``exp_avg`` and ``exp_avg_sq`` of its shape, in
    float32 if it has 16 bits, in which an average would lose the thousandth that each step adds. On the CPU the
    operating system provides the moments' memory page by page when it is first written, so that the first step is fast
    and rows that are never touched need no memory.

    A step never waits for a CUDA device and can be captured in a CUDA graph, after one step outside of it.

    Raises:
        ValueError: a rate, beta or eps out of range, or a parameter that is complex or has no dimension.

    Example:
        >>> import torch
        >>> from somvae_ext import ops
        >>> logits = torch.nn.Parameter(torch.zeros(100, 100))
        >>> optimizer = RowAdam([logits], lr=0.1)
        >>> log_prob = ops.transition_log_prob(logits, torch.tensor([7]), torch.tensor([8]), sparse_grad=True)
        >>> (-log_prob).sum().backward()
        >>> optimizer.step()
        >>> logits.detach().any(dim=1).nonzero().tolist()
        [[7]]
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, which may have its own rate, betas and eps; arguments and errors as in the class."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _check_group(group)
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the rows that the gradients hold; parameters without a gradient stay unchanged.

        Args:
            closure: function that reevaluates the model and returns the loss, which this method returns.

        Raises:
            ValueError: a gradient that is dense, or sparse in more than its rows.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    _check_gradient(param)
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.int64, device=param.device)
                    for name in _MOMENTS:
                        state[name] = _zero_moment(param)
                state["step"] += 1
                _update_rows(param, state, _learning_rate(group["lr"], param), beta1, beta2, group["eps"])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned, here or in a :class:`torch.optim.SparseAdam`."""
        super().load_state_dict(state_dict)
        # torch casts all state to the parameter's dtype, and leaves the step on its old device.
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for param, key in zip(group["params"], saved["params"], strict=True):
                state = state_dict["state"].get(key)
                if state:
                    self.state[param]["step"] = torch.tensor(int(state["step"]), device=param.device)
                    for name in _MOMENTS:
                        moment = state[name].to(param.device, _moment_dtype(param))
                        self.state[param][name] = moment.contiguous()


def adam_rows_reference(
    param: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    grad: Tensor,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """Takes one step on a parameter, from its sparse gradient, in pure torch and in place."""
    values, index = grad._values().to(exp_avg.dtype), grad._indices()
    rows = torch.sparse_coo_tensor(
        index, values, grad.shape, check_invariants=False, is_coalesced=grad.is_coalesced()
    ).coalesce()
    touched, total = rows.indices()[0], rows.values()
    mean = exp_avg[touched].lerp_(total, 1 - beta1)
    square = exp_avg_sq[touched].mul_(beta2).addcmul_(total, total, value=1 - beta2)
    exp_avg[touched], exp_avg_sq[touched] = mean, square
    # On the device, to avoid a synchronization; in float64, in which 1 - beta2^step has all its digits.
    count = step.double()
    rate, correction = lr / (1 - beta1**count), (1 - beta2**count).rsqrt()
    change = rate.to(mean.dtype) * mean / (square.sqrt() * correction.to(mean.dtype) + eps)
    param[touched] = (param[touched].to(mean.dtype) - change).to(param.dtype)


def _update_rows(
    param: Tensor, state: dict[str, Tensor], lr: float | Tensor, beta1: float, beta2: float, eps: float
) -> None:
    grad = cast(Tensor, param.grad)
    mean, square, step = state["exp_avg"], state["exp_avg_sq"], state["step"]
    if _native.available and param.is_contiguous():
        ops = torch.ops.somvae_ext
        update = ops.adam_rows_tensor_lr_ if isinstance(lr, Tensor) else ops.adam_rows_
        update(param, mean, square, step, grad._indices()[0], grad._values(), lr, beta1, beta2, eps)
    else:
        adam_rows_reference(param, mean, square, step, grad, lr, beta1, beta2, eps)


def _learning_rate(lr: float | Tensor, param: Tensor) -> float | Tensor:
    """The rate as the update takes it: a number, or a tensor on the parameter's device."""
    return float(lr) if isinstance(lr, Tensor) and lr.device != param.device else lr


def _zero_moment(param: Tensor) -> Tensor:
    """Creates a moment of zeros."""
    dtype = _moment_dtype(param)
    if not param.is_cpu or param.numel() == 0 or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(param.shape, dtype=dtype, device=param.device)
    # torch.zeros writes its zeros, which takes seconds for a table of 1 GiB. The operating system provides zeroed pages
    # on first use. They must be small: with huge pages, which numpy.zeros requests, a row would take up 2 MiB.
    memory = mmap.mmap(-1, param.numel() * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(param.shape)


def _moment_dtype(param: Tensor) -> torch.dtype:
    return torch.float32 if param.dtype in (torch.float16, torch.bfloat16) else param.dtype


def _check_group(group: dict[str, Any]) -> None:
    lr, betas, eps = group["lr"], group["betas"], group["eps"]
    if isinstance(lr, Tensor):
        if lr.dim() != 0 or not lr.is_floating_point():
            raise ValueError(f"RowAdam: lr must be a number or a 0-dimensional floating tensor, got {lr}")
    elif not (isinstance(lr, int | float) and lr >= 0):
        raise ValueError(f"RowAdam: lr must be at least 0, got {lr!r}")
    if not isinstance(betas, tuple | list) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"RowAdam: betas must be two numbers from 0 to below 1, got {betas}")
    if not eps >= 0:
        raise ValueError(f"RowAdam: eps must be at least 0, got {eps}")
    for param in group["params"]:
        if param.dtype not in _arguments.FLOATING:
            raise ValueError(
                f"RowAdam: params must be of dtype float32, float64, float16 or bfloat16, got {param.dtype}"
            )
        if param.dim() == 0:
            raise ValueError("RowAdam: params must have rows, that is at least one dimension, got a scalar")


def _check_gradient(param: Tensor) -> None:
    grad = cast(Tensor, param.grad)
    if grad.layout != torch.sparse_coo:
        raise ValueError(
            "RowAdam: gradients must be sparse rows, got a dense one for a parameter of shape "
            f"{list(param.shape)}; give this parameter to torch.optim.Adam, or set sparse_grad=True where it is used"
        )
    if grad.sparse_dim() != 1:
        raise ValueError(
            f"RowAdam: gradients must be sparse in the first dimension alone, got {grad.sparse_dim()} sparse dimensions"
        )
