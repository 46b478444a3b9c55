"""Training steps of whole models: forward, backward and optimizer.

The models are a SOM-VAE whose codes learn by gradients, and one whose codes are an ordered map of averages: "wide" at
its initial width, "narrow" at its final one, as in the last part of a training. ``update_seconds`` is the time of
``statistics`` and ``update_codebook``. The models without a map follow. Images are random, ``[B, 1, 28, 28]``. There
are no other contestants; a matrix product takes turns with the steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from somvae_ext.bench.ceilings import product_beside
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suite import BATCH, SIDE, Option, Plan, Suite
from somvae_ext.bench.timing import now, seconds
from somvae_ext.models import MODELS, SOMVAE, SOMVAEConfig
from somvae_ext.optim import build_adam_optimizers

SHAPE = (1, 28, 28)
CLASSES = 10
SIDES = {"cpu": (8, 16, 32, 64, 128), "cuda": (8, 32, 128)}  # of the maps; fewer on a GPU, to keep the run short
QUICK_SIDES = (8, 32)
IMAGES, QUICK_IMAGES = 256, 64  # of a batch
WIDE, NARROW = "ordered, wide", "ordered, narrow"
NAMES = tuple(MODELS)
LEARNING_RATE = 1e-3
ORDERED: dict[str, Any] = {"codebook_update": "ema", "alpha": 0.05, "sigma_steps": 10**9}


class Step:
    """A model that takes one training step per call."""

    def __init__(self, model: Any, device: torch.device, batches: list[dict[str, Tensor]], *, ordered: bool) -> None:
        self.model, self.device, self.ordered = model.to(device), device, ordered
        groups = [{"params": model.parameters(), "lr": LEARNING_RATE}]
        if isinstance(model, SOMVAE):
            groups = model.parameter_groups(LEARNING_RATE)
        self.optimizers = build_adam_optimizers(groups)
        self.batches, self.count = batches, 0
        self.update_seconds: list[float] = []

    def __call__(self) -> None:
        fields = self.batches[self.count % len(self.batches)]
        self.count += 1
        output = self.model(**fields)
        loss = self.model.loss(output, **fields).total
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        if self.ordered:
            before = now(self.device)
            quantizer = self.model.quantizer
            quantizer.update_codebook(*quantizer.statistics(output.z_e, output.indices))
            self.update_seconds.append(now(self.device) - before)


def somvae_steps(side: int, device: torch.device, batches: list[dict[str, Tensor]]) -> dict[str, Step]:
    steps = {}
    for name in (OURS, WIDE, NARROW):
        ordered = {} if name == OURS else ORDERED
        torch.manual_seed(0)
        model = SOMVAE(SOMVAEConfig(input_shape=SHAPE, rows=side, cols=side, **ordered))
        if name == NARROW:
            assert model.quantizer.num_updates is not None
            model.quantizer.num_updates.fill_(10**9)
        steps[name] = Step(model, device, batches, ordered=name != OURS)
    return steps


def make_batches(name: str, batch: int, device: torch.device) -> list[dict[str, Tensor]]:
    """Random images, and random labels for a model that takes them."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(4):
        fields = {"x": torch.rand(batch, *SHAPE, generator=generator)}
        if "label" in MODELS[name].batch_fields:
            fields["label"] = torch.randint(CLASSES, (batch,), generator=generator)
        batches.append({field: values.to(device) for field, values in fields.items()})
    return batches


def measure_model(name: str, side: int | None, batch: int, plan: Plan, threads: int | None) -> Row:
    batches = make_batches(name, batch, plan.device)
    if side is not None:
        steps = somvae_steps(side, plan.device, batches)
    else:
        torch.manual_seed(0)
        model_type: Any = MODELS[name]
        steps = {OURS: Step(model_type(model_type.config_type(input_shape=SHAPE)), plan.device, batches, ordered=False)}
    product = product_beside(0, plan.device)
    runs: dict[str, Callable[[], Any]] = {**steps, product.name: product.run}
    samples: dict[str, list[float]] = {contestant: [] for contestant in runs}
    for repetition in range(plan.repetitions + 2):
        for contestant, run in runs.items():
            taken = seconds(run, 1, plan.device)
            if repetition >= 2:  # the first ones create the optimizers' state
                samples[contestant].append(taken)
    updates = {
        contestant: statistics.median(step.update_seconds[2:]) for contestant, step in steps.items() if step.ordered
    }
    return Row(
        suite="models",
        case=f"{name}, step",
        size={"side": side, "B": batch} if side is not None else {"B": batch},
        device=plan.device.type,
        threads=threads,
        samples=samples,
        own=list(steps),
        ceilings={product.name: product.work},
        extra={"update_seconds": updates} if updates else {},
    )


def own_shape(plan: Plan) -> tuple[str, int | None, int]:
    """The model, the side of its map and the batch of a custom shape.

    Raises:
        ValueError: the model has no map, or the sizes do not fit into memory.
    """
    name, batch = plan.shape.get("model", "somvae"), plan.shape.get("batch", IMAGES)
    side = plan.shape.get("side", 8) if name == "somvae" else None
    if side is None and "side" in plan.shape:
        raise ValueError(f"--side is for --model somvae, and {name} has no map")
    nodes = (side or 0) ** 2
    # Codes, gradients, moments and averages of three models; four batches, and each layer's outputs and gradients.
    plan.check_memory(4.0 * (3 * 8 * nodes * 64 + batch * (4 * 784 + 16 * 784) + 6 * 64 * nodes))
    return name, side, batch


def measure(plan: Plan) -> Iterator[Row]:
    own = own_shape(plan) if plan.shape else None
    batch = QUICK_IMAGES if plan.quick else IMAGES
    sides = QUICK_SIDES if plan.quick else SIDES[plan.device.type]
    for threads in plan.rounds():
        if own:
            yield measure_model(*own, plan, threads)
            continue
        for name in plan.parts:
            for side in sides if name == "somvae" else (None,):
                yield measure_model(name, side, batch, plan, threads)


SUITE = Suite(
    name="models",
    summary="training steps of SOM-VAEs, ordered and not, and of the models without a map",
    parts=dict.fromkeys(NAMES, ""),
    options=(Option("--model", "which model", str, NAMES), SIDE, BATCH),
    measure=measure,
    reads_images=False,
    contestants=lambda device: {},
)
