"""``somvae som fit``: train a map on a table."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.info import print_table
from somvae_ext.cli.seeds import check_seed
from somvae_ext.cli.som.options import estimator_parameters

if TYPE_CHECKING:
    import numpy as np
    from jsonargparse import Namespace
    from numpy.typing import NDArray

    from somvae_ext.data.feature_scaling import FeatureScaling
    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import SOM


def run(options: Namespace) -> None:
    # All imports first: a missing extra should be known before the training, not after it.
    import numpy as np
    import torch

    import somvae_ext.plotting  # noqa: F401
    from somvae_ext.cli.som.plot import draw
    from somvae_ext.data.feature_scaling import FeatureScaling
    from somvae_ext.data.tables import read_table
    from somvae_ext.estimators import SOM, SavedMap
    from somvae_ext.estimators.saved_map import check_folder

    # Whatever can be known to fail is refused before anything is written, the cheap checks before the data are read.
    _check(options)
    given = {name: value for name, value in vars(options).items() if value is not None and value is not False}
    som = SOM(**estimator_parameters(given), verbose=not options.quiet)
    som.check_parameters()
    path = Path(options.data)
    folder = Path(options.out or Path("runs") / f"som-{path.stem}")
    check_folder(folder, overwrite=options.overwrite)
    if not options.quiet:
        import tqdm  # type: ignore[import-untyped]  # noqa: F401  # of the progress bar
    table = read_table(path, label_column=options.label_column)
    table.check(gaps=som.missing == "ignore", remedy="fill the gap, or set --missing ignore")
    _check_number_of_rows(som, table)

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    scaling = FeatureScaling.fit(options.scaling, (block.x for block in table.blocks()), table.dim)
    start = time.perf_counter()
    with _scaled(table, scaling) as x:
        with _memory_errors_of(som):
            som.fit(x)
        seconds = time.perf_counter() - start
        nodes = som.grid_.num_nodes
        evaluation = {"quantization_error": som.quantization_error_}
        topographic = f"topographic_error_{som.grid_.connectivities[-1]}"  # the neighbours that the estimator counts
        if nodes > 1:
            evaluation[topographic] = som.topographic_error(x)
    node = np.asarray(som.labels_)
    hits = np.bincount(node, minlength=nodes)
    classes, labels = _counted(table.label, node)
    saved = SavedMap(som, scaling, hits, table.columns, options.label_column, classes, labels, evaluation)
    saved.save(folder, overwrite=options.overwrite)
    pictures = draw(saved, ("hits", "u_matrix"), folder)

    units = "" if scaling.kind == "none" else " (of the scaled data)"
    print(f"{table.num_rows} rows of {table.dim} features on {som.n_rows} x {som.n_cols} nodes")
    shown = {"quantization error": f"{evaluation['quantization_error']:.4g}{units}"}
    if topographic in evaluation:
        shown["topographic error"] = f"{evaluation[topographic]:.3f} ({som.grid_.connectivities[-1]} neighbours)"
    print_table(
        shown
        | {
            "nodes used": f"{np.count_nonzero(hits)} of {nodes}",
            "training": f"{seconds:.1f} s, {som.n_epochs_} epochs",
            "map": str(folder),
            "pictures": ", ".join(str(picture) for picture in pictures),
        }
    )


def _check(options: Namespace) -> None:
    import torch

    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    check_seed("--seed", options.seed)
    if options.device is None:
        return
    kind, _, number = options.device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"--device must be cpu, cuda or cuda:N, got {options.device!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device {options.device} needs a GPU that torch can use, got {torch.cuda.device_count() or 'none'}"
        )


def _check_number_of_rows(som: SOM, table: Table) -> None:
    if som.init == "kmeans" and table.num_rows < som.n_rows * som.n_cols:
        raise ValueError(
            f"{table.path}: --init kmeans needs a row for each of the {som.n_rows} x {som.n_cols} nodes, got "
            f"{table.num_rows}; choose smaller --rows and --cols, or --init pca"
        )


@contextlib.contextmanager
def _memory_errors_of(som: SOM) -> Iterator[None]:
    """Says in a sentence that there is too little memory, which torch does by a RuntimeError."""
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


@contextlib.contextmanager
def _scaled(table: Table, scaling: FeatureScaling) -> Iterator[NDArray[Any]]:
    """The scaled rows ``[N, D]``; of a table on disk in a file of their own, which is gone afterwards."""
    import numpy as np

    if scaling.kind == "none":
        # Text has more digits than float32, in which a map is trained faster.
        yield table.x if table.is_mapped else table.x.astype(np.float32)
    elif not table.is_mapped:
        yield scaling.apply(table.x)
    else:
        with tempfile.TemporaryDirectory(prefix="somvae-") as folder:
            name = f"{folder}/scaled.npy"
            with open(name, "wb") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": table.x.shape}
                )
                for block in table.blocks():
                    file.write(np.ascontiguousarray(scaling.apply(block.x), dtype="<f4").data)
            yield np.load(name, mmap_mode="r")


def _counted(label: NDArray[Any] | None, node: NDArray[np.int64]) -> tuple[list[str] | None, NDArray[np.int64] | None]:
    """Names of the classes, and rows (node, class, count) of those that occur together."""
    import numpy as np

    if label is None:
        return None, None
    classes, which = np.unique(label, return_inverse=True)
    pairs, count = np.unique(np.stack([node, which.astype(np.int64)], axis=1), axis=0, return_counts=True)
    return [str(name) for name in classes.tolist()], np.column_stack([pairs, count]).astype(np.int64)
