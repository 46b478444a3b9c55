"""The page of results, made of the JSON files of experiments and of nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from somvae_ext.experiments.results import read_results
from somvae_ext.store import atomic_file, check_writable

_DATA = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
_MARK = "<!-- written by somvae experiment -->"
_INTRODUCTION = (
    "The tables and figures of the SOM-VAE paper and of its successor on real data. `somvae experiment NAME` measures "
    "them and writes this page from its JSON files. Every row has the same tuning budget: each of its settings is "
    "trained once and measured on the validation split, and the best one there is trained again with other seeds and "
    "reported on the test split, as mean ± standard error.",
    "Rows with a network share its convolutions, batch size, learning rate and the random transforms of the training "
    "images; GB-SOM, by its definition, has no layers. Size of the encodings, length of the training and, with "
    "hardening on MNIST, whether the transformed image is to be reconstructed belong to the method: they are in the "
    "JSON. The values from which settings are chosen stand around those of the presets of `somvae fit`, which were "
    "found earlier, when test figures were in sight. Cited figures are those of the literature, with larger networks "
    "and longer training.",
)


def page_path(folder: Path) -> Path:
    """The page of a folder of results: ``FOLDER.md``, beside it.

    Raises:
        FileExistsError: another file is there, or a file where a folder should be.
        PermissionError: it must not be written.
    """
    folder = folder.absolute()
    path = folder.with_name(f"{folder.name}.md") if folder.name else folder / "results.md"
    check_writable(path.parent)
    if path.exists() and (path.is_dir() or _MARK.encode() not in path.read_bytes()):
        raise FileExistsError(f"{path} is where the page of the results should be, but holds something else")
    return path


def write_page(folder: Path, names: list[str]) -> Path:
    """Writes the page of a folder of results.

    Args:
        folder: holds ``NAME.json`` and ``NAME-quick.json``, and the pictures.
        names: of the experiments, in the order of their sections.

    Returns:
        The path of the page, see :func:`page_path`.

    Raises:
        ValueError: a JSON file that is none of an experiment.
        OSError: the page cannot be written.
    """
    path = page_path(folder)
    text = render_page(folder, names)
    with atomic_file(path) as file:
        file.write(text.encode())
    return path


def render_page(folder: Path, names: list[str]) -> str:
    """The text of the page, see :func:`write_page`."""
    parts = ["# Results", _MARK, *_INTRODUCTION]
    for name in names:
        paths = [path for path in (folder / f"{name}.json", folder / f"{name}-quick.json") if path.is_file()]
        sections = [(path.stem, read_results(path)) for path in paths]
        if sections:
            parts += [f"## {sections[0][1]['title']}", sections[0][1]["about"]]
        for stem, results in sections:
            parts += _render_section(stem, results, folder)
    return "\n\n".join(parts) + "\n"


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
        note = results["notes"].get(f"{data}, {recipe}" if recipe else data)
        if note is not None:
            yield note
        picture = folder / f"{stem}-{'-'.join(part for part in (data, recipe) if part)}.png"
        if picture.is_file():
            yield f"![{title}: what the nodes of each row stand for]({folder.name}/{picture.name})"
        if done:
            yield _list_settings(done, results)


def _describe_budget(results: dict[str, Any]) -> str:
    budget, rows = results["budget"], results["rows"]
    tuning, reported = budget["tuning"], budget["reported"]
    sentences = [
        f"Settings are trained on {tuning['images']} images with seed {budget['tuning_seed']} and chosen by "
        f"`{results['chosen_by']}` on the validation split; the chosen one is trained on {reported['images']} images "
        f"with seeds {', '.join(str(seed) for seed in budget['seeds'])}."
    ]
    if any(row["recipe"] for row in rows):
        sentences.append(
            f"Of the images are made {tuning['series']} and {reported['series']} series by the published recipe, or "
            "half as many by that of the paper, which are twice as long."
        )
    on_all = sorted({row["method"] for row in rows if row["takes_all_images"]})
    if on_all:
        sentences.append(f"All images of the training split are taken for {', '.join(on_all)}.")
    return " ".join(sentences)


def _describe_machines(results: dict[str, Any]) -> str:
    machines = "; ".join(dict.fromkeys(_describe_machine(machine) for machine in results["machines"]))
    spent = "; ".join(
        f"{command['trainings']} trainings, {command['workers']} at once, in {command['minutes']:.0f} minutes"
        for command in results["commands"]
    )
    return (
        f"Measured on {machines or 'no machine yet'}{f' ({spent})' if spent else ''}. CPU minutes are those of one "
        "training that is reported, on one thread."
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
        cells += [summary["setting"], str(summary["epochs"] or ""), _format(summary["cpu_minutes"], 1)]
        lines.append(_render_line(cells))
    return "\n".join(lines)


def _render_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _format_mean(figure: dict[str, float | None] | None, num_seeds: int) -> str:
    """Mean ± standard error, with the number of seeds that have the figure where these are not all."""
    if figure is None:
        return ""
    text = _format(figure["mean"])
    if figure["standard_error"] is not None:
        text += f" ± {_format(figure['standard_error'])}"
    return text if figure["seeds"] == num_seeds else f"{text} ({figure['seeds']:.0f} seeds)"


def _format(value: float | None, digits: int = 3) -> str:
    """A number without the zero before its point; nothing for None."""
    if value is None:
        return ""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text


def _compare_orders(rows: list[dict[str, Any]], results: dict[str, Any]) -> Iterator[str]:
    """For each cited figure, which rows stand the other way round here than where they are cited from."""
    for column in results["columns"]:
        figure = column["figure"]
        both = [row for row in rows if figure in row["cited"] and figure in row["summary"]["figures"]]
        if len(both) < 2:
            continue
        turned = []
        for first, second in itertools.combinations(both, 2):
            means, errors = zip(*(_mean_and_error(row, figure) for row in (first, second)), strict=True)
            if (first["cited"][figure] - second["cited"][figure]) * (means[0] - means[1]) < 0:
                above, below = (first, second) if means[0] > means[1] else (second, first)
                within = ", within the errors" if abs(means[0] - means[1]) <= sum(errors) else ""
                turned.append(f"{above['method']} above {below['method']}{within}")
        if turned:
            yield f"By {column['title']}, other than where they are cited from, there are {'; '.join(turned)}."
        else:
            yield f"By {column['title']} the rows stand in the order in which they are cited."


def _mean_and_error(row: dict[str, Any], figure: str) -> tuple[float, float]:
    found = row["summary"]["figures"][figure]
    return found["mean"], found["standard_error"] or 0.0


def _list_settings(rows: list[dict[str, Any]], results: dict[str, Any]) -> str:
    """All settings with the figure that chose among them."""
    lines = [f"<details><summary>what was tried: {results['chosen_by']} on the validation split</summary>", ""]
    for row in rows:
        validation = row["summary"]["validation"]
        tried = [f"{name} {_format(validation[name]) if name in validation else 'failed'}" for name in row["settings"]]
        lines.append(f"- {row['method']}: {'; '.join(tried)}")
    return "\n".join([*lines, "", "</details>"])
