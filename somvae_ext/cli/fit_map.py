"""``somvae fit --model som``: train a map on a table, in one process or in several under ``torchrun``."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from somvae_ext.cli.data_names import report_shadowed_file
from somvae_ext.cli.devices import resolve_map_device
from somvae_ext.cli.fit_options import explicit_options
from somvae_ext.cli.map_data import describe_sizes, load_map_table, load_training_rows, scaled_rows
from somvae_ext.cli.map_options import build_estimator, check_map_options
from somvae_ext.cli.map_size import check_size_options, explain_suggestion, suggest_size
from somvae_ext.cli.map_warnings import warn_of_collapse, warn_of_many_nodes
from somvae_ext.cli.printing import print_description, print_table
from somvae_ext.cli.resuming import check_resume_options, explain_how_to_resume
from somvae_ext.report.map_pictures import default_pictures, save_map_pictures
from somvae_ext.report.metrics import EvaluationContext, measured_metrics

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import SOM
    from somvae_ext.estimators.map_record import MapRecord
    from somvae_ext.estimators.saved_map import SavedMap
    from somvae_ext.estimators.som import MapState
    from somvae_ext.processes import Processes
    from somvae_ext.store import ResultFolder

# Options that a resumed training may change; all others stay those of the map.
_RESUME_OPTIONS = {"resume", "from_epoch", "device", "threads", "quiet", "config", "data_root", "download"}


class Setting(NamedTuple):
    """What to train, on which data, and in which folder; ``state`` is that of an interrupted training."""

    som: SOM
    table: Table
    record: MapRecord
    folder: ResultFolder
    state: MapState | None


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.processes import torchrun_processes

    # Every check comes before anything is written, and cheap ones come before the data are read.
    check_map_options(options)
    processes = torchrun_processes(resolve_map_device(options.device) or "cpu")
    with processes.fail_together():
        setting = _new_setting(options, processes) if options.resume is None else _resume_setting(options, processes)
    if setting.record.threads is not None:
        torch.set_num_threads(setting.record.threads)
    with processes.enter_on_first(setting.folder.lock()):
        start = time.perf_counter()
        saved = _train(setting, processes)
        if processes.is_first:
            _report(setting, saved, time.perf_counter() - start)
            warn_of_collapse(saved, setting.table, options)


def _new_setting(options: Namespace, processes: Processes) -> Setting:
    from somvae_ext.data import NAMES
    from somvae_ext.data.descriptions import describe_scaling
    from somvae_ext.data.record import RowsRecord
    from somvae_ext.data.rows import fit_scaling
    from somvae_ext.estimators import MapRecord
    from somvae_ext.progress import is_terminal
    from somvae_ext.store import ResultFolder

    if options.data is None:
        raise ValueError(
            f"DATA is missing; name a file, a folder of series or one of {', '.join(NAMES)}: somvae fit table.csv "
            "--model som"
        )
    report_shadowed_file(options.data)
    if options.from_epoch is not None:
        raise ValueError("--from-epoch is for --resume, which is not given")
    if processes.world_size > 1 and options.algorithm == "minibatch":
        raise ValueError("--algorithm must be batch under torchrun, got minibatch")
    size = check_size_options(options)
    sides = {} if size is None else {"n_rows": size.rows, "n_cols": size.cols}
    device = resolve_map_device(options.device)
    som = build_estimator(explicit_options(options), **sides, **_run_options(options, device, processes))
    path = Path(options.data)
    folder = ResultFolder.create(options.out or Path("runs") / f"som-{path.stem}", "map", overwrite=options.overwrite)
    if not options.quiet and is_terminal(sys.stderr):
        import tqdm  # type: ignore[import-untyped]  # noqa: F401  # for the progress bar
    data, table, fill = load_training_rows(options)
    scaling = fit_scaling(table, options.scaling)
    table.add_description("scaling", describe_scaling(scaling))
    if options.size is not None and size is None:
        size = suggest_size(som, table, scaling)
        som.set_params(n_rows=size.rows, n_cols=size.cols)
        table.add_description("size", explain_suggestion(size, table.num_rows))
    _check_number_of_rows(som, table, processes)
    if processes.is_first:
        print_description(table.description, vars(options))
        warn_of_many_nodes(som, table, scaling, options)
    record = MapRecord.from_estimator(
        som,
        table.dim,
        scaling,
        feature_names=table.columns,
        classes=_class_names(table),
        data=RowsRecord.from_table(data, table, fill),
        threads=options.threads,
        device=device,
    )
    return Setting(som, table, record, folder, None)


def _resume_setting(options: Namespace, processes: Processes) -> Setting:
    from somvae_ext.estimators import MapRecord, load_map_state
    from somvae_ext.estimators.saved_map import is_complete
    from somvae_ext.store import ResultFolder

    check_resume_options(options, _RESUME_OPTIONS, "map")
    folder = options.resumed or ResultFolder.open(options.resume, "map")
    if options.from_epoch is not None:
        folder.rewind_to(options.from_epoch)
    record = MapRecord.from_folder(folder)
    if is_complete(folder):
        raise ValueError(f"{folder.path} has completed its training of {folder.last_epoch} epochs")
    state = load_map_state(folder, record) if folder.epochs else None
    record, table = load_map_table(folder, record, options)
    device = resolve_map_device(options.device) or record.device
    record = dataclasses.replace(record, threads=options.threads or record.threads, device=device)
    som = record.build_estimator(**_run_options(options, device, processes))
    _check_number_of_rows(som, table, processes)
    return Setting(som, table, record, folder, state)


def _run_options(options: Namespace, device: str | None, processes: Processes) -> dict[str, Any]:
    """Returns the parameters of the estimator that affect how it runs but not its result."""
    return {"verbose": not options.quiet, "device": device, "distributed": processes.world_size > 1}


def _train(setting: Setting, processes: Processes) -> SavedMap:
    """Trains the map and saves it; each of several processes trains on its share of the rows."""
    import numpy as np
    import torch

    from somvae_ext.estimators import SavedMap, fit_in_folder
    from somvae_ext.estimators.map_evaluation import measure_nodes
    from somvae_ext.store import NodeHits

    som, table, record, folder, state = setting
    processes.call_on_first(lambda: folder.save_config(record.to_config()))  # with the changes of a resumed training
    first, last = (table.num_rows * rank // processes.world_size for rank in (processes.rank, processes.rank + 1))
    with scaled_rows(table.rows(first, last), record.scaling) as x:
        with explain_how_to_resume(folder), _explain_memory_errors(som):
            fit_in_folder(som, x, folder, resume_from=state)
        evaluation = {"samples": table.num_rows, "quantization_error": som.quantization_error_}
        if som.grid_.num_nodes > 1:
            errors = processes.gather_numbers([som.topographic_error(x) * len(x), len(x)])
            misplaced, rows = (sum(column) for column in zip(*errors, strict=True))
            evaluation[_topographic_key(som)] = misplaced / rows
        (labels,) = processes.gather_rows(torch.as_tensor(som.labels_))
    node = labels.cpu().numpy()
    evaluation |= measure_nodes(som.grid_.num_nodes, node, table.label)
    class_of_row = None if table.label is None else np.unique(table.label, return_inverse=True)[1].astype(np.int64)
    nodes = NodeHits.count(node, som.grid_.num_nodes, class_of_row)
    saved = SavedMap(som, record, nodes, evaluation)
    processes.call_on_first(lambda: saved.save_results(folder))
    return saved


def _report(setting: Setting, saved: SavedMap, seconds: float) -> None:
    import numpy as np

    som = saved.som
    pictures = save_map_pictures(saved, default_pictures(saved), setting.folder.save_figure)
    metrics = {item.metric.name: item for item in measured_metrics(saved.evaluation, EvaluationContext.of_map(saved))}
    lines = {"quantization error": metrics["quantization_error"].describe()}
    if _topographic_key(som) in metrics:
        lines["topographic error"] = metrics[_topographic_key(som)].describe()
    print(describe_sizes(setting.table, saved.grid))
    print_table(
        lines
        | {
            "nodes used": f"{np.count_nonzero(saved.hits)} of {saved.grid.num_nodes}",
            "training": f"{seconds:.1f} s, {som.n_epochs_} epochs",
            "map": str(setting.folder.path),
            "pictures": ", ".join(str(picture) for picture in pictures),
        }
    )


def _topographic_key(som: SOM) -> str:
    """Returns the key of the topographic error for the number of neighbors that the estimator counts."""
    return f"topographic_error_{som.grid_.connectivities[-1]}"


def _check_number_of_rows(som: SOM, table: Table, processes: Processes) -> None:
    if table.num_rows < processes.world_size:
        raise ValueError(
            f"{table.source}: must hold a row for each of the {processes.world_size} processes, got {table.num_rows}"
        )
    if som.init == "kmeans" and table.num_rows < som.n_rows * som.n_cols:
        raise ValueError(
            f"{table.source}: --init kmeans needs a row for each of the {som.n_rows} x {som.n_cols} nodes, got "
            f"{table.num_rows}; choose smaller --rows and --cols, or --init pca"
        )


@contextlib.contextmanager
def _explain_memory_errors(som: SOM) -> Iterator[None]:
    """Turns errors for lack of memory, which torch raises as RuntimeError, into a ValueError with advice."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        raise ValueError(
            f"a map of {som.n_rows} x {som.n_cols} nodes of this data does not fit into memory; choose smaller --rows "
            "and --cols"
        ) from error


def _class_names(table: Table) -> list[str] | None:
    """Returns the names of the classes in sorted order; None for a table without labels."""
    import numpy as np

    return None if table.label is None else [str(name) for name in np.unique(table.label).tolist()]
