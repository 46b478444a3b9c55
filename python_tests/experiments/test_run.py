"""Experiments at tiny size: every row is trained, its setting chosen on validation data, and the result saved."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from somvae_ext.experiments import EXPERIMENTS, Budget, Experiment, Row, Size, run_experiment
from somvae_ext.experiments.datasets import load_choice
from somvae_ext.experiments.networks import SOMVAEMethod
from somvae_ext.experiments.protocol import Task
from somvae_ext.experiments.windows import WindowKMeans

TINY_SIZE = Size(images=160, series=8, epoch_share=0.01)
TINY = Budget(TINY_SIZE, TINY_SIZE, seeds=(0, 1))


def run(experiment: Experiment, folder: Path, root: Path, **options: Any) -> dict[str, Any]:
    path = run_experiment(
        experiment, TINY, folder, experiment.name, root=root, **{"workers": 1, "report": ignore, **options}
    )
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def ignore(line: str) -> None:
    pass


def rows_titled(name: str, *titles: str) -> Experiment:
    """Returns an experiment with only some of its rows of MNIST."""
    experiment = EXPERIMENTS[name]
    rows = tuple(row for row in experiment.rows if row.data == "mnist" and row.method.title in titles)
    return dataclasses.replace(experiment, rows=rows)


def with_settings(row: Row, count: int) -> Row:
    """Returns the row with only the first ``count`` settings of its method."""
    method: Any = row.method
    if isinstance(method, WindowKMeans):
        return dataclasses.replace(row, method=dataclasses.replace(method, windows=method.windows[:count]))
    return dataclasses.replace(row, method=dataclasses.replace(method, settings=method.settings[:count]))


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    configs = results["configs"]
    trials = [{**trial, "cpu_minutes": 0, "config": configs[trial["config"]]} for trial in results["trials"]]
    rows = [{**row, "summary": {**row["summary"], "cpu_minutes": 0}} for row in results["rows"]]
    by_name = sorted(trials, key=lambda trial: (trial["row"], trial["setting"], trial["seed"]))
    return {**results, "trials": by_name, "rows": rows, "machines": None, "configs": None, "commands": None}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("table1", "fashion-mnist"),
        ("table2", "mnist"),
        ("map512", "fashion-mnist"),
        ("hardening", "mnist"),
        ("lorenz", "lorenz"),
        ("vitals", "pig-cvp"),
        ("eicu", "eicu"),
    ],
)
def test_every_row_is_measured_and_drawn(
    name: str, data: str, tmp_path: Path, root: Path, few_series: None, eicu_folder: Path
) -> None:
    rows = tuple(with_settings(row, 2) for row in EXPERIMENTS[name].rows if row.data == data)
    experiment = dataclasses.replace(EXPERIMENTS[name], rows=rows)
    budget = dataclasses.replace(TINY, seeds=(0,))
    folder = eicu_folder if name == "eicu" else root
    path = run_experiment(experiment, budget, tmp_path, name, root=folder, workers=1, device="cpu", report=ignore)
    results = json.loads(path.read_text())
    for row, result in zip(experiment.rows, results["rows"], strict=True):
        method: Any = row.method
        figures = result["summary"]["figures"]
        assert {experiment.chosen_by, "usage"} <= figures.keys(), row.key
        assert ("topographic_error_4" in figures) == method.is_map, row.key
        assert ("order" in figures) <= method.is_map, row.key  # a map whose codes are all equal has none
        assert len(result["summary"]["validation"]) == 2
    assert {column.figure for column in experiment.columns} <= {
        figure for row in results["rows"] for figure in row["summary"]["figures"]
    }
    pictures = {"-".join(filter(None, (name, row["data"], row["recipe"]))) + ".png" for row in results["rows"]}
    assert pictures == {path.name for path in tmp_path.glob("*.png")}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_row_has_the_same_budget(name: str) -> None:
    for row in EXPERIMENTS[name].rows:
        assert len({setting.name for setting in row.method.settings}) == 4
        assert len({str(setting.options) for setting in row.method.settings}) == 4


@pytest.mark.parametrize("name", ["table1", "table2", "map512", "hardening"])
def test_rows_with_a_network_share_layers_steps_and_transforms(name: str, root: Path) -> None:
    """Only GB-SOM differs: by definition it has no layers and its own learning rates, but the same augmentation."""
    shared = ("batch_size", "decay_factor", "max_shift", "max_rotation", "max_scale", "max_shear")
    seen: dict[tuple[str, str | None], Any] = {}
    for row in EXPERIMENTS[name].rows:
        if not isinstance(row.method, SOMVAEMethod):
            continue
        data = row.choose_data(TINY.tuning)
        for setting in row.method.settings:
            task = Task(data, load_choice(data, str(root)), 1.0, 0, "test", "cpu")
            config = row.method.resolve(setting, task)
            training = {field: config["training"][field] for field in shared}
            assert min(training.values()) > 0
            assert seen.setdefault((row.data, row.recipe), training) == training, (row.key, setting.name)
            has_layers = row.method.title != "GB-SOM"
            assert config["model"]["network"] == ("small-conv" if has_layers else "identity")
            assert not has_layers or config["training"]["learning_rate"] == (2e-3 if row.recipe is None else 1e-3)


def test_settings_are_chosen_on_validation_data_and_reported_on_test_data(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")
    results = run(experiment, tmp_path, root)
    (row,) = results["rows"]
    tuned = {t["setting"]: t["figures"]["nmi_arithmetic"] for t in results["trials"] if t["held_out"] == "validation"}
    reported = [trial for trial in results["trials"] if trial["held_out"] == "test"]
    assert row["summary"]["setting"] == max(tuned, key=lambda name: tuned[name])
    assert {trial["setting"] for trial in reported} == {row["summary"]["setting"]}
    assert {trial["seed"] for trial in reported} == set(TINY.seeds)
    assert {t["seed"] for t in results["trials"] if t["held_out"] == "validation"} == {TINY.tuning_seed}


def test_means_and_standard_errors_are_those_of_the_seeds(tmp_path: Path, root: Path) -> None:
    results = run(rows_titled("table1", "minisom"), tmp_path, root)
    values = [t["figures"]["purity"] for t in results["trials"] if t["held_out"] == "test"]
    figure = results["rows"][0]["summary"]["figures"]["purity"]
    assert figure["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert figure["standard_error"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)), abs=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_experiment_resumes_to_the_same_results(workers: int, tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM", "gradcopy")
    whole = run(experiment, tmp_path / "whole", root)
    lines: list[str] = []

    def stop_after_three(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(experiment, tmp_path / "parts", root, report=stop_after_three, workers=workers)
    kept = json.loads((tmp_path / "parts" / "table1.json").read_text())["trials"]
    assert len(kept) == 3
    again = run(experiment, tmp_path / "parts", root)
    assert without_times(again) == without_times(whole)
    assert [trial["cpu_minutes"] for trial in again["trials"][:3]] == [trial["cpu_minutes"] for trial in kept]


def test_several_processes_give_the_results_of_one(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM", "gradcopy")
    one, two = (run(experiment, tmp_path / str(workers), root, workers=workers) for workers in (1, 2))
    assert without_times(one) == without_times(two)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_networks_train_on_each_device(device: str, tmp_path: Path, root: Path) -> None:
    results = run(rows_titled("table1", "SOM-VAE with hardening"), tmp_path, root, device=device)
    assert results["rows"][0]["missing"] is None
    assert {config["device"] for config in results["configs"]} == {device}


def test_a_changed_setting_is_trained_again_and_its_former_results_are_dropped(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")
    before = run(experiment, tmp_path, root)
    (row,) = experiment.rows
    chosen = before["rows"][0]["summary"]["setting"]
    settings = [
        dataclasses.replace(setting, options={"sigma_final": 0.9}) if setting.name == chosen else setting
        for setting in row.method.settings
    ]
    method = dataclasses.replace(row.method, settings=tuple(settings))  # type: ignore[type-var]
    changed = dataclasses.replace(experiment, rows=(dataclasses.replace(row, method=method),))

    def stop_before_training(line: str) -> None:
        lines.append(line)
        if line.startswith("tuning"):
            raise KeyboardInterrupt

    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(changed, tmp_path, root, report=stop_before_training)
    assert lines[0] == "3 trainings are dropped, which had other data, options or sizes"
    between = json.loads((tmp_path / "table1.json").read_text())
    assert len(between["trials"]) == 3  # the other settings
    assert between["rows"][0]["summary"] is None
    lines = []
    run(changed, tmp_path, root, report=lines.append)
    assert sum(line.startswith("tuning 1/1") for line in lines) == 1


def test_lost_pictures_of_the_nodes_are_made_again(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")
    run(experiment, tmp_path, root)
    (prototypes,) = (tmp_path / "table1").glob("*.npz")
    kept = prototypes.read_bytes()
    prototypes.unlink()
    lines: list[str] = []
    run(experiment, tmp_path, root, report=lines.append)
    assert prototypes.read_bytes() == kept
    assert sum(line.startswith("chosen settings 1/1") for line in lines) == 1


def test_the_full_experiment_reuses_the_tuning_of_the_quick_one(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")
    run_experiment(experiment, TINY, tmp_path, "table1-quick", root=root, workers=1, device="cpu", report=ignore)
    lines: list[str] = []
    larger = dataclasses.replace(TINY, reported=dataclasses.replace(TINY.reported, images=200))
    run_experiment(experiment, larger, tmp_path, "table1", root=root, workers=1, device="cpu", report=lines.append)
    assert lines[0] == "tuning: 4 of 4 trainings are there already"
    assert any(line.startswith("chosen settings 1/2") for line in lines)


def break_training(monkeypatch: pytest.MonkeyPatch, name: str, held_out: str) -> None:
    """Makes trainings with a setting fail."""
    train = SOMVAEMethod.train

    def fail(self: Any, setting: Any, task: Any) -> Any:
        if (setting.name, task.held_out) == (name, held_out):
            raise FloatingPointError("the loss is not finite")
        return train(self, setting, task)

    monkeypatch.setattr(SOMVAEMethod, "train", fail)


def test_a_setting_whose_loss_is_not_finite_is_not_chosen(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = rows_titled("table1", "gradcopy")
    best = run(experiment, tmp_path / "before", root)["rows"][0]["summary"]["setting"]
    break_training(monkeypatch, best, "validation")
    (row,) = run(experiment, tmp_path / "after", root)["rows"]
    assert row["summary"]["setting"] != best
    assert best not in row["summary"]["validation"]


def test_a_chosen_setting_that_fails_is_reported_and_not_trained_again(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = rows_titled("table1", "gradcopy")
    best = run(experiment, tmp_path / "before", root)["rows"][0]["summary"]["setting"]
    break_training(monkeypatch, best, "test")
    lines: list[str] = []
    for _ in range(2):
        (row,) = run(experiment, tmp_path / "after", root, report=lines.append)["rows"]
        assert row["summary"] is None
        assert row["missing"] == "with seed 0, 1 a loss was not finite"
    assert sum(line.startswith("chosen settings 1/") for line in lines) == 1
    assert not list((tmp_path / "after").glob("*.png"))


def test_a_row_without_a_trainable_setting_does_not_stop_the_others(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(SOMVAEMethod, "train", fail)
    results = run(rows_titled("table1", "gradcopy", "batch SOM"), tmp_path, root)
    missing = {row["method"]: row["missing"] for row in results["rows"]}
    assert missing == {"batch SOM": None, "gradcopy": "no setting could be trained, because a loss was not finite"}


def test_an_infinite_figure_is_left_out(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = SOMVAEMethod.train

    def diverge(*arguments: Any) -> Any:
        outcome = train(*arguments)
        return outcome._replace(figures=outcome.figures | {"commitment": float("inf"), "order": float("nan")})

    monkeypatch.setattr(SOMVAEMethod, "train", diverge)
    (row,) = run(rows_titled("table1", "gradcopy"), tmp_path, root)["rows"]
    assert {"purity"} == {"purity", "commitment", "order"} & row["summary"]["figures"].keys()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "gpu"}, "device must be 'auto', 'cpu' or 'cuda', got 'gpu'"),
        ({"workers": 0}, "workers must be an integer of at least 1, got 0"),
        ({"workers": 1.5}, "workers must be an integer of at least 1, got 1.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], sentence: str, tmp_path: Path, root: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        run(rows_titled("table1", "batch SOM"), tmp_path / "out", root, **options)
    assert not (tmp_path / "out").exists()


def test_a_process_that_the_system_kills_is_reported_with_one_sentence(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = rows_titled("table1", "batch SOM")
    (row,) = experiment.rows
    method = dataclasses.replace(row.method, fit=_end_process)  # type: ignore[type-var]
    experiment = dataclasses.replace(experiment, rows=(dataclasses.replace(row, method=method),))
    with pytest.raises(OSError, match="the system has ended one of 2 trainings"):
        run(experiment, tmp_path, root, workers=2)


def _end_process(*arguments: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def test_budgets_do_not_tune_with_a_seed_that_is_reported() -> None:
    with pytest.raises(ValueError, match="without tuning_seed = 1"):
        Budget(TINY_SIZE, TINY_SIZE, seeds=(0, 1), tuning_seed=1)


def test_two_commands_do_not_share_a_folder(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")

    def start_another(line: str) -> None:
        run(experiment, tmp_path, root)

    with pytest.raises(BlockingIOError, match="being written to by another process"):
        run(experiment, tmp_path, root, report=start_another)


@pytest.mark.parametrize(
    "contents", [b"", b"[1]", b'{"format": 99, "configs": []}', b"[" * 100_000, b'{"format": NaN}']
)
def test_a_file_with_other_contents_is_refused(contents: bytes, tmp_path: Path, root: Path) -> None:
    (tmp_path / "table1.json").write_bytes(contents)
    with pytest.raises(ValueError, match=r"table1\.json: must be what somvae experiment has written.*move it away"):
        run(rows_titled("table1", "batch SOM"), tmp_path, root)
    assert (tmp_path / "table1.json").read_bytes() == contents


@pytest.mark.parametrize("part", ["machines", "rows", "trials", "configs", "commands", "budget"])
def test_a_file_with_damaged_parts_is_refused(part: str, tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")
    run(experiment, tmp_path, root)
    path = tmp_path / "table1.json"
    whole = json.loads(path.read_text())
    for damaged in ({}, [], [7], [{"unknown": 1}], None):
        path.write_text(json.dumps({**whole, part: damaged}))
        if damaged == [] and part in ("rows", "commands"):
            continue  # valid: as before the first training
        if damaged == [] and part == "trials":
            continue
        with pytest.raises(ValueError, match="must be what somvae experiment has written"):
            run(experiment, tmp_path, root)


def test_the_file_of_another_experiment_is_refused(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")
    run(experiment, tmp_path, root)
    (tmp_path / "map512.json").write_bytes((tmp_path / "table1.json").read_bytes())
    with pytest.raises(ValueError, match="must hold the experiment map512, got 'table1'"):
        run(EXPERIMENTS["map512"], tmp_path, root)


def test_changed_data_under_the_same_name_are_trained_on_again(tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", "batch SOM")
    run(experiment, tmp_path / "out", root)
    other = shutil.copytree(root, tmp_path / "data")
    images = other / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    contents = bytearray(images.read_bytes())
    contents[-1] ^= 255
    images.write_bytes(contents)
    lines: list[str] = []
    run(experiment, tmp_path / "out", other, report=lines.append)
    assert lines[0] == "6 trainings are dropped, which had other data, options or sizes"
    assert lines[1].startswith("tuning 1/4")


def swap_labels(root: Path, folder: Path, part: str, rows: slice) -> Path:
    """Copies the data and changes some labels of MNIST."""
    other = shutil.copytree(root, folder)
    labels = other / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte"
    contents = bytearray(labels.read_bytes())
    header = 8
    values = contents[header:]
    values[rows] = bytes(reversed(values[rows]))
    labels.write_bytes(contents[:header] + values)
    return other


TITLES = ["k-means", "minisom", "batch SOM", "SOM-VAE with hardening"]


@pytest.mark.parametrize("title", TITLES)
def test_no_choice_depends_on_test_labels(title: str, tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", title)
    whole = run(experiment, tmp_path / "whole", root)
    other = run(experiment, tmp_path / "other", swap_labels(root, tmp_path / "data", "t10k", slice(0, 60)))
    assert nmi(other, "validation") == nmi(whole, "validation")
    assert other["rows"][0]["summary"]["setting"] == whole["rows"][0]["summary"]["setting"]
    assert nmi(other, "test") != nmi(whole, "test")


@pytest.mark.parametrize("title", TITLES)
def test_no_reported_figure_depends_on_validation_labels(title: str, tmp_path: Path, root: Path) -> None:
    experiment = rows_titled("table1", title)
    experiment = dataclasses.replace(experiment, rows=tuple(with_settings(row, 1) for row in experiment.rows))
    whole = run(experiment, tmp_path / "whole", root)
    other = run(experiment, tmp_path / "other", swap_labels(root, tmp_path / "data", "train", slice(200, 240)))
    assert nmi(other, "test") == nmi(whole, "test")
    assert nmi(other, "validation") != nmi(whole, "validation")


def nmi(results: dict[str, Any], held_out: str) -> dict[tuple[str, int], float]:
    """Returns the NMI by setting and seed."""
    trials = [trial for trial in results["trials"] if trial["held_out"] == held_out]
    return {(trial["setting"], trial["seed"]): trial["figures"]["nmi_arithmetic"] for trial in trials}


def test_a_missing_library_is_reported_before_the_first_training(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minisom", None)
    with pytest.raises(ModuleNotFoundError, match="run_experiment needs minisom"):
        run(EXPERIMENTS["table1"], tmp_path, root)
    assert not list(tmp_path.iterdir())
