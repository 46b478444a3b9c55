"""The page of results, made of the JSON files of experiments and of nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from somvae_ext.experiments.results import read_results
from somvae_ext.store import atomic_file

_DATA = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
_INTRODUCTION = (
    "The tables and figures of the SOM-VAE paper and of its successor on real data. `somvae experiment NAME` measures "
    "them and writes this page from its JSON files. Every row has the same budget: each of its settings is trained "
    "once and measured on the validation split, and the best one there is trained again with other seeds and reported "
    "on the test split, as mean ± standard error. Rows with a network share its layers and the random transforms of "
    "the training images. Cited figures are those of the literature, with larger networks and longer training."
)


def write_page(folder: Path, names: list[str]) -> Path:
    """Writes ``folder.md`` beside a folder of results.

    Args:
        folder: holds ``NAME.json`` and ``NAME-quick.json``, and the pictures.
        names: of the experiments, in the order of their sections.

    Returns:
        The path of the page.

    Raises:
        ValueError: a JSON file that is none of an experiment.
        OSError: the page cannot be written.
    """
    path = folder.with_name(f"{folder.name}.md")
    text = render_page(folder, names)
    with atomic_file(path) as file:
        file.write(text.encode())
    return path


def render_page(folder: Path, names: list[str]) -> str:
    """The text of the page, see :func:`write_page`."""
    parts = ["# Results", _INTRODUCTION]
    for name in names:
        found = [folder / f"{each}.json" for each in (name, f"{name}-quick")]
        sections = [(path, read_results(path)) for path in found if path.is_file()]
        if sections:
            parts += [f"## {sections[0][1]['title']}", sections[0][1]["about"]]
        for path, results in sections:
            parts += _section(path, results, folder)
    return "\n\n".join(parts) + "\n"


def _section(path: Path, results: dict[str, Any], folder: Path) -> Iterator[str]:
    """The tables of one file: one for each kind of data."""
    yield f"### `somvae experiment {results['experiment']}{' --quick' if path.stem.endswith('-quick') else ''}`"
    yield _describe_budget(results)
    groups = itertools.groupby(results["rows"], key=lambda row: (row["data"], row["recipe"]))
    for (data, recipe), rows in groups:
        group = list(rows)
        done = [row for row in group if row["summary"] is not None]
        title = f"{_DATA[data]}, recipe `{recipe}`" if recipe else _DATA[data]
        yield f"**{title}**"
        if len(done) < len(group):
            missing = ", ".join(row["method"] for row in group if row["summary"] is None)
            yield f"Not measured yet: {missing}."
        if not done:
            continue
        yield _table(done, results)
        yield from _compare_orders(done, results)
        if data in results["notes"] and recipe in (None, "published"):
            yield results["notes"][data]
        picture = folder / f"{path.stem}-{'-'.join(part for part in (data, recipe) if part)}.png"
        if picture.is_file():
            yield f"![{title}: what the nodes of each row stand for]({folder.name}/{picture.name})"
        yield _tried(done, results)


def _describe_budget(results: dict[str, Any]) -> str:
    budget = results["budget"]
    is_series = any(row["recipe"] for row in results["rows"])
    seeds = ", ".join(str(seed) for seed in budget["seeds"])
    machines = "; ".join(dict.fromkeys(_describe_machine(machine) for machine in results["machines"]))
    series = ""
    if is_series:
        series = f", in {budget['tuning']['series']} and {budget['reported']['series']} series of the published length"
    whole = {row["method"] for row in results["rows"] if row["takes_all_images"]}
    but = f"; {', '.join(sorted(whole))} takes all images" if whole else ""
    return (
        f"Tuned on {budget['tuning']['images']} training images with seed {budget['tuning_seed']}, and reported after "
        f"training on {budget['reported']['images']} with the seeds {seeds}{series}{but}. A setting is chosen by "
        f"`{results['chosen_by']}` on the validation split. CPU minutes are those of one training that is reported, on "
        f"one thread. Machine: {machines}."
    )


def _describe_machine(machine: dict[str, Any]) -> str:
    device = machine.get("gpu", {}).get("name") or machine["cpu"]
    commit = f", commit {machine['commit']}" if machine["commit"] else ""
    return f"{device}, torch {machine['torch']}{commit}"


def _table(rows: list[dict[str, Any]], results: dict[str, Any]) -> str:
    columns = [
        column for column in results["columns"] if any(column["figure"] in row["summary"]["figures"] for row in rows)
    ]
    cited = [column for column in columns if any(column["figure"] in row["paper"] for row in rows)]
    titles = [column["title"] for column in columns]
    titles += [f"{results['source']}: {column['title']}" for column in cited]
    lines = [_line(["method", *titles, "setting", "CPU minutes"]), _line(["---"] * (len(titles) + 3))]
    for row in rows:
        summary = row["summary"]
        cells = [_mean(summary["figures"].get(column["figure"]), column["digits"]) for column in columns]
        cells += [_number(row["paper"].get(column["figure"]), column["digits"]) for column in cited]
        lines.append(_line([row["method"], *cells, summary["setting"], _number(summary["cpu_minutes"], 1)]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(figure: dict[str, float | None] | None, digits: int) -> str:
    if figure is None:
        return ""
    error = figure["standard_error"]
    return _number(figure["mean"], digits) + ("" if error is None else f" ± {_number(error, digits)}")


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text


def _compare_orders(rows: list[dict[str, Any]], results: dict[str, Any]) -> Iterator[str]:
    """Which rows stand the other way round than those that are cited, figure by figure."""
    for column in results["columns"]:
        figure = column["figure"]
        both = [row for row in rows if figure in row["paper"] and figure in row["summary"]["figures"]]
        if len({row["paper"][figure] for row in both}) < 2:
            continue
        turned = []
        for first, second in itertools.combinations(both, 2):
            cited = first["paper"][figure] - second["paper"][figure]
            means = [row["summary"]["figures"][figure]["mean"] for row in (first, second)]
            if cited * (means[0] - means[1]) < 0:
                above, below = (first, second) if means[0] > means[1] else (second, first)
                turned.append(f"{above['method']} above {below['method']}")
        source = results["source"].removesuffix(", as cited")
        if turned:
            yield f"By {column['title']} another order than in the {source}: {', '.join(turned)}."
        else:
            yield f"By {column['title']} the rows stand in the order of the {source}."


def _tried(rows: list[dict[str, Any]], results: dict[str, Any]) -> str:
    """All settings with the figure that chose among them."""
    lines = [f"<details><summary>what was tried: {results['chosen_by']} on the validation split</summary>", ""]
    for row in rows:
        validation = row["summary"]["validation"]
        tried = "; ".join(
            f"{name} {_number(validation[name], 3) if name in validation else 'failed'}" for name in row["settings"]
        )
        lines.append(f"- {row['method']}: {tried}")
    return "\n".join([*lines, "", "</details>"])
