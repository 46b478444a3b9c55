"""``somvae report``: write a page about a result, or about two results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.map_data import load_map_table
from somvae_ext.cli.output import check_output, open_output
from somvae_ext.cli.printing import print_table, print_warning
from somvae_ext.cli.run_data import load_run_data
from somvae_ext.cli.wording import rephrase_for_command

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.report.content import ResultContent
    from somvae_ext.store import ResultFolder


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the data are read.
    from somvae_ext.report.page import render_page
    from somvae_ext.store import COMPARISON, REPORT, ResultFolder

    folders = [ResultFolder.open(run) for run in (options.run, options.other) if run is not None]
    check_output(options.output, may_replace=options.overwrite)
    names = _names(folders)
    results = [_content(folder, name, options) for folder, name in zip(folders, names, strict=True)]
    page = render_page(results)
    if options.output is None:
        path = folders[0].save_page(REPORT if len(folders) == 1 else COMPARISON, page)
    else:
        path = Path(options.output)
        with open_output(options.output) as file:
            file.write(page)
    print_table({"size": f"{len(page.encode()) / 1e6:.1f} MB", "report": str(path.resolve())})


def _names(folders: list[ResultFolder]) -> list[str]:
    """Returns names for the results: those of their folders, or as much of their paths as tells them apart."""
    paths = [folder.path.resolve() for folder in folders]
    if len(set(paths)) < len(paths):  # the same folder twice
        return [f"{path.name} ({number})" for number, path in enumerate(paths, start=1)]
    for parts in range(1, max(len(path.parts) for path in paths)):
        names = [str(Path(*path.parts[-parts:])) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _content(folder: ResultFolder, name: str, options: Namespace) -> ResultContent:
    if folder.kind == "map":
        return _map_content(folder, name, options)
    return _model_content(folder, name, options)


def _map_content(folder: ResultFolder, name: str, options: Namespace) -> ResultContent:
    from somvae_ext.estimators import SavedMap
    from somvae_ext.report.map_content import map_content

    saved = SavedMap.from_folder(folder)
    table, reason = None, ""
    try:
        table = load_map_table(folder, saved.record, options)[1]
    except (OSError, ValueError) as error:
        reason = _warn_of_unreadable_data(folder, error, options)
    return map_content(folder, saved, table, name, reason)


def _model_content(folder: ResultFolder, name: str, options: Namespace) -> ResultContent:
    from somvae_ext.report.model_content import model_content
    from somvae_ext.training import RunRecord

    record = RunRecord.from_folder(folder)
    model = record.load_model(folder)
    splits, reason = None, ""
    try:
        splits = load_run_data(folder, record, options)[1]
    except (OSError, ValueError) as error:
        reason = _warn_of_unreadable_data(folder, error, options)
    return model_content(folder, model, record, splits, name, reason)


def _warn_of_unreadable_data(folder: ResultFolder, error: Exception, options: Namespace) -> str:
    """Warns on stderr that the samples cannot be shown, and returns the reason."""
    reason = rephrase_for_command(str(error), vars(options))
    print_warning(f"the page of {folder.path} shows no samples: {reason}", vars(options))
    return reason
