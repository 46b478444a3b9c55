"""``somvae predict``: the cluster, or the encoding, of each sample of one's own data, as CSV."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.output import check_output, output
from somvae_ext.cli.run_data import clamp_to_unit_interval

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from torch import Tensor

    from somvae_ext.data import Samples
    from somvae_ext.data.record import DataRecord
    from somvae_ext.models import Model
    from somvae_ext.training import Encodings


def run(options: Namespace) -> None:
    from somvae_ext.store import ResultFolder
    from somvae_ext.training import RunRecord, encode

    check_output(options.output)
    folder = ResultFolder.open(options.run, "model")
    record = RunRecord.of(folder)
    model = record.load_model(folder)
    samples = _like_training_data(Path(options.data), record.data, model.config.input_shape, folder.path)
    encodings = encode(model, clamp_to_unit_interval(type(model), samples))
    columns = _columns(model, encodings)
    shape = next(iter(columns.values())).shape
    places = ["index"] if len(encodings.shape) == 1 else ["series", "frame"]
    if len(shape) > len(encodings.shape):  # several codes for each sample
        places += ["row", "column"]
    real = samples.x.new_ones(shape).bool() if samples.mask is None else samples.mask
    with output(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*places, *columns])
        cells = [_cells(values[real]) for values in columns.values()]
        for place, *row in zip(real.nonzero().tolist(), *cells, strict=True):
            writer.writerow([*place, *row])


def _like_training_data(path: Path, data: DataRecord, input_shape: tuple[int, ...], run: Path) -> Samples:
    """What is at ``path``, read, put in order, scaled and resized as the data that the run was trained on were."""
    from somvae_ext.data import Samples, resize
    from somvae_ext.data.files import read

    kind, label_column, size = data.kind, data.label_column, data.image_size
    if kind == "static" and path.is_dir():
        raise ValueError(f"{path}: must be a file, because {run} was trained on single samples, got a folder")
    samples, _ = read(path, kind, label_column if _has_column(path, label_column) else None)
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
    x = samples.x
    trained, given = data.feature_names, samples.feature_names
    if trained is not None and given is not None and given != trained:
        if sorted(given) != sorted(trained) or len(set(trained)) < len(trained):
            raise ValueError(
                f"{path}: columns must be {', '.join(trained)}, in any order, as those that {run} was trained on, got "
                f"{', '.join(given)}"
            )
        x = x[..., [given.index(name) for name in trained]]
    x = data.scaling.apply(x).float()
    return Samples(x if size is None else resize(x, size), mask=samples.mask)


def _columns(model: Model, encodings: Encodings) -> dict[str, Tensor]:
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


def _cells(values: Tensor) -> list[Any]:
    return [f"{value:.6g}" for value in values.tolist()] if values.is_floating_point() else values.tolist()


def _has_column(path: Path, column: str | None) -> bool:
    """Whether the first line of a CSV file, or of the first one in a folder, names the column."""
    if column is None:
        return False
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    if not files or files[0].suffix.lower() != ".csv":
        return False
    with files[0].open(encoding="utf-8-sig", errors="replace") as file:
        return column in [name.strip().strip('"') for name in re.split("[,;\t]", file.readline())]
