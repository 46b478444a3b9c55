"""Encoding of data sets, and evaluation of trained models on held-out data."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from somvae_ext import evaluation
from somvae_ext.data import InterpolatedSeries, Samples
from somvae_ext.grid import Grid
from somvae_ext.models import Model
from somvae_ext.models.networks import FRAMES_AT_ONCE
from somvae_ext.nn import TransitionModel
from somvae_ext.training.batches import CastSamples, batch_loader
from somvae_ext.training.trainable import ClusteringModel, sees_window

_EACH_EPOCH = ("nmi_arithmetic", "acc", "purity", "usage", "perplexity")
_STATIC = ("purity", "nmi_arithmetic", "nmi_geometric", "ari")  # scores that are measured on the images of series, too
_STATIC_EACH_EPOCH = ("static_nmi_arithmetic", "static_purity")
_NEAR = (1, 2)  # distances on the grid within which moves are counted
_LOSS_SEED = 0  # seed of the model's draws while its losses are measured


class Encodings(NamedTuple):
    """The encodings of a data set, on the CPU. ``...`` is ``N`` for samples and ``B, T`` for series.

    - ``z`` ``[..., D]``: the encodings; the posterior means for models with a posterior, and those of each expert,
      ``[N, E, D]``, for mixtures.
    - ``indices``, int64 ``[...]``: the clusters; None for models without. If a sample is a grid of codes, these codes
      ``[N, h, w]``, with ``z`` ``[N, h, w, D]``.
    - ``log_probs`` ``[..., C]``: the logarithms of the clusters' probabilities; None for models without.
    - ``label``, int64 ``[...]``: the classes, or None. A series that has one class has it in all frames.
    - ``mask``, bool ``[B, T]``: which frames are real; None if all are.
    - ``shape``: ``[N]`` or ``[B, T]``.
    """

    z: Tensor
    indices: Tensor | None
    log_probs: Tensor | None
    label: Tensor | None
    mask: Tensor | None
    shape: torch.Size

    @property
    def is_real(self) -> Tensor:
        """Mask of the real samples or frames, bool ``[...]``."""
        return torch.ones(self.shape, dtype=torch.bool) if self.mask is None else self.mask

    def drop_padding(self, values: Tensor) -> Tensor:
        """Returns ``values`` ``[..., *rest]`` without those of padded frames, ``[M, *rest]``."""
        return values[self.mask] if self.mask is not None else values.flatten(0, len(self.shape) - 1)


@torch.no_grad()
def encode(model: Model, data: Dataset[dict[str, Tensor]], *, rows: Tensor | None = None) -> Encodings:
    """Encodes a data set in batches, so that series which are made on demand never exist all at once.

    Args:
        model: the model; its mode is not changed.
        data: items are dicts with ``x`` and optionally ``label`` and ``mask``; samples of another dtype than the
            model's are cast to it, as by :func:`~somvae_ext.training.fit`.
        rows: the items to encode, int64 ``[N]``; all by default.

    Raises:
        ValueError: no samples, samples of another shape than the model's, or samples that its dtype cannot hold.
    """
    _check_not_empty("encode", data)
    dims = _leading_dims(model, data)
    device = next(model.parameters()).device
    parts: dict[str, list[Tensor]] = {"label": [], "mask": []}
    for batch in _batches(model, data, rows):
        x, mask = batch["x"].to(device), batch.get("mask")
        for name, values in _encode(model, x, None if mask is None else mask.to(device), dims).items():
            parts.setdefault(name, []).append(values.cpu())
        for name in ("label", "mask"):
            if name in batch:
                parts[name].append(batch[name])
    fields = {name: torch.cat(values) for name, values in parts.items() if values}
    z, label = fields["z"], fields.get("label")
    if label is not None and label.dim() < dims:
        label = label[:, None].expand(z.shape[:dims])
    return Encodings(z, fields.get("indices"), fields.get("log_probs"), label, fields.get("mask"), z.shape[:dims])


def _encode(model: Model, x: Tensor, mask: Tensor | None, dims: int) -> dict[str, Tensor]:
    """Encodes samples or series ``[..., *input_shape]`` with ``dims`` leading axes.

    Returns:
        The fields of :class:`Encodings` that the model computes.
    """
    if sees_window(model):
        windowed: Any = model
        z = windowed.encode_in_parts(x, mask)
        return {"z": z, "indices": windowed.quantizer.assign(z)}
    # A single series may have many frames.
    codes = [_encode_frames(model, part) for part in x.flatten(0, dims - 1).split(FRAMES_AT_ONCE)]
    fields = {name: torch.cat([code[name] for code in codes]) for name in codes[0]}
    return {name: values.view(*x.shape[:dims], *values.shape[1:]) for name, values in fields.items()}


def _encode_frames(model: Model, x: Tensor) -> dict[str, Tensor]:
    """Encodes samples or frames ``[M, *input_shape]`` one by one, with results as those of :func:`_encode`."""
    code = model.encode(x)
    if isinstance(code, Tensor):
        quantizer: Any = model.quantizer
        # With convolutional networks the codes of a sample form a grid, and their features are the second axis.
        z = code.movedim(1, -1) if quantizer.channel_first else code
        return {"z": z, "indices": quantizer.assign(code)}
    fields = {"z": code.mu.movedim(-2, 0)}  # samples come after the experts, if there are any
    log_probs = getattr(code, "log_probs", None)
    if log_probs is not None:
        fields |= {"indices": log_probs.argmax(dim=1), "log_probs": log_probs}
    return fields


def clustering_metrics(
    model: Model, data: Dataset[dict[str, Tensor]], *, limit: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """Measures a model's clustering and, if it has a map, the map's order; cheap enough for every epoch.

    Args:
        model: a model that clusters, with one cluster for each sample or frame if there are labels.
        data: see :func:`encode`.
        limit: largest number of samples or series that are encoded; if there are more, a random subset is drawn. The
            same limit holds for the images that series are made of, and for the frames whose topographic error is
            measured.
        seed: seed of the draws.

    Returns:
        ``usage`` and ``perplexity`` of the clusters, and with labels ``nmi_arithmetic``, ``purity`` and, if there are
        as many clusters as classes, ``acc``. For series that are made of still images, ``static_nmi_arithmetic`` and
        ``static_purity``. For maps of two nodes or more, ``topographic_error_4`` and ``topographic_error_8``, or
        ``topographic_error_6`` on hexagons, and ``order``; for series on such maps ``moves_within_1`` and
        ``moves_within_2``, and with transitions ``transition_mass_within_1`` and ``transition_mass_within_2``. Each
        is that of :func:`evaluate`, and omitted if it is not defined.

    Raises:
        ValueError: a model that does not cluster; see also :func:`encode`.
    """
    if not isinstance(model, ClusteringModel):
        raise ValueError(f"clustering_metrics: model must be one that clusters, got {type(model).__name__}")
    count = len(data)  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
    encodings = encode(model, data, rows=_random_rows(count, limit, seed))
    measured = _clustering_figures(encodings, model.num_clusters)
    metrics = {name: measured[name] for name in _EACH_EPOCH if name in measured}
    if isinstance(data, InterpolatedSeries):
        static = _static_clustering_figures(model, data, _random_rows(len(data.images), limit, seed))
        metrics |= {name: static[name] for name in _STATIC_EACH_EPOCH if name in static}
    grid = _grid_of(model)
    if grid is not None:
        z = encodings.drop_padding(encodings.z)
        rows = _random_rows(len(z), limit, seed)
        metrics |= _topographic_errors(model, grid, z if rows is None else z[rows])
        metrics |= _order_figures(model, grid) | _move_figures(model, grid, encodings)
    return metrics


def evaluate(
    model: Model, data: Dataset[dict[str, Tensor]], *, train: Dataset[dict[str, Tensor]] | None = None
) -> dict[str, float]:
    """Measures losses, clustering and map quality on held-out data.

    Frames of series count as samples; padding is ignored.

    Args:
        model: the model, in evaluation mode.
        data: held-out data, see :func:`encode`.
        train: the training data, whose steps are counted for comparison if the model has transitions.

    Returns:
        The figures by name.

        - ``samples``: the number of samples.
        - the terms of the model's loss, means over the samples, such as ``reconstruction`` and ``kl``, in nats per
          sample for the VAEs. A model's random draws for them come from a fixed seed, and the states of torch's
          generators are restored.
        - for models that cluster, ``usage`` and ``perplexity``, and with labels, if each sample has one cluster,
          ``purity``, ``nmi_arithmetic``, ``nmi_geometric``, ``ari`` and, if there are as many clusters as classes,
          ``acc``; see :mod:`somvae_ext.evaluation`.
        - for models with a codebook, the ``quantization_error`` of the encodings; for maps of two nodes or more also
          their topographic errors for each way to count neighbors, ``topographic_error_4`` (the neighbors of the loss)
          and ``topographic_error_8`` (as other libraries count) on rectangles or ``topographic_error_6`` on hexagons,
          and ``order``, the :func:`~somvae_ext.evaluation.prototype_order` of the decoded codes, which is about 1
          without any order, and the smaller the better; it is omitted while all decoded codes are equal.
        - for series on such maps, ``moves_within_1`` and ``moves_within_2``, the shares of the moves from node to node
          that lead no farther than 1 and 2 on the grid (:func:`~somvae_ext.evaluation.share_of_moves_within`), and with
          transitions ``transition_mass_within_1`` and ``transition_mass_within_2``, the same shares of the moves that
          the learned matrix expects at the steps of ``data`` (:func:`~somvae_ext.evaluation.transition_mass_within`);
          all are omitted if there are no moves.
        - for series that are made of still images (:class:`~somvae_ext.data.InterpolatedSeries`), ``static_samples``,
          the number of these images, and the scores of the images clustered one by one: ``static_purity``,
          ``static_nmi_arithmetic``, ``static_nmi_geometric`` and ``static_ari``. The published SOM-VAE code reports
          these; the scores without ``static`` are those of the frames, many of which are mixtures of two classes.
          If encodings see a window of frames, each image is a series of one frame.
        - with transitions, in nats per step from frame to frame: ``transition_nll``, the negative log-likelihood of
          ``data`` under the learned matrix; ``counted_nll``, under a matrix counted on ``train`` (with one step spread
          over each row beforehand, so that no step is impossible); ``lowest_nll``, under a matrix counted on ``data``
          itself, the maximum-likelihood estimate that no matrix can beat there. Counted models are of the learned one's
          kind: with local transitions they, too, distribute steps to nodes outside the windows evenly, and no other
          local model can beat ``lowest_nll``.

    Raises:
        ValueError: see :func:`encode`, or data that the model's loss refuses.
    """
    encodings = encode(model, data)
    result: dict[str, float] = {"samples": len(encodings.drop_padding(encodings.z))}
    result |= _mean_loss_terms(model, data)
    if isinstance(model, ClusteringModel):
        result |= _clustering_figures(encodings, model.num_clusters)
    if isinstance(data, InterpolatedSeries) and isinstance(model, ClusteringModel):
        result |= _static_clustering_figures(model, data)
    quantizer: Any = getattr(model, "quantizer", None)
    if quantizer is not None:
        z, codebook = encodings.drop_padding(encodings.z), quantizer.codebook.detach().cpu()
        result["quantization_error"] = evaluation.quantization_error(z.flatten(0, -2), codebook)
    grid = _grid_of(model)
    if grid is not None:
        result |= _topographic_errors(model, grid, encodings.drop_padding(encodings.z))
        result |= _order_figures(model, grid) | _move_figures(model, grid, encodings)
    transitions: TransitionModel | None = getattr(model, "transitions", None)
    if transitions is not None and len(encodings.shape) == 2:
        result |= _transition_figures(transitions, encodings, None if train is None else encode(model, train))
    return result


def _clustering_figures(encodings: Encodings, num_clusters: int) -> dict[str, float]:
    assert encodings.indices is not None
    index = encodings.drop_padding(encodings.indices)
    result = {
        "usage": evaluation.used_node_share(index, num_clusters),
        "perplexity": evaluation.perplexity(index, num_clusters),
    }
    if encodings.label is None or index.dim() > 1:  # the codes of a grid have no classes
        return result
    label = encodings.drop_padding(encodings.label)
    result["purity"] = evaluation.purity(label, index)
    result["nmi_arithmetic"] = evaluation.nmi(label, index, average="arithmetic")
    result["nmi_geometric"] = evaluation.nmi(label, index, average="geometric")
    result["ari"] = evaluation.ari(label, index)
    if num_clusters == len(label.unique()):
        result["acc"] = evaluation.clustering_accuracy(label, index, num_clusters=num_clusters)
    return result


def _static_clustering_figures(model: Any, data: InterpolatedSeries, rows: Tensor | None = None) -> dict[str, float]:
    """Scores the clustering of single images of series; ``rows``, int64 ``[N]``, selects some of the images."""
    images = data.images
    if sees_window(model):  # an image is a series of one frame
        assert images.label is not None
        images = Samples(images.x[:, None], images.label[:, None])
    encodings = encode(model, images, rows=rows)
    measured = _clustering_figures(encodings, model.num_clusters)
    scores = {f"static_{name}": measured[name] for name in _STATIC if name in measured}
    return {"static_samples": len(encodings.z)} | scores if scores else {}


def _grid_of(model: Model) -> Grid | None:
    """The grid of a model's map; None without a map or with a single node, which has no neighbors."""
    grid: Grid | None = getattr(getattr(model, "quantizer", None), "grid", None)
    return grid if grid is not None and grid.num_nodes > 1 else None


