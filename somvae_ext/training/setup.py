"""The setup of a training, before its first epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, StepLR
from torch.utils.data import Dataset

from somvae_ext.optim import build_adam_optimizers
from somvae_ext.processes import Processes
from somvae_ext.store import ResultFolder
from somvae_ext.training.augmentation import AffineAugmentation, augmentation_for
from somvae_ext.training.batches import CastSamples, batch_loader
from somvae_ext.training.codebook import (
    CodebookModel,
    as_codebook_model,
    check_codebook_methods,
    relabel_after,
    warm_up_epochs,
)
from somvae_ext.training.data_parallel import ShuffledShardSampler, exclude_from_ddp, launch_fabric
from somvae_ext.training.state import TrainingState, check_new_run, resume_run
from somvae_ext.training.trainable import HasParameterGroups, Trainable
from somvae_ext.training.training_config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """The objects that the epochs of a training use."""

    config: TrainingConfig
    model: Trainable
    """The model itself, without wrappers."""
    module: Any
    """The forward pass for training: the model as wrapped by Fabric, with DDP if there are several processes."""
    codebook_model: CodebookModel | None
    """The model, if it has a codebook."""
    warm_up: int
    """Number of warm-up epochs, after which the codebook is initialized."""
    augment: AffineAugmentation | None
    train: Dataset[dict[str, Tensor]]
    """All training samples, in a dtype that the model takes."""
    train_loader: Any
    """Batches of this process's share of the training samples."""
    validation_loader: Any | None
    fabric: Fabric
    processes: Processes
    optimizers: list[torch.optim.Optimizer]
    fabric_optimizers: list[Any]
    """The optimizers as wrapped by Fabric; these take the steps."""
    schedules: list[LRScheduler]
    tables: list[nn.Parameter]
    """Parameters whose gradients are sparse rows."""
    state: TrainingState
    history: list[dict[str, Any]]
    """The records of the epochs before a training was resumed."""
    run_folder: ResultFolder | None
    """None in all processes but the first."""

    @property
    def network(self) -> nn.Module:
        """The model, typed as a ``torch.nn.Module``."""
        return cast(nn.Module, self.model)


def set_up_training(
    model: Trainable,
    train: Dataset[dict[str, Tensor]],
    config: TrainingConfig,
    *,
    validation: Dataset[dict[str, Tensor]] | None,
    run_folder: ResultFolder | None,
    resume: bool,
    accelerator: str,
) -> TrainingSetup:
    """Sets up a training, or the rest of an interrupted one; arguments and errors are those of ``fit``."""
    _check(model, train, config, accelerator)
    augment = augmentation_for(config.augmentation, model)
    train = CastSamples(train, model)
    fabric, processes = launch_fabric(accelerator)
    run_folder = run_folder if processes.is_first else None
    seed_generators(config.seed, processes.rank)
    # The order has a generator of its own, so that it does not depend on what a model draws.
    order = torch.Generator().manual_seed(config.seed)
    sampler = ShuffledShardSampler(len(train), processes, order)
    train_loader = _loader(fabric, train, config.batch_size, sampler, order)
    validation_loader = None
    if validation is not None:
        validation_loader = _validation_loader(fabric, processes, CastSamples(validation, model), config)

    network = cast(nn.Module, model)
    groups = _parameter_groups(network, config)
    tables = [parameter for group in groups if group.get("rows", False) for parameter in group["params"]]
    optimizers = build_adam_optimizers(groups)
    network.eval()  # between epochs: the codebook's initialization must not move a batch norm
    exclude_from_ddp(network, tables)
    module, *fabric_optimizers = fabric.setup(network, *optimizers)
    schedules: list[LRScheduler] = [
        StepLR(optimizer, config.decay_steps, gamma=config.decay_factor) for optimizer in optimizers
    ]
    state = TrainingState(processes, network, optimizers, schedules, order)
    if resume:
        history = resume_run(state, run_folder, processes)
    else:
        check_new_run(run_folder, processes)
        history = []
    processes.broadcast_in_place(*network.state_dict().values())
    codebook_model = as_codebook_model(model)
    return TrainingSetup(
        config=config,
        model=model,
        module=module,
        codebook_model=codebook_model,
        warm_up=0 if codebook_model is None else warm_up_epochs(codebook_model),
        augment=augment,
        train=train,
        train_loader=train_loader,
        validation_loader=validation_loader,
        fabric=fabric,
        processes=processes,
        optimizers=optimizers,
        fabric_optimizers=fabric_optimizers,
        schedules=schedules,
        tables=tables,
        state=state,
        history=history,
        run_folder=run_folder,
    )


def seed_generators(seed: int, rank: int) -> None:
    """Seeds torch's global generators: the first process by the seed, the others by numbers drawn from it."""
    torch.manual_seed(seed)
    if rank > 0:
        torch.manual_seed(int(torch.randint(2**63 - 1, (rank,))[-1]))


def _check(model: Trainable, train: Dataset[dict[str, Tensor]], config: TrainingConfig, accelerator: str) -> None:
    """
    Raises:
        ValueError: a training that is impossible, whatever the samples hold.
    """
    if len(train) == 0:  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
        raise ValueError("fit: train must hold at least one sample, got none")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("fit: accelerator 'cuda' needs a GPU that torch can use, got none")
    for name, parameter in cast(nn.Module, model).named_parameters():
        if parameter.requires_grad and parameter.dtype == torch.float16:
            raise ValueError(
                "fit: model must have weights of float64, float32 or bfloat16, because float16 rounds Adam's epsilon "
                f"to 0, got float16 in {name}; convert it, as model.bfloat16() does"
            )
    codebook_model = as_codebook_model(model)
    if codebook_model is None:
        return
    check_codebook_methods(codebook_model, revives=config.revive)
    warm_up, relabeling = warm_up_epochs(codebook_model), relabel_after(codebook_model)
    if warm_up >= config.epochs:
        raise ValueError(
            f"fit: epochs must be above the model's warm_up_epochs, {warm_up}, because the codebook learns after them, "
            f"got {config.epochs}"
        )
    if relabeling > config.epochs:
        raise ValueError(f"fit: epochs must be at least the model's relabel_after, {relabeling}, got {config.epochs}")


def _loader(
    fabric: Fabric,
    data: Dataset[dict[str, Tensor]],
    batch_size: int,
    sampler: Iterable[int],
    generator: torch.Generator | None = None,
) -> Any:
    loader = batch_loader(data, batch_size, sampler, generator)
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def _validation_loader(fabric: Fabric, processes: Processes, data: CastSamples, config: TrainingConfig) -> Any:
    """Returns batches of this process's share of the validation data, shuffled once.

    Batch-level terms are biased when similar samples are adjacent in the file.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(config.seed))
    return _loader(fabric, data, config.batch_size, order[processes.rank :: processes.world_size].tolist())


def _parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    if isinstance(network, HasParameterGroups):
        return network.parameter_groups(config.learning_rate, config.transition_rate_factor)
    return [{"params": list(network.parameters()), "lr": config.learning_rate, "rows": False}]
