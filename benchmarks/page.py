"""Renders the files in `benchmarks/results` as tables: docs/benchmarks.md, and those of README and docs/kernels.

    python benchmarks/page.py

Every figure there comes from a file: a test renders all again and compares them with the committed texts.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from somvae_ext.bench.files import ResultFile
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suites import SUITES
from somvae_ext.bench.table import cells, notes
from somvae_ext.bench.timing import threads_text
from somvae_ext.store import atomic_file

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE, README = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
BEGIN, END = "<!-- begin: written by benchmarks/page.py -->", "<!-- end: written by benchmarks/page.py -->"
PEER = "fastersom"
COMPARED = ("bmu", "pruned", "training", "head")  # the suites whose times README shows

INTRODUCTION = (
    "Speed and memory of the ops, of maps and of whole models beside other libraries, and the results of the presets. "
    "Each section is rendered from one file in `benchmarks/results`, which holds every timed repetition, the "
    "machine, the versions and the build.",
    "Times are medians in milliseconds of calls that took turns in one process: CPU time with one thread, wall time "
    "with more. A column named after another library or formula gives its time as a multiple of ours. *Of ceiling* is "
    "our rate divided by that of the first ceiling, such as a matrix product or a copy, measured in the same turns. A "
    "`~` marks a figure with a note below its table. MiB is the peak memory beyond the inputs.",
)


@dataclass(frozen=True)
class Section:
    """A file of results and how it is shown.

    Attributes:
        file: its name without ``.json``.
        about: what the figures mean; markdown without any figure.
        render: renders its contents as paragraphs of markdown; None for the rows of ``somvae bench``.
    """

    file: str
    title: str
    about: str
    render: Callable[[dict[str, Any]], Iterator[str]] | None = None

    @property
    def path(self) -> Path:
        return RESULTS / f"{self.file}.json"


# --- Tables ----------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], lines: Sequence[Sequence[str]], *, figures: bool = True) -> str:
    """A markdown table without empty columns; the first column is text, the others are figures or text."""
    used = [column for column in range(len(header)) if column < 1 or any(line[column] for line in lines)]
    marks = ["---" if column < 1 or not figures else "--:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(line[column] for column in used)} |" for line in (header, marks, *lines))


def whole_fit(row: Row) -> str:
    return f"{row.extra['fit']['gain']:.2f}x" if "fit" in row.extra else ""


def quantization_errors(row: Row) -> str:
    errors = [row.extra.get("errors", {}).get(name, {}).get("quantization_error") for name in (OURS, PEER)]
    return "" if None in errors else ", ".join(f"{error:.5g}" for error in errors)


def memory_of_peer(row: Row) -> str:
    peak = row.extra.get("peak_extra_bytes", {}).get(PEER)
    return "" if peak is None else f"{peak / 2**20:.0f}"


def update_milliseconds(row: Row) -> str:
    return ", ".join(f"{time * 1e3:.3g}" for time in row.extra.get("update_seconds", {}).values())


EXTRA_COLUMNS: dict[str, dict[str, Callable[[Row], str]]] = {
    "pruned": {"plain over pruned in all epochs of the training": whole_fit},
    "training": {
        f"quantization error, ours and {PEER}'s": quantization_errors,
        f"MiB, {PEER}": memory_of_peer,
    },
    "models": {"update of the codes, wide and narrow, ms": update_milliseconds},
}
"""Additional columns of a suite."""


def render_rows(result: ResultFile) -> Iterator[str]:
    """A table for each number of threads, the notes, the remarks and the claims."""
    suite = result.contents["suite"]
    extra = EXTRA_COLUMNS.get(suite, {})
    others = list(dict.fromkeys(name for row in result.rows for name in row.others))
    header = ["case", "ms", "rate", "of ceiling", "MiB", *extra, *others]
    for threads, group in groupby(sorted(result.rows, key=lambda row: row.threads or 0), key=lambda row: row.threads):
        lines = []
        for row in group:
            first = cells(row, others, with_threads=False)
            lines.append([*first[:5], *(cell(row) for cell in extra.values()), *first[5:]])
        if threads:
            yield f"**{threads_text(threads)}**"
        yield table(header, lines)
    if items := [f"-{line[1:]}" for line in notes(result.rows)]:
        yield "\n".join(items)
    remarks = {name: text for name, text in result.contents["remarks"].items() if name in {OURS, *others}}
    if remarks:
        yield "\n".join(f"- {name}: {text}" for name, text in remarks.items())
    if missing := result.contents["not_installed"]:
        yield f"Not installed, so not measured: {', '.join(missing)}."
    if claims := result.contents["claims"]:
        yield from render_claims(claims)


def render_claims(claims: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields how many claims hold, a table of those that do not, and a folded table of those that do."""
    header, held = ["claim", "threads", "measured"], [claim for claim in claims if claim["held"]]
    failed = [claim for claim in claims if claim["held"] is False]
    missing = len(claims) - len(held) - len(failed)
    yield (
        f"Of {len(claims)} claims {len(held)} hold"
        + (f", {missing} could not be measured" if missing else "")
        + (f", and {len(failed)} do not:" if failed else ".")
    )
    if failed:
        yield table(header, [claim_cells(claim) for claim in failed], figures=False)
    if held:
        holding = table(header, [claim_cells(claim) for claim in held], figures=False)
        yield f"<details><summary>claims that hold</summary>\n\n{holding}\n\n</details>"