def _topographic_errors(model: Any, grid: Grid, z: Tensor) -> dict[str, float]:
    codebook = model.quantizer.codebook.detach().cpu()
    return {
        f"topographic_error_{connectivity}": evaluation.topographic_error(z, codebook, grid, connectivity=connectivity)
        for connectivity in grid.connectivities
    }


@torch.no_grad()
def _order_figures(model: Any, grid: Grid) -> dict[str, float]:
    """The order of the decoded nodes, omitted if all of them are equal."""
    codes = model.quantizer.codebook.detach()
    # In parts, as for encoding: decoded_map would hold the hidden layers of all nodes at once.
    prototypes = torch.cat([model.decode(part) for part in codes.split(FRAMES_AT_ONCE)])
    return _drop_nan({"order": evaluation.prototype_order(prototypes, grid)})


@torch.no_grad()
def _move_figures(model: Any, grid: Grid, encodings: Encodings) -> dict[str, float]:
    """Shares of near moves, those that series make and those that the learned transitions expect."""
    if len(encodings.shape) < 2:
        return {}
    assert encodings.indices is not None
    figures = {
        f"moves_within_{distance}": evaluation.share_of_moves_within(encodings.indices, grid, distance, encodings.mask)
        for distance in _NEAR
    }
    transitions: TransitionModel | None = getattr(model, "transitions", None)
    if transitions is not None:
        indices = encodings.indices.to(transitions.logits.device)
        for distance in _NEAR:
            figures[f"transition_mass_within_{distance}"] = evaluation.transition_mass_within(
                transitions.rows, indices, grid, distance, encodings.mask
            )
    return _drop_nan(figures)


