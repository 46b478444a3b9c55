"""From series in which nothing moves, the transition model learns to stay."""

import torch

from somvae_ext.models import SOMVAE, SOMVAEConfig


def test_the_matrix_learned_from_series_frozen_in_time_is_near_diagonal() -> None:
    torch.manual_seed(0)
    stills = torch.rand(40, 1, 6)
    series = (stills + 0.001 * torch.randn(40, 8, 6)).clamp(0, 1)
    config = SOMVAEConfig(input_shape=(6,), rows=2, cols=3, latent_dim=6, hidden_sizes=(16,), gamma=1.8, tau=1.4)
    model = SOMVAE(config)
    optimizer = torch.optim.Adam(model.parameter_groups(2e-3))
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(model(series), series).total.backward()
        optimizer.step()
    used = model.assign(series).unique()
    assert len(used) >= 2  # with one node, a diagonal matrix would be trivial
    matrix = model.transitions.matrix().detach()
    assert matrix.diagonal()[used].min() > 0.9
    uniform = 1 / model.quantizer.grid.num_nodes
    assert (matrix[used] - uniform).abs().max() > 0.5
