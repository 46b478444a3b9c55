"""The page of results, rendered from the JSON files of experiments."""

from __future__ import annotations

import itertools
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from somvae_ext.experiments.protocol import IMAGES
from somvae_ext.experiments.results import read_results
from somvae_ext.store import atomic_file, check_writable

_DATA = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "lorenz": "Lorenz system",
    "pig-cvp": "PigCVP",
    "eicu": "eICU",
}
_MARK = "<!-- written by somvae experiment -->"
_INTRODUCTION = (
    "The tables and figures of the SOM-VAE paper and of its successor, on real data where they are available. `somvae "
    "experiment NAME` measures "
    "them and writes this page from its JSON files. Every row has the same tuning budget: each of its settings is "
    "trained once and measured on the validation split, and the best one there is trained again with other seeds and "
    "reported on the test split, as mean ± standard error. Cited figures are those of the literature, with larger "
    "networks and longer training.",
    "On images, rows with a network share its convolutions, batch size, learning rate and the random transforms of the "
    "training images; GB-SOM has no layers, and its learning rate is among its settings. The size of the encodings, "
    "the number of epochs and, with hardening on MNIST, whether the transformed image is to be reconstructed belong to "
    "the method. Settings lie around the presets of `somvae fit`, which were found earlier with the test figures in "
    "view. After a first complete run, the ranges of rows whose best setting was at an end were widened once.",
    "The topographic error is the share of test samples whose second best node is not a neighbor of the best, among "
    "pixels for maps of pixels and among encodings for networks. The order is the mean distance between the decoded "
    "codes of neighbors, divided by that between all nodes: lower is better, and a map without order has about one.",
)


def page_path(folder: Path) -> Path:
    """The path of the page of a folder of results: ``FOLDER.md``, beside the folder.

    Raises:
        FileExistsError: the path holds something else, or a file is where a folder should be.
        PermissionError: the page cannot be written there.
    """
    folder = _normalize(folder)
    path = folder.with_name(f"{folder.name or 'results'}.md")
    check_writable(path.parent)
    if path.exists() and (path.is_dir() or _MARK.encode() not in path.read_bytes()):
        raise FileExistsError(f"{path} is where the page of the results should be, but holds something else")
    return path


def write_page(folder: Path, names: list[str]) -> Path:
    """Writes the page of a folder of results.

    Args:
        folder: holds ``NAME.json`` and ``NAME-quick.json``, and the pictures.
        names: names of the experiments, in the order of their sections.

    Returns:
        The path of the page, see :func:`page_path`.

    Raises:
        ValueError: a JSON file is not that of an experiment.
        OSError: the page cannot be written.
    """
    path = page_path(folder)
    text = render_page(folder, names)
    with atomic_file(path) as file:
        file.write(text.encode())
    return path


def render_page(folder: Path, names: list[str]) -> str:
    """The text of the page, see :func:`write_page`."""
    folder = _normalize(folder)
    parts = ["# Results", _MARK, *_INTRODUCTION]
    for name in names:
        paths = [path for path in (folder / f"{name}.json", folder / f"{name}-quick.json") if path.is_file()]
        sections = [(path.stem, read_results(path)) for path in paths]
        if sections:
            parts += [f"## {sections[0][1]['title']}", sections[0][1]["about"]]
        for stem, results in sections:
            parts += _render_section(stem, results, folder)
    return "\n\n".join(parts) + "\n"


def _normalize(folder: Path) -> Path:
    """The folder's absolute path, without dots."""
    return Path(os.path.abspath(folder))


def _render_section(stem: str, results: dict[str, Any], folder: Path) -> Iterator[str]:
    """The tables of one file: one for each kind of data."""
    yield f"### `somvae experiment {results['experiment']}{' --quick' if stem.endswith('-quick') else ''}`"
    yield _describe_budget(results)
    yield _describe_machines(results)
    groups = itertools.groupby(results["rows"], key=lambda row: (row["data"], row["recipe"]))
    for (data, recipe), rows in groups:
        group = list(rows)
        done = [row for row in group if row["summary"] is not None]
        title = _DATA.get(data, data) + (f", recipe `{recipe}`" if recipe else "")
        yield f"**{title}**"
        if done:
            yield _render_table(done, results)
        yield from (f"{row['method']}: {row['missing']}." for row in group if row["summary"] is None)
        yield from _compare_orders(done, results)
        yield from (note["text"] for note in results["notes"] if (note["data"], note["recipe"]) == (data, recipe))
        picture = folder / f"{stem}-{'-'.join(part for part in (data, recipe) if part)}.png"
        if picture.is_file():
            link = urllib.parse.quote(f"{folder.name}/{picture.name}")
            shown = (
                "what the nodes of each row stand for" if data in IMAGES else "how series move on the nodes of each row"
            )
            yield f"![{title}: {shown}]({link})"
        if done:
            yield _list_settings(done, results)