def _drop_nan(figures: dict[str, float]) -> dict[str, float]:
    """Drops figures that are not defined: JSON has no NaN."""
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def _random_rows(count: int, limit: int, seed: int) -> Tensor | None:
    """Draws ``limit`` of ``count`` rows, int64; None, for all, if there are no more than ``limit``."""
    if count <= limit:
        return None
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:limit]


@torch.no_grad()
def _mean_loss_terms(model: Model, data: Dataset[dict[str, Tensor]]) -> dict[str, float]:
    """Mean loss terms, without the weighted total, whose weights may depend on the progress of the training."""
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    count = 0
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # manual_seed seeds all devices
        torch.manual_seed(_LOSS_SEED)
        # Shuffle: batch-level terms are biased when similar samples are adjacent in the file.
        for batch in _batches(model, data, torch.randperm(len(data))):  # type: ignore[arg-type]
            fields = {name: batch[name].to(device) for name in model.batch_fields if name in batch}
            losses = model.loss(model(**fields), **fields)
            frames = len(batch["x"]) if "mask" not in fields else int(fields["mask"].sum())
            count += frames
            for name, value in zip(losses._fields, torch.stack([*losses]).tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value * frames
    return {name: total / max(1, count) for name, total in sums.items() if name != "total"}


def _batches(model: Model, data: Dataset[dict[str, Tensor]], rows: Tensor | None = None) -> Iterator[dict[str, Tensor]]:
    """Batches of up to ``FRAMES_AT_ONCE`` frames, or of a single longer series."""
    length = len(data[0]["x"]) if _leading_dims(model, data) == 2 else 1
    size = max(1, FRAMES_AT_ONCE // max(1, length))
    # A loader draws a seed for its workers: a generator of its own keeps the training's random numbers as they are.
    return iter(
        batch_loader(CastSamples(data, model), size, None if rows is None else rows.tolist(), torch.Generator())
    )


def _leading_dims(model: Model, data: Dataset[dict[str, Tensor]]) -> int:
    """Number of leading axes: 1 for samples, 2 for series."""
    return 2 if data[0]["x"].dim() == len(model.config.input_shape) + 1 else 1


def _check_not_empty(function: str, data: Dataset[dict[str, Tensor]]) -> None:
    if len(data) == 0:  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
        raise ValueError(f"{function}: data must hold at least one sample, got none")


def _transition_figures(learned: TransitionModel, held_out: Encodings, train: Encodings | None) -> dict[str, float]:
    assert held_out.indices is not None
    steps = held_out.indices[:, 1:] if held_out.mask is None else held_out.mask[:, 1:] & held_out.mask[:, :-1]
    if steps.numel() == 0 or (held_out.mask is not None and not steps.any()):
        return {}  # series of one frame
    size = learned.num_nodes
    device = learned.logits.device
    indices = held_out.indices.to(device)
    mask = None if held_out.mask is None else held_out.mask.to(device)
    template = copy.deepcopy(learned).cpu()  # a model of the same kind
    counted = {"lowest_nll": copy.deepcopy(template).fit_counts(held_out.indices, held_out.mask, pseudocount=0)}
    if train is not None:
        assert train.indices is not None
        counted["counted_nll"] = template.fit_counts(train.indices, train.mask, pseudocount=1 / size)
    result = {"transition_nll": learned.negative_log_likelihood(indices, mask).item()}
    for name, model in sorted(counted.items()):
        result[name] = model.negative_log_likelihood(held_out.indices, held_out.mask).item()
    return result
