"""Contestants of the suite ``training``: this project and other libraries, set up to train the same map.

All train a planar map, rectangular or, where supported, hexagonal, with Euclidean distances and the Gaussian
exp(-d^2 / (2 sigma^2)), from the same codebook and with the same sigma in every epoch. If a library cannot do that, its
contestant's ``differs`` says what it does instead; the JSON file repeats it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from somvae_ext import Grid, __version__
from somvae_ext.bench.rows import OURS

RIVAL = "fastersom"  # the fastest of the others
BATCH = 256  # mini-batch of torchsom; its default of 5 is many times slower
# Learning rate of torchsom, the largest that is stable for any neighborhood; its default of .5 is for smaller batches.
RATE = 2.0


class Contestant(ABC):
    """One fit of one library: built with everything ready, run once, then asked for its codebook.

    Attributes:
        package: the distribution whose version is reported.
        module: the module whose import shows that the library works here.
        differs: how its training differs from ours.
        quadratic_bytes: bytes that it holds for every pair of nodes.
        hexagons: whether it trains hexagonal maps.
    """

    package: ClassVar[str]
    module: ClassVar[str]
    differs: ClassVar[str] = ""
    quadratic_bytes: ClassVar[int] = 0
    hexagons: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        """Builds a map on the square ``grid`` for rows ``x`` ``[N, D]``; ``sigmas`` holds the width of every epoch."""

    @abstractmethod
    def fit(self) -> None:
        """Trains the map; this call is timed."""

    @abstractmethod
    def codes(self) -> Tensor:
        """The trained codebook ``[K, D]``, in row-major order of the grid."""

    def close(self) -> None:
        """Repeats what ``fit`` does after training and ours does not; its time is subtracted from that of the fit."""
        return


def absent(kind: type[Contestant]) -> str | None:
    """Why a library cannot take part here; None if it can."""
    try:
        with silence():
            importlib.import_module(kind.module)
    except ImportError as error:
        return f"not installed: {error}"
    except Exception as error:  # some raise other errors if a driver or a compiler is missing
        return f"does not work here: {error}"
    return None


def version(kind: type[Contestant]) -> str:
    return __version__ if kind is SomvaeExt else metadata.version(kind.package)


def versions() -> dict[str, str | None]:
    """Versions of the packages of all contestants but ours; None for one that is missing or does not work here."""
    kinds = {kind.package: kind for name, kind in CONTESTANTS.items() if name != OURS}
    return {package: None if absent(kind) else version(kind) for package, kind in kinds.items()}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppresses the output of libraries, and undoes what their import changes of warnings and logging."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        yield
    logging.disable(logging.NOTSET)


def final_of_open_schedule(sigmas: Sequence[float]) -> float:
    """The final sigma with which initial * (final / initial) ** (t / T) gives ``sigmas`` for t = 0, ..., T - 1.

    Such a schedule stops one step short of its final sigma. ``sigmas`` falls geometrically.
    """
    return sigmas[-1] * (sigmas[-1] / sigmas[-2]) if len(sigmas) > 1 else sigmas[0]


# --- Ours ------------------------------------------------------------------------------------------------------------


class SomvaeExt(Contestant):
    """This project's estimator."""

    package = module = OURS
    differs = "compute_labels=False: winners of the final codes are not searched"
    hexagons = True

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        from somvae_ext.estimators import SOM  # needs scikit-learn, which the other suites do not

        self.x, self.sigmas = x, sigmas
        self.map = SOM(
            grid.rows,
            grid.cols,
            topology=grid.topology,
            init=codebook,
            n_epochs=len(sigmas),
            sigma_initial=sigmas[0],
            sigma_final=sigmas[-1],
            compute_labels=False,
        )

    def fit(self) -> None:
        self.map.fit(self.x)

    def codes(self) -> Tensor:
        used = [epoch["sigma"] for epoch in self.map.history_]
        if not np.allclose(used, self.sigmas, rtol=1e-6):
            raise ValueError(f"the map was to be trained with sigma {self.sigmas}, and used {used}")
        return torch.as_tensor(self.map.codebook_)


# --- Batch maps, like ours -------------------------------------------------------------------------------------------


