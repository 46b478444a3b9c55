"""load: named data sets, and the splits and scaling of the user's files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
import torch

from somvae_ext.data import NAMES, InterpolatedSeries, Samples, TableFormat, digits, load, load_array
from somvae_ext.data.own_data import read_own_data
from somvae_ext.data.record import fingerprint

RNG = np.random.default_rng(0)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """100 rows, numbered by the first feature."""
    path = tmp_path / "table.npz"
    np.savez(path, x=np.column_stack([np.arange(100), RNG.normal(5, 100, 100)]), label=np.arange(100))
    return path


def test_the_digits_by_name() -> None:
    for loaded, expected in zip(load("digits", seed=3), digits(3), strict=True):
        assert isinstance(loaded, Samples)
        assert loaded.x.equal(expected.x)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-series")])
@pytest.mark.parametrize(("recipe", "frames"), [("published", 32), ("paper", 64)])
def test_series_of_each_split_come_from_its_own_images(
    name: str, recipe: str, frames: int, idx_files: Callable[..., Path]
) -> None:
    root = idx_files("FashionMNIST" if name.startswith("fashion") else "MNIST")
    images = load(name.removesuffix("-series"), root=root)
    splits = load(name, root=root, recipe=recipe, num_series=30)  # type: ignore[arg-type]
    assert splits.kind == "series"
    assert splits.sample_shape == images.sample_shape
    for series, own in zip(splits, images, strict=True):
        assert isinstance(series, InterpolatedSeries)
        assert len(series) == round(30 * len(own) / len(images.train))
        assert isinstance(own, Samples)
        for row in range(len(series)):
            item = series[row]
            assert item["x"].shape == (frames, *images.sample_shape)
            for frame in (0, -1):  # the images themselves, with noise of standard deviation .01
                same = own.x[own.label == item["label"][frame]]
                assert (same - item["x"][frame]).square().mean(dim=(1, 2, 3)).min() < 4e-4


def test_each_image_starts_a_series_by_default() -> None:
    assert [len(part) for part in load("digits-series")] == [len(part) for part in load("digits")]


def test_the_seed_draws_the_series_and_each_split_has_its_own_noise(idx_files: Callable[..., Path]) -> None:
    root = idx_files()
    splits = load("mnist-series", root=root, seed=1)
    assert splits.train[3]["x"].equal(load("mnist-series", root=root, seed=1).train[3]["x"])
    assert not splits.train[3]["x"].equal(load("mnist-series", root=root, seed=2).train[3]["x"])
    train, validation, _ = (part[0]["x"][0] - part[0]["x"][0].mean() for part in splits)  # the images are of one value
    # The correlation of 784 independent pairs has a standard deviation of 1 / 28.
    assert torch.corrcoef(torch.stack([train.flatten(), validation.flatten()]))[0, 1].abs() < 6 / 28


def test_rows_of_files_are_split_70_15_15_and_none_is_lost(table: Path) -> None:
    splits = load(table)
    labels = [part.label.tolist() for part in splits]
    assert [len(part) for part in labels] == [70, 15, 15]
    assert sorted(itertools.chain(*labels)) == list(range(100))
    assert (splits.kind, splits.sample_shape) == ("static", (2,))


def test_the_seed_draws_the_split(table: Path) -> None:
    assert load(table, seed=1).test.label.equal(load(table, seed=1).test.label)
    assert not load(table, seed=1).test.label.equal(load(table, seed=2).test.label)


def test_features_are_scaled_by_the_training_split_alone(table: Path) -> None:
    splits, raw = load(table), read_own_data(table, None).samples
    low, high = raw.x[splits.train.label].aminmax(dim=0)
    assert splits.train.x.amin(dim=0).tolist() == [0, 0]
    assert splits.train.x.amax(dim=0).tolist() == [1, 1]
    for part in splits:
        expected = (raw.x[part.label].double() - low) / (high.double() - low)
        assert part.x.equal(expected.float())
        # predict scales other data in this way.
        assert splits.scaling.apply_to_samples(raw.rows(part.label)).x.equal(part.x)


def test_values_with_a_large_common_offset_stay_distinct(tmp_path: Path) -> None:
    values = 1e9 + np.arange(40.0)[:, None]  # float32 rounds them to two values
    np.save(tmp_path / "table.npy", values)
    splits = load(tmp_path / "table.npy")
    assert len(torch.cat([part.x for part in splits]).unique()) == 40


def test_images_in_the_unit_interval_stay_as_they_are(tmp_path: Path) -> None:
    images = RNG.random((20, 4, 4), dtype=np.float32)
    np.save(tmp_path / "a.npy", images)
    splits = load(tmp_path / "a.npy")
    assert sorted(torch.cat([part.x for part in splits])[:, 0, 0, 0].tolist()) == sorted(images[:, 0, 0].tolist())
    np.save(tmp_path / "b.npy", images * 7 - 3)
    wide = load(tmp_path / "b.npy")
    assert len(wide.scaling.shift) == 1
    assert (wide.train.x.min(), wide.train.x.max()) == (0, 1)


def test_bytes_and_floats_of_the_same_images_are_treated_alike(tmp_path: Path) -> None:
    images = RNG.integers(3, 200, (20, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "bytes.npy", images)
    np.save(tmp_path / "floats.npy", images.astype(np.float32))
    raw = [load_array(tmp_path / name).x for name in ("bytes.npy", "floats.npy")]
    for name in ("bytes.npy", "floats.npy"):
        scaling = load(tmp_path / name).scaling
        assert scaling.apply(raw[0]).equal(scaling.apply(raw[1]))
    splits = load(tmp_path / "bytes.npy")
    unit = images.astype(np.float32) / np.float32(255)
    assert sorted(torch.cat([part.x for part in splits])[:, 0, 0, 0].tolist()) == sorted(unit[:, 0, 0].tolist())


def test_series_are_kept_whole(tmp_path: Path) -> None:
    for number in range(20):  # series n has n + 1 frames, all with the value n
        np.save(tmp_path / f"{number:02}.npy", np.full((number + 1, 2), float(number)))
    splits = load(tmp_path)
    assert splits.kind == "series"
    assert splits.sample_shape == (2,)
    lengths = [part.mask.sum(dim=1).tolist() for part in splits]
    assert [len(part) for part in lengths] == [14, 3, 3]
    assert sorted(itertools.chain(*lengths)) == list(range(1, 21))
    longest = max(lengths[0])
    for part in splits:
        frames = part.x[part.mask]
        low, width = min(lengths[0]) - 1, longest - min(lengths[0])
        own = part.mask.sum(dim=1).repeat_interleave(part.mask.sum(dim=1)) - 1
        assert frames.equal(((own.double() - low) / width).float()[:, None].expand(-1, 2))


def test_all_splits_of_a_table_know_the_names_of_its_features(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n" + "1,2\n" * 10)
    assert [part.feature_names for part in load(tmp_path / "table.csv")] == [("a", "b")] * 3
    assert load("digits-series", num_series=5).train.feature_names is None


@pytest.mark.parametrize(("kind", "what"), [("static", "3 rows"), ("series", "3 series")])
def test_too_few_rows_are_refused(kind: str, what: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match=f"must hold at least {what}, one for each of .*, got 2"):
        load(tmp_path / "x.npy", kind=kind)  # type: ignore[arg-type]
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 4)))
    assert [len(part) for part in load(tmp_path / "x.npy", kind=kind)] == [1, 1, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["table.csv", "broken.csv", "frames.npy", "series.npy", "folder"])
def test_a_single_series_is_refused_whatever_else_is_wrong(name: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n" + "1,2\n" * 20)
    (tmp_path / "broken.csv").write_text("a,b\n1,x\n")
    np.save(tmp_path / "frames.npy", np.zeros((20, 3)))
    np.save(tmp_path / "series.npy", np.zeros((1, 20, 3)))
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "only.npy", np.zeros((20, 3)))
    with pytest.raises(
        ValueError, match=rf"{name}: must hold at least 3 series, .*; cut it into several and name a fold"
    ):
        load(tmp_path / name, kind="series")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("mnits", "mnist"), ("MNIST", "mnist"), ("fashion_mnist", "fashion-mnist"), ("digit", "digits")],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong}: neither a file or folder nor the name .*; did you mean {right}"):
        load(wrong)


def test_a_name_unlike_any_other_is_refused_with_all_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"xyz: .*; known are digits, mnist, fashion-mnist, digits-series,"):
        load("xyz")
    with pytest.raises(FileNotFoundError, match=r"table\.csv: no such file or folder"):
        load(tmp_path / "table.csv")


def test_data_from_files_need_neither_scikit_learn_nor_torchvision(table: Path) -> None:
    code = f"""
