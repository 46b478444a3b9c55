"""The page of results agrees with the JSON files and contains no other numbers."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from somvae_ext.cli.experiment import SUMMARIES
from somvae_ext.experiments import EXPERIMENTS, FULL, QUICK, render_page
from somvae_ext.experiments import page as page_module
from somvae_ext.experiments.protocol import Experiment

DOCS = Path(__file__).parents[2] / "docs"
COMMITTED = sorted((DOCS / "results").glob("*.json"))
NUMBER = re.compile(r"(?<![\w.])\d*\.\d+|(?<![\w.-])\d+(?![\w.])")


def numbers(value: Any) -> Iterator[float]:
    """Yields all numbers in a JSON value, including those in its strings."""
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, str):
        yield from (float(text) for text in NUMBER.findall(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_the_committed_page_is_rendered_from_the_committed_files() -> None:
    assert (DOCS / "results.md").read_text() == render_page(DOCS / "results", list(EXPERIMENTS))


def test_the_committed_page_holds_no_number_that_is_not_in_a_committed_file() -> None:
    """Numbers in a line of a table must be in its row of the JSON file; others may be anywhere in the file."""
    checked = 0
    for name, quick, section in sections((DOCS / "results.md").read_text()):
        results = json.loads((DOCS / "results" / f"{name}{'-quick' if quick else ''}.json").read_text())
        group: list[dict[str, Any]] = []
        for line in section.splitlines():
            if line.startswith("**"):
                group = [row for row in results["rows"] if title(row) == line.strip("*")]
                assert group, line
            rows = [row for row in group if line.startswith((f"| {row['method']} |", f"- {row['method']}: "))]
            source = rows if rows else [{key: results[key] for key in results.keys() - {"rows", "trials", "configs"}}]
            known = [number for each in source for number in numbers(each)]
            for text in NUMBER.findall(line):
                checked += 1
                slack = 0.501 * 10.0 ** -len(text.partition(".")[2])
                assert any(abs(float(text) - number) <= slack for number in known), line
    assert checked > 100


def sections(page: str) -> Iterator[tuple[str, bool, str]]:
    """Yields the experiment's name, whether it is the quick version, and the text, for each table of a page."""
    for part in page.split("\n### ")[1:]:
        command, _, text = part.partition("\n")
        match = re.fullmatch(r"`somvae experiment (\w+)( --quick)?`", command)
        assert match is not None, command
        yield match[1], match[2] is not None, text.partition("\n## ")[0]


def title(row: dict[str, Any]) -> str:
    data = page_module._DATA[row["data"]]
    return f"{data}, recipe `{row['recipe']}`" if row["recipe"] else data


def test_there_are_committed_files() -> None:
    assert COMMITTED


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_summaries_in_committed_files_agree_with_their_trainings(path: Path) -> None:
    results = json.loads(path.read_text())
    for row in results["rows"]:
        summary = row["summary"]
        assert summary is not None, row["missing"]
        trials = [trial for trial in results["trials"] if trial["row"] == row["key"]]
        tuned = {
            trial["setting"]: trial["figures"][results["chosen_by"]]
            for trial in trials
            if (trial["held_out"], trial["seed"]) == ("validation", results["budget"]["tuning_seed"])
        }
        assert summary["validation"] == tuned
        assert tuned[summary["setting"]] == max(tuned.values())
        runs = [trial for trial in trials if (trial["held_out"], trial["setting"]) == ("test", summary["setting"])]
        assert sorted(trial["seed"] for trial in runs) == results["budget"]["seeds"]
        assert summary["cpu_minutes"] == pytest.approx(np.mean([run["cpu_minutes"] for run in runs]), abs=1e-3)
        for name, figure in summary["figures"].items():
            values = [run["figures"][name] for run in runs if name in run["figures"]]
            assert figure["seeds"] == len(values)
            assert figure["mean"] == pytest.approx(np.mean(values), abs=1e-6)
            if len(values) > 1:
                error = np.std(values, ddof=1) / len(values) ** 0.5
                assert figure["standard_error"] == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_files_match_the_current_experiments(path: Path) -> None:
    results = json.loads(path.read_text())
    experiment = EXPERIMENTS[results["experiment"]]
    budget = QUICK if path.stem.endswith("-quick") else FULL
    assert results["budget"] == json.loads(json.dumps(dataclasses.asdict(budget)))
    assert [row["key"] for row in results["rows"]] == [row.key for row in experiment.rows]
    for committed_row, row in zip(results["rows"], experiment.rows, strict=True):
        assert committed_row["settings"] == [setting.name for setting in row.method.settings]
        assert committed_row["cited"] == dict(row.cited)
    assert not [machine["commit"] for machine in results["machines"] if machine["commit"].endswith("-dirty")]


def committed(name: str, data: str, method: str) -> dict[str, dict[str, float]]:
    """Returns the figures of a row of a committed file."""
    results = json.loads((DOCS / "results" / f"{name}.json").read_text())
    (row,) = [row for row in results["rows"] if (row["data"], row["method"]) == (data, method)]
    figures: dict[str, dict[str, float]] = row["summary"]["figures"]
    return figures


@pytest.mark.parametrize("name", ["table1-quick", "table1"])
def test_kmeans_has_the_figures_of_the_paper(name: str) -> None:
    """The method is the same as the paper's, so this checks the metrics."""
    figures = committed(name, "mnist", "k-means")
    assert figures["purity"]["mean"] == pytest.approx(0.69, abs=0.01)
    assert figures["nmi_arithmetic"]["mean"] == pytest.approx(0.54, abs=0.01)


