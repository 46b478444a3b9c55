"""Codebook training besides gradients: initialization, moving averages, relabeling, and revival of unused codes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from somvae_ext.nn import Quantizer, SOMQuantizer
from somvae_ext.processes import Processes
from somvae_ext.training.trainable import HasLatentVariance, Relabelable, sees_window

# Encodings per code from which a codebook is initialized: enough for stable centers, few enough to take no time.
_ENCODINGS_PER_CODE = 32
# Least number of encodings after a warm-up, when the initialization decides on the clusters.
_ENCODINGS_AFTER_WARM_UP = 15_000
_RELABELING_SAMPLES = 10_000
# If encodings see a window, they are drawn as pieces of series. A piece spans several windows, because its first
# encodings see less than a window. The pieces come from many series, because encodings of one series are similar.
_WINDOWS_PER_PIECE = 4
_LEAST_PIECES = 128
_SEEDS = 2**63 - 1  # randint's bound must fit int64


class CodebookConfig(Protocol):
    """The fields that training requires of the config of a model with a codebook."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, or of one frame of a series."""

    @property
    def init(self) -> str:
        """How the codebook is initialized; ``"normal"`` if training has nothing to do for it."""


class CodebookModel(Protocol):
    """The interface that training requires of a model with a codebook.

    The output of the forward pass holds the winners as ``indices`` and, if the codebook follows moving averages, the
    encodings as ``z_e``. ``x`` are samples, or frames of series, ``[N, *input_shape]``. A model whose encodings see
    earlier frames (its config's ``window`` is above 1) receives pieces of series ``[B, T, *input_shape]`` instead, and
    the mask of their real frames, bool ``[B, T]``, if its data have masks.
    """

    @property
    def config(self) -> CodebookConfig:
        """The model's configuration."""

    @property
    def quantizer(self) -> Quantizer:
        """The layer that holds the codebook."""

    @property
    def codes_per_sample(self) -> int:
        """Number of encodings of a sample or frame."""

    def initialize_codebook(self, x: Tensor, *, seed: int = 0) -> None:
        """Initializes the codebook before its first step."""

    def revive(
        self, unused: Tensor, x: Tensor, generator: torch.Generator | None = None
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Moves the codes ``unused``, int64 ``[U]``, to encodings of random samples.

        Returns:
            The overwritten parameters, as (parameter, its rows).
        """


def as_codebook_model(model: object) -> CodebookModel | None:
    """Returns the model as a :class:`CodebookModel`, or None if it has no codebook."""
    # Not a runtime protocol: from Python 3.12 on, these do not see the submodules of a module.
    return cast(CodebookModel, model) if isinstance(getattr(model, "quantizer", None), Quantizer) else None


def check_codebook_methods(model: CodebookModel, *, revives: bool) -> None:
    """Checks that the model has the methods that a training will call.

    Args:
        model: the model with the codebook.
        revives: whether the training revives unused codes.

    Raises:
        ValueError: a method is missing.
    """
    init, warm_up, after = model.config.init, warm_up_epochs(model), relabel_after(model)
    reasons = []
    if init != "normal":
        reasons.append(("initialize_codebook", f"its config's init is {init!r}"))
    if warm_up > 0:
        reasons.append(("initialize_codebook", f"its config's warm_up_epochs is {warm_up}"))
    if after > 0:
        reasons += [(method, f"its config's relabel_after is {after}") for method in ("find_relabeling", "relabel")]
    if revives:
        reasons.append(("revive", "TrainingConfig.revive is set"))
    for method, reason in reasons:
        if not callable(getattr(model, method, None)):
            raise ValueError(f"fit: model must have a method {method}, because {reason}, got {type(model).__name__}")


def warm_up_epochs(model: CodebookModel) -> int:
    """Returns the number of warm-up epochs, after which the codebook is initialized."""
    return int(getattr(model.config, "warm_up_epochs", 0))


def initialize_codebook(model: CodebookModel, train: Dataset[dict[str, Tensor]], *, seed: int) -> None:
    """Initializes the codebook from random training samples, if the model's config requires it.

    A model with a warm-up always receives samples, because it also measures the variance of their encodings.

    Raises:
        ValueError: too few encodings of the samples are finite.
    """
    if model.config.init == "normal" and warm_up_epochs(model) == 0:
        return
    count = -(-_ENCODINGS_PER_CODE * model.quantizer.num_codes // model.codes_per_sample)
    if warm_up_epochs(model) > 0:
        count = max(count, _ENCODINGS_AFTER_WARM_UP)
    model.initialize_codebook(**_random_samples(model, train, count, torch.Generator().manual_seed(seed)), seed=seed)


def revive(
    model: CodebookModel,
    optimizers: Sequence[torch.optim.Optimizer],
    unused: Tensor,
    train: Dataset[dict[str, Tensor]],
    *,
    seed: int,
    epoch: int,
) -> int:
    """Moves unused codes to encodings of random training samples.

    A map that follows moving averages keeps its unused codes while its neighborhood narrows.

    Args:
        model: the model with the codebook.
        optimizers: their state of the replaced codes is reset.
        unused: the codes, int64 ``[U]``.
        train: data to draw samples from; each series contributes one frame before any contributes a second.
        seed: seed of the training.
        epoch: number of the epoch; it determines the draw together with the seed, so that a resumed training draws the
            same.

    Returns:
        The number of codes that were moved.
    """
    if len(unused) == 0:
        return 0
    if isinstance(model.quantizer, SOMQuantizer) and model.quantizer.is_neighborhood_narrowing:
        return 0  # a wide neighborhood would draw the codes back at once
    # Not seed + epoch: the second epoch of one seed would draw the same as the first epoch of the next seed.
    epoch_seeds = torch.randint(_SEEDS, (epoch,), generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(int(epoch_seeds[-1]))
    samples = _random_samples(model, train, len(unused), generator)
    for parameter, rows in model.revive(unused, generator=generator, **samples):
        for optimizer in optimizers:
            reset_optimizer_rows(optimizer, parameter, rows)
    return len(unused)


def relabel_after(model: CodebookModel) -> int:
    """Returns the number of epochs after which the nodes change places; 0: never."""
    return int(getattr(model.config, "relabel_after", 0))


def relabel(
    model: CodebookModel,
    optimizers: Sequence[torch.optim.Optimizer],
    train: Dataset[dict[str, Tensor]],
    processes: Processes,
    *,
    seed: int,
) -> Tensor:
    """Permutes the nodes on the map, together with the optimizers' state of them.

    Args:
        model: a :class:`~somvae_ext.training.trainable.Relabelable` model.
        optimizers: their moments of the codes and of the transitions are permuted likewise.
        train: data to draw samples from, which show which nodes should be neighbors.
        processes: the processes that train the model; the first finds the order.
        seed: seed of the training.

    Returns:
        The order, int64 ``[K]`` on the CPU: node v is what ``order[v]`` was.
    """
    relabelable = cast(Relabelable, model)  # checked by check_codebook_methods
    samples = _random_samples(model, train, _RELABELING_SAMPLES, torch.Generator().manual_seed(seed))
    order = processes.call_on_first(lambda: relabelable.find_relabeling(**samples, seed=seed))
    for parameter, axes in relabelable.relabel(order):
        for optimizer in optimizers:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    order = order.to(value.device)
                    optimizer.state[parameter][name] = value[order] if axes == 1 else value[order][:, order]
    return order.cpu()


def update_ema_codebook(model: CodebookModel, output: Any, processes: Processes) -> None:
    """Updates a codebook of moving averages with what its codes won in the batches of all processes; others stay.

    All processes call it after each step of the optimizers, whatever their numbers of samples. Encodings that the
    quantizer masked, or that are not finite, are ignored.

    Args:
        model: the model with the codebook.
        output: result of the forward pass for this process's batch.
        processes: the processes that train the model.
    """
    quantizer = model.quantizer
    if quantizer.update == "ema":
        quantizer.update_codebook(*processes.sum(*quantizer.statistics(output.z_e, output.indices)))


def update_latent_variance(model: CodebookModel, output: Any, processes: Processes) -> None:
    """Updates the running variance of a model with a warm-up from the encodings in the batches of all processes.

    All processes call it after each step of the optimizers once the warm-up is over.

    Args:
        model: the model with the codebook.
        output: result of the forward pass for this process's batch.
        processes: the processes that train the model.
    """
    if warm_up_epochs(model) > 0 and isinstance(model, HasLatentVariance):
        (moments,) = processes.sum(model.latent_moments(output))
        model.update_latent_variance(moments)


def warn_if_neighborhood_is_wide(model: CodebookModel, steps: int) -> None:
    """Warns at the end of a training if the neighborhood has not narrowed to its final width."""
    quantizer = model.quantizer
    if isinstance(quantizer, SOMQuantizer) and quantizer.is_neighborhood_narrowing:
        warnings.warn(
            f"fit: sigma_steps should be below the steps of the training, {steps}, so that the neighborhood reaches "
            f"its final width; it is {quantizer.sigma_steps}, and nodes are still averaged over a width of "
            f"{quantizer.sigma:.3g} instead of {quantizer.sigma_final:.3g}",
            stacklevel=3,
        )


def reset_optimizer_rows(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Zeroes the optimizer's state of some rows of a parameter, such as Adam's moments, and nothing else.

    Otherwise the momentum of a replaced code would move its successor. Adam's number of steps, one for the whole
    parameter, stays. An optimizer without a state of the parameter gets none.
    """
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0


def _random_samples(
    model: CodebookModel, train: Dataset[dict[str, Tensor]], count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draws the samples that a model initializes, revives or relabels codes with: ``x``, for pieces also ``mask``."""
    device = model.quantizer.codebook.device
    if sees_window(model):
        window: int = model.config.window  # type: ignore[attr-defined]
        return {name: values.to(device) for name, values in _random_pieces(train, count, window, generator).items()}
    return {"x": _random_frames(model, train, count, generator).to(device)}


def _random_pieces(
    train: Dataset[dict[str, Tensor]], count: int, window: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draws pieces of random series with ``count`` frames in total, at most one piece per series."""
    length = min(len(train[0]["x"]), _WINDOWS_PER_PIECE * window)
    num_pieces = max(_LEAST_PIECES, -(-count // length))
    pieces: dict[str, list[Tensor]] = {}
    for row in torch.randperm(len(train), generator=generator)[:num_pieces].tolist():  # type: ignore[arg-type]
        item = train[row]
        # Draw no piece of padding alone, which is at the end.
        frames = len(item["x"]) if "mask" not in item else int(item["mask"].nonzero()[-1:].sum()) + 1
        start = int(torch.randint(max(1, frames - length + 1), (1,), generator=generator))
        for name in ("x", "mask"):
            if name in item:
                pieces.setdefault(name, []).append(item[name][start : start + length])
    return {name: torch.stack(values) for name, values in pieces.items()}


def _random_frames(
    model: CodebookModel, train: Dataset[dict[str, Tensor]], count: int, generator: torch.Generator
) -> Tensor:
    """Draws ``count`` random samples or real frames ``[M, *input_shape]``, or all if there are fewer.

    Frames come from as many series as possible, one of each before a second of any, because frames of one series are
    similar.
    """
    frames: list[Tensor] = []
    turns: list[Tensor] = []  # for each frame, the number of frames of its series that precede it
    num_frames = 0
    order = torch.randperm(len(train), generator=generator)[:count]  # type: ignore[arg-type]
    for row in order.tolist():
        x, mask = train[row]["x"], train[row].get("mask")
        if x.dim() == len(model.config.input_shape):
            x = x[None]
        real = torch.arange(len(x)) if mask is None else mask.nonzero()[:, 0]
        real = real[torch.randperm(len(real), generator=generator)[:count]]
        frames.append(x[real])
        turns.append(torch.arange(len(real)))
        num_frames += len(real)
        if num_frames > 2 * count:  # to hold little more than is needed
            frames, turns = _first_turns(frames, turns, count)
            num_frames = count
    (result,), _ = _first_turns(frames, turns, count)
    return result


def _first_turns(frames: list[Tensor], turns: list[Tensor], count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Selects the ``count`` frames of the lowest turns, the first among equal ones, in one tensor each."""
    turn = torch.cat(turns)
    first = turn.argsort(stable=True)[:count]
    return [torch.cat(frames)[first]], [turn[first]]
