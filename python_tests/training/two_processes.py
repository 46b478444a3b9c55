"""Trainings that test_processes.py runs under torchrun and with one process; each process writes its results.

torchrun --nproc-per-node 2 two_processes.py FOLDER
python two_processes.py FOLDER                          the same trainings in one process, with batches twice as large
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import torch
from torch import nn

from somvae_ext import Grid
from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, VQVAE, GumbelVAE, GumbelVAEConfig, SOMVAEConfig, VQVAEConfig
from somvae_ext.nn import SOMQuantizer, VectorQuantizer
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit
from somvae_ext.training.data_parallel import average_row_gradients, launch_fabric

RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
CONFIG = SOMVAEConfig(
    input_shape=(3,), rows=3, cols=4, latent_dim=4, hidden_sizes=(8,), gamma=1.0, tau=0.5, transition_updates="rows"
)
RECIPE = TrainingConfig(epochs=3, batch_size=4 // WORLD_SIZE, learning_rate=1e-3, revive=True, max_grad_norm=0.5)


def model(seed: int, *, noisy: bool = False) -> SOMVAE:
    """Float64 hides the order of summation. A noisy encoder draws different numbers in each process."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 4)) if noisy else None
    return SOMVAE(CONFIG, encoder=encoder).double()


def series(count: int, seed: int) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    return Samples(torch.rand(count, 5, 3, generator=generator, dtype=torch.float64))


def ragged(count: int) -> Samples:
    return Samples(series(count, 1).x, mask=torch.arange(5) < torch.arange(count)[:, None] % 5 + 1)


def run_folder(path: Path) -> ResultFolder | None:
    return ResultFolder.create(path, "model") if RANK == 0 else None


def train(folder: Path) -> dict[str, object]:
    """Trains on series of one length, so the mean over processes is the mean over the joined batch."""
    trained = model(seed=0 if RANK == 0 else 17)  # training starts from the first process's weights
    history = fit(
        trained,
        series(12, seed=0),
        RECIPE,
        validation=ragged(7),
        metrics=lambda: {"rank": float(RANK)},
        run_folder=run_folder(folder / "run"),
        accelerator="cpu",
    )
    return {"model": trained.state_dict(), "history": history}


def resume(folder: Path) -> dict[str, object]:
    """Runs one training at once, and the same training with an interruption."""
    whole, parts = (model(seed=1, noisy=True) for _ in range(2))
    fit(whole, series(10, seed=2), RECIPE, accelerator="cpu")
    path = folder / "interrupted"
    first = TrainingConfig(**{**vars(RECIPE), "epochs": 1})
    written = run_folder(path)
    if written is not None:
        written.save_config({})
    fit(parts, series(10, seed=2), first, run_folder=written, accelerator="cpu")
    again = model(seed=5, noisy=True)
    opened = ResultFolder.open(path) if RANK == 0 else None
    history = fit(again, series(10, seed=2), RECIPE, run_folder=opened, resume=True, accelerator="cpu")
    return {"whole": whole.state_dict(), "resumed": again.state_dict(), "epochs": [entry["epoch"] for entry in history]}


def averages() -> dict[str, object]:
    """Trains codes that follow moving averages."""
    torch.manual_seed(RANK)
    config = VQVAEConfig(
        input_shape=(3,),
        num_codes=6,
        latent_dim=2,
        hidden_sizes=(8,),
        init="kmeans",
        codebook_update="ema",
        decay=0.8,
    )
    trained = VQVAE(config).double()
    data = Samples(series(4, seed=4).x.view(20, 3))
    history = fit(trained, data, RECIPE, accelerator="cpu")
    return {"model": trained.state_dict(), "history": history}


def ordered() -> dict[str, object]:
    """Trains a map with neighborhood averages of falling width on series of different lengths."""
    torch.manual_seed(RANK)
    config = dataclasses.replace(CONFIG, codebook_update="ema", beta=None, decay=0.8, sigma_steps=6)
    trained = SOMVAE(config).double()
    data = Samples(series(12, seed=7).x, mask=torch.arange(5) < torch.arange(12)[:, None] % 2 + 4)
    history = fit(trained, data, dataclasses.replace(RECIPE, revive=False), accelerator="cpu")
    return {"model": trained.state_dict(), "history": history}


def warmed() -> dict[str, object]:
    """Trains a model with a warm-up of one epoch on series of one length."""
    torch.manual_seed(RANK)
    trained = SOMVAE(dataclasses.replace(CONFIG, warm_up_epochs=1, init="kmeans")).double()
    history = fit(trained, series(12, seed=8), RECIPE, validation=ragged(7), accelerator="cpu")
    return {"model": trained.state_dict(), "history": history}


