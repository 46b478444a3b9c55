"""``somvae export``: write the codes of a result, or the scaling of its data, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from somvae_ext.cli.output import check_output
from somvae_ext.cli.table_output import check_ending, open_table
from somvae_ext.store import NodeFacts

if TYPE_CHECKING:
    import numpy as np
    from jsonargparse import Namespace
    from numpy.typing import NDArray

    from somvae_ext.data import Scaling
    from somvae_ext.store import ResultFolder


def run(options: Namespace) -> None:
    from somvae_ext.store import ResultFolder

    wanted = [name for name in ("codes", "latent_codes", "scaling") if options[name]]
    if len(wanted) != 1:
        got = " and ".join(f"--{name.replace('_', '-')}" for name in wanted) or "none"
        raise ValueError(f"export takes one of --codes, --latent-codes and --scaling, got {got}")
    check_output(options.output, may_replace=options.overwrite)
    check_ending(options.output)
    folder = ResultFolder.open(options.run)
    make_columns = _map_columns if folder.kind == "map" else _model_columns
    columns = make_columns(folder, wanted[0])
    with open_table(options.output) as table:
        table.write(columns)


def _map_columns(folder: ResultFolder, wanted: str) -> dict[str, Any]:
    from somvae_ext.estimators import SavedMap

    saved = SavedMap.from_folder(folder)
    names = _feature_names(saved.feature_names, saved.record.dim)
    if wanted == "latent_codes":
        raise ValueError(f"--latent-codes is for models, but {folder.path} holds a map; choose --codes")
    if wanted == "scaling":
        return _scaling_columns(saved.scaling, names)
    facts = NodeFacts.from_folder(folder, "node", saved.grid.num_nodes, saved.grid, saved.classes)
    return _code_columns(facts, saved.codebook, names)


def _model_columns(folder: ResultFolder, wanted: str) -> dict[str, Any]:
    import torch

    from somvae_ext.training import RunRecord
    from somvae_ext.training.model_nodes import facts_of_model

    record = RunRecord.from_folder(folder)
    model: Any = record.load_model(folder)
    dim = int(torch.Size(model.config.input_shape).numel())
    names = _feature_names(record.data.feature_names, dim)
    if wanted == "scaling":
        return _scaling_columns(record.data.scaling, names)
    facts = facts_of_model(folder, model, record.data.class_names)
    if facts is None or not hasattr(model, "quantizer"):
        raise ValueError(
            f"--{wanted.replace('_', '-')} is for results with one code for each sample, but {folder.path} holds a "
            f"{record.model.name}"
        )
    codebook = model.quantizer.codebook.detach()
    if wanted == "latent_codes":
        return _code_columns(facts, codebook.numpy(), [f"z{number}" for number in range(codebook.shape[1])])
    with torch.no_grad():
        decoded = model.eval().decode(codebook).flatten(1).double()
    return _code_columns(facts, record.data.scaling.undo(decoded.numpy()), names)


def _code_columns(facts: NodeFacts, codes: NDArray[np.floating[Any]], names: list[str]) -> dict[str, Any]:
    """Returns the columns of a table with what is known about each node, and its code."""
    import numpy as np

    node = np.arange(len(codes))
    known = facts.place(node) | ({} if facts.hits is None else {"hits": facts.hits}) | facts.meaning(node)
    # Values are looked up by the names of the features, so a column of the same name is the one that is renamed.
    known = {f"of_{facts.noun}_{name}" if name in names else name: values for name, values in known.items()}
    return known | {name: codes[:, number] for number, name in enumerate(names)}


def _scaling_columns(scaling: Scaling, names: list[str]) -> dict[str, Any]:
    """Returns columns with what is subtracted from each feature and what the difference is divided by."""
    import numpy as np

    is_scaled = scaling.kind != "none"
    subtract = np.array(scaling.shift if is_scaled else (0.0,))
    divide_by = np.array(scaling.width if is_scaled else (1.0,))
    divide_by[divide_by == 0] = 1  # a constant feature is only shifted
    return {
        "feature": names,
        "subtract": np.broadcast_to(subtract, len(names)),
        "divide_by": np.broadcast_to(divide_by, len(names)),
    }


def _feature_names(names: tuple[str, ...] | None, dim: int) -> list[str]:
    return [str(number) for number in range(dim)] if names is None else list(names)