class Fastersom(Contestant):
    """fastersom.SOM: addmm and argmin in blocks of 8192 rows, index_add_, one matrix product along each axis.

    Its sigma is initial * (final / initial) ** (t / n_epochs), which never reaches the final one.
    """

    package = module = RIVAL
    differs = "searches the winners of the final codes as well (labels_); that time is measured and taken off"

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        from fastersom import SOM as Map

        def new(n_epochs: int) -> Any:
            return Map(
                grid.rows,
                grid.cols,
                n_epochs=n_epochs,
                sigma_initial=sigmas[0],
                sigma_final=final_of_open_schedule(sigmas),
                init=codebook,
                device=x.device,
            )

        self.x, self.map, self.untrained = x, new(len(sigmas)), new(0)

    def fit(self) -> None:
        self.map.fit(self.x)

    def close(self) -> None:
        self.untrained.fit(self.x)

    def codes(self) -> Tensor:
        return torch.from_numpy(self.map.weights_).to(self.x.device)


class XPySom(Contestant):
    """xpysom.XPySom on numpy: the neighborhoods ``[n, R, C]`` of each block of rows, then their product with the rows.

    ``std_coeff=1`` gives the Gaussian above (the default of .5 halves its width). Its schedule stops short of the final
    sigma, like fastersom's.
    """

    package = module = "xpysom"
    differs = "the winners' neighborhoods are summed row by row, N x K weights an epoch in blocks"

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        from xpysom import XPySom as Map
        from xpysom.decays import exponential_decay

        self.x, self.epochs = x.numpy(), len(sigmas)
        self.map = Map(
            grid.rows,
            grid.cols,
            x.shape[1],
            sigma=sigmas[0],
            sigmaN=final_of_open_schedule(sigmas),
            learning_rate=1,
            learning_rateN=1,
            std_coeff=1,
            xp=np,
        )
        # With numpy 2, its float64 scalars would make all neighborhoods float64; it was written for float32.
        self.map._decay_function = lambda *arguments: float(exponential_decay(*arguments))
        # There is no public way to set the initial codes.
        self.map._weights = codebook.view(grid.rows, grid.cols, -1).numpy().copy()

    def fit(self) -> None:
        self.map.train(self.x, self.epochs)

    def codes(self) -> Tensor:
        return torch.from_numpy(self.map.get_weights()).float().flatten(0, 1)


class IntraSOM(Contestant):
    """IntraSOM: the search in blocks of 500 rows, segment sums by a sparse matrix, then dense K x K neighborhoods.

    ``train()`` decreases sigma linearly in two phases, starts from its own codes and writes files; so every epoch here
    is a ``rough_train`` of one epoch, with one sigma. Its accelerated mode (``faster=True``) was slower on this data.
    """

    package = module = "intrasom"
    differs = (
        "codes in float64, rounded to 6 decimals, and searched in float32; K x K distances, which are made before the "
        "clock starts; a copy of the data, the quantization error and a progress bar in every epoch"
    )
    quadratic_bytes = 3 * 8

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        with silence():
            from intrasom import SOMFactory

            self.map = SOMFactory.build(
                x.numpy(),
                mapsize=(grid.rows, grid.cols),
                mapshape="planar",
                lattice="rect",
                normalization=None,
                bmu_compute_dtype="float32",
            )
        self.map.codebook.matrix = codebook.double().numpy()
        self.map.bootstrap = False  # only train() sets it
        self.sigmas = sigmas

    def fit(self) -> None:
        with silence():
            for sigma in self.sigmas:
                self.map.rough_train(trainlen=1, radiusin=sigma, radiusfin=sigma, shared_memory=False)

    def codes(self) -> Tensor:
        return torch.from_numpy(np.asarray(self.map.codebook.matrix)).float()


