"""``--size 8x12`` and ``--size auto``: the size of a map in one option."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from somvae_ext.cli.map_data import scaled_sample

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.scaling import Scaling
    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import SOM
    from somvae_ext.som import MapSize

AUTO = "auto"
_SIZE = re.compile(r"(\d{1,9})\s*[x\u00d7*,]\s*(\d{1,9})", re.IGNORECASE)


def parse_size(option: str, text: str) -> MapSize | None:
    """Parses the rows and columns of ``8x12``; None for ``auto``.

    Raises:
        ValueError: the text is neither.
    """
    from somvae_ext.som import MapSize

    if text.lower() == AUTO:
        return None
    size = _SIZE.fullmatch(text.strip())
    if size is None or 0 in (rows_and_cols := (int(size[1]), int(size[2]))):
        raise ValueError(f"{option} must be rows x columns, such as 8x12, or auto, got {text!r}")
    return MapSize(*rows_and_cols)


def check_size_options(options: Namespace) -> MapSize | None:
    """Returns the size that ``--size`` gives; None if it is absent or ``auto``.

    Raises:
        ValueError: it is no size, or ``--rows`` or ``--cols`` are given with it.
    """
    if options.size is None:
        return None
    for name in ("rows", "cols"):
        if options[name] is not None:
            raise ValueError(f"--size gives rows and columns, so --{name} must not be given with it")
    return parse_size("--size", options.size)


def suggest_size(som: SOM, table: Table, scaling: Scaling) -> MapSize:
    """Returns the size that ``auto`` takes for a map of these rows."""
    from somvae_ext.som import suggest_map_size

    return suggest_map_size(
        scaled_sample(table, scaling), num_rows=table.num_rows, topology=som.topology, periodic=bool(som.periodic)
    )


def explain_suggestion(size: MapSize, num_rows: int) -> str:
    """Explains a suggested size: ``12 x 17 nodes: at most 5 sqrt(1797) = 212, with sides in the ratio of ...``."""
    from somvae_ext.som.map_size import suggested_num_nodes

    rule = f"5 sqrt({num_rows}) = {suggested_num_nodes(num_rows)}"
    if suggested_num_nodes(num_rows) == num_rows:
        rule = f"one for each of {num_rows} rows"
    ratio = "the ratio of the two longest axes of the scaled data"
    return f"{size.rows} x {size.cols} nodes: at most {rule}, with sides in {ratio}"
