"""The content of the page of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext import evaluation
from somvae_ext.data import Samples, Scaling
from somvae_ext.data.record import AnySplits
from somvae_ext.grid import Grid
from somvae_ext.models import Model
from somvae_ext.nn import TransitionModel
from somvae_ext.report.assign import (
    choose_paths,
    choose_samples,
    count_transitions,
    likeliest,
    series_name,
)
from somvae_ext.report.content import Picture, ResultContent, flatten, hide_folders, pictures_of
from somvae_ext.report.explorer import (
    MOST_NODES,
    AssignedSamples,
    Explorer,
    Features,
    SeriesPath,
    Transitions,
    moments_of,
)
from somvae_ext.report.metrics import EvaluationContext, measured_metrics
from somvae_ext.report.model_pictures import PICTURES, draws_images, make_figures
from somvae_ext.report.result_info import describe_data, describe_result
from somvae_ext.report.sprites import Sprites
from somvae_ext.store import METRICS, ResultFolder
from somvae_ext.training import Encodings, RunRecord
from somvae_ext.training.model_nodes import facts_of_model, has_one_code_per_sample, part_encoder

_SEED = 0  # for the samples of categories
_LARGEST_MATRIX = 1 << 26  # transition probabilities that are computed at once: 256 MiB
_LEARNED = "The transition probabilities that the model has learned; the likeliest first."
_COUNTED = "Counted on the series of the test split, including stays in the same node."


def model_content(
    folder: ResultFolder, model: Model, record: RunRecord, splits: AnySplits | None, name: str, reason: str = ""
) -> ResultContent:
    """Builds the content of the page of a model.

    Args:
        folder: folder of the run.
        model: the trained model.
        record: record of the run.
        splits: its data; None if they are gone, and samples cannot be shown.
        name: name of the model on the page.
        reason: a sentence that says why there are no splits.
    """
    notes = []
    encode_part = None if splits is None else part_encoder(model, splits)
    if splits is None or encode_part is None:
        notes.append(
            "The data cannot be read, so no samples are shown, and the pictures are those in the run's folder: "
            f"{reason or 'they are gone'}."
        )
        pictures = _kept_pictures(folder, notes)
    else:
        pictures = pictures_of(make_figures(model, splits, folder.load_log(METRICS), folder, encode_part))
    explorer = None
    parts = {} if splits is None or encode_part is None else _shown_parts(splits)
    any_model: Any = model
    if not has_one_code_per_sample(model):
        if hasattr(model, "num_clusters"):
            notes.append("A sample has several codes in this model, so there is no explorer.")
    elif any_model.num_clusters > MOST_NODES:
        notes.append(f"Models of more than {MOST_NODES} nodes have pictures, but no explorer.")
    else:
        if list(parts) == ["test"]:
            notes.append(
                "The nearest frames, and those that can be found, are of the test split: training series that were "
                "made from images are not made again for a page."
            )
        encodings = {} if encode_part is None else {name: encode_part(name) for name in parts}
        explorer = _explorer(folder, model, record, splits, parts, encodings)
    facts = describe_result(folder)
    content = ResultContent(
        name=name,
        summary=_summary(model, record),
        facts=facts,
        data=describe_data(facts) if splits is None else dict(splits.description),
        config=flatten(record.to_config()),
        metrics={
            split: measured_metrics(figures, EvaluationContext.of_model(model, split, record.data.kind, record.data))
            for split, figures in folder.evaluations.items()
            if isinstance(figures, dict)
        },
        pictures=pictures,
        explorer=explorer,
        notes=notes,
    )
    return hide_folders(content, [folder.path, record.data.name, record.data.root])


def _summary(model: Model, record: RunRecord) -> str:
    any_model: Any = model
    grid = getattr(getattr(model, "quantizer", None), "grid", None)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    what = f"with a map of {grid.rows} x {grid.cols} nodes" if grid is not None else ""
    if grid is None and hasattr(model, "num_clusters"):
        what = f"with {any_model.num_clusters} {'codes' if hasattr(model, 'quantizer') else 'categories'}"
    kind = "series of frames" if record.data.kind == "series" else "single samples"
    parts = f"{what} and" if what else "with"
    return f"A {model.name} {parts} {parameters:,} parameters, trained on {kind}."


def _kept_pictures(folder: ResultFolder, notes: list[str]) -> list[Picture]:
    """Loads the pictures in the folder; adds a note about each that cannot be shown."""
    pictures = []
    for name in PICTURES:
        path = folder.path / name
        if not path.is_file():
            continue
        try:
            pictures.append(Picture.from_png(name, path.read_bytes()))
        except ValueError:
            notes.append(f"{name} in the run's folder is damaged, and not shown.")
    return pictures


def _shown_parts(splits: AnySplits) -> dict[str, Any]:
    """Returns the parts of the data to show samples of, by name: all but series that would have to be made again."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        name: part for name, part in parts.items() if part is not None and (name == "test" or isinstance(part, Samples))
    }


