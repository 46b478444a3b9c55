"""``somvae predict`` for a model: write the cluster or the encoding of each sample of the user's own data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from somvae_ext.cli.output import check_id_column, report_omitted
from somvae_ext.cli.predictions import join_columns, open_predictions
from somvae_ext.cli.run_data import clamp_to_unit_interval
from somvae_ext.cli.table_options import table_format
from somvae_ext.store import NodeFacts

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from torch import Tensor

    from somvae_ext.data import Samples, TableFormat
    from somvae_ext.data.record import DataRecord
    from somvae_ext.data.row_stream import RowStream
    from somvae_ext.models import Model
    from somvae_ext.store import ResultFolder
    from somvae_ext.training import Encodings

_DISTANCE = "distance_in_latent_space"


class _Block(NamedTuple):
    """Samples as the model takes them and, for tables, the keys and columns of the rows."""

    samples: Samples
    row_keys: dict[str, Any] | None = None
    columns: Mapping[str, Any] = {}
    has_ids: bool = False


def write_model_predictions(folder: ResultFolder, options: Namespace, path: Path) -> None:
    """Writes the output of a folder's model for each sample of the data at a path; rows of tables block by block."""
    from somvae_ext.training import RunRecord, encode
    from somvae_ext.training.model_nodes import facts_of_model

    record = RunRecord.from_folder(folder)
    model = record.load_model(folder)
    facts = facts_of_model(folder, model, record.data.class_names)
    if options.probabilities and facts is None:
        raise ValueError(f"--probabilities is for results with classes or categories, which {folder.path} has not")
    data_format = table_format(options, record.data.table)
    rows = _open_rows(path, model.config.input_shape, record.data, data_format, options)
    if rows is None:
        if options.with_input:
            raise ValueError(f"--with-input is for tables, and {options.data} is none")
        blocks = iter([_load(path, model.config.input_shape, record.data, data_format, folder.path)])
    else:
        blocks = _table_blocks(rows, record.data)
    with open_predictions(options, rows) as table:
        for block in blocks:
            check_id_column(options, has_ids=block.has_ids)
            encodings = encode(model, clamp_to_unit_interval(type(model), block.samples))
            columns = _output_columns(model, encodings, facts, options.probabilities)
            row_keys = _keys(block, encodings, next(iter(columns.values())).shape)
            table.write(join_columns(row_keys, _flat(block, columns), block.columns))
    if rows is not None:
        report_omitted(rows.omitted)


def _open_rows(
    path: Path, input_shape: tuple[int, ...], data: DataRecord, data_format: TableFormat, options: Namespace
) -> RowStream | None:
    """Opens the rows of a table or matrix, which are read block by block; None for images and series."""
    from somvae_ext.data.row_stream import RowStream, is_row_file

    if data.kind != "static" or len(input_shape) != 1 or not is_row_file(path):
        return None
    return RowStream(
        path,
        input_shape[0],
        kind="static",
        table=data_format,
        missing=data.missing,
        features=data.feature_names,
        fill=data.fill,
        with_columns=options.with_input,
    )


def _table_blocks(rows: RowStream, data: DataRecord) -> Iterator[_Block]:
    import torch

    from somvae_ext.data import Samples

    for block in rows:
        x = torch.from_numpy(data.scaling.apply(block.rows.x)).float()
        yield _Block(Samples(x), dict(block.rows.row_keys), block.columns, block.has_ids)


def _load(path: Path, input_shape: tuple[int, ...], data: DataRecord, data_format: TableFormat, run: Path) -> _Block:
    """Reads all data at a path, and orders, scales and resizes them like the data that the run was trained on."""
    from somvae_ext.data import Samples, resize
    from somvae_ext.data.catalog import fill_gaps
    from somvae_ext.data.own_data import read_own_data

    kind, size = data.kind, data.image_size
    if kind == "static" and path.is_dir():
        raise ValueError(f"{path}: must be a file, because {run} was trained on single samples, got a folder")
    own_data = read_own_data(path, kind, data_format, missing=data.missing, features=data.feature_names)
    samples = own_data.samples
    shape = tuple(samples.x.shape[2 if kind == "series" else 1 :])
    # Images that are resized may have any height and width.
    fits = shape == input_shape or (size is not None and len(shape) == 3 and shape[0] == input_shape[0])
    if not fits:
        what = "frames" if kind == "series" else "samples"
        or_other_size = "" if size is None else ", or another height and width"
        raise ValueError(
            f"{path}: {what} must have shape {list(input_shape)}{or_other_size}, as those that {run} was trained on, "
            f"got {list(shape)}"
        )
    if data.fill is not None:
        samples = fill_gaps(samples, data.fill)
    report_omitted(own_data.description.get("left out", ""))
    x = data.scaling.apply(samples.x).float()
    return _Block(Samples(x if size is None else resize(x, size), mask=samples.mask, row_keys=samples.row_keys))


def _output_columns(model: Model, encodings: Encodings, facts: NodeFacts | None, probabilities: bool) -> dict[str, Any]:
    """Returns the output for each sample, frame or code: columns whose values have the same shape."""
    z, indices = encodings.z, encodings.indices
    if indices is None:
        return {f"z{number}": values.numpy() for number, values in enumerate(z.unbind(dim=-1))}
    node = indices.numpy()
    if encodings.log_probs is not None:
        probability = encodings.log_probs.exp()
        assert facts is not None
        columns = facts.place(node) | {"probability": probability.amax(dim=-1).numpy()} | facts.meaning(node)
        if probabilities:
            names = range(probability.shape[-1])
            columns |= {f"probability_of_{name}": probability[..., name].numpy() for name in names}
        return columns
    quantizer: Any = model.quantizer
    # Euclidean, not squared: the mean of this column is the quantization error.
    distance = {_DISTANCE: _distance(z, quantizer.codebook.detach()[indices]).numpy()}
    if facts is None:  # several codes for each sample
        return {"code": node} | distance
    columns = facts.place(node) | distance | facts.meaning(node)
    return columns | (facts.class_shares(node) if probabilities else {})


def _distance(z: Tensor, codes: Tensor) -> Tensor:
    return (z - codes).double().norm(dim=-1).to(z.dtype)


def _keys(block: _Block, encodings: Encodings, shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns the keys of the rows to write: those of the table, or the source and the numbers of frame and code."""
    if block.row_keys is not None:
        return block.row_keys
    sample, *places = _real(block.samples, shape).nonzero().numpy().T
    assert block.samples.row_keys is not None  # the user's own data have keys
    keys = {name: values[sample] for name, values in block.samples.row_keys.items()}
    names = ["frame"] if len(encodings.shape) > 1 else []
    names += ["row", "column"][: len(shape) - len(encodings.shape)]  # several codes for each sample
    return keys | dict(zip(names, places, strict=True))


def _flat(block: _Block, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens the columns, leaving out padding."""
    return {name: values[_real(block.samples, values.shape).numpy()] for name, values in columns.items()}


def _real(samples: Samples, shape: tuple[int, ...]) -> Tensor:
    return samples.x.new_ones(shape).bool() if samples.mask is None else samples.mask
