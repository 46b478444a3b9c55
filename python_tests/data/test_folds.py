"""Splits other than the default: all data for training, and ten folds; their test data are those of the default."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from somvae_ext.data import NUM_FOLDS, Samples, SplitName, Splits, load
from somvae_ext.data.own_data import read_own_data

RNG = np.random.default_rng(0)


def rows(part: Samples | None) -> Counter[bytes]:
    assert part is not None
    return Counter(sample.numpy().tobytes() for sample in part.x)


@pytest.fixture(params=["digits", "mnist", "fashion-mnist", "own.npz"])
def splits_of(
    request: pytest.FixtureRequest, idx_files: Callable[..., Path], tmp_path: Path
) -> Callable[..., Splits[Samples]]:
    """A function that loads one of the data sets with the given arguments."""
    name: str = request.param
    root = idx_files("FashionMNIST" if name.startswith("fashion") else "MNIST")
    if name == "own.npz":
        name = str(tmp_path / name)
        # Three classes of unequal size, and images in [0, 1], which load does not scale.
        np.savez(
            name, x=RNG.random((120, 4, 6), dtype=np.float32), label=RNG.permutation(np.repeat([0, 1, 2], [60, 40, 20]))
        )
    return lambda **arguments: load(name, root=root, **arguments)  # type: ignore[return-value]


@pytest.mark.parametrize("split", ["all", "folds"])
def test_the_test_data_are_the_same_whatever_the_split(
    splits_of: Callable[..., Splits[Samples]], split: SplitName
) -> None:
    default, other = splits_of(seed=3), splits_of(seed=3, split=split)
    assert other.test.x.equal(default.test.x)
    assert other.test.label.equal(default.test.label)


def test_split_all_trains_on_everything_but_the_test_data(splits_of: Callable[..., Splits[Samples]]) -> None:
    default, everything = splits_of(), splits_of(split="all")
    assert everything.validation is None
    assert [len(part) for part in everything] == [len(everything.train), len(default.test)]
    assert not rows(default.train) + rows(default.validation) - rows(everything.train)


def test_each_sample_of_the_pool_is_in_one_fold(splits_of: Callable[..., Splits[Samples]]) -> None:
    pool = rows(splits_of(split="all").train)
    folds = [splits_of(split="folds", fold=fold) for fold in range(NUM_FOLDS)]
    for fold in folds:
        assert rows(fold.train) + rows(fold.validation) == pool
    assert sum((rows(fold.validation) for fold in folds), Counter()) == pool


def test_folds_have_the_classes_in_equal_proportion(splits_of: Callable[..., Splits[Samples]]) -> None:
    in_pool = splits_of(split="all").train.label.bincount()
    for fold in (0, 9):
        validation = splits_of(split="folds", fold=fold).validation
        assert validation is not None
        # Each of ten folds has a tenth of every class, rounded up or down.
        assert ((validation.label.bincount() - in_pool / NUM_FOLDS).abs() < 1).all()


def test_mnist_is_cut_into_the_folds_of_scikit_learn_shuffled_by_the_seed(idx_files: Callable[..., Path]) -> None:
    root = idx_files(train=120)
    label = np.arange(120) % 10
    folds = StratifiedKFold(10, shuffle=True, random_state=5).split(label, label)
    for fold, (train, validation) in enumerate(folds):
        splits = load("mnist", root=root, split="folds", fold=fold, seed=5)
        for part, expected in zip(splits, (train, validation), strict=False):
            assert isinstance(part, Samples)
            assert (part.x[:, 0, 0, 0] * 255).round().int().tolist() == expected.tolist()


def test_split_all_of_mnist_keeps_the_order_of_its_training_images(idx_files: Callable[..., Path]) -> None:
    splits = load("mnist", root=idx_files(train=120), split="all")
    assert (splits.train.x[:, 0, 0, 0] * 255).round().int().tolist() == list(range(120))


@pytest.mark.parametrize("split", ["all", "folds"])
def test_features_are_scaled_by_the_training_data_of_the_split(split: SplitName, tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    # The first feature numbers the rows; the second has a few large values.
    np.savez(path, x=np.column_stack([np.arange(100), RNG.standard_cauchy(100)]), label=np.arange(100) % 2)
    raw = read_own_data(path, None).samples
    for fold in range(NUM_FOLDS if split == "folds" else 1):
        splits = load(path, split=split, fold=fold)
        assert splits.train.x.amin(dim=0).tolist() == [0, 0]
        assert splits.train.x.amax(dim=0).tolist() == [1, 1]
        low, width = splits.scaling.shift[0], splits.scaling.width[0]
        for part in splits:
            numbers = (part.x[:, 0].double() * width + low).round().long()
            assert splits.scaling.apply_to_samples(raw.rows(numbers)).x.equal(part.x)


def test_folds_need_labels_and_ten_samples_of_each_class(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", RNG.random((50, 3)))
    with pytest.raises(ValueError, match=r"x\.npy: split 'folds' needs labels, because every fold .*, got none"):
        load(tmp_path / "x.npy", split="folds")
    np.savez(tmp_path / "x.npz", x=RNG.random((50, 3)), label=np.arange(50) < 8)
    with pytest.raises(ValueError, match=r"x\.npz: split 'folds' needs 10 samples of each class .*, got \d of class 1"):
        load(tmp_path / "x.npz", split="folds")


@pytest.mark.parametrize("split", ["all", "folds"])
def test_series_have_the_default_split_only(split: SplitName, tmp_path: Path) -> None:
    np.savez(tmp_path / "series.npz", x=RNG.random((40, 5, 2)), label=np.arange(40) % 2, mask=np.ones((40, 5)))
    for name in ("digits-series", str(tmp_path / "series.npz")):
        with pytest.raises(ValueError, match=re.escape(f"{name}: split must be 'holdout' for series, got '{split}'")):
            load(name, split=split)


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="split must be 'holdout', 'all' or 'folds', got 'fold'"):
        load("digits", split="fold")  # type: ignore[arg-type]
    for fold in (-1, 10):
        with pytest.raises(ValueError, match=f"fold must be an integer from 0 to 9, got {fold}"):
            load("digits", split="folds", fold=fold)
    for name, wrong in (("fold", 2.5), ("fold", True), ("seed", "x"), ("seed", -1), ("num_series", 2.5)):
        with pytest.raises(ValueError, match=f"^load: {name} must be an integer .*, got {wrong!r}"):
            load("digits", split="folds", **{name: wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fold chooses one of split 'folds', so it must be 0 for split 'all', got 3"):
        load("digits", split="all", fold=3)


def test_map_skips_a_missing_validation_part() -> None:
    splits = Splits(Samples(torch.zeros(3, 2)), None, Samples(torch.ones(2, 2)), kind="static")
    doubled = splits.map(lambda part: Samples(part.x * 2))
    assert doubled.validation is None
    assert [part.x.sum().item() for part in doubled] == [0, 8]
