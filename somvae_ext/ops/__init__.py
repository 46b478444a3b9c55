"""Fused, differentiable operations on maps.

- :func:`bmu`: squared distance and argmin
- :class:`BMUIndex`: the same search for many rows on a large map, most of which it skips
- :func:`som_gather`: the winner's code and those of its grid neighbors
- :func:`som_losses`: commitment and SOM loss over winner and neighbors
- :func:`som_head`: best matching unit, its code and both losses, with one gradient of the codebook
- :func:`segment_sum`: sums and counts of the rows that each node won
- :func:`som_update`: the batch map's new codes, or an on-line step, under any neighborhood
- :func:`som_ema_update`: moving averages of the rows that nodes win, and the map's codes from them, in place
- :func:`transition_losses`: row softmax of a transition table, log-probability lookup, and expected squared distance
- :func:`transition_log_prob`, :func:`expected_distance`: each of these two losses alone
- :func:`local_transition_losses`: both losses for a table that holds only the nodes near each node, and a remainder

Each op has a counterpart of the same name in :mod:`somvae_ext.ops.reference`: pure torch, written for reading, and used
when the compiled library is absent. All ops but :func:`som_update` and :func:`som_ema_update` are differentiable once;
all are deterministic on a given device whatever the number of threads, and work under
``torch.compile(fullgraph=True)``. The package needs only torch and numpy.
"""

from somvae_ext.ops import reference
from somvae_ext.ops._bmu import BestMatch, bmu
from somvae_ext.ops._bmu_index import BMUIndex
from somvae_ext.ops._local_transition import local_transition_losses
from somvae_ext.ops._neighborhood import (
    Border,
    SegmentSum,
    SOMHead,
    SOMLosses,
    segment_sum,
    som_gather,
    som_head,
    som_losses,
)
from somvae_ext.ops._som_ema_update import som_ema_update
from somvae_ext.ops._som_update import AxisWeights, som_update
from somvae_ext.ops._transition import TransitionLosses, expected_distance, transition_log_prob, transition_losses

__all__ = [
    "AxisWeights",
    "BMUIndex",
    "BestMatch",
    "Border",
    "SOMHead",
    "SOMLosses",
    "SegmentSum",
    "TransitionLosses",
    "bmu",
    "expected_distance",
    "local_transition_losses",
    "reference",
    "segment_sum",
    "som_ema_update",
    "som_gather",
    "som_head",
    "som_losses",
    "som_update",
    "transition_log_prob",
    "transition_losses",
]
