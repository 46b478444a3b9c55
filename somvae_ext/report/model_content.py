"""What the page of a model says and shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    MOST_IDS,
    choose_paths,
    count_transitions,
    evenly_spread,
    images_per_node,
    likeliest,
    nearest_of_each,
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
from somvae_ext.training.model_nodes import PartEncoder, facts_of_model, has_one_code_per_sample, part_encoder

_SEED = 0  # of what is drawn for a category
_LARGEST_MATRIX = 1 << 26  # values of rows of transitions that are made at once: 256 MiB
_LEARNED = "The transition probabilities that the model has learned; the likeliest first."
_COUNTED = "Counted on the series of the test split, staying in the same node included."


def model_content(
    folder: ResultFolder, model: Model, record: RunRecord, splits: AnySplits | None, name: str, reason: str = ""
) -> ResultContent:
    """The content of the page of a model.

    Args:
        folder: of the run.
        model: as it was trained.
        record: of the run.
        splits: its data; None where they are gone, without which samples cannot be shown.
        name: what the page calls it.
        reason: why there are no splits, a sentence.
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
    any_model: Any = model
    if not has_one_code_per_sample(model):
        if hasattr(model, "num_clusters"):
            notes.append("A sample has several codes in this model, so there is no explorer.")
    elif any_model.num_clusters > MOST_NODES:
        notes.append(f"Models of more than {MOST_NODES} nodes have pictures, but no explorer.")
    else:
        explorer = _explorer(folder, model, record, splits, encode_part)
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
    """The pictures that the folder holds; adds a note about each that cannot be shown."""
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


def _explorer(
    folder: ResultFolder,
    model: Model,
    record: RunRecord,
    splits: AnySplits | None,
    encode_part: PartEncoder | None,
) -> Explorer:
    facts = facts_of_model(folder, model, record.data.class_names)
    assert facts is not None
    any_model: Any = model  # what it offers is asked for by name
    num_nodes: int = any_model.num_clusters
    is_map = facts.grid is not None
    prototypes = _prototypes(any_model)
    samples, transitions = None, None
    paths: Sequence[SeriesPath] = []
    if splits is not None and encode_part is not None:
        test = encode_part("test")
        samples = _samples(any_model, record, splits, test)
        if record.data.kind == "series":
            transitions, paths = _series(test, num_nodes)
    learned = getattr(model, "transitions", None)
    if learned is not None:
        transitions = _learned_transitions(learned)
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
    """A sheet for codes that have no places: nearly square."""
    cols = math.ceil(math.sqrt(num_nodes))
    return Grid(math.ceil(num_nodes / cols), cols)


@torch.no_grad()
def _prototypes(model: Any) -> NDArray[np.float64]:
    """What each node stands for, ``[K, *input_shape]``: its code decoded, or a sample of its category."""
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
    """``[N, H, W]`` or ``[N, C, H, W]`` with the axis of channels."""
    return values[:, None] if values.ndim == 3 else values


def _features(record: RunRecord, splits: AnySplits | None, prototypes: NDArray[np.float64]) -> Features | None:
    """The features of decoded codes, in the units of the data; None of images."""
    if prototypes.ndim != 2:
        return None
    dim, scaling = prototypes.shape[1], record.data.scaling
    standard = scaling
    if splits is not None and isinstance(splits.train, Samples):
        train = splits.train
        rows = train.x.flatten(0, -2) if train.mask is None else train.x[train.mask]
        standard = Scaling.fit("standard", [scaling.undo(rows.double().numpy())], dim)
    names = record.data.feature_names or [f"feature {number}" for number in range(dim)]
    return Features.choose(names, scaling.undo(prototypes), moments_of(standard, dim))


def _samples(model: Any, record: RunRecord, splits: AnySplits, test: Encodings) -> AssignedSamples:
    assert test.indices is not None
    is_series = record.data.kind == "series"
    node = test.drop_padding(test.indices).numpy()
    z = test.drop_padding(test.z)
    if test.log_probs is not None:
        # The likelier, the nearer.
        measured = test.drop_padding(test.log_probs).max(dim=1).values.exp().double().numpy()
        measure, distance = "probability", -measured
    else:
        codes = model.quantizer.codebook.detach().cpu()[node]
        measured = (z - codes).double().norm(dim=1).numpy()
        measure, distance = "distance", measured
    places = test.is_real.nonzero().numpy()
    nearest = nearest_of_each(node, distance, model.num_clusters)
    kept = evenly_spread(len(node), max(MOST_IDS - int((nearest >= 0).sum()), 0))
    if len(kept) < len(node):
        kept = np.union1d(kept, nearest[nearest >= 0])
    place = np.full(len(node) + 1, -1)
    place[kept] = np.arange(len(kept))
    label = None
    if test.label is not None:
        names = record.data.class_names
        numbers = test.drop_padding(test.label).numpy()[kept].tolist()
        label = [str(value) if names is None else names[value] for value in numbers]
    each = images_per_node(model.num_clusters) if draws_images(model) else 0
    return AssignedSamples(
        what="test frame" if is_series else "test sample",
        key="series and frame" if is_series else "number",
        measure=measure,
        total=len(node),
        ids=[", ".join(map(str, places[row].tolist())) for row in kept.tolist()],
        node=node[kept],
        distance=measured[kept],
        label=label,
        nearest=place[nearest],
        images=_sample_images(splits.test, places, nearest[:, :each]) if each else None,
    )


def _sample_images(test: Any, places: NDArray[np.int64], rows: NDArray[np.int64]) -> Sprites:
    """The images of these samples or frames of series, black where there is none."""
    shape = test[0]["x"].shape[places.shape[1] - 1 :]
    images = torch.zeros(rows.size, *shape)
    for at, row in enumerate(rows.ravel().tolist()):
        if row >= 0:
            sample, *frame = places[row].tolist()
            images[at] = test[sample]["x"][tuple(frame)] if frame else test[sample]["x"]
    return Sprites.from_images(_as_images(images.double().numpy()))


def _series(test: Encodings, num_nodes: int) -> tuple[Transitions, Sequence[SeriesPath]]:
    assert test.indices is not None
    mask = test.is_real
    walks = [indices[real].numpy() for indices, real in zip(test.indices, mask, strict=True)]
    numbered = [(f"test series {number}", walk) for number, walk in enumerate(walks) if len(walk)]
    paths = choose_paths([name for name, _ in numbered], [walk for _, walk in numbered])
    return count_transitions(walks, num_nodes, _COUNTED), paths


@torch.no_grad()
def _learned_transitions(learned: TransitionModel) -> Transitions:
    nodes = torch.arange(learned.num_nodes)
    at_once = max(_LARGEST_MATRIX // learned.num_nodes, 1)
    rows = (row for part in nodes.split(at_once) for row in learned.rows(part).cpu().numpy())
    return likeliest(rows, _LEARNED)