def claim_cells(claim: Mapping[str, Any]) -> list[str]:
    return [claim["claim"], str(claim["threads"] or ""), claim["figure"]]


# --- The other files -------------------------------------------------------------------------------------------------


def in_columns(columns: Mapping[str, tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows; a column has a name in the rows, and a format for its values."""
    return table(list(columns), [[format(row[name], how) for name, how in columns.values()] for row in rows])


def render_prediction(contents: dict[str, Any]) -> Iterator[str]:
    columns = {
        "file": ("format", ""),
        "rows": ("rows", ","),
        "MiB of the file": ("file_mib", ".1f"),
        "seconds": ("wall_s", ".1f"),
        "CPU seconds": ("cpu_s", ".1f"),
        "MiB of the process": ("peak_mib", ".0f"),
    }
    yield in_columns(columns, contents["results"])


def render_reading(contents: dict[str, Any]) -> Iterator[str]:
    columns = {
        "reader": ("reader", ""),
        "digits of a number": ("digits", ""),
        "MiB of the file": ("file_mib", ".1f"),
        "CPU seconds": ("cpu_s", ".3f"),
        "seconds": ("wall_s", ".3f"),
        "MiB of the process": ("peak_mib", ".0f"),
    }
    yield in_columns(columns, contents["results"])


def render_rescored(contents: dict[str, Any]) -> Iterator[str]:
    def most(epochs: Sequence[Mapping[str, Any]], name: str) -> float:
        return max(epoch[name] for epoch in epochs)

    yield table(
        ["map", "k", "dtype", "tiles, mean", "tiles, 99th percentile", "share of all scores", "after differences"],
        [
            [
                item["map"],
                str(item["k"]),
                item["dtype"],
                f"{most(item['epochs'], 'mean_tiles'):.2f}",
                f"{most(item['epochs'], 'p99_tiles'):.0f}",
                f"{most(item['epochs'], 'share_of_the_work'):.2%}",
                f"{most(item['epochs'], 'differences_share_of_the_work'):.2%}",
            ]
            for item in contents["maps"]
        ],
    )
    yield from render_claims(contents["claims"])


def render_trials(contents: dict[str, Any]) -> Iterator[str]:
    trials = contents["trials"]
    equal, planted = (
        sum(trial[name]["exit_code"] == code for trial in trials) for name, code in (("equal", 0), ("planted", 1))
    )
    yield (
        f"Nothing was found between equal runs in {equal} of {len(trials)} trials; a slow-down by a factor of "
        f"{contents['factor']:g} was found in {planted} of {len(trials)}."
    )


def render_presets(contents: dict[str, Any]) -> Iterator[str]:
    maps = {name: runs for name, runs in contents["results"].items() if "purity" in runs[0]["test"] and is_map(runs)}
    shown = {
        "purity": "purity",
        "nmi_arithmetic": "NMI",
        "topographic_error_4": "topographic error (4 neighbors)",
        "topographic_error_8": "(8)",
        "topographic_error_6": "(6)",
        "order": "order",
    }
    yield table(
        ["SOM-VAE", *shown.values(), "CPU minutes"],
        [[name, *(spread(runs, figure) for figure in shown), minutes(runs)] for name, runs in maps.items()],
    )
    yield table(
        ["model", "epochs", "losses", "NMI", "ACC", "NMI after epoch 1", "CPU minutes", "others, one seed"],
        [
            [
                name,
                str(runs[0]["epochs"]),
                losses(runs),
                of_epoch(runs, "nmi_arithmetic", -1),
                of_epoch(runs, "acc", -1),
                of_epoch(runs, "nmi_arithmetic", 0),
                minutes(runs),
                contents["cited"].get(name, ""),
            ]
            for name, runs in contents["results"].items()
            if name not in maps
        ],
        figures=False,
    )


def is_map(runs: Sequence[Mapping[str, Any]]) -> bool:
    return "order" in runs[0]["test"]


def spread(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """Mean and standard deviation over the seeds."""
    values = [run["test"][name] for run in runs if name in run["test"]]
    if not values:
        return ""
    mean = short(statistics.mean(values))
    return mean if len(values) == 1 else f"{mean} ± {short(statistics.stdev(values))}"


def minutes(runs: Sequence[Mapping[str, Any]]) -> str:
    return f"{statistics.mean(run['cpu_minutes'] for run in runs):.1f}"


def losses(runs: Sequence[Mapping[str, Any]]) -> str:
    def of_seeds(term: str) -> str:
        return ", ".join(f"{run['train'][term]:.4g}" for run in runs)

    return "; ".join(f"{term} {of_seeds(term)}" for term in runs[0]["train"] if term not in ("total", "balance"))


def of_epoch(runs: Sequence[Mapping[str, Any]], name: str, epoch: int) -> str:
    if name not in runs[0]["each_epoch"]:
        return ""
    return ", ".join(short(run["each_epoch"][name][epoch]) for run in runs)


def short(value: float) -> str:
    """Three digits, without the zero before the point."""
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text


# --- Sections --------------------------------------------------------------------------------------------------------


SECTIONS = [
    Section(
        "bmu",
        "The search of best matching units",
        "Rows and codes are random or, in the part `maps`, those of trained maps. First, each contestant's winners are "
        "compared with ours: a difference that rounding does not explain is noted.",
    ),
    Section(
        "pruned",
        "Searching maps of real data",
        "`BMUIndex` against `ops.bmu` on batch maps of all training images, including the time to build the index; all "
        "winners and distances are equal. The time is that of the search with the winners as hints; the index without "
        "hints, the index built beforehand and the plain search stand beside it.",
    ),
    Section(
        "training",
        "Training maps",
        "The time of an epoch of batch training, from the same initial codes, with the same width of the neighborhood "
        "in each epoch. The first ceiling is `ops.bmu`, our plain search for the winners of an epoch; a pruned "
        "search may exceed it. Quantization errors that agree to 0.1% count as equal, because rounding decides ties.",
    ),
    Section(
        "head",
        "Training steps of the SOM head",
        "Forward, backward and optimizer of the part of a SOM-VAE between encoder and decoders, on series, against "
        "vectorized torch with default and fused Adam, under `torch.compile`, and as Python loops.",
    ),
    Section("models", "Training steps of whole models", "Forward, backward and optimizer on random images."),
    Section(
        "ops", "Every op beside plain torch", "`reference` is the formula that defines the op, written for reading."
    ),
    Section(
        "comparison_trials",
        "Whether `somvae bench compare` tells a slow-down from noise",
        "Runs of `somvae bench bmu --quick`, each compared with a run of the same code, where nothing should be found, "
        "and with a run whose search is slowed down, which should be found.",
        render_trials,
    ),
    Section(
        "rescored_tiles",
        "What the search by tensor cores scores again",
        "Counted without a GPU, in an emulation of the kernel's arithmetic, on maps at every epoch of their training; "
        "the largest value of all epochs is shown.",
        render_rescored,
    ),
    Section(
        "table_reading",
        "Reading tables of text",
        "Each reader loads the file into a float64 array in a separate process; the memory is that of the process "
        "beyond its imports.",
        render_reading,
    ),
    Section(
        "prediction",
        "Predicting long tables",
        "`somvae predict` of a map to Parquet; time and memory are those of the whole process, including imports.",
        render_prediction,
    ),
    Section(
        "presets",
        "Results of the presets",
        "`somvae fit` with each preset, one thread, three seeds: mean and standard deviation on the test split, or "
        "the figure of each seed. Maps have 8 x 8 nodes with the presets `ordered` and `default` and 4 x 4 with "
        "`clusters` and `own-loss`, unless stated otherwise. The topographic error is the share of samples whose "
        "second best node is not a neighbor of the best; the order is the mean distance between decoded neighbors "
        "divided by that between all nodes, one without order. NMI is normalized by the arithmetic mean of the "
        "entropies. Losses are in nats per training sample. For models without a map, NMI and ACC are those after the "
        "last epoch, on the training samples if the preset trains on all of them.",
        render_presets,
    ),
]


def render_quick() -> Iterator[str]:
    """How long each suite took in the run of ``somvae bench --quick``."""
    suites = [json.loads((RESULTS / "quick" / f"{name}.json").read_text(encoding="utf-8")) for name in SUITES]
    total = sum(suite["seconds"] for suite in suites)
    each = ", ".join(f"{suite['suite']} {suite['seconds']:.0f} s" for suite in suites)
    yield "## The quick run"
    yield (
        f"`{suites[0]['command']}` went through all suites in {total / 60:.1f} minutes: {each} ({measured(suites[0])})."
    )


def read(section: Section) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads(section.path.read_text(encoding="utf-8"))
    return contents


def measured(contents: Mapping[str, Any]) -> str:
    """The machine and the commit of a file."""
    machine = contents["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, commit {machine['commit']}"


def render_page() -> str:
    """The text of docs/benchmarks.md."""
    parts = ["# Benchmarks", "<!-- written by benchmarks/page.py -->", *INTRODUCTION]
    present = [section for section in SECTIONS if section.path.is_file()]
    parts.append(
        table(
            ["file", "written by", "measured on"],
            [
                [f"`{part.file}.json`", f"`{contents['command']}`", measured(contents)]
                for part in present
                if (contents := read(part))
            ],
            figures=False,
        )
    )
    for section in present:
        parts += [f"## {section.title}", section.about]
        if section.path.with_suffix(".png").is_file():
            parts.append(f"![{section.title}: times beside ours](../benchmarks/results/{section.file}.png)")
        if section.render is not None:
            parts += section.render(read(section))
        else:
            parts += render_rows(ResultFile.read(section.path))
    if (RESULTS / "quick").is_dir():
        parts += render_quick()
    return "\n\n".join(parts) + "\n"


# --- Pages of kernels ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """A family of kernels and the cases whose shares of the ceiling its page shows.

    Attributes:
        name: of its page in docs/kernels, without ``.md``.
        suite: the file of results.
        cases: names of cases in this file, in the order of the table.
    """

    name: str
    suite: str
    cases: tuple[str, ...]

    @property
    def page(self) -> Path:
        return ROOT / "docs" / "kernels" / f"{self.name}.md"


FAMILIES = [
    Family("bmu", "bmu", ("headline", "D", "K", "small-N", "dtype", "two-best")),
    Family(
        "neighborhood",
        "ops",
        (
            "segment_sum, forward",
            "som_gather, forward",
            "som_losses, forward",
            "som_head, forward",
            "som_update",
            "som_ema_update",
        ),
    ),
    Family("optim", "ops", ("row_adam",)),
    Family("pruned", "pruned", ("sheet", "mnist", "fashion-mnist", "latents of a SOM-VAE")),
    Family(
        "transition",
        "ops",
        (
            "transition_log_prob, forward",
            "transition_losses, forward",
            "expected_distance, forward",
            "local_transition_losses, forward",
        ),
    ),
]


def lowest_and_highest(rows: Sequence[Row], case: str) -> list[Row]:
    """The rows of a case with the lowest and the highest share of the ceiling; one if there is only one.

    Raises:
        LookupError: no row of this case has a share.
    """
    shares = [(share, row) for row in rows if row.case == case and (share := row.share_of_ceiling()) is not None]
    if not shares:
        raise LookupError(f"no row of {case} has a share of a ceiling")
    ordered = [row for _, row in sorted(shares, key=lambda pair: pair[0])]
    return ordered if len(ordered) == 1 else [ordered[0], ordered[-1]]


def render_shares(family: Family) -> str:
    """The table of a page of kernels: of each case the rows with the lowest and the highest share on one thread."""
    rows = ResultFile.read(RESULTS / f"{family.suite}.json").rows
    of_label = {(row.label, row.threads): row for row in rows}
    numbers = sorted({row.threads for row in rows if row.threads})
    header, lines = ["case", "ceiling"], []
    for threads in numbers:
        header += [f"ms, {threads_text(threads)}", "of ceiling"]
    on_one_thread = [row for row in rows if row.threads == 1]
    for row in (row for case in family.cases for row in lowest_and_highest(on_one_thread, case)):
        line = [row.label, next(iter(row.ceilings)).replace("mm ", "product in ")]
        for threads in numbers:
            _, time, _, share, *_ = cells(of_label[row.label, threads], [], with_threads=False)
            line += [time, share]
        lines.append(line)
    return "\n\n".join(
        [
            table(header, lines),
            f"{measured_on([family.suite])} Of each case, the rows with the lowest and the highest share on one thread "
            f"are shown. [The benchmarks](../benchmarks.md) have all rows of `benchmarks/results/{family.suite}.json`.",
        ]
    )


# --- README ----------------------------------------------------------------------------------------------------------


def one_row(suite: str, case: str, threads: int, **size: float) -> Row:
    """The row of a suite with these sizes.

    Raises:
        LookupError: there is not exactly one.
    """
    rows = [
        row
        for row in ResultFile.read(RESULTS / f"{suite}.json").rows
        if row.case == case and row.threads == threads and size.items() <= dict(row.size).items()
    ]
    if len(rows) != 1:
        raise LookupError(f"{suite}.json has {len(rows)} rows of {case} with {size} and {threads} threads, not one")
    return rows[0]


def beside(row: Row, names: Mapping[str, str]) -> str:
    """How many times as long others take; ``names`` gives their titles by their names in the row."""
    return ", ".join(f"{title} {row.speedup(name):.1f}x" for name, title in names.items() if name in row.samples)


def measured_on(suites: Sequence[str]) -> str:
    """A sentence that names the machines of these files and their torch."""
    machines = [ResultFile.read(RESULTS / f"{suite}.json").contents["machine"] for suite in suites]
    processors = dict.fromkeys(f"{machine['cpu']} with {machine['cores']} cores" for machine in machines)
    return f"Measured on {' and '.join(processors)}, torch {machines[0]['torch']}."


def fastest(row: Row, prefix: str) -> str:
    return min((name for name in row.others if name.startswith(prefix)), key=row.seconds)


def cited_by_paper() -> str:
    """Purity and NMI of MNIST in as many clusters."""
    rows = json.loads((ROOT / "docs" / "results" / "table1.json").read_text(encoding="utf-8"))["rows"]
    (cited,) = (row["cited"] for row in rows if (row["data"], row["method"]) == ("mnist", "SOM-VAE"))
    return ", ".join(short(value) for value in cited.values())


def render_figures() -> str:
    """The table of README: a figure of each kind."""
    search = one_row("bmu", "headline", 1, N=16384, K=4096, D=64)
    wide_search = one_row("bmu", "D", 1, N=1024, K=4096, D=784)
    pruned = one_row("pruned", "mnist", 2, side=128, D=784)
    epoch = one_row("training", "mnist", 2, side=64)
    step = one_row("head", "nodes", 2, side=64)
    clusters = json.loads((RESULTS / "presets.json").read_text(encoding="utf-8"))["results"]["mnist, clusters"]
    torch_name = fastest(search, "torch")
    lines = [
        [
            "search of 16,384 rows, 4,096 codes, 64 features, one thread",
            f"{search.seconds() * 1e3:.0f} ms, {search.share_of_ceiling():.0%} of a matrix product's rate",
            beside(search, {torch_name: f"best torch formula ({torch_name})", "faiss": "faiss", PEER: PEER})
            + f"; with 784 features {beside(wide_search, {torch_name: torch_name, 'faiss': 'faiss'})}",
        ],
        [
            "search of all MNIST images on a trained map of 128 x 128, two threads",
            f"{pruned.seconds() * 1e3:.0f} ms with the winners as hints",
            beside(pruned, {"BMUIndex": "without hints", "ops.bmu": "our plain search"}),
        ],
        [
            "an epoch of a map of 64 x 64 on MNIST, two threads",
            f"{epoch.seconds() * 1e3:.0f} ms",
            beside(epoch, {PEER: PEER, "minisom": "minisom"}),
        ],
        [
            "a training step of the SOM head, 64 x 64 nodes, two threads",
            f"{step.seconds() * 1e3:.1f} ms",
            beside(step, {"torch, fused Adam": "vectorized torch", "torch.compile": "torch.compile"}),
        ],
        [
            "purity and NMI of MNIST in 16 clusters, `--preset clusters`",
            f"{spread(clusters, 'purity')}, {spread(clusters, 'nmi_arithmetic')}",
            f"the SOM-VAE paper {cited_by_paper()}",
        ],
    ]
    return "\n\n".join(
        [
            table(["what", "ours", "beside it (1.4x: takes 1.4 times as long)"], lines, figures=False),
            f"{measured_on(COMPARED)} [docs/benchmarks.md](docs/benchmarks.md) has all figures, each with its file and "
            "its command.",
        ]
    )


# --- Parts of pages --------------------------------------------------------------------------------------------------


PARTS: dict[Path, Callable[[], str]] = {
    README: render_figures,
    **{family.page: partial(render_shares, family) for family in FAMILIES},
}
"""Pages written by hand, each with a part between ``BEGIN`` and ``END`` that is rendered."""


def with_figures(path: Path) -> str:
    """The text of a page with its part rendered again; if files are missing, the part says so instead."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    complete = all(section.path.is_file() for section in SECTIONS)
    figures = PARTS[path]() if complete else "The figures of this version have not all been measured yet."
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def main() -> None:
    for path, text in ((PAGE, render_page()), *((path, with_figures(path)) for path in PARTS)):
        with atomic_file(path) as file:
            file.write(text.encode())
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
