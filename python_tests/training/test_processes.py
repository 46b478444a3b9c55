"""Training with two processes under torchrun equals training with one process on their joined batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import launching
import pytest
import torch

from somvae_ext.store import ResultFolder

PROGRAM = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder with the results of two processes and of a single one."""
    path = tmp_path_factory.mktemp("processes")
    launching.run_two_processes(PROGRAM, path)
    (path / "run").rename(path / "run_of_two")
    launching.run_one_process(PROGRAM, path)
    return path


def outcome(folder: Path, name: str, rank: int = 0, world_size: int = 2) -> Any:
    return torch.load(folder / f"{world_size}_{rank}.pt")[name]


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_both_processes_end_with_the_same_bits_including_the_table(folder: Path) -> None:
    first, second = (outcome(folder, "train", rank) for rank in (0, 1))
    assert first["model"]["transitions.logits"].any()
    assert same_bits(first["model"], second["model"])
    assert first["history"] == second["history"]


def test_two_processes_train_like_one_on_the_joined_batches(folder: Path) -> None:
    """In float64, where nine Adam steps amplify reordered sums to less than 1e-9."""
    two, one = outcome(folder, "train"), outcome(folder, "train", world_size=1)
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-9, atol=1e-9)
    for got, expected in zip(two["history"], one["history"], strict=True):
        for part in ("train", "validation"):
            assert got[part] == pytest.approx(expected[part], rel=1e-6, abs=1e-9)
        for name in ("epoch", "step", "usage", "revived", "learning_rate"):
            assert got[name] == expected[name]
        assert got["perplexity"] == pytest.approx(expected["perplexity"])


def test_only_the_first_process_measures_and_writes(folder: Path) -> None:
    run = ResultFolder.open(folder / "run_of_two")
    assert run.last_epoch == 3
    assert same_bits(run.load_weights(), outcome(folder, "train")["model"])
    assert run.load_log("metrics") == outcome(folder, "train")["history"]
    assert [entry["metrics"] for entry in outcome(folder, "train", rank=1)["history"]] == [{"rank": 0.0}] * 3


@pytest.mark.parametrize("rank", [0, 1])
def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(folder: Path, rank: int) -> None:
    result = outcome(folder, "resume", rank)
    assert same_bits(result["resumed"], result["whole"])
    assert result["epochs"] == [1, 2, 3]


def test_codes_from_averages_are_bit_identical_in_both_processes(folder: Path) -> None:
    first, second = (outcome(folder, "averages", rank) for rank in (0, 1))
    assert {"quantizer.codebook", "quantizer.ema_counts", "quantizer.ema_sums"} <= first["model"].keys()
    assert same_bits(first["model"], second["model"])
    uneven = [outcome(folder, "uneven", rank) for rank in (0, 1)]
    assert same_bits(*uneven)
    assert uneven[0]["codebook"].isfinite().all()


def test_an_ordered_map_averages_the_encodings_of_both_processes(folder: Path) -> None:
    """Both processes have the same bits. The averages are sums over the joined batch, however frames are distributed.

    The networks differ from those of one process, because gradients are means of means over unequal numbers of frames.
    """
    first, second = (outcome(folder, "ordered", rank) for rank in (0, 1))
    assert same_bits(first["model"], second["model"])
    assert first["history"] == second["history"]
    assert first["model"]["quantizer.num_updates"].item() == 9
    one = outcome(folder, "ordered", world_size=1)
    for name in ("quantizer.ema_counts", "quantizer.num_updates"):
        total = first["model"][name].sum()
        torch.testing.assert_close(total, one["model"][name].sum(), rtol=1e-12, atol=1e-12)


def test_a_warm_up_of_two_processes_equals_one_on_the_joined_batches(folder: Path) -> None:
    """Some parameters have no gradient during the warm-up; the encodings' variance is over both processes' batches.

    In float64, where nine Adam steps amplify reordered sums to less than 1e-9.
    """
    first, second = (outcome(folder, "warmed", rank) for rank in (0, 1))
    assert same_bits(first["model"], second["model"])
    assert first["history"] == second["history"]
    one = outcome(folder, "warmed", world_size=1)
    for name, value in one["model"].items():
        torch.testing.assert_close(first["model"][name], value, rtol=1e-9, atol=1e-9)
    totals = [(record["validation"]["total"], record["validation"]["reconstruction_e"]) for record in first["history"]]
    assert [total == alone for total, alone in totals] == [True, False, False]


def test_hardening_with_two_processes_equals_one_on_the_joined_batches(folder: Path) -> None:
    """In float64, where nine Adam steps amplify reordered sums to less than 1e-9."""
    first, second = (outcome(folder, "hardened", rank) for rank in (0, 1))
    assert same_bits(first["model"], second["model"])
    assert first["history"] == second["history"]
    one = outcome(folder, "hardened", world_size=1)
    for name, value in one["model"].items():
        torch.testing.assert_close(first["model"][name], value, rtol=1e-9, atol=1e-9)
    assert first["history"][-1]["train"]["hardening"] > 0


def test_models_with_random_draws_have_the_same_weights_and_records_in_both_processes(folder: Path) -> None:
    first, second = (outcome(folder, "drawn", rank) for rank in (0, 1))
    assert same_bits(first["model"], second["model"])
    assert first["history"] == second["history"]
    assert first["model"]["capacity_z"].item() > 0


def test_averages_of_two_processes_equal_those_of_the_joined_batches(folder: Path) -> None:
    """In float64, where fifteen Adam steps amplify reordered sums to less than 1e-9."""
    two, one = outcome(folder, "averages"), outcome(folder, "averages", world_size=1)
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-9, atol=1e-9)
    for got, expected in zip(two["history"], one["history"], strict=True):
        assert (got["usage"], got["revived"]) == (expected["usage"], expected["revived"])
    for kind in ("uneven", "uneven map"):
        for name, value in outcome(folder, kind, world_size=1).items():
            torch.testing.assert_close(outcome(folder, kind)[name], value, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("case", [0, 1], ids=["different numbers of rows", "rows of one process"])
def test_the_gradient_of_a_table_is_the_mean_over_the_processes(folder: Path, case: int) -> None:
    first, second = (outcome(folder, "rows", rank) for rank in (0, 1))
    expected = (first["own"][case] + second["own"][case]) / 2
    for result in (first, second):
        torch.testing.assert_close(result["means"][case], expected)
    assert first["means"][case].equal(second["means"][case])


def test_both_processes_stop_at_a_loss_that_is_not_finite(folder: Path) -> None:
    messages = [outcome(folder, "broken", rank) for rank in (0, 1)]
    assert messages[0] == messages[1]
    assert "loss is nan at step" in messages[0]


def test_both_processes_report_models_that_differ_at_the_end(folder: Path) -> None:
    messages = [outcome(folder, "differing", rank) for rank in (0, 1)]
    assert messages[0] == messages[1]
    assert messages[0].startswith("fit: the bits of the model must be the same in all processes, got SHA-256 ")


def test_an_error_of_the_first_process_stops_both(folder: Path) -> None:
    assert outcome(folder, "failing", rank=0) == "no room for epoch 1"
    assert outcome(folder, "failing", rank=1) == "fit: process 0 failed: OSError: no room for epoch 1"
