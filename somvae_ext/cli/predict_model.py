"""``somvae predict`` of a model: the cluster, or the encoding, of each sample of one's own data, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.output import check_id_column, open_output, report_omitted_rows
from somvae_ext.cli.run_data import clamp_to_unit_interval
from somvae_ext.cli.table_options import table_format

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from torch import Tensor

    from somvae_ext.data.own_data import OwnData
    from somvae_ext.data.record import DataRecord
    from somvae_ext.models import Model
    from somvae_ext.store import ResultFolder
    from somvae_ext.training import Encodings


def write_model_predictions(folder: ResultFolder, options: Namespace) -> None:
    """Writes what the model of a folder makes of each sample at ``options.data``."""
    from somvae_ext.training import RunRecord, encode

    record = RunRecord.from_folder(folder)
    model = record.load_model(folder)
    data = _prepare_samples(options, record.data, model.config.input_shape, folder.path)
    samples = data.samples
    check_id_column(options, data.row_keys or {})
    encodings = encode(model, clamp_to_unit_interval(type(model), samples))
    columns = _output_columns(model, encodings)
    shape = next(iter(columns.values())).shape
    key_names = [*(data.row_keys or {"index": ()})] if len(encodings.shape) == 1 else ["series", "frame"]
    names_of_rows = None if data.row_keys is None else list(zip(*data.row_keys.values(), strict=True))
    if len(shape) > len(encodings.shape):  # several codes for each sample
        key_names += ["row", "column"]
    real = samples.x.new_ones(shape).bool() if samples.mask is None else samples.mask
    with open_output(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*key_names, *columns])
        cells = [_to_cells(values[real]) for values in columns.values()]
        for position, *row in zip(real.nonzero().tolist(), *cells, strict=True):
            key = [position[0]] if names_of_rows is None else names_of_rows[position[0]]
            writer.writerow([*key, *position[1:], *row])


def _prepare_samples(options: Namespace, data: DataRecord, input_shape: tuple[int, ...], run: Path) -> OwnData:
    """What is at ``options.data``, read, put in order, scaled and resized as the data that the run was trained on."""
    from somvae_ext.data import Samples, resize
    from somvae_ext.data.catalog import fill_gaps
    from somvae_ext.data.own_data import read_own_data

    path, kind, size = Path(options.data), data.kind, data.image_size
    if kind == "static" and path.is_dir():
        raise ValueError(f"{path}: must be a file, because {run} was trained on single samples, got a folder")
    data_format = table_format(options, data.table)
    own_data = read_own_data(path, kind, data_format, missing=data.missing, features=data.feature_names)
    samples = own_data.samples
    shape = tuple(samples.x.shape[2 if kind == "series" else 1 :])
    # Where images are resized, they may come in any height and width.
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
    report_omitted_rows(own_data.description)
    x = data.scaling.apply(samples.x).float()
    return own_data._replace(samples=Samples(x if size is None else resize(x, size), mask=samples.mask))


def _output_columns(model: Model, encodings: Encodings) -> dict[str, Tensor]:
    """What is written of each sample, frame or code: a tensor of the same shape for each column."""
    z, indices = encodings.z, encodings.indices
    if indices is None:
        return {f"z{number}": values for number, values in enumerate(z.unbind(dim=-1))}
    if encodings.log_probs is not None:
        return {"category": indices, "probability": encodings.log_probs.amax(dim=-1).exp()}
    quantizer: Any = model.quantizer
    # As the quantization error: Euclidean, not squared, so that the mean of this column is that error.
    distance = (z - quantizer.codebook.detach()[indices]).double().norm(dim=-1)
    grid = getattr(quantizer, "grid", None)
    if grid is None:
        return {"code": indices, "distance": distance}
    return {"node": indices, "row": indices // grid.cols, "column": indices % grid.cols, "distance": distance}


def _to_cells(values: Tensor) -> list[Any]:
    return [f"{value:.6g}" for value in values.tolist()] if values.is_floating_point() else values.tolist()
