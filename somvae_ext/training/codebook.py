"""What a codebook needs besides gradients: a start, moving averages, and a second chance for codes that win nothing."""

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

# Encodings per code that a codebook is initialized from: enough for stable centres, few enough to take no time.
_ENCODINGS_PER_CODE = 32
# After a warm-up the start decides on the clusters: no fewer than these.
_ENCODINGS_AFTER_WARM_UP = 15_000
_RELABELING_SAMPLES = 10_000
# Where encodings see a window, they come from pieces of so many windows, whose first encodings see less than a window,
# and of at least so many series, because encodings of one series are alike.
_WINDOWS_PER_PIECE = 4
_LEAST_PIECES = 128
_SEEDS = 2**63 - 1  # randint's bound must fit int64


class CodebookConfig(Protocol):
    """What training asks of the config of a model with a codebook."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, or of one frame of a series."""

    @property
    def init(self) -> str:
        """``"normal"`` where nothing is to be done for the codebook's start."""


class CodebookModel(Protocol):
    """What training asks of a model with a codebook, whose forward pass gives the winners as ``indices``.

    Where the codebook follows moving averages, it gives the encodings as ``z_e`` too. ``x`` are samples, or frames of
    series, ``[N, *input_shape]``. A model whose encodings see the frames before them, as its config's ``window`` says,
    gets pieces of series ``[B, T, *input_shape]`` instead, and as ``mask`` bool ``[B, T]`` which frames are real, where
    its data have masks.
    """

    @property
    def config(self) -> CodebookConfig:
        """What the model is made of."""

    @property
    def quantizer(self) -> Quantizer:
        """What has the codebook."""

    @property
    def codes_per_sample(self) -> int:
        """How many encodings a sample, or a frame, has."""

    def initialize_codebook(self, x: Tensor, *, seed: int = 0) -> None:
        """Prepares the codebook before the first step."""

    def revive(
        self, unused: Tensor, x: Tensor, generator: torch.Generator | None = None
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Moves the codes ``unused``, int64 ``[U]``, to encodings of random samples.

        Returns the parameters that it overwrote, as (parameter, its rows).
        """


def as_codebook_model(model: object) -> CodebookModel | None:
    """The model as a :class:`CodebookModel`; None if it has no codebook."""
    # Not a runtime protocol: from Python 3.12 on these do not see the submodules of a module.
    return cast(CodebookModel, model) if isinstance(getattr(model, "quantizer", None), Quantizer) else None


def check_codebook_methods(model: CodebookModel, *, revives: bool) -> None:
    """Checks before a training that the model has the methods that it will call.

    Args:
        model: the model with the codebook.
        revives: the training moves unused codes.

    Raises:
        ValueError: one is missing.
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
    """How many first epochs the codebook does not take part in: it starts after them."""
    return int(getattr(model.config, "warm_up_epochs", 0))


def initialize_codebook(model: CodebookModel, train: Dataset[dict[str, Tensor]], *, seed: int) -> None:
    """Prepares the codebook from random training samples, if the model's config asks for it.

    A model with a warm-up measures the variance of their encodings, too, and so looks at them whatever its codes do.

    Raises:
        ValueError: too few of their encodings are finite.
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
    """Moves codes that won nothing to encodings of random training samples.

    A map that follows moving averages keeps them while its neighbourhood narrows.

    Args:
        model: the model with the codebook.
        optimizers: forget what they knew about the codes that are replaced.
        unused: the codes, int64 ``[U]``.
        train: where the samples come from; of series, each gives one frame before any gives a second.
        seed: of the training.
        epoch: draws the samples together with the seed, so that a resumed training draws the same.

    Returns:
        How many codes were moved.
    """
    if len(unused) == 0:
        return 0
    if isinstance(model.quantizer, SOMQuantizer) and model.quantizer.is_neighborhood_narrowing:
        return 0  # a wide neighbourhood would draw them back at once
    # Not seed + epoch, by which the second epoch of one seed would draw like the first of the next.
    epoch_seeds = torch.randint(_SEEDS, (epoch,), generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(int(epoch_seeds[-1]))
    samples = _random_samples(model, train, len(unused), generator)
    for parameter, rows in model.revive(unused, generator=generator, **samples):
        for optimizer in optimizers:
            reset_optimizer_rows(optimizer, parameter, rows)
    return len(unused)


def relabel_after(model: CodebookModel) -> int:
    """After how many epochs the nodes change places; 0: never."""
    return int(getattr(model.config, "relabel_after", 0))


def relabel(
    model: CodebookModel,
    optimizers: Sequence[torch.optim.Optimizer],
    train: Dataset[dict[str, Tensor]],
    processes: Processes,
    *,
    seed: int,
) -> Tensor:
    """Lets nodes change places on the map, and what optimizers know of them too.

    Args:
        model: a :class:`~somvae_ext.training.trainable.Relabelable` one.
        optimizers: their moments of the codes and of the transitions move along.
        train: where the samples come from that show which nodes should be neighbours.
        processes: those that train the model; the first decides.
        seed: of the training.

    Returns:
        The order, int64 ``[K]`` on the CPU: node v is what ``order[v]`` was.
    """
    relabelable = cast(Relabelable, model)  # as check_codebook_methods has found
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
    """Moves a codebook of moving averages by what its codes won in the batches of all processes; others stay.

    Called by all processes after each step of the optimizers, however many samples each has. Encodings that the
    quantizer masked, or that are not finite, take no part.

    Args:
        model: the model with the codebook.
        output: what its forward pass gave for this process's batch.
        processes: those that train the model.
    """
    quantizer = model.quantizer
    if quantizer.update == "ema":
        quantizer.update_codebook(*processes.sum(*quantizer.statistics(output.z_e, output.indices)))


def update_latent_variance(model: CodebookModel, output: Any, processes: Processes) -> None:
    """Takes the variance of the encodings of all processes' batches into that of a model with a warm-up.

    Called by all processes after each step of the optimizers once the warm-up is over.

    Args:
        model: the model with the codebook.
        output: what its forward pass gave for this process's batch.
        processes: those that train the model.
    """
    if warm_up_epochs(model) > 0 and isinstance(model, HasLatentVariance):
        (moments,) = processes.sum(model.latent_moments(output))
        model.update_latent_variance(moments)


def warn_if_neighborhood_is_wide(model: CodebookModel, steps: int) -> None:
    """Warns at the end of a training if the neighbourhood has not narrowed to its final width."""
    quantizer = model.quantizer
    if isinstance(quantizer, SOMQuantizer) and quantizer.is_neighborhood_narrowing:
        warnings.warn(
            f"fit: sigma_steps should be below the steps of the training, {steps}, so that the neighbourhood reaches "
            f"its final width; it is {quantizer.sigma_steps}, and nodes are still averaged over a width of "
            f"{quantizer.sigma:.3g} instead of {quantizer.sigma_final:.3g}",
            stacklevel=3,
        )


def reset_optimizer_rows(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Zeroes the optimizer's state of some rows of a parameter, such as Adam's moments, and of nothing else.

    A code that was moved by hand would otherwise be pushed on as its predecessor was. Adam's number of steps, one for
    the whole parameter, stays. An optimizer that has no state of the parameter stays without.
    """
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0


def _random_samples(
    model: CodebookModel, train: Dataset[dict[str, Tensor]], count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """``x``, and the ``mask`` of pieces of series: what a model looks at to prepare or move codes."""
    device = model.quantizer.codebook.device
    if sees_window(model):
        window: int = model.config.window  # type: ignore[attr-defined]
        return {name: values.to(device) for name, values in _random_pieces(train, count, window, generator).items()}
    return {"x": _random_frames(model, train, count, generator).to(device)}


def _random_pieces(
    train: Dataset[dict[str, Tensor]], count: int, window: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Pieces of random series with ``count`` frames together, at most one of each series."""
    length = min(len(train[0]["x"]), _WINDOWS_PER_PIECE * window)
    num_pieces = max(_LEAST_PIECES, -(-count // length))
    pieces: dict[str, list[Tensor]] = {}
    for row in torch.randperm(len(train), generator=generator)[:num_pieces].tolist():  # type: ignore[arg-type]
        item = train[row]
        # Padding is at the end: a piece of it alone would tell nothing.
        frames = len(item["x"]) if "mask" not in item else int(item["mask"].nonzero()[-1:].sum()) + 1
        start = int(torch.randint(max(1, frames - length + 1), (1,), generator=generator))
        for name in ("x", "mask"):
            if name in item:
                pieces.setdefault(name, []).append(item[name][start : start + length])
    return {name: torch.stack(values) for name, values in pieces.items()}


def _random_frames(
    model: CodebookModel, train: Dataset[dict[str, Tensor]], count: int, generator: torch.Generator
) -> Tensor:
    """``count`` random samples or real frames ``[M, *input_shape]``, or all where there are fewer.

    Frames come from as many series as possible, one of each before a second of any: those of one series are alike.
    """
    frames: list[Tensor] = []
    turns: list[Tensor] = []  # for each frame, how many of its own series go before it
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
        if num_frames > 2 * count:  # so that never much more is held than is asked for
            frames, turns = _first_turns(frames, turns, count)
            num_frames = count
    (result,), _ = _first_turns(frames, turns, count)
    return result


def _first_turns(frames: list[Tensor], turns: list[Tensor], count: int) -> tuple[list[Tensor], list[Tensor]]:
    """The ``count`` frames of the lowest turns, of equal ones the first, in one tensor each."""
    turn = torch.cat(turns)
    first = turn.argsort(stable=True)[:count]
    return [torch.cat(frames)[first]], [turn[first]]
