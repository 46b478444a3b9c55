"""Fused, differentiable operations on maps.

| function | what it fuses |
|---|---|
| :func:`bmu` | squared distance and argmin |
| :class:`BMUIndex` | the same for many rows on a large map, which it mostly leaves out |
| :func:`som_gather` | the winner's code and those of its grid neighbours |
| :func:`som_losses` | commitment and SOM loss over winner and neighbours |
| :func:`som_head` | best matching unit, its code and both losses, with one gradient of the codebook |
| :func:`segment_sum` | sums and counts of the rows that each unit won |
| :func:`som_update` | the batch map's new codes, or an on-line step, under any neighbourhood |
| :func:`som_ema_update` | moving averages of what nodes win, and a map's codes from them, in place |
| :func:`transition_losses` | row softmax of a transition table, lookup, and the expectation of squared distances |
| :func:`transition_log_prob`, :func:`expected_distance` | each of these two alone |
| :func:`local_transition_losses` | both for a table that holds only the nodes near each node, and a remainder |

Each op has a ``*_reference`` beside it in pure torch, written for reading; it is what runs when the compiled library
is absent. All ops but :func:`som_update` and :func:`som_ema_update` are differentiable once; all are deterministic on a
given device whatever the number of threads, and work under ``torch.compile(fullgraph=True)``. Needs only torch.
"""

from somvae_ext.ops.bmu import BestMatch, bmu, bmu_reference
from somvae_ext.ops.bmu_index import BMUIndex
from somvae_ext.ops.local_transition import (
    local_transition_losses,
    local_transition_losses_reference,
)
from somvae_ext.ops.neighborhood import (
    SegmentSum,
    SOMHead,
    SOMLosses,
    segment_sum,
    segment_sum_reference,
    som_gather,
    som_gather_reference,
    som_head,
    som_head_reference,
    som_losses,
    som_losses_reference,
)
from somvae_ext.ops.som_ema_update import som_ema_update, som_ema_update_reference
from somvae_ext.ops.som_update import AxisWeights, som_update, som_update_reference
from somvae_ext.ops.transition import (
    TransitionLosses,
    expected_distance,
    expected_distance_reference,
    transition_log_prob,
    transition_log_prob_reference,
    transition_losses,
    transition_losses_reference,
)

__all__ = [
    "AxisWeights",
    "BMUIndex",
    "BestMatch",
    "SOMHead",
    "SOMLosses",
    "SegmentSum",
    "TransitionLosses",
    "bmu",
    "bmu_reference",
    "expected_distance",
    "expected_distance_reference",
    "local_transition_losses",
    "local_transition_losses_reference",
    "segment_sum",
    "segment_sum_reference",
    "som_ema_update",
    "som_ema_update_reference",
    "som_gather",
    "som_gather_reference",
    "som_head",
    "som_head_reference",
    "som_losses",
    "som_losses_reference",
    "som_update",
    "som_update_reference",
    "transition_log_prob",
    "transition_log_prob_reference",
    "transition_losses",
    "transition_losses_reference",
]
