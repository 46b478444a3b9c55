"""Training steps of the contestants of the suite ``head``, their memory, and a check that they compute the same."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from somvae_ext.bench.head_contestants import (
    DIM,
    RADIUS,
    Autoencoder,
    Data,
    HeadAlone,
    LoopHead,
    OurHead,
    OurModel,
    Problem,
    TorchHead,
    make_data,
    our_config,
)
from somvae_ext.bench.rows import OURS
from somvae_ext.bench.timing import captured
from somvae_ext.optim import RowAdam

LEARNING_RATE = 1e-6
TABLE_LEARNING_RATE = 1e-4
LARGEST_TABLE = 128  # largest side of a map whose table of all transitions, with its moments, fits into 4 GiB

SPARSE_ADAM = "rows, SparseAdam"
LOCAL = "local"
GRAPH = "somvae_ext, graph"
ADAM, FUSED = VECTORIZED = ("torch, Adam", "torch, fused Adam")
COMPILED = "torch.compile"
LOOPS = "Python loops"
TABLE = re.compile("table|transitions")  # matches the names of the parameters that are the transition table


class Step:
    """Training steps. Each call takes one on the next batch and returns its loss; gradients stay until the next."""

    def __init__(
        self,
        module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        batches: Sequence[Tensor],
        *,
        wants_gradient: bool,
    ) -> None:
        self.module = module
        self.optimizers = optimizers
        self.batches = itertools.cycle(batches)
        self.wants_gradient = wants_gradient

    def __call__(self) -> Tensor:
        self.release()
        batch = next(self.batches).detach().requires_grad_(self.wants_gradient)
        loss: Tensor = self.module(batch)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach()

    def as_graph(self) -> Callable[[], Tensor]:
        """The same steps as replays of a CUDA graph, into whose input each batch is copied."""
        batch = next(self.batches).detach().clone().requires_grad_(self.wants_gradient)
        loss = torch.zeros((), device=batch.device)

        def step() -> None:
            self.release()
            batch.grad = None
            value = self.module(batch)
            value.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            loss.copy_(value.detach())

        replay = captured(step)

        def replayed() -> Tensor:
            with torch.no_grad():
                batch.copy_(next(self.batches))
            replay()
            return loss

        return replayed

    def release(self) -> None:
        """Frees the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def allocate(self) -> None:
        """Creates the moments, and writes to every page of moments and parameters, as a long training does."""
        for optimizer in self.optimizers:
            rows = isinstance(optimizer, (RowAdam, torch.optim.SparseAdam))
            for parameter in itertools.chain(*(group["params"] for group in optimizer.param_groups)):
                parameter.grad = no_rows(parameter) if rows else torch.zeros_like(parameter)
            optimizer.step()
        self.release()
        with torch.no_grad():
            for optimizer in self.optimizers:
                for parameter, state in optimizer.state.items():
                    parameter.mul_(1)
                    for moment in ("exp_avg", "exp_avg_sq"):
                        state[moment].mul_(1)


def no_rows(parameter: Tensor) -> Tensor:
    """A row-sparse gradient without any rows."""
    index = torch.empty(1, 0, dtype=torch.int64, device=parameter.device)
    values = parameter.new_empty(0, *parameter.shape[1:])
    return torch.sparse_coo_tensor(index, values, parameter.shape, check_invariants=False)


def kind(problem: Problem) -> str:
    """How ``somvae_ext`` trains transitions at this size: a table as a whole or by rows, or local ones."""
    if problem.side > LARGEST_TABLE:
        return "local"
    return "rows" if our_config(problem, local=False).updates_transition_rows else "dense"


def make_step(name: str, problem: Problem, data: Data) -> Step:
    alone, ours = problem.part == "head", name in (OURS, GRAPH, SPARSE_ADAM, LOCAL)
    if ours:
        local = name == LOCAL or kind(problem) == "local"
        module: Any = HeadAlone(OurHead(problem, data.codebook, local)) if alone else OurModel(problem, data, local)
    else:
        head = (LoopHead if name == LOOPS else TorchHead)(problem, data.codebook)
        module = HeadAlone(head) if alone else Autoencoder(data.networks, head)
    table = [parameter for path, parameter in module.named_parameters() if TABLE.search(path)]
    others = [parameter for path, parameter in module.named_parameters() if not TABLE.search(path)]
    rates = [{"params": others, "lr": LEARNING_RATE}, {"params": table, "lr": TABLE_LEARNING_RATE}]
    if ours and kind(problem) != "dense":
        for_rows = torch.optim.SparseAdam if name == SPARSE_ADAM else RowAdam
        optimizers = [torch.optim.Adam(rates[:1], fused=True, capturable=name == GRAPH), for_rows(rates[1:])]
    else:
        optimizers = [torch.optim.Adam(rates, fused=name not in (ADAM, LOOPS), capturable=name == GRAPH)]
    if name == COMPILED:
        torch.compiler.reset()  # otherwise the sizes seen before would make this one dynamic
        module = torch.compile(module)
    return Step(module, optimizers, data.batches, wants_gradient=alone)


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def compare_gradients(part: str, device: torch.device) -> None:
    """Compares the contestants' losses and gradients, on a small map with a random table.

    Raises:
        AssertionError: they differ.
    """
    problem = Problem(part, 8, 64)
    data = make_data(problem, device)
    logits = torch.randn(problem.grid.num_nodes**2, generator=torch.Generator().manual_seed(0))
    results: dict[str, list[Tensor]] = {}
    for name in (OURS, ADAM, LOOPS):
        step = make_step(name, problem, data)
        parameters = dict(step.module.named_parameters())
        for path, parameter in parameters.items():
            if TABLE.search(path):
                parameter.data.copy_(logits.view_as(parameter))
        results[name] = [step()]
        for wanted in (TABLE, re.compile("codebook"), re.compile(r"encoder\.")):
            results[name] += [
                gradient(parameter).flatten() for path, parameter in parameters.items() if wanted.search(path)
            ]
    for name in (ADAM, LOOPS):
        for ours, theirs in zip(results[OURS], results[name], strict=True):
            # Sums of a few thousand rounded terms, taken in different orders.
            if not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(ours.abs().max())):
                raise AssertionError(f"{name}: loss or gradients of the {part} differ from ours: {theirs} and {ours}")


def bytes_needed(name: str, problem: Problem) -> int:
    """An estimate of what a contestant holds at the peak of a step: its tables and other large tensors."""
    nodes, batch = problem.grid.num_nodes, problem.batch
    if kind(problem) == "local" and name in (OURS, GRAPH, LOCAL):
        return 3 * 4 * nodes * ((2 * RADIUS + 1) ** 2 + 1)
    if name in (OURS, GRAPH, SPARSE_ADAM, LOCAL):
        return 3 * problem.table_bytes
    if name == LOOPS:  # both softmaxes, their gradients, all differences and their squares
        return 9 * problem.table_bytes + 3 * 4 * batch * nodes * DIM
    # Parameter, gradient and moments; unfused Adam also holds the root of the second moment and a denominator.
    tables = 6 if name == ADAM else 4
    return tables * problem.table_bytes + 6 * 4 * batch * nodes
