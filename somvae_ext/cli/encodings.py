"""The encodings of a run's data, made once for all that needs them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.node_facts import has_one_code_per_sample

if TYPE_CHECKING:
    from somvae_ext.data.record import AnySplits
    from somvae_ext.models import Model
    from somvae_ext.store import NodeHits
    from somvae_ext.training import Encodings

PartEncoder = Callable[[str], "Encodings"]
"""The encodings of a part of the data, ``"train"``, ``"validation"`` or ``"test"``."""


def part_encoder(model: Model, splits: AnySplits) -> PartEncoder:
    """Encodes each part when it is first asked for."""
    from somvae_ext.training import encode

    return functools.cache(lambda part: encode(model, getattr(splits, part)))


def count_node_hits(model: Model, encode_part: PartEncoder) -> NodeHits | None:
    """What each node, code or category of a model won of the training data; None where a sample has none, or many.

    Padded frames of series do not count.
    """
    from somvae_ext.store import NodeHits

    any_model: Any = model  # what it offers is asked for by name
    if not has_one_code_per_sample(model):
        return None
    train = encode_part("train")
    assert train.indices is not None
    label = None if train.label is None else train.drop_padding(train.label).numpy()
    return NodeHits.count(train.drop_padding(train.indices).numpy(), any_model.num_clusters, label)