def hardened() -> dict[str, object]:
    """Trains a model with windows and prediction, with hardening after a warm-up, and relabeling after that."""
    torch.manual_seed(RANK)
    options = {"hardening": 1.0, "soft_som": 0.1, "relabel_after": 2, "neighbor_margin": 0.5, "prediction": 0.3}
    trained = SOMVAE(dataclasses.replace(CONFIG, warm_up_epochs=1, init="kmeans", window=2, **options)).double()  # type: ignore[arg-type]
    history = fit(trained, series(12, seed=9), RECIPE, validation=ragged(7), accelerator="cpu")
    return {"model": trained.state_dict(), "history": history}


def drawn() -> dict[str, object]:
    """Trains a model with rising capacities that draws different numbers in each process."""
    torch.manual_seed(RANK)
    config = GumbelVAEConfig((3,), 4, hidden_sizes=(8,), latent_dim=2, objective="dupont", capacity_ramp=20)
    trained = GumbelVAE(config).double()
    history = fit(trained, Samples(series(4, seed=6).x.view(20, 3)), RECIPE, accelerator="cpu")
    return {"model": trained.state_dict(), "history": history}


def uneven(quantizer: VectorQuantizer | SOMQuantizer) -> dict[str, object]:
    """Updates the averages with batches of different sizes, some of them empty, with a row that is not finite."""
    _, processes = launch_fabric("cpu")
    torch.manual_seed(0)
    quantizer = quantizer.double()
    z = series(1, seed=5).x[0, :, :2]
    z[3, 1] = torch.nan
    for own in ((slice(0, 3), slice(3, 5)), (slice(0, 5), slice(5, 5)), (slice(0, 0), slice(0, 5))):
        part = z if WORLD_SIZE == 1 else z[own[RANK]]
        quantizer.update_codebook(*processes.sum(*quantizer.statistics(part, quantizer.assign(part))))
    return dict(quantizer.state_dict())


def rows() -> dict[str, object]:
    """Averages row gradients: three rows in one process and two in the other, and rows in one process only."""
    _, processes = launch_fabric("cpu")
    own: list[torch.Tensor] = []
    means: list[torch.Tensor] = []
    for with_gradient in ((0, 1), (1,)):
        table = nn.Parameter(torch.zeros(6, 2))
        if RANK in with_gradient:
            generator = torch.Generator().manual_seed(RANK)
            index = torch.tensor([[4, 1, 4], [1, 0, 5]][RANK][: 3 - RANK])
            values = torch.randn(len(index), 2, generator=generator)
            table.grad = torch.sparse_coo_tensor(index[None], values, table.shape, check_invariants=True)
        own.append(torch.zeros(6, 2) if table.grad is None else table.grad.to_dense())
        average_row_gradients(processes, [table])
        assert table.grad is not None
        means.append(table.grad.to_dense())
    return {"own": own, "means": means}


def broken() -> str:
    """Trains with a sample of NaN, which only one process gets."""
    data = series(4, seed=0)
    data.x[1] = torch.nan
    try:
        fit(model(seed=0), data, RECIPE, accelerator="cpu")
    except FloatingPointError as error:
        return str(error)
    return "no error"


def differing() -> str:
    """Trains with a callback that changes the model after the last epoch; only the first process calls it."""
    trained = model(seed=0)

    def change(epoch: int) -> None:
        if epoch == RECIPE.epochs:
            trained.quantizer.codebook.add_(1)

    try:
        fit(trained, series(4, seed=0), RECIPE, after_epoch=change, accelerator="cpu")
    except ValueError as error:
        return str(error)
    return "no error"


def failing() -> str:
    """Trains with a callback that raises an error; only the first process calls it."""

    def fail(epoch: int) -> None:
        raise OSError(f"no room for epoch {epoch}")

    try:
        fit(model(seed=0), series(4, seed=0), RECIPE, after_epoch=fail, accelerator="cpu")
    except (OSError, ValueError) as error:
        return str(error)
    return "no error"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    results: dict[str, object] = {"train": train(folder), "averages": averages(), "drawn": drawn()}
    torch.manual_seed(3)
    results["uneven"] = uneven(VectorQuantizer(4, 2, update="ema"))
    results["uneven map"] = uneven(SOMQuantizer(Grid(2, 3), 2, update="ema", sigma_steps=2))
    results |= {"ordered": ordered(), "warmed": warmed(), "hardened": hardened()}
    if WORLD_SIZE > 1:
        results |= {"resume": resume(folder), "rows": rows(), "broken": broken()}
        results |= {"differing": differing(), "failing": failing()}
    torch.save(results, folder / f"{WORLD_SIZE}_{RANK}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