def _explorer(
    folder: ResultFolder,
    model: Model,
    record: RunRecord,
    splits: AnySplits | None,
    parts: Mapping[str, Any],
    encodings: Mapping[str, Encodings],
) -> Explorer:
    facts = facts_of_model(folder, model, record.data.class_names)
    assert facts is not None
    any_model: Any = model  # its optional attributes are looked up by name
    num_nodes: int = any_model.num_clusters
    is_map = facts.grid is not None
    prototypes = _prototypes(any_model)
    learned = getattr(model, "transitions", None)
    samples, transitions = None, None if learned is None else _learned_transitions(learned)
    paths: Sequence[SeriesPath] = []
    if encodings:
        samples = _samples(any_model, record, parts, encodings)
        if record.data.kind == "series":
            walks = {name: _walks(part) for name, part in encodings.items()}
            paths = _paths(parts, walks)
            if learned is None:
                transitions = count_transitions(walks["test"], num_nodes, _COUNTED)
    u_matrix = None
    if facts.grid is not None and num_nodes > 1:
        u_matrix = evaluation.u_matrix(any_model.quantizer.codebook.detach().cpu(), facts.grid).node.numpy()
    return Explorer(
        noun=facts.noun,
        grid=facts.grid or _sheet(num_nodes),
        num_nodes=num_nodes,
        is_map=is_map,
        hits=facts.hits,
        hits_of="training frames" if record.data.kind == "series" else "training samples",
        classes=facts.classes,
        cluster=facts.cluster,
        u_matrix=u_matrix,
        u_matrix_of="distance of the codes",
        features=_features(record, splits, prototypes),
        images=Sprites.from_images(_as_images(prototypes)) if draws_images(model) else None,
        samples=samples,
        transitions=transitions,
        paths=paths,
    )


def _sheet(num_nodes: int) -> Grid:
    """Returns a nearly square sheet for codes that lie on no map."""
    cols = math.ceil(math.sqrt(num_nodes))
    return Grid(math.ceil(num_nodes / cols), cols)


@torch.no_grad()
def _prototypes(model: Any) -> NDArray[np.float64]:
    """Returns what each node stands for, ``[K, *input_shape]``: its decoded code, or a sample of its category."""
    if hasattr(model, "decoded_map"):
        decoded = model.decoded_map().flatten(0, 1)
    elif hasattr(model, "quantizer"):
        codes = model.quantizer.codebook
        decoded = model.decode(codes[:, :, None, None] if model.quantizer.channel_first else codes)
    else:
        decoded = model.sample_each_category(1, generator=torch.Generator().manual_seed(_SEED))[:, 0]
    values: NDArray[np.float64] = decoded.detach().double().cpu().numpy()
    return values


def _as_images(values: NDArray[Any]) -> NDArray[Any]:
    """Adds an axis of channels to ``[N, H, W]``; ``[N, C, H, W]`` has one."""
    return values[:, None] if values.ndim == 3 else values


def _features(record: RunRecord, splits: AnySplits | None, prototypes: NDArray[np.float64]) -> Features | None:
    """Returns the features of decoded codes, in the units of the data; None for images."""
    if prototypes.ndim != 2:
        return None
    dim, scaling = prototypes.shape[1], record.data.scaling
    standard = scaling
    if moments_of(scaling, dim) is None and splits is not None and isinstance(splits.train, Samples):
        train = splits.train
        rows = train.x.flatten(0, -2) if train.mask is None else train.x[train.mask]
        standard = Scaling.fit("standard", [scaling.undo(rows.double().numpy())], dim)
    names = record.data.feature_names or [f"feature {number}" for number in range(dim)]
    return Features.choose(names, scaling.undo(prototypes), moments_of(standard, dim))


