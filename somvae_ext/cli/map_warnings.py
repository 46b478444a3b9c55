"""Warnings on stderr about maps that are probably not what the user wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.map_data import scaled_sample
from somvae_ext.cli.map_size import suggest_size
from somvae_ext.cli.printing import print_warning

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.scaling import Scaling
    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import SOM, SavedMap


def warn_of_many_nodes(som: SOM, table: Table, scaling: Scaling, options: Namespace) -> None:
    """Warns before the training if there are more nodes than rows."""
    num_nodes = som.n_rows * som.n_cols
    if num_nodes > max(table.num_rows, 2):
        size = suggest_size(som, table, scaling)
        print_warning(
            f"the map has {num_nodes} nodes for {table.num_rows} rows, so some nodes win none; --size auto would take "
            f"{size.rows} x {size.cols}",
            vars(options),
        )


def warn_of_collapse(saved: SavedMap, table: Table, options: Namespace) -> None:
    """Warns after the training if nearly all rows are in a few nodes."""
    from somvae_ext.estimators.collapse import describe_collapse

    collapse = describe_collapse(saved.hits, scaled_sample(table, saved.scaling))
    if collapse is not None:
        print_warning(
            f"{collapse}; try a smaller --sigma-final, more --epochs or another --init, and look at --scaling and for "
            "outliers",
            vars(options),
        )
