"""``somvae predict``: the node of each sample of one's own data, as CSV."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_output, output

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    from somvae_ext.data import Samples, Scaling, load_array
    from somvae_ext.training import RunFolder, encode, load_model
    from somvae_ext.training.run_config import data_config

    check_output(options.output)
    folder = RunFolder.open(options.run)
    model = load_model(folder.path)
    data = data_config(folder)
    path = Path(options.data)
    label_column = data["label_column"]
    if data["kind"] == "static" and path.is_dir():
        raise ValueError(f"{path}: must be a file, because {folder.path} was trained on single samples, got a folder")
    samples = load_array(
        path, kind=data["kind"], label_column=label_column if _has_column(path, label_column) else None
    )
    shape = tuple(samples.x.shape[2 if data["kind"] == "series" else 1 :])
    if shape != model.config.input_shape:
        raise ValueError(
            f"{path}: {'frames' if data['kind'] == 'series' else 'samples'} must have shape "
            f"{list(model.config.input_shape)}, as those that {folder.path} was trained on, got {list(shape)}"
        )
    x = samples.x
    trained, given = data["feature_names"], samples.feature_names
    if trained is not None and given is not None and list(given) != trained:
        if sorted(given) != sorted(trained) or len(set(trained)) < len(trained):
            raise ValueError(
                f"{path}: columns must be {', '.join(trained)}, in any order, as those that {folder.path} was trained "
                f"on, got {', '.join(given)}"
            )
        x = x[..., [given.index(name) for name in trained]]
    scaled = Samples(Scaling.from_dict(data["scaling"]).apply(x), mask=samples.mask)
    encodings = encode(model, scaled)
    codes = model.quantizer.codebook.detach()[encodings.indices]
    # As the quantization error: Euclidean, not squared, so that the mean of this column is that error.
    distances = (encodings.z - codes).double().norm(dim=-1)
    real = scaled.mask if scaled.mask is not None else encodings.indices >= 0
    with output(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(["index"] if real.dim() == 1 else ["series", "frame"]), "node", "row", "column", "distance"])
        for place in real.nonzero().tolist():
            at = tuple(place)
            node = int(encodings.indices[at])
            writer.writerow([*place, node, *divmod(node, model.config.cols), f"{distances[at].item():.6g}"])


def _has_column(path: Path, column: str | None) -> bool:
    """Whether the first line of a CSV file, or of the first one in a folder, names the column."""
    if column is None:
        return False
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    if not files or files[0].suffix.lower() != ".csv":
        return False
    with files[0].open(encoding="utf-8-sig", errors="replace") as file:
        return column in [name.strip().strip('"') for name in re.split("[,;\t]", file.readline())]