class Somoclu(Contestant):
    """somoclu's dense CPU kernel (OpenMP), which visits every pair of row and node twice.

    ``std_coeff=1`` and ``compactsupport=False`` give the Gaussian above. Its schedule stops short of the final sigma,
    like fastersom's.
    """

    package = "somoclu"
    module = "somoclu.somoclu_wrap"  # somoclu itself can be imported without its extension
    differs = "searches the winners of the final codes and a U-matrix as well; that time is measured and taken off"

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        from somoclu import Somoclu as Map

        self.x, self.sigmas = x.numpy(), sigmas
        self.map, self.untrained = (
            Map(grid.cols, grid.rows, initialcodebook=codebook.numpy().copy(), compactsupport=False, std_coeff=1)
            for _ in range(2)
        )

    def train(self, som: Any, epochs: int) -> None:
        som.train(
            self.x,
            epochs=epochs,
            radius0=self.sigmas[0],
            radiusN=final_of_open_schedule(self.sigmas),
            radiuscooling="exponential",
            scale0=1,
            scaleN=1,
            scalecooling="exponential",
        )

    def fit(self) -> None:
        self.train(self.map, len(self.sigmas))

    def close(self) -> None:
        self.train(self.untrained, 0)

    def codes(self) -> Tensor:
        return torch.from_numpy(self.map.codebook).flatten(0, 1)


class MiniSom(Contestant):
    """minisom's ``train_batch_offline``: the batch map, a Python loop over the rows."""

    package = module = "minisom"
    differs = "float64; a loop over the rows"

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        from minisom import MiniSom as Map  # type: ignore[import-untyped]

        self.x, self.sigmas = x.numpy(), sigmas
        self.map = Map(grid.rows, grid.cols, x.shape[1], sigma=sigmas[0], learning_rate=1)
        # There is no public way to set the initial codes.
        self.map._weights = codebook.view(grid.rows, grid.cols, -1).double().numpy()

    def epoch(self) -> None:
        self.map.train_batch_offline(self.x, 1)

    def fit(self) -> None:
        for sigma in self.sigmas:
            self.map._sigma = sigma  # none of its schedules is exponential; all start at this value
            self.epoch()

    def codes(self) -> Tensor:
        return torch.from_numpy(self.map.get_weights()).float().flatten(0, 1)


# --- Maps that are updated more often than once an epoch -------------------------------------------------------------


class OnlineMiniSom(MiniSom):
    """minisom's ``train``, its usual training: the codes move after every row, by Kohonen's on-line rule."""

    differs = "float64; online: an update after every row, with a learning rate of .5 in the first epoch to .05"

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        super().__init__(x, codebook, grid, sigmas)
        self.rates = iter(np.geomspace(0.5, 0.05, len(sigmas)))

    def epoch(self) -> None:
        self.map._learning_rate = next(self.rates)
        self.map.train(self.x, 1, use_epochs=True)


class TorchSOM(Contestant):
    """torchsom.SOM: an update after every mini-batch, W += rate / B * sum_b h(b) (x_b - W)."""

    package = module = "torchsom"
    differs = (
        f"mini-batches of {BATCH} in random order, with a learning rate of {RATE} / (1 + 2 t / T) in epoch t of T; "
        "quantization and topographic error of every batch; K x K distances, which are made before the clock starts"
    )
    quadratic_bytes = 5 * 4

    def __init__(self, x: Tensor, codebook: Tensor, grid: Grid, sigmas: Sequence[float]) -> None:
        from torchsom import SOM as Map

        self.x = x
        self.map = Map(
            grid.rows,
            grid.cols,
            x.shape[1],
            epochs=len(sigmas),
            batch_size=BATCH,
            sigma=sigmas[0],
            learning_rate=RATE,
            device=str(x.device),
        )
        self.map.sigma_schedule = torch.tensor(sigmas)  # none of its schedules is exponential
        self.map.weights.data = codebook.view(grid.rows, grid.cols, -1).clone()

    def fit(self) -> None:
        self.map.fit(self.x, verbose=False)

    def codes(self) -> Tensor:
        return self.map.weights.detach().flatten(0, 1)


CONTESTANTS: dict[str, type[Contestant]] = {
    OURS: SomvaeExt,
    RIVAL: Fastersom,
    "IntraSOM": IntraSOM,
    "xpysom": XPySom,
    "torchsom": TorchSOM,
    "somoclu": Somoclu,
    "minisom": MiniSom,
    "minisom, online": OnlineMiniSom,
}
