"""Pure-torch versions of the ops, under the same names: written for reading, and used without the compiled library.

An op of :mod:`somvae_ext.ops` and its reference take the same arguments (``validate`` aside), keep the same contract
and raise the same errors; the tests compare the two.

Example:
    >>> import torch
    >>> from somvae_ext.ops import reference
    >>> z, codebook = torch.tensor([[0.9], [4.0]]), torch.tensor([[0.0], [1.0], [5.0]])
    >>> reference.bmu(z, codebook).index.tolist()
    [1, 2]
"""

from somvae_ext.ops._bmu import bmu_reference as bmu
from somvae_ext.ops._local_transition import local_transition_losses_reference as local_transition_losses
from somvae_ext.ops._neighborhood import segment_sum_reference as segment_sum
from somvae_ext.ops._neighborhood import som_gather_reference as som_gather
from somvae_ext.ops._neighborhood import som_head_reference as som_head
from somvae_ext.ops._neighborhood import som_losses_reference as som_losses
from somvae_ext.ops._som_ema_update import som_ema_update_reference as som_ema_update
from somvae_ext.ops._som_update import som_update_reference as som_update
from somvae_ext.ops._transition import expected_distance_reference as expected_distance
from somvae_ext.ops._transition import transition_log_prob_reference as transition_log_prob
from somvae_ext.ops._transition import transition_losses_reference as transition_losses

__all__ = [
    "bmu",
    "expected_distance",
    "local_transition_losses",
    "segment_sum",
    "som_ema_update",
    "som_gather",
    "som_head",
    "som_losses",
    "som_update",
    "transition_log_prob",
    "transition_losses",
]