def _samples(
    model: Any, record: RunRecord, parts: Mapping[str, Any], encodings: Mapping[str, Encodings]
) -> AssignedSamples:
    """Chooses samples of these parts of the data, in the order of their keys."""
    what = "frame" if record.data.kind == "series" else "sample"
    assigned = [_assigned(model, encoded) for encoded in encodings.values()]
    places = [encoded.is_real.nonzero().numpy() for encoded in encodings.values()]  # [n, 1], or with the frame [n, 2]
    part_keys = [_keys(part, at) for part, at in zip(parts.values(), places, strict=True)]
    keys = {name: np.concatenate([values[name] for values in part_keys]) for name in part_keys[0]}
    order = np.lexsort([np.unique(values, return_inverse=True)[1] for values in reversed(keys.values())])
    number = np.repeat(np.arange(len(parts)), [len(at) for at in places])[order]  # the part of each sample
    place = np.concatenate(places)[order]
    split = np.array(list(parts), dtype=object)[number]

    def draw(rows: NDArray[np.int64]) -> Sprites:
        return _draw_samples(list(parts.values()), number, place, rows)

    label = _labels(record, encodings)
    return choose_samples(
        np.concatenate([node for node, _ in assigned])[order],
        np.concatenate([measured for _, measured in assigned])[order],
        model.num_clusters,
        {name: values[order] for name, values in keys.items()},
        what=what if len(parts) > 1 else f"{next(iter(parts))} {what}",
        measure="distance" if hasattr(model, "quantizer") else "probability",
        label=None if label is None else label[order],
        split=split if len(parts) > 1 else None,
        draw=draw if draws_images(model) else None,
    )


def _labels(record: RunRecord, encodings: Mapping[str, Encodings]) -> NDArray[Any] | None:
    """Returns the classes of all real samples or frames, by their names if they have any."""
    parts = [encoded.drop_padding(encoded.label).numpy() for encoded in encodings.values() if encoded.label is not None]
    if not parts:
        return None
    names, label = record.data.class_names, np.concatenate(parts)
    return label if names is None else np.array(names, dtype=object)[label]


def _assigned(model: Any, encoded: Encodings) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns each real sample's or frame's node, and its distance to the code or the probability of its category."""
    assert encoded.indices is not None
    node = encoded.drop_padding(encoded.indices)
    if encoded.log_probs is not None:
        measured = encoded.drop_padding(encoded.log_probs).max(dim=1).values.exp().double()
    else:
        codes = model.quantizer.codebook.detach().cpu()[node]
        measured = (encoded.drop_padding(encoded.z) - codes).double().norm(dim=1)
    return node.numpy(), measured.numpy()


def _keys(part: Any, places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Returns the keys of the samples, or frames of series, at these places in a part of the data."""
    sample, *frame = places.T
    keys = part.row_keys or {"series" if frame else "index": np.arange(len(part))}
    return {name: values[sample] for name, values in keys.items()} | ({"frame": frame[0]} if frame else {})


def _draw_samples(
    parts: Sequence[Any], number: NDArray[np.int64], places: NDArray[np.int64], rows: NDArray[np.int64]
) -> Sprites:
    """Draws samples or frames by the number of their part and their place in it; row -1 is drawn black."""
    shape = parts[0][0]["x"].shape[places.shape[1] - 1 :]
    images = torch.zeros(rows.size, *shape)
    for at, row in enumerate(rows.tolist()):
        if row >= 0:
            sample, *frame = places[row].tolist()
            images[at] = parts[number[row]][sample]["x"][tuple(frame)]
    return Sprites.from_images(_as_images(images.double().numpy()))


def _walks(encoded: Encodings) -> list[NDArray[np.int64]]:
    """Returns the nodes of the frames of each series."""
    assert encoded.indices is not None
    return [indices[real].numpy() for indices, real in zip(encoded.indices, encoded.is_real, strict=True)]


def _paths(parts: Mapping[str, Any], walks: Mapping[str, list[NDArray[np.int64]]]) -> list[SeriesPath]:
    """Chooses series of all parts that are shown, in the order of their names or numbers."""
    named = []
    for split, part in parts.items():
        keys = range(len(part)) if part.row_keys is None else part.row_keys["series"].tolist()
        named += [(key, split, walk) for key, walk in zip(keys, walks[split], strict=True) if len(walk)]
    named.sort(key=lambda entry: entry[0])
    names = [f"{series_name(key)} ({split})" for key, split, _ in named]
    return choose_paths(names, [walk for *_, walk in named])


@torch.no_grad()
def _learned_transitions(learned: TransitionModel) -> Transitions:
    nodes = torch.arange(learned.num_nodes)
    at_once = max(_LARGEST_MATRIX // learned.num_nodes, 1)
    rows = (row for part in nodes.split(at_once) for row in learned.rows(part).cpu().numpy())
    return likeliest(rows, _LEARNED)