def _describe_budget(results: dict[str, Any]) -> str:
    budget, rows = results["budget"], results["rows"]
    tuning, reported = budget["tuning"], budget["reported"]
    of_images = any(row["data"] in IMAGES for row in rows)
    sentences = [
        f"Settings are trained on {_describe_size(tuning, of_images)} with seed {budget['tuning_seed']}; the one with "
        f"the greatest `{results['chosen_by']}` on the validation split is trained on "
        f"{_describe_size(reported, of_images)} with seeds {', '.join(str(seed) for seed in budget['seeds'])}."
    ]
    if any(row["recipe"] for row in rows):
        sentences.append(
            f"{tuning['series']} series are made of these images for tuning and {reported['series']} for the "
            "reported trainings; by the paper's recipe there are half as many, each twice as long."
        )
    on_all = sorted({row["method"] for row in rows if row["takes_all_images"]})
    if on_all:
        sentences.append(f"{', '.join(on_all)} always trains on the whole training split.")
    return " ".join(sentences)


def _describe_size(size: dict[str, Any], of_images: bool) -> str:
    share = "" if size["epoch_share"] == 1 else f"{size['epoch_share']:g} of the epochs"
    if of_images:
        return f"{size['images']} images{share and f' and {share}'}"
    return f"all training series{share and f' for {share}'}"


def _describe_machines(results: dict[str, Any]) -> str:
    machines = "; ".join(dict.fromkeys(_describe_machine(machine) for machine in results["machines"]))
    spent = "; ".join(
        f"{command['trainings']} trainings, {command['workers']} at once, in {command['minutes']:.1f} minutes"
        for command in results["commands"]
    )
    return (
        f"Measured on {machines or 'no machine yet'}{f' ({spent})' if spent else ''}. CPU minutes are those of one "
        "reported training, on one thread."
    )


def _describe_machine(machine: dict[str, Any]) -> str:
    device = machine.get("gpu", {}).get("name") or machine["cpu"]
    commit = f", commit {machine['commit']}" if machine["commit"] else ""
    return f"{device}, torch {machine['torch']}{commit}"


def _render_table(rows: list[dict[str, Any]], results: dict[str, Any]) -> str:
    columns = [
        column for column in results["columns"] if any(column["figure"] in row["summary"]["figures"] for row in rows)
    ]
    cited = [column for column in columns if any(column["figure"] in row["cited"] for row in rows)]
    titles = ["method", *(column["title"] for column in columns)]
    titles += [f"{results['source']}: {column['title']}" for column in cited]
    titles += ["setting", "epochs", "CPU minutes"]
    lines = [_render_line(titles), _render_line(["---"] * len(titles))]
    for row in rows:
        summary = row["summary"]
        num_seeds = len(results["budget"]["seeds"])
        cells = [row["method"]]
        cells += [_format_mean(summary["figures"].get(column["figure"]), num_seeds) for column in columns]
        cells += [_format(row["cited"].get(column["figure"])) for column in cited]
        cells += [summary["setting"], str(summary["epochs"] or ""), _format(summary["cpu_minutes"], 2)]
        lines.append(_render_line(cells))
    return "\n".join(lines)


def _render_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _format_mean(figure: dict[str, float | None] | None, num_seeds: int) -> str:
    """Mean ± standard error, with the number of seeds that have the figure if not all have it."""
    if figure is None:
        return ""
    text = _format(figure["mean"])
    if figure["standard_error"] is not None:
        text += f" ± {_format(figure['standard_error'])}"
    return text if figure["seeds"] == num_seeds else f"{text} ({figure['seeds']:.0f} seeds)"


def _format(value: float | None, digits: int = 3) -> str:
    """A number without the zero before its point; empty for None."""
    if value is None:
        return ""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text


def _compare_orders(rows: list[dict[str, Any]], results: dict[str, Any]) -> Iterator[str]:
    """For each cited figure, which pairs of rows are ordered differently than cited."""
    for column in results["columns"]:
        figure = column["figure"]
        both = [row for row in rows if figure in row["cited"] and figure in row["summary"]["figures"]]
        if len(both) < 2:
            continue
        differing = []
        for first, second in itertools.combinations(both, 2):
            means, errors = zip(*(_mean_and_error(row, figure) for row in (first, second)), strict=True)
            if (first["cited"][figure] - second["cited"][figure]) * (means[0] - means[1]) < 0:
                above, below = (first, second) if means[0] > means[1] else (second, first)
                close = " (by less than the sum of the errors)" if abs(means[0] - means[1]) <= sum(errors) else ""
                differing.append(f"{above['method']} above {below['method']}{close}")
        if differing:
            yield f"By {column['title']} these pairs are ordered differently than cited: {'; '.join(differing)}."
        else:
            yield f"By {column['title']} all of these rows are ordered as cited."


def _mean_and_error(row: dict[str, Any], figure: str) -> tuple[float, float]:
    summary = row["summary"]["figures"][figure]
    return summary["mean"], summary["standard_error"] or 0.0


def _list_settings(rows: list[dict[str, Any]], results: dict[str, Any]) -> str:
    """All settings, with the figure by which one was chosen."""
    lines = [f"<details><summary>what was tried: {results['chosen_by']} on the validation split</summary>", ""]
    for row in rows:
        validation = row["summary"]["validation"]
        tried = [f"{name} {_format(validation[name]) if name in validation else 'failed'}" for name in row["settings"]]
        lines.append(f"- {row['method']}: {'; '.join(tried)}")
    return "\n".join([*lines, "", "</details>"])
