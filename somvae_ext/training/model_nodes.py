"""Cached encodings of a run's data, and the facts about the nodes of its model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from somvae_ext.data.record import AnySplits
from somvae_ext.models import Model
from somvae_ext.store import NodeFacts, NodeHits, ResultFolder
from somvae_ext.training.assessment import Encodings, encode

PartEncoder = Callable[[str], Encodings]
"""Returns the encodings of a part of the data, ``"train"``, ``"validation"`` or ``"test"``."""


def part_encoder(model: Model, splits: AnySplits) -> PartEncoder:
    """Returns a function that encodes each part when it is first needed."""
    return functools.cache(lambda part: encode(model, getattr(splits, part)))


def count_node_hits(model: Model, encode_part: PartEncoder) -> NodeHits | None:
    """Counts the training samples that each node, code or category won; None unless each sample has exactly one.

    Padded frames of series do not count.
    """
    any_model: Any = model  # its optional attributes are looked up by name
    if not has_one_code_per_sample(model):
        return None
    train = encode_part("train")
    assert train.indices is not None
    label = None if train.label is None else train.drop_padding(train.label).numpy()
    return NodeHits.count(train.drop_padding(train.indices).numpy(), any_model.num_clusters, label)


def has_one_code_per_sample(model: Model) -> bool:
    """Whether a model assigns each sample to exactly one node, code or category."""
    return hasattr(model, "num_clusters") and getattr(model, "codes_per_sample", 1) == 1


def facts_of_model(
    folder: ResultFolder, model: Model, class_names: Sequence[str] | None, *, with_clusters: bool = True
) -> NodeFacts | None:
    """Returns the facts about a model's nodes, codes or categories; None unless each sample has exactly one.

    Raises:
        ValueError: a file of the folder is damaged.
    """
    if not has_one_code_per_sample(model):
        return None
    any_model: Any = model  # its optional attributes are looked up by name
    quantizer = getattr(any_model, "quantizer", None)
    grid = getattr(quantizer, "grid", None)
    noun = "category" if quantizer is None else "code" if grid is None else "node"
    return NodeFacts.from_folder(folder, noun, any_model.num_clusters, grid, class_names, with_clusters=with_clusters)
