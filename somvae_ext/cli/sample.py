"""``somvae sample``: draw pictures of samples from the prior of a model, or of two models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from somvae_ext.cli.output import check_output
from somvae_ext.cli.seeds import check_seed
from somvae_ext.report.model_pictures import (
    CATEGORIES_PICTURE,
    CATEGORY_PICTURE,
    PER_CATEGORY,
    SAMPLES,
    SAMPLES_PICTURE,
    SIDE_BY_SIDE_PICTURE,
    draws_images,
    has_categories,
    plot_categories,
)

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from somvae_ext.models import Model
    from somvae_ext.store import ResultFolder

# Sizes for two pictures side by side, in inches.
_INCHES_PER_IMAGE, _ROOM = 0.65, 0.6
_LARGEST_SIDE = 12.0


def run(options: Namespace) -> None:
    import somvae_ext.plotting  # noqa: F401  # a missing extra fails first
    from somvae_ext.models.saved_model import load_model
    from somvae_ext.store import ResultFolder, save_figure

    if options.number is not None and options.number < 1:
        raise ValueError(f"-n must be at least 1, got {options.number}")
    check_seed("--seed", options.seed)
    folders = [ResultFolder.open(run) for run in (options.run, options.run2) if run is not None]
    for folder in folders:
        if folder.kind == "map":
            raise ValueError(
                f"{folder.path} must hold a trained model, but it holds a map, which has no prior to sample from; "
                f"somvae plot {folder.path} draws its nodes"
            )
    models = [load_model(folder) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        _check_request(folder, model, options.category)
    path = Path(options.output) if options.output is not None else folders[0].path / _default_name(models, options)
    if path.suffix.lower() != ".png":
        raise ValueError(f"--output must be a .png file, got {path}")
    check_output(str(path))
    samples = [_draw_samples(model, options) for model in models]
    if len(models) == 2:
        figure = _figure_side_by_side(_run_titles(folders, models), models, samples)
    else:
        figure = cast("Figure", _draw(models[0], samples[0]).figure)
    if options.output is None:
        folders[0].save_figure(path.name, figure, bbox_inches="tight")
    else:
        save_figure(path, figure, bbox_inches="tight")
    print(path)


def _check_request(folder: ResultFolder, model: Model, category: int | None) -> None:
    """Checks that the model can draw what was requested."""
    if not draws_images(model):
        raise ValueError(
            f"{folder.path}: must be the run of a model of images, but its samples have shape "
            f"{list(model.config.input_shape)}"
        )
    if category is None:
        return
    if not has_categories(model):
        raise ValueError(
            f"--category is for models with classes, categories or experts to choose from, but {folder.path} is a "
            f"{model.name}"
        )
    count = cast(Any, model).num_categories
    if not 0 <= category < count:
        raise ValueError(f"--category must be from 0 to {count - 1} for {folder.path}, got {category}")


def _default_name(models: list[Model], options: Namespace) -> str:
    if len(models) == 2:
        return SIDE_BY_SIDE_PICTURE
    if options.category is not None:
        return CATEGORY_PICTURE
    return CATEGORIES_PICTURE if has_categories(models[0]) else SAMPLES_PICTURE


def _draw_samples(model: Any, options: Namespace) -> Tensor:
    """Draws a row for each category from the same z, ``[C, n, *image]``, or samples of one category or of a model
    without categories, ``[n, *image]``.
    """
    import torch

    generator = torch.Generator().manual_seed(options.seed)
    if not has_categories(model):
        return cast("Tensor", model.sample(options.number or SAMPLES, generator=generator))
    number = options.number or PER_CATEGORY
    if options.category is None:
        return cast("Tensor", model.sample_each_category(number, generator=generator))
    return cast("Tensor", model.sample(number, category=options.category, generator=generator))


def _draw(model: Model, samples: Tensor, ax: Axes | None = None) -> Axes:
    from somvae_ext.plotting import plot_images

    return plot_categories(model, samples, ax) if _are_rows(model, samples) else plot_images(samples, ax)


def _are_rows(model: Model, samples: Tensor) -> bool:
    return samples.dim() == len(model.config.input_shape) + 2


def _figure_side_by_side(titles: list[str], models: list[Model], samples: list[Tensor]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    sizes = [_figure_size(model, images) for model, images in zip(models, samples, strict=True)]
    widths, height = [width for width, _ in sizes], max(height for _, height in sizes)
    layout = ConstrainedLayoutEngine(compress=True, wspace=0.04)
    scale = min(1.0, _LARGEST_SIDE / max(sum(widths), height))
    figure = Figure(figsize=(sum(widths) * scale + 2 * _ROOM, height * scale + _ROOM), layout=layout)
    axes = figure.subplots(1, 2, width_ratios=widths)
    for ax, title, model, images in zip(axes, titles, models, samples, strict=True):
        _draw(model, images, ax)
        ax.set_title(title)
    return figure


def _run_titles(folders: list[ResultFolder], models: list[Model]) -> list[str]:
    """Returns the names of the models or, if these are the same, those of their runs."""
    names = [model.name for model in models]
    return names if len(set(names)) == len(names) else [str(folder.path) for folder in folders]


def _figure_size(model: Model, samples: Tensor) -> tuple[float, float]:
    """Estimates the width and height of a picture of samples, in inches."""
    height, width = samples.shape[-2:]
    if _are_rows(model, samples):
        rows, columns = samples.shape[:2]
    else:
        rows, columns = math.ceil(len(samples) / PER_CATEGORY), min(len(samples), PER_CATEGORY)
    side = _INCHES_PER_IMAGE / max(height, width)
    return columns * width * side, rows * height * side