import sys
for name in ("sklearn", "torchvision", "scipy", "pandas"):
    sys.modules[name] = None
from somvae_ext.data import load
print(len(load({str(table)!r}).train))
"""
    run = children.run("-c", code, imported=children.TORCH)
    assert (run.stdout, run.returncode) == ("70\n", 0), run.stderr


# ---- identifiers of samples ------------------------------------------------------------------------------------------


def keys_of(part: Any, name: str) -> list[Any]:
    assert isinstance(part, Samples)
    assert part.row_keys is not None
    assert list(part.row_keys) == [name]
    keys: list[Any] = part.row_keys[name].tolist()
    return keys


@pytest.mark.parametrize("options", [{}, {"split": "folds", "fold": 3}, {"split": "all"}, {"missing": "drop"}])
def test_ids_stay_with_their_rows(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    gap = options.get("missing") and 7
    lines = [f"P-{row},{'' if row == gap else row},{row % 2}" for row in range(60)]
    path.write_text("\n".join(["Patient,value,class", *lines]))
    table = TableFormat(id_column="Patient", label_column="class")
    splits = load(path, table=table, scaling="standard", **options)
    found = []
    for part in splits:
        value = splits.scaling.undo(part.x.double())[:, 0].round().int().tolist()
        assert keys_of(part, "Patient") == [f"P-{row}" for row in value]
        found += value
    assert sorted(found) == [row for row in range(60) if row != gap]


def test_ids_stay_with_their_rows_when_missing_values_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(["Patient,row,gaps", *(f"P-{row},{row},{row if row % 3 else ''}" for row in range(30))]))
    splits = load(path, table=TableFormat(id_column="Patient"), missing="mean", scaling="none")
    for part in splits:
        assert keys_of(part, "Patient") == [f"P-{row:.0f}" for row in part.x[:, 0].tolist()]


def test_files_stay_with_their_series(tmp_path: Path) -> None:
    for row in range(20):
        np.save(tmp_path / f"bed-{row:02d}.npy", np.full((3 + row % 4, 2), row))
    for part in load(tmp_path, scaling="none"):
        assert keys_of(part, "series") == [f"bed-{row:02.0f}" for row in part.x[:, 0, 0].tolist()]


def test_images_keep_their_numbers_in_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 8, 6)))
    for part in load(tmp_path / "images.npy", image_size=4):
        assert keys_of(part, "index") == (part.x[:, 0, 0, 0] * 255).round().int().tolist()


def test_identifiers_of_samples_are_not_part_of_their_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(["Patient,value", *(f"P-{row},{row}" for row in range(30))]))
    splits = load(path, table=TableFormat(id_column="Patient"))
    nameless = splits.map(lambda part: dataclasses.replace(part, row_keys=None))
    assert fingerprint(splits) == fingerprint(nameless)  # type: ignore[arg-type]
