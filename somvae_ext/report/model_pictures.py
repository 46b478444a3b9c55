"""The pictures of a run: which ones a model has, and how they are drawn and saved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from somvae_ext.data.record import AnySplits
    from somvae_ext.grid import Grid
    from somvae_ext.models import Model, MoEVAE
    from somvae_ext.store import ResultFolder
    from somvae_ext.training import Encodings
    from somvae_ext.training.model_nodes import PartEncoder

RECONSTRUCTIONS_PICTURE = "reconstructions.png"
SAMPLES_PICTURE = "samples.png"
CATEGORIES_PICTURE = "categories.png"
CATEGORY_PICTURE = "category.png"
SIDE_BY_SIDE_PICTURE = "side-by-side.png"
EXPERTS_PICTURE = "experts.png"
CONTINGENCY_PICTURE = "contingency.png"
MAP_PICTURE = "map.png"
CLUSTERS_PICTURE = "clusters.png"
TRANSITIONS_PICTURE = "transitions.png"
TRANSITION_GRAPH_PICTURE = "transition-graph.png"
TRAJECTORY_PICTURE = "trajectory.png"
DURATIONS_PICTURE = "durations.png"
CURVES_PICTURE = "curves.png"
ITERATIONS_PICTURE = "iterations.png"
PICTURES = (
    RECONSTRUCTIONS_PICTURE,
    SAMPLES_PICTURE,
    CATEGORIES_PICTURE,
    CATEGORY_PICTURE,
    SIDE_BY_SIDE_PICTURE,
    EXPERTS_PICTURE,
    CONTINGENCY_PICTURE,
    MAP_PICTURE,
    CLUSTERS_PICTURE,
    TRANSITIONS_PICTURE,
    TRANSITION_GRAPH_PICTURE,
    TRAJECTORY_PICTURE,
    DURATIONS_PICTURE,
    CURVES_PICTURE,
    ITERATIONS_PICTURE,
)
"""All pictures that a run may have."""

PAIRS = SAMPLES = 24
PER_CATEGORY = 8

# Number of nodes up to which the K x K transition matrix is drawn; beyond, an entry is smaller than a pixel.
_LARGEST_MATRIX = 4096
# Number of nodes up to which paths and arrows can be told apart on a map.
_LARGEST_GRAPH = 1024
# Number of clusters, and of classes, up to which a table of both can be read.
_LARGEST_TABLE = 100
_MOST_WITH_UNUSED = 20
_TRAJECTORIES = 4
_SHEET, _TITLE, _BAR = 4.0, 0.4, 0.8  # sizes of a trajectory's parts, in inches
_LEAST_PROBABILITY = 0.02  # of a move with an arrow; small, because most steps of a series stay in their node
_MOST_EPOCHS = 30  # shown in the picture of experts
_EXPERTS = "experts"  # tensors: the images of one z by each expert, epoch by epoch
_SEED = 0  # for samples from the prior, in each picture


def save_pictures(
    model: Model,
    splits: AnySplits,
    history: Sequence[dict[str, Any]],
    folder: ResultFolder,
    encode_part: PartEncoder,
) -> list[Path]:
    """Writes all pictures of a model into the folder of its run, and returns their paths."""
    figures = make_figures(model, splits, history, folder, encode_part)
    return [folder.save_figure(name, figure) for name, figure in figures]


def make_figures(
    model: Model,
    splits: AnySplits,
    history: Sequence[dict[str, Any]],
    folder: ResultFolder,
    encode_part: PartEncoder,
) -> Iterator[tuple[str, Figure]]:
    """Draws all pictures of a model, and yields them with the names of their files."""
    import torch

    from somvae_ext import plotting
    from somvae_ext.store import KeptClusters
    from somvae_ext.training import ITERATIONS

    any_model: Any = model  # its optional attributes are looked up by name
    grid = getattr(getattr(model, "quantizer", None), "grid", None)
    kept = None if grid is None else KeptClusters.load(folder, grid.num_nodes)
    if draws_images(model):
        x, reconstruction = _sample_pairs(any_model, splits)
        yield RECONSTRUCTIONS_PICTURE, _figure_of(plotting.plot_reconstructions(x, reconstruction, num_pairs=PAIRS))
        samples = any_model.sample(SAMPLES, generator=torch.Generator().manual_seed(_SEED))
        yield SAMPLES_PICTURE, _figure_of(plotting.plot_images(samples))
        if has_categories(model):
            rows = any_model.sample_each_category(PER_CATEGORY, generator=torch.Generator().manual_seed(_SEED))
            yield CATEGORIES_PICTURE, _figure_of(plot_categories(model, rows))
            one = any_model.sample(PER_CATEGORY, category=0, generator=torch.Generator().manual_seed(_SEED))
            yield CATEGORY_PICTURE, _figure_of(plotting.plot_images(one))
        experts = folder.load_tensors(_EXPERTS)
        if experts is not None:
            yield EXPERTS_PICTURE, _plot_experts(experts["epochs"].tolist(), experts["images"])
    if hasattr(model, "num_clusters"):
        yield from _cluster_figures(any_model, encode_part)
        if splits.kind == "series" and hasattr(model, "decoded_map"):
            yield from _series_figures(any_model, splits, encode_part)
    if grid is not None and kept is not None:
        yield CLUSTERS_PICTURE, _figure_of(plotting.plot_map_clusters(kept.cluster, grid))
    transitions = getattr(model, "transitions", None)
    if transitions is not None and transitions.num_nodes <= _LARGEST_MATRIX:
        yield TRANSITIONS_PICTURE, _figure_of(plotting.plot_transitions(transitions.matrix()))
    if history:
        yield CURVES_PICTURE, _plot_curves(model, history)
    iterations = folder.load_log(ITERATIONS)
    if iterations:
        yield ITERATIONS_PICTURE, _figure_of(plotting.plot_iterations(iterations))


def draws_images(model: Model) -> bool:
    """Whether the samples of a model are images."""
    from somvae_ext.data.sample_arrays import is_image_shape

    return is_image_shape(model.config.input_shape)


def has_categories(model: Model) -> bool:
    """Whether one can choose what a model samples: a class, a category or an expert."""
    return hasattr(model, "sample_each_category")


def category_name(model: Model) -> str:
    """Returns what can be chosen: ``class``, ``expert`` or ``category``."""
    return {"conditional-vae": "class", "moe-vae": "expert"}.get(model.name, "category")


def plot_categories(model: Model, rows: Tensor, ax: Axes | None = None) -> Axes:
    """Draws the rows of ``sample_each_category``, with their numbers."""
    from somvae_ext.plotting import plot_image_rows

    ax = plot_image_rows(rows, ax, row_labels=range(len(rows)))
    ax.set_ylabel(category_name(model))
    return ax


def save_expert_samples(model: MoEVAE, folder: ResultFolder, epoch: int) -> None:
    """Saves the image that each expert generates from one z, which is the same in all epochs."""
    import torch

    if not draws_images(model):
        return
    images = model.sample_each_category(1, generator=torch.Generator().manual_seed(_SEED))[:, 0].detach().cpu()
    added = {"epochs": torch.tensor([epoch]), "images": images[None]}
    earlier = folder.load_tensors(_EXPERTS)
    if earlier is not None:
        added = {name: torch.cat([earlier[name], values]) for name, values in added.items()}
    folder.add_to_next_checkpoint(_EXPERTS, added)


def _plot_experts(epochs: Sequence[int], images: Tensor) -> Figure:
    import torch

    from somvae_ext import plotting

    shown = torch.linspace(0, len(epochs) - 1, min(len(epochs), _MOST_EPOCHS)).round().long().tolist()
    axes = plotting.plot_image_rows(
        images[shown], row_labels=[f"epoch {epochs[row]}" for row in shown], column_labels=range(images.shape[1])
    )
    axes.set_xlabel("expert")
    return _figure_of(axes)


def _cluster_figures(model: Any, encode_part: PartEncoder) -> Iterator[tuple[str, Figure]]:
    from somvae_ext import plotting

    if model.num_clusters <= _LARGEST_TABLE:
        encodings = encode_part("test")
        assert encodings.indices is not None
        index = encodings.drop_padding(encodings.indices)
        label = None if encodings.label is None else encodings.drop_padding(encodings.label)
        if label is not None and index.shape == label.shape and len(label.unique()) <= _LARGEST_TABLE:
            # Among many clusters, those without a sample would fill most of the picture.
            shown = model.num_clusters if model.num_clusters <= _MOST_WITH_UNUSED else None
            axes = plotting.plot_contingency(label, index, num_clusters=shown)
            unused = model.num_clusters - len(index.unique())
            if shown is None and unused:
                axes.set_ylabel(f"cluster ({unused} of {model.num_clusters} without a test sample are left out)")
            yield CONTINGENCY_PICTURE, _figure_of(axes)
    if draws_images(model) and hasattr(model, "decoded_map"):
        hits, config = _count_hits(model, encode_part("train")), model.config
        axes = plotting.plot_decoded_map(
            model.decoded_map(), hits.view(config.rows, config.cols), topology=config.topology
        )
        yield MAP_PICTURE, _figure_of(axes)


def _series_figures(model: Any, splits: AnySplits, encode_part: PartEncoder) -> Iterator[tuple[str, Figure]]:
    """Draws how series move over the map of a model."""
    from somvae_ext import evaluation, plotting

    grid, test = model.quantizer.grid, encode_part("test")
    assert test.indices is not None
    if grid.num_nodes <= _LARGEST_GRAPH:
        train = encode_part("train")
        yield TRANSITION_GRAPH_PICTURE, _figure_of(_plot_transition_graph(model, grid, train))
        if test.mask is None or test.mask.any():
            row_keys = getattr(splits.test, "row_keys", None)
            names = range(len(splits.test)) if row_keys is None else row_keys["series"]
            yield TRAJECTORY_PICTURE, _plot_trajectories(grid, test, names, _count_hits(model, train))
    durations = evaluation.state_durations(test.indices, grid.num_nodes, test.mask)
    if durations.complete.any():
        yield DURATIONS_PICTURE, _figure_of(plotting.plot_durations(durations))


def _count_hits(model: Any, encodings: Encodings) -> Tensor:
    """Counts the samples or frames that each node won, int64 ``[K]``."""
    import torch

    assert encodings.indices is not None
    return torch.bincount(encodings.drop_padding(encodings.indices), minlength=model.num_clusters)


def _plot_transition_graph(model: Any, grid: Grid, train: Encodings) -> Axes:
    """Draws the learned transitions or, for a model without any, those counted on the training series."""
    import torch

    from somvae_ext import plotting
    from somvae_ext.nn import TransitionModel

    assert train.indices is not None
    mask = train.is_real
    # Frames from which a step starts; a node without any has no counted probabilities.
    starts = train.indices[:, :-1][mask[:, :-1] & mask[:, 1:]]
    chain = model.transitions
    if chain is None:
        chain = TransitionModel(grid.num_nodes).fit_counts(train.indices, mask, pseudocount=0)
    visits = torch.bincount(starts, minlength=grid.num_nodes)
    return plotting.plot_transition_graph(chain.matrix(), grid, visits=visits, min_probability=_LEAST_PROBABILITY)


def _plot_trajectories(grid: Grid, test: Encodings, names: Sequence[Any], hits: Tensor) -> Figure:
    """Draws up to 4 series, evenly spaced in the test split, on cells shaded by training hits."""
    from matplotlib.figure import Figure

    from somvae_ext import plotting

    assert test.indices is not None
    mask = test.is_real
    with_frames = mask.any(dim=1).nonzero()[:, 0].tolist()
    count = min(_TRAJECTORIES, len(with_frames))
    width, height = (grid.coordinates().amax(dim=0) + 1).tolist()
    is_wide = width > 2 * height  # with the color bar below
    columns = min(count, 1 if is_wide else 2)
    rows = math.ceil(count / columns)
    inches = _SHEET * (1.5 if is_wide else 1) / max(width, height)
    size = (
        columns * (inches * width + _BAR * (not is_wide)),
        rows * (inches * height + _TITLE + _BAR * is_wide),
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.remove()
    for number, ax in enumerate(axes[:count]):
        series = with_frames[number * len(with_frames) // count]
        plotting.plot_trajectory(test.indices[series][mask[series]], grid, ax, hits=hits)
        ax.set_title(f"test series {names[series]}", fontsize="medium")
    return figure


def _plot_curves(model: Model, history: Sequence[dict[str, Any]]) -> Figure:
    """Draws the losses and, if they were recorded, the scores of the clusters and the order of the map side by side."""
    from matplotlib.figure import Figure

    from somvae_ext import plotting
    from somvae_ext.plotting.curves import has_order_metrics

    if not any(record.get("metrics") or "usage" in record for record in history):
        return _figure_of(plotting.plot_losses(history))
    has_order = has_order_metrics(history)
    panels = 3 if has_order else 2
    curves = Figure(figsize=(5 * panels, 4.8), layout="constrained")
    losses, quality, *order = curves.subplots(1, panels)
    plotting.plot_losses(history, ax=losses)
    plotting.plot_quality(history, ax=quality, num_clusters=getattr(model, "num_clusters", None))
    if has_order:
        plotting.plot_order(history, ax=order[0])
    return curves


def _sample_pairs(model: Any, splits: AnySplits) -> tuple[Tensor, Tensor]:
    """Returns evenly spaced samples of the test split, or frames of its series, and their reconstructions.

    There are 24 pairs, or one for each sample if there are fewer.
    """
    import torch

    test, device = splits.test, next(model.parameters()).device
    if splits.kind == "series":
        pairs = [_frame_pair(model, test[pair * len(test) // PAIRS], pair / PAIRS, device) for pair in range(PAIRS)]
        x, reconstruction = zip(*pairs, strict=True)
        return torch.stack(x), torch.stack(reconstruction)
    count = min(PAIRS, len(test))
    items = [test[pair * len(test) // count] for pair in range(count)]
    inputs = [torch.stack([item[name] for item in items]).to(device) for name in model.batch_fields if name in items[0]]
    with torch.no_grad():
        return inputs[0], model.reconstruct(*inputs)


def _frame_pair(model: Any, series: dict[str, Tensor], position: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the real frame at a position from 0 to 1 in a series, and its reconstruction."""
    import torch

    x, mask = series["x"], series.get("mask", torch.ones(len(series["x"]), dtype=torch.bool))
    frame = int(mask.nonzero()[int(position * int(mask.sum())), 0])
    window = slice(max(0, frame + 1 - model.config.window), frame + 1)
    reconstruction = model.reconstruct(x[None, window].to(device), mask[None, window].to(device))
    return x[frame], reconstruction[0, -1].cpu()


def _figure_of(axes: Axes) -> Figure:
    return cast("Figure", axes.figure)
