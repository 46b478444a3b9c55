"""``somvae tune``: find out how large a map of some data should be."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.data_names import report_shadowed_file
from somvae_ext.cli.data_options import add_data_options, option_group
from somvae_ext.cli.devices import resolve_map_device
from somvae_ext.cli.fit_options import add_machine_options, explicit_options
from somvae_ext.cli.map_data import load_training_rows
from somvae_ext.cli.map_options import add_map_options, add_map_training_options, build_estimator, check_map_options
from somvae_ext.cli.map_size import parse_size
from somvae_ext.cli.model_choice import MAP
from somvae_ext.cli.model_options import option_name
from somvae_ext.cli.output import check_picture_folder
from somvae_ext.cli.printing import print_columns, print_description, print_table
from somvae_ext.processes import torchrun_rank

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from numpy.typing import NDArray

    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import SOM, Estimate, MeasuredSize, SizeComparison
    from somvae_ext.som import MapSize

TABLE, PICTURE = "sizes.csv", "sizes.png"
_ERRORS = ("quantization_error", "topographic_error", "combined_error")
_FOLDS = 3
# Options that are not passed on to the fit command for the chosen map.
_OWN_OPTIONS = {"data", "sizes", "folds", "out", "overwrite", "quiet"}
_OPTIONS_OF_FIT = ("--rows", "--cols", "--size")


def add_tune_options(parser: ArgumentParser) -> None:
    """Adds the sizes to compare, and the options of ``fit --model som`` except for those of a single map."""
    from somvae_ext.data import NAMES

    names = f"your own file or folder, or one of {', '.join(NAMES)}; for a file named digits, write ./digits"
    parser.add_argument("data", type=str, help=names, metavar="DATA")
    add = option_group(parser, "sizes")
    add(
        "--sizes",
        "sizes to compare: rows x columns, such as 8x12, or auto for the size that fit --size auto takes (default: an "
        "eighth, a quarter, half, one, two and four times the nodes of auto, as far as there are enough rows)",
        type=str,
        nargs="+",
        metavar="SIZE",
    )
    add("--folds", f"number of parts of the rows, drawn with --seed, each held out once (default: {_FOLDS})", type=int)
    add_data_options(parser, MAP)
    add_map_options(option_group(parser, "map"))
    add_map_training_options(add := option_group(parser, "training"))
    add_machine_options(add, MAP)
    add = option_group(parser, "folder")
    add("--out", f"folder for {TABLE} and {PICTURE} (default: runs/tune-NAME, with the name of the data)", type=str)
    add("--overwrite", "replace these files in that folder", action="store_true")


def explain_size_option(option: str) -> str | None:
    """Returns a sentence about an option of ``fit`` that gives the size of one map; None for others."""
    return f"{option} is for fit, and tune compares --sizes" if option in _OPTIONS_OF_FIT else None


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.data.descriptions import describe_scaling
    from somvae_ext.data.rows import fit_scaling
    from somvae_ext.progress import is_terminal

    if torchrun_rank() is not None:
        raise ValueError("somvae tune runs in one process; start it without torchrun")
    check_map_options(options)
    sizes = None if options.sizes is None else [parse_size("--sizes", text) or "auto" for text in options.sizes]
    report_shadowed_file(options.data)
    som = build_estimator(explicit_options(options), device=resolve_map_device(options.device))
    folder = Path(options.out or Path("runs") / f"tune-{Path(options.data).stem}")
    check_picture_folder(folder, [TABLE, PICTURE], may_replace=options.overwrite)
    if not options.quiet and is_terminal(sys.stderr):
        import tqdm  # type: ignore[import-untyped]  # noqa: F401  # for the progress bar
    _, table, _ = load_training_rows(options)
    scaling = fit_scaling(table, options.scaling)
    by_fold = "" if scaling.kind == "none" else ", by the training rows of each fold"
    table.add_description("scaling", f"{describe_scaling(scaling)}{by_fold}")
    print_description(table.description, vars(options))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        comparison = _compare(table, sizes, som, options)
    except KeyboardInterrupt as interruption:
        raise type(interruption)("interrupted; nothing was written") from None
    files = _save(comparison, folder)
    _report(comparison, files, options)


def _compare(table: Table, sizes: list[Any] | None, som: SOM, options: Namespace) -> SizeComparison:
    import numpy as np

    from somvae_ext.data.rows import fit_scaling
    from somvae_ext.data.scaling import Scaling
    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import tune_size

    def fit(x: NDArray[Any]) -> Scaling:
        return fit_scaling(Table(table.source, x, image_shape=table.image_shape), options.scaling)

    return tune_size(
        # Numbers read from text are float64, but a map trains faster in float32.
        table.x.astype(np.float32) if options.scaling == "none" and not table.is_memory_mapped else table.x,
        sizes,
        som=som,
        folds=_FOLDS if options.folds is None else options.folds,
        groups=_series(table),
        fit_scaling=fit,
        random_state=options.seed or 0,
        verbose=not options.quiet,
    )


def _series(table: Table) -> NDArray[Any] | None:
    """Returns the series of each frame, to hold out whole series; None for other rows and for a single series."""
    import numpy as np

    if "series" not in table.row_keys:
        return None
    series = np.asarray(table.row_keys["series"])
    return series if len(np.unique(series)) > 1 else None


def _save(comparison: SizeComparison, folder: Path) -> list[Path]:
    """Writes the table and its picture, after both have been made."""
    from somvae_ext.plotting import plot_map_sizes
    from somvae_ext.store import atomic_file, save_figure

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_csv_rows(comparison))
    errors: dict[str, Any] = {name: [getattr(row, name) for row in comparison.table] for name in _ERRORS}
    figure: Any = plot_map_sizes(
        [row.size for row in comparison.table],
        **errors,
        chosen=comparison.best.size,
        suggested=comparison.suggested,
    ).figure
    folder.mkdir(parents=True, exist_ok=True)
    drawn = save_figure(folder / PICTURE, figure)
    with atomic_file(folder / TABLE) as file:
        file.write(text.getvalue().encode())
    return [folder / TABLE, drawn]


def _csv_rows(comparison: SizeComparison) -> Iterable[list[object]]:
    names = [_key(name, comparison) for name in _ERRORS]
    yield ["rows", "cols", "nodes", *(key for name in names for key in (name, f"{name}_se")), "chosen", "auto"]
    for row in comparison.table:
        values = [f"{value:.6g}" for name in _ERRORS for value in getattr(row, name)]
        marks = [int(row.size == size) for size in (comparison.best.size, comparison.suggested)]
        yield [*row.size, row.num_nodes, *values, *marks]


def _key(name: str, comparison: SizeComparison) -> str:
    """Returns the name of an error; that of the topographic error ends with the number of neighbors it counts."""
    return f"{name}_{comparison.connectivity}" if name == "topographic_error" else name


def _report(comparison: SizeComparison, files: list[Path], options: Namespace) -> None:
    header = ["size", "nodes", "quantization error", f"topographic error, {comparison.connectivity}", "combined error"]
    print_columns([*header, ""], [_cells(row, comparison) for row in comparison.table])
    print()
    suggested = comparison.suggested
    if suggested not in [row.size for row in comparison.table]:
        print(f"auto would take {suggested.rows} x {suggested.cols}")
    print(comparison.reason)
    print_table({"files": ", ".join(map(str, files)), "train it": _fit_command(comparison.best.size, options)})


def _cells(row: MeasuredSize, comparison: SizeComparison) -> list[str]:
    """Returns a line of the table: sizes, errors on held-out rows with standard errors, and marks."""
    marks = {"chosen": comparison.best.size, "auto": comparison.suggested}
    return [
        f"{row.size.rows} x {row.size.cols}",
        str(row.num_nodes),
        *(_format(getattr(row, name)) for name in _ERRORS),
        ", ".join(mark for mark, size in marks.items() if size == row.size),
    ]


def _format(estimate: Estimate) -> str:
    return f"{estimate.mean:.4g} +- {estimate.standard_error:.2g}"


def _fit_command(size: MapSize, options: Namespace) -> str:
    """Returns the command that trains a map of a size with the same options."""
    words = ["somvae", "fit", options.data, "--model", MAP, "--size", f"{size.rows}x{size.cols}"]
    for name, value in explicit_options(options).items():
        if name not in _OWN_OPTIONS:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [option_name(name), *map(str, values)]
    return shlex.join(words)