def test_hardening_reaches_the_cited_figures_of_som_vae() -> None:
    cited = {row.key: row.cited for row in EXPERIMENTS["table1"].rows}
    mnist = committed("table1", "mnist", "SOM-VAE with hardening")
    assert mnist["purity"]["mean"] >= cited["mnist-som-vae"]["purity"]
    assert mnist["nmi_arithmetic"]["mean"] >= cited["mnist-som-vae"]["nmi_arithmetic"]
    fashion = committed("table1", "fashion-mnist", "SOM-VAE with hardening")
    assert fashion["nmi_arithmetic"]["mean"] >= cited["fashion-mnist-som-vae"]["nmi_arithmetic"]
    purity = fashion["purity"]
    assert purity["mean"] + purity["deviation"] >= cited["fashion-mnist-som-vae"]["purity"]


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist"])
def test_maps_of_512_nodes_are_ordered(data: str) -> None:
    figures = committed("map512", data, "SOM-VAE, ordered")
    assert figures["topographic_error_4"]["mean"] <= 0.25
    assert figures["order"]["mean"] <= 0.45


@pytest.mark.parametrize(
    "method", ["SOM-VAE-prob, ordered", "SOM-VAE-prob, ordered, window, prediction", "SOM-VAE, own loss"]
)
def test_macro_states_find_the_lobes_of_the_lorenz_system(method: str) -> None:
    figures = committed("lorenz", "lorenz", method)
    assert figures["macro_accuracy"]["mean"] >= 0.9
    assert figures["purity"]["mean"] > 1.5 * figures["noise_purity"]["mean"]


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
def test_prose_has_no_figures(experiment: Experiment) -> None:
    texts = [experiment.about, *experiment.notes.values(), *page_module._INTRODUCTION]
    assert [NUMBER.findall(text) for text in texts] == [[]] * len(texts)


def write(folder: Path, cited: dict[str, float], measured: dict[str, float | None]) -> str:
    """Returns the page of an experiment whose rows have these means; None marks an incomplete row."""
    folder.mkdir(exist_ok=True)
    rows = []
    for name, mean in measured.items():
        figures = {
            "purity": {"mean": mean, "deviation": 0.02, "standard_error": 0.011, "seeds": 3},
            "order": {"mean": 0.25, "deviation": 0.02, "standard_error": 0.01, "seeds": 2},
        }
        summary = {
            "setting": "one",
            "validation": {"one": 0.5},
            "epochs": 4,
            "figures": figures,
            "cpu_minutes": 1.25,
        }
        rows.append(
            {
                "key": name,
                "data": "mnist",
                "recipe": None,
                "method": name,
                "settings": ["one", "two"],
                "takes_all_images": False,
                "cited": {"purity": cited[name]} if name in cited else {},
                "missing": "not measured yet" if mean is None else None,
                "summary": None if mean is None else summary,
            }
        )
    size = {"images": 5, "series": 2, "epoch_share": 1.0}
    contents = {
        "format": 1,
        "experiment": "table1",
        "title": "Table",
        "about": "About it.",
        "notes": [{"data": "mnist", "recipe": None, "text": "A note."}],
        "source": "paper",
        "budget": {"tuning": size, "reported": size, "seeds": [0, 1, 2], "tuning_seed": 10},
        "chosen_by": "purity",
        "columns": [{"figure": "purity", "title": "purity"}, {"figure": "order", "title": "order"}],
        "machines": [{"cpu": "Some CPU", "torch": "2.0", "commit": "abc", "time": "now"}],
        "commands": [{"trainings": 7, "workers": 2, "minutes": 12.3}],
        "rows": rows,
        "trials": [],
        "configs": [],
    }
    (folder / "table1.json").write_text(json.dumps(contents))
    return render_page(folder, ["table1", "table2"])


def test_a_row_shows_mean_error_setting_and_cited_figure(tmp_path: Path) -> None:
    text = write(tmp_path, {"a": 0.731}, {"a": 0.75049, "b": 1.0})
    assert "| method | purity | order | paper: purity | setting | epochs | CPU minutes |" in text
    assert "| a | .750 ± .011 | .250 ± .010 (2 seeds) | .731 | one | 4 | 1.25 |" in text
    assert "| b | 1.000 ± .011 | .250 ± .010 (2 seeds) |  | one | 4 | 1.25 |" in text
    assert "- a: one .500; two failed" in text
    assert "A note." in text
    assert "Some CPU, torch 2.0, commit abc (7 trainings, 2 at once, in 12.3 minutes)" in text
    assert "Table 2" not in text


def test_rows_whose_order_differs_from_the_cited_one_are_named(tmp_path: Path) -> None:
    paper = {"a": 0.3, "b": 0.5, "c": 0.7}
    same = write(tmp_path, paper, {"a": 0.1, "b": 0.2, "c": 0.3})
    assert "By purity all of these rows are ordered as cited." in same
    turned = write(tmp_path, paper, {"a": 0.4, "b": 0.2, "c": 0.39})
    sentence = (
        "these pairs are ordered differently than cited: a above b; a above c (by less than the sum of the errors)"
    )
    assert sentence in turned


def test_rows_that_are_not_complete_are_named(tmp_path: Path) -> None:
    text = write(tmp_path, {}, {"a": 0.1, "b": None})
    assert "b: not measured yet." in text
    assert "| b |" not in text


def test_each_title_of_a_row_names_a_different_file() -> None:
    for experiment in EXPERIMENTS.values():
        keys = [row.key for row in experiment.rows]
        assert len(set(keys)) == len(keys)
        assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in keys)


def test_the_help_and_the_library_use_the_same_names_for_experiments() -> None:
    assert list(SUMMARIES) == list(EXPERIMENTS)
    assert all(name == experiment.name for name, experiment in EXPERIMENTS.items())
