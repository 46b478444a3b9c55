"""How far the clusters of several runs agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_runs import stability

from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.models.saved_model import model_section
from somvae_ext.store import ResultFolder

CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])


def run(folder: Path, codebook: torch.Tensor) -> Path:
    """A run whose nodes are these points of the plane of the samples."""
    config = SOMVAEConfig(input_shape=(2,), rows=2, cols=2, latent_dim=2, network="identity")
    model = SOMVAE(config)
    with torch.no_grad():
        model.quantizer.codebook.copy_(codebook)
    kept = ResultFolder.create(folder, "model")
    kept.save_config({"model": model_section(SOMVAE, config)})
    kept.save_checkpoint(1, model.state_dict(), {}, {})
    return folder


def test_the_same_clusters_under_other_numbers_agree(tmp_path: Path) -> None:
    samples = Samples(torch.randn(200, 2, generator=torch.Generator().manual_seed(0)))
    folders = [run(tmp_path / str(shift), CORNERS.roll(shift, dims=0)) for shift in range(3)]
    assert stability(folders, samples) == 1


def test_clusters_along_another_direction_agree_by_chance_alone(tmp_path: Path) -> None:
    samples = Samples(torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)))
    along, across = torch.zeros(2, 4, 2)
    along[:, 0] = across[:, 1] = torch.tensor([-1.5, -0.5, 0.5, 1.5])
    folders = [run(tmp_path / "along", along), run(tmp_path / "across", across)]
    # Independent clusters have an ARI of 0 on average; of 4,000 samples it scatters by less than a hundredth.
    assert stability(folders, samples) == pytest.approx(0, abs=0.02)
