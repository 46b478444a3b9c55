"""What a trained map is worth on data that it has not seen."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from somvae_ext import evaluation
from somvae_ext.models import SOMVAE
from somvae_ext.nn import TransitionModel
from somvae_ext.training.batches import batches

_BATCH_FRAMES = 256  # at once: a convolution on 28 x 28 pixels holds over a megabyte for each


class Encodings(NamedTuple):
    """What a model makes of a data set, on the CPU. ``...`` is ``N`` for samples and ``B, T`` for series.

    ``z`` ``[..., D]`` are the encodings, ``indices`` int64 ``[...]`` their nodes, ``label`` int64 ``[...]`` the
    classes (of series that have one class each, that of all their frames), or None, and ``mask`` bool ``[B, T]`` says
    which frames are real, or None where all are.
    """

    z: Tensor
    indices: Tensor
    label: Tensor | None
    mask: Tensor | None

    def real(self, values: Tensor) -> Tensor:
        """Those of ``values`` ``[..., *rest]`` that belong to a sample or real frame, ``[M, *rest]``."""
        return values[self.mask] if self.mask is not None else values.flatten(0, self.indices.dim() - 1)


@torch.no_grad()
def encode(model: SOMVAE, data: Dataset[dict[str, Tensor]]) -> Encodings:
    """Encodes a whole data set, in batches so that series which are made on demand never exist all at once.

    Args:
        model: the model; its mode is left as it is.
        data: items are dicts with ``x`` and maybe ``label`` and ``mask``.

    Raises:
        ValueError: no samples, or samples of another shape than the model's.
    """
    if len(data) == 0:  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
        raise ValueError("encode: data must hold at least one sample, got none")
    device = model.quantizer.codebook.device
    first = data[0]["x"]
    is_series = first.dim() == len(model.config.input_shape) + 1
    length = max(1, len(first)) if is_series else 1
    encoded: list[Tensor] = []
    nodes: list[Tensor] = []
    given: dict[str, list[Tensor]] = {"label": [], "mask": []}
    for batch in batches(data, max(1, _BATCH_FRAMES // length)):
        x = batch["x"].to(device)
        frames = x.flatten(0, 1) if is_series else x  # a single series may be longer than a batch
        z = torch.cat([model.encode(part) for part in frames.split(_BATCH_FRAMES)])
        z = z.view(*x.shape[: 1 + is_series], -1)
        encoded.append(z.cpu())
        nodes.append(model.quantizer.assign(z).cpu())
        for name in given.keys() & batch.keys():
            given[name].append(batch[name])
    indices = torch.cat(nodes)
    label, mask = (torch.cat(given[name]) if given[name] else None for name in ("label", "mask"))
    if label is not None and label.dim() < indices.dim():
        label = label[:, None].expand_as(indices)
    return Encodings(torch.cat(encoded), indices, label, mask)


def evaluate(
    model: SOMVAE, data: Dataset[dict[str, Tensor]], *, train: Dataset[dict[str, Tensor]] | None = None
) -> dict[str, float]:
    """Clustering and map quality on held-out data. Frames of series count as samples, padding left out.

    Args:
        model: the model, in evaluation mode.
        data: held-out data, see :func:`encode`.
        train: the training data, whose steps are counted for comparison where the model has transitions.

    Returns:
        - ``samples``: their number; ``usage`` and ``perplexity`` of the nodes, ``quantization_error`` and (on maps of
          two nodes or more) ``topographic_error`` of the encodings, see :mod:`somvae_ext.evaluation`.
        - with labels, ``purity``, ``nmi_arithmetic``, ``nmi_geometric``, ``ari``, and ``acc`` where there are as many
          nodes as classes.
        - with transitions, in nats per step from frame to frame: ``transition_nll``, the negative log-likelihood of
          ``data`` under the learned matrix; ``counted_nll``, under one counted on ``train`` (with one step spread over
          each row beforehand, so that no step is impossible); ``lowest_nll``, under one counted on ``data`` itself, the
          maximum-likelihood estimate that no matrix can beat there. Counted models are of the learned one's kind: with
          local transitions they too share out evenly what leads to nodes outside of the windows, and no other local
          model can beat the last.

    Raises:
        ValueError: see :func:`encode`.
    """
    encodings = encode(model, data)
    codebook = model.quantizer.codebook.detach().cpu()
    grid = model.quantizer.grid
    z, nodes = encodings.real(encodings.z), encodings.real(encodings.indices)
    result: dict[str, float] = {"samples": len(nodes)}
    if encodings.label is not None:
        label = encodings.real(encodings.label)
        result["purity"] = evaluation.purity(label, nodes)
        for average in ("arithmetic", "geometric"):
            result[f"nmi_{average}"] = evaluation.nmi(label, nodes, average=average)
        result["ari"] = evaluation.ari(label, nodes)
        if grid.num_nodes == len(label.unique()):
            result["acc"] = evaluation.acc(label, nodes, num_clusters=grid.num_nodes)
    result["quantization_error"] = evaluation.quantization_error(z, codebook)
    if grid.num_nodes > 1:
        result["topographic_error"] = evaluation.topographic_error(z, codebook, grid)
    result["usage"] = evaluation.usage(nodes, grid.num_nodes)
    result["perplexity"] = evaluation.perplexity(nodes, grid.num_nodes)
    if model.transitions is not None and encodings.indices.dim() == 2:
        result |= _transitions(model.transitions, encodings, None if train is None else encode(model, train))
    return result


def _transitions(learned: TransitionModel, held_out: Encodings, train: Encodings | None) -> dict[str, float]:
    steps = held_out.indices[:, 1:] if held_out.mask is None else held_out.mask[:, 1:] & held_out.mask[:, :-1]
    if steps.numel() == 0 or (held_out.mask is not None and not steps.any()):
        return {}  # series of one frame
    size = learned.num_nodes
    device = learned.logits.device
    indices = held_out.indices.to(device)
    mask = None if held_out.mask is None else held_out.mask.to(device)
    blank = copy.deepcopy(learned).cpu()  # a model of the same kind
    counted = {"lowest_nll": copy.deepcopy(blank).fit_counts(held_out.indices, held_out.mask, pseudocount=0)}
    if train is not None:
        counted["counted_nll"] = blank.fit_counts(train.indices, train.mask, pseudocount=1 / size)
    result = {"transition_nll": learned.negative_log_likelihood(indices, mask).item()}
    for name, model in sorted(counted.items()):
        result[name] = model.negative_log_likelihood(held_out.indices, held_out.mask).item()
    return result
